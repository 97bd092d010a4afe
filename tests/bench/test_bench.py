"""What the benchmark's numbers rest on: its input, its judge's arithmetic, and the peers' decoding."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4, uuid5

import orjson
import pytest

from tests.bench.peers.contract import decode
from tests.bench.peers.settings import derived_msg_id
from tests.bench.process import PeerProcess
from tests.bench.watch import Curve, Sample, cpu_s_per_100k, rate_per_s
from tests.bench.workload import Workload


def test_the_same_seed_gives_the_same_input_and_its_duplicates_are_not_applied() -> None:
    workload = Workload(5_000, users=100)
    first = list(workload.comments())
    assert first == list(workload.comments())
    assert workload.applied == len({orjson.loads(comment.value)["msg_id"] for comment in first})
    assert 4_600 < workload.applied < 4_900  # 5 % of 5,000 are repeats, give or take


def test_every_input_is_valid_by_the_contract_of_the_peers() -> None:
    for comment in Workload(500).comments():
        event = decode(comment.key, comment.value)
        assert UUID(event["msg_id"]).version == 4
        assert 100 < len(comment.value) < 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"user_id": ', b'"user_id": 1, "user_id": '),
        (b'"msg": ', b'"extra": 1, "msg": '),
        (b"comment.created", b"comment.deleted"),
        (b'{"user_id": 1,', b'{"user_id": 1.0,'),
        (b'{"user_id": 1,', b'{"user_id": 2,'),
        (b'"data"', b'"daten"'),
    ],
)
def test_a_bare_loop_refuses_what_our_agent_refuses(old: bytes, new: bytes) -> None:
    comment = next(Workload(1, users=1).comments())
    damaged = comment.value.replace(old, new)
    assert damaged != comment.value
    with pytest.raises(ValueError, match=r"comment\.created|repeated|key"):
        decode(comment.key, damaged)


def test_the_derived_msg_id_is_uuid5() -> None:
    for _ in range(200):
        msg_id = uuid4()
        assert derived_msg_id(str(msg_id)) == str(uuid5(msg_id, "bench/comment.counted"))


def test_rates_leave_the_first_five_percent_out() -> None:
    curve = Curve(0.0, [Sample(5.0, 0, 1.0), Sample(6.0, 50, 2.0), Sample(7.0, 500, 3.0), Sample(8.0, 1_000, 4.0)])
    assert rate_per_s(curve.steady(1_000)) == 950 / 2
    assert cpu_s_per_100k(curve.steady(1_000)) == pytest.approx(2 / 950 * 100_000)
    assert curve.wall_s(1_000) == 8.0
    with pytest.raises(RuntimeError, match="one sample"):
        curve.window(600, 1_000)


def test_a_peer_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with PeerProcess(("-c", "print('last words'); raise SystemExit(3)"), {}, tmp_path / "log") as peer:
        peer.process.wait(30)
        with pytest.raises(RuntimeError, match=r"ended with 3:\nlast words"):
            peer.check_running()


def test_the_work_of_a_child_counts_as_its_parents(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\n"
    program = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {burn!r}]); time.sleep(60)"
    with PeerProcess(("-c", program), {}, tmp_path / "log") as peer:
        while peer.usage().cpu_s < 0.3:  # the test's own time limit ends this if the child's time is not seen
            peer.check_running()
        assert peer.usage().rss_peak_bytes > 1_000_000
