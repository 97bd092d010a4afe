"""What a deploy keeps: derived ids, and state whose format another version wrote (D9)."""

from pathlib import Path
from uuid import UUID, uuid5

import pytest

from agents import topics
from pipeline.core.effects import publish
from pipeline.core.idempotence import derived_msg_id
from pipeline.runtime.store import FORMAT_KEY, StateFormatUnknown, Store, open_or_set_aside
from pipeline.testing import Kit
from tests.behaviour.place import Place
from tests.behaviour.small_agent import small_agent
from tests.oracle.process import WorkerEnded
from tests.oracle.records import AGENT

MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"


def of_another_version(path: Path, version: bytes) -> None:
    """State as a later version would leave it."""
    store = Store(path)
    store.apply([(b"comments\x001", b"7"), (FORMAT_KEY, version)], 5)
    store.close()


@pytest.mark.parametrize("version", [b"0", b"2", b"10", b"\xff"])
def test_state_of_another_format_is_refused_by_name_and_left_alone(tmp_path: Path, version: bytes) -> None:
    path = tmp_path / "tables" / AGENT / "0"
    of_another_version(path, version)
    for _ in range(2):  # the first refusal leaves it as it was, unlocked
        with pytest.raises(StateFormatUnknown) as refused:
            open_or_set_aside(path)
        said = str(refused.value)
        assert said == f"{path}: state format {version.decode(errors='replace')}, this version reads 1"
    assert [entry.name for entry in path.parent.iterdir()] == ["0"], "nothing was set aside"


def test_a_worker_names_the_state_that_it_cannot_read_and_ends(tmp_path: Path) -> None:
    with Place(tmp_path, partitions=1) as place:
        path = Path(place.cli.environment["HARDPARTS_DATA_DIR"]) / place.app_id / "one" / "tables" / AGENT / "0"
        of_another_version(path, b"2")
        with pytest.raises(WorkerEnded, match="exited 2") as ended:
            place.worker()
        last = str(ended.value).splitlines()[-1]
        assert f"StateFormatUnknown: {path}: state format 2, this version reads 1" in last
        assert path.is_dir(), "and it is still there"


def test_a_derived_id_is_a_function_of_input_agent_and_output_name() -> None:
    derived = derived_msg_id(MSG_ID, "user-events", "comment-counted")
    assert derived == str(uuid5(UUID(MSG_ID), "user-events/comment-counted"))
    assert derived != derived_msg_id(MSG_ID, "user-events", "0")
    assert derived != derived_msg_id(MSG_ID, "other", "comment-counted")


def test_a_redeploy_that_changes_everything_but_names_repeats_the_same_ids() -> None:
    """The handler's name, its module, the order of its outputs, topic, version, application id and partition count."""

    def ids(handler: object, **kit: int) -> dict[str, str]:
        outputs = [topics.comment_counts, topics.messages]
        with Kit(small_agent({"comment.created": handler}, outputs=outputs), **kit) as run:
            run.given("comment.created", user_id=1, msg="x", msg_id=MSG_ID)
            return {event.type: event.msg_id for event in run.events()}

    def counted(event: object) -> object:
        return publish(topics.comment_counts, "comment.counted", output="counted", user_id=1, count=1)

    def accepted(event: object) -> object:
        return publish(topics.messages, "message.accepted", output="accepted", user_id=1, to=2, msg="x")

    def before(event: object) -> list[object]:
        return [counted(event), accepted(event)]

    def renamed_and_reordered(event: object) -> list[object]:
        return [accepted(event), counted(event)]

    first = ids(before)
    assert first == ids(renamed_and_reordered, partitions=5, batch_records_max=1)
    assert first == {
        "comment.counted": derived_msg_id(MSG_ID, "small", "counted"),
        "message.accepted": derived_msg_id(MSG_ID, "small", "accepted"),
    }
