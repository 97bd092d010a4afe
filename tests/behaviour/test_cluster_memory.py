"""What the clients of a process remember together: the cluster's id, and which addresses don't answer."""

from pathlib import Path

import pytest

from pipeline.kafka.memory import JITTER, PAUSE_MAX_S, PAUSE_MIN_S, PAUSE_OF_SILENCE, ClusterMemory, OtherCluster

HERE, THERE = ("10.0.0.1", 9092), ("10.0.0.2", 9092)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def tries(memory: ClusterMemory, clock: Clock, seconds: float, *, clients: int, step_s: float = 0.01) -> int:
    """How often somebody connects, and fails, when so many clients ask all the time."""
    count = 0
    for _ in range(round(seconds / step_s)):
        for _ in range(clients):
            if memory.may_try(HERE):
                count += 1
                memory.silent(HERE)
        clock.now_s += step_s
    return count


def test_the_first_cluster_is_the_process_s_own_and_any_other_is_refused() -> None:
    memory = ClusterMemory()
    memory.recognise("first", HERE)
    memory.recognise("first", THERE)
    with pytest.raises(OtherCluster, match=r"answers at 10\.0\.0\.2:9092: its id is second, .* works with first"):
        memory.recognise("second", THERE)
    assert memory.cluster_id == "first"


def test_a_broker_that_tells_no_id_is_trusted_until_another_has_told_one() -> None:
    memory = ClusterMemory()
    memory.recognise(None, HERE)
    memory.recognise("first", HERE)
    with pytest.raises(OtherCluster, match="its id is none, this process works with first"):
        memory.recognise(None, HERE)
    assert memory.cluster_id == "first"


def test_the_message_says_where_to_point_the_addresses_and_what_a_move_takes(tmp_path: Path) -> None:
    assert str(OtherCluster("first", "second", THERE)) == (
        "another Kafka cluster answers at 10.0.0.2:9092: its id is second, this process works with first. "
        "Nothing is sent to it. Point the bootstrap addresses (HARDPARTS_BROKER) at first"
    )
    kept = ClusterMemory(kept_in=tmp_path / "cluster")
    kept.recognise("first", HERE)
    with pytest.raises(OtherCluster) as refused:
        kept.recognise("second", THERE)
    assert f"delete {tmp_path / 'cluster'}; the state in {tmp_path} is then set aside" in str(refused.value)


def test_the_cluster_of_a_file_is_the_one_of_the_next_process(tmp_path: Path) -> None:
    file = tmp_path / "cluster"
    memory = ClusterMemory(kept_in=file)
    memory.recall()
    memory.keep()
    assert not file.exists(), "no client has seen one"
    memory.recognise("first", HERE)
    memory.keep()
    assert file.read_text() == "first\n"
    later = ClusterMemory(kept_in=file)
    later.recall()
    with pytest.raises(OtherCluster):
        later.recognise("second", HERE)
    later.keep()
    assert file.read_text() == "first\n"


def test_an_empty_file_names_no_cluster(tmp_path: Path) -> None:
    file = tmp_path / "cluster"
    file.touch()
    memory = ClusterMemory(kept_in=file)
    memory.recall()
    memory.recognise("first", HERE)
    memory.keep()
    assert file.read_text() == "first\n"


def test_being_led_astray_is_over_when_the_own_cluster_answers() -> None:
    memory = ClusterMemory()
    memory.recognise("first", HERE)
    error = OtherCluster("first", "second", THERE)
    before = memory.findings
    assert memory.led_astray(error, before)
    assert not memory.led_astray(error, before), "told once"
    assert memory.other is error
    memory.recognise("first", HERE)
    assert memory.other is None
    assert not memory.led_astray(error, before), "a client that asked before our cluster was found"
    assert memory.other is None


def test_all_clients_together_try_a_silent_address_a_few_times_a_second() -> None:
    clock = Clock()
    memory = ClusterMemory(clock)
    memory.silent(HERE)
    assert tries(memory, clock, 1, clients=20) <= 1 / (PAUSE_MIN_S * (1 - JITTER))
    clock.now_s += 2 * PAUSE_MAX_S / PAUSE_OF_SILENCE
    count = tries(memory, clock, 10, clients=20)
    assert 10 / (PAUSE_MAX_S * (1 + JITTER)) - 1 <= count <= 10 / (PAUSE_MAX_S * (1 - JITTER)) + 1


def test_what_comes_back_after_seconds_is_tried_at_once_by_all() -> None:
    clock = Clock()
    memory = ClusterMemory(clock)
    memory.silent(HERE)
    clock.now_s += PAUSE_MIN_S * (1 + JITTER)
    assert memory.may_try(HERE)
    assert not memory.may_try(HERE), "one of them finds out"
    memory.answers(HERE)
    assert all(memory.may_try(HERE) for _ in range(20))
    assert memory.wait_s(HERE) == 0


def test_a_silent_address_holds_up_no_other_and_is_forgotten_when_the_cluster_has_left_it() -> None:
    clock = Clock()
    memory = ClusterMemory(clock)
    memory.silent(HERE)
    assert memory.wait_s(HERE) > 0
    assert memory.wait_s(THERE) == 0
    memory.forget_all_but([THERE])
    assert memory.wait_s(HERE) == 0
