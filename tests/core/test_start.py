"""Where a unit starts to read a source, for what its changelog, the group and the source say."""

import pytest

from pipeline.core.start import Committed, Known, Said, commit_metadata, start

OURS, THEIRS = True, False


@pytest.mark.parametrize(
    ("group", "state", "source", "starts", "said"),
    [
        ((80, OURS), 100, (0, 200), 100, ""),
        ((100, OURS), 100, (0, 200), 100, ""),
        ((120, OURS), 100, (0, 200), 100, "behind"),
        (None, 100, (0, 200), 100, "expired commit"),
        ((80, THEIRS), 100, (0, 200), 80, "set back"),
        ((120, THEIRS), 100, (0, 200), 100, "moved ahead"),
        ((100, THEIRS), 100, (0, 200), 100, ""),
        ((80, OURS), None, (0, 200), 80, "foreign"),
        (None, None, (30, 200), 30, ""),
        # the source doesn't have it any more
        ((80, OURS), 100, (0, 50), 0, "rewound"),
        ((80, OURS), 100, (150, 200), 150, "lost"),
        ((40, THEIRS), 100, (50, 200), 50, "lost"),
        ((150, THEIRS), 100, (150, 200), 150, "lost"),  # what would be passed over is gone: nothing to decide
        ((180, THEIRS), 100, (150, 200), 150, "moved ahead"),
    ],
)
def test_a_unit_starts_where_its_changelog_says_unless_a_person_has_set_the_group_back(
    group: tuple[int, bool] | None, state: int | None, source: tuple[int, int], starts: int, said: Said
) -> None:
    committed = None if group is None else Committed(*group)
    chosen = start(committed, Known(state, empty=False, has_tables=True), *source)
    assert (chosen.offset, chosen.said) == (starts, said)
    assert chosen.wanted < source[0] or said != "lost", "only what was wanted and is gone is lost"


@pytest.mark.parametrize(("has_tables", "starts", "said"), [(True, 0, "behind: empty"), (False, 80, "")])
def test_an_empty_changelog_is_filled_from_the_beginning_if_the_agent_keeps_state(
    has_tables: bool, starts: int, said: Said
) -> None:
    chosen = start(Committed(80, OURS), Known(None, empty=True, has_tables=has_tables), 0, 200)
    assert (chosen.offset, chosen.said) == (starts, said)


@pytest.mark.parametrize(
    ("metadata", "ours", "topic_id"),
    [
        (commit_metadata(), True, ""),
        (commit_metadata("5fz"), True, "5fz"),
        ("", False, ""),  # Kafka's own tool, and older versions
        ("a note", False, ""),
        ("[1]", False, ""),
        ("null", False, ""),
    ],
)
def test_a_commit_of_ours_is_told_by_its_metadata(metadata: str, ours: bool, topic_id: str) -> None:
    assert Committed.of(7, metadata) == Committed(7, ours, topic_id)
