"""The oracle passes a right run and names every planted fault; an oracle that is silent proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from tests.oracle.compare import Observed, compare
from tests.oracle.fold import Expected, fold
from tests.oracle.generator import Mix, generate
from tests.oracle.records import COMMENT_COUNTS, MESSAGES, NOTIFICATIONS, Record
from tests.oracle.small_engine import AUDIT, CHANGELOG, ERRORS, Logs, SmallEngine, placed

PARTITIONS = 4
SEED = 7
MIX = Mix(events=4_000, users=40, poison=0.05, conflicts=0.01, corrected=0.9)


@pytest.fixture(scope="module")
def inputs() -> Logs:
    return placed(generate(SEED, MIX), PARTITIONS)


@pytest.fixture(scope="module")
def expected(inputs: Logs) -> Expected:
    return fold(inputs)


@pytest.fixture
def engine(inputs: Logs) -> SmallEngine:
    return SmallEngine(PARTITIONS).run(inputs)


def kinds(expected: Expected, observed: Observed) -> set[str]:
    return set(compare(expected, observed).counts)


def _records(log: dict[int, list[Record]]) -> Iterator[tuple[list[Record], int]]:
    return ((records, at) for records in log.values() for at in range(len(records)))


def _pick(
    log: dict[int, list[Record]], holds: Callable[[Record], bool] = lambda record: True
) -> tuple[list[Record], int]:
    return Random(SEED).choice([(records, at) for records, at in _records(log) if holds(records[at])])


def test_a_right_run_passes_and_is_counted(inputs: Logs, expected: Expected, engine: SmallEngine) -> None:
    report = compare(expected, engine.observed())
    assert report.ok, str(report)
    assert report.figures["inputs"] == MIX.events
    assert report.figures["error records"] == len(expected.errors) > 100
    assert report.figures["applied"] == sum(tally.applied for tally in expected.tallies.values()) > 3000
    assert len(expected.conflicts) > 10
    assert all(expected.outputs.values())


def test_identical_physical_duplicates_are_counted_not_blamed(expected: Expected, engine: SmallEngine) -> None:
    for topic in (COMMENT_COUNTS, ERRORS):
        records, at = _pick(engine.logs[topic])
        records.append(records[at])
    report = compare(expected, engine.observed())
    assert report.ok, str(report)
    assert report.figures["comment-counts: physical duplicates"] == 1
    assert report.figures["error records: physical duplicates"] == 1


@pytest.mark.parametrize("topic", [COMMENT_COUNTS, MESSAGES, NOTIFICATIONS])
def test_a_lost_output_is_reported(expected: Expected, engine: SmallEngine, topic: str) -> None:
    records, at = _pick(engine.logs[topic])
    del records[at]
    assert "missing output" in kinds(expected, engine.observed())


@pytest.mark.parametrize("topic", [COMMENT_COUNTS, MESSAGES])
def test_two_swapped_outputs_of_a_key_are_reported(expected: Expected, engine: SmallEngine, topic: str) -> None:
    key = max(expected.outputs[topic].values(), key=lambda output: output.source.offset).key
    records = next(r for r in engine.logs[topic].values() if any(record.key == key for record in r))
    one, other = [at for at, record in enumerate(records) if record.key == key][:2]
    records[one], records[other] = records[other], records[one]
    assert kinds(expected, engine.observed()) == {"output out of order", "hash chain"}


def test_a_late_repeat_is_no_reorder_but_a_repeat_with_another_value_is_reported(
    expected: Expected, engine: SmallEngine
) -> None:
    records, at = _pick(engine.logs[COMMENT_COUNTS])
    forged = records[at]._replace(value=(records[at].value or b"").replace(b'"count": ', b'"count": 9'))
    records.append(forged)
    assert kinds(expected, engine.observed()) == {"duplicate that differs"}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda r: r._replace(value=r.value.replace(b'"count": ', b'"count": 9')), "output with another value"),
        (lambda r: r._replace(key=r.key + b"0"), "output with another key"),
        (lambda r: r._replace(value=r.value[:-1]), "unreadable output"),
    ],
)
def test_a_wrong_output_is_reported(
    expected: Expected, engine: SmallEngine, change: Callable[[Record], Record], kind: str
) -> None:
    records, at = _pick(engine.logs[COMMENT_COUNTS])
    records[at] = change(records[at])
    assert kind in kinds(expected, engine.observed())


def test_an_output_in_a_foreign_partition_is_reported(expected: Expected, engine: SmallEngine) -> None:
    records, at = _pick(engine.logs[COMMENT_COUNTS])
    record = records.pop(at)
    elsewhere = (record.partition + 1) % len(engine.logs[COMMENT_COUNTS])
    engine.logs[COMMENT_COUNTS][elsewhere].append(record._replace(partition=elsewhere))
    assert "output in another partition" in kinds(expected, engine.observed())


def test_an_output_without_an_input_is_reported(expected: Expected, engine: SmallEngine) -> None:
    records, at = _pick(engine.logs[MESSAGES])
    value = (records[at].value or b"").replace(b'{"msg_id": "', b'{"msg_id": "0')
    records.append(records[at]._replace(value=value))
    assert kinds(expected, engine.observed()) == {"output without an input"}


def test_a_refusal_that_does_not_say_so_is_reported(expected: Expected, engine: SmallEngine) -> None:
    records, at = _pick(engine.logs[NOTIFICATIONS], lambda r: b"not following" in (r.value or b""))
    records[at] = records[at]._replace(value=(records[at].value or b"").replace(b"not following", b"welcome"))
    assert kinds(expected, engine.observed()) == {"output with another value"}


def test_a_missing_error_record_is_reported(expected: Expected, engine: SmallEngine) -> None:
    records, at = _pick(engine.logs[ERRORS])
    del records[at]
    assert kinds(expected, engine.observed()) == {"missing error record", "sums"}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda r: r._replace(value=(r.value or b"") + b" "), "error record with other bytes"),
        (lambda r: r._replace(key=None if r.key else b""), "error record with other bytes"),
        (lambda r: r._replace(headers=(("note", b"x"), *r.headers)), "error record with other headers"),
        (lambda r: r._replace(headers=(*r.headers, ("hp-source-offset", b"1"))), "error record without coordinates"),
        (lambda r: r._replace(headers=r.headers[:-4]), "error record without coordinates"),
    ],
)
def test_a_changed_error_record_is_reported(
    expected: Expected, engine: SmallEngine, change: Callable[[Record], Record], kind: str
) -> None:
    records, at = _pick(engine.logs[ERRORS])
    records[at] = change(records[at])
    assert kind in kinds(expected, engine.observed())


def test_an_error_record_of_a_good_input_is_reported(expected: Expected, engine: SmallEngine) -> None:
    records, at = _pick(engine.logs[ERRORS])
    good = next(output.source for output in expected.outputs[MESSAGES].values())
    headers = (
        ("hp-source-topic", good.topic.encode()),
        ("hp-source-partition", str(good.partition).encode()),
        ("hp-source-offset", str(good.offset).encode()),
    )
    records.append(records[at]._replace(headers=headers))
    assert "error record without a rejected input" in kinds(expected, engine.observed())


def test_deduplication_switched_off_is_reported(inputs: Logs, expected: Expected) -> None:
    found = kinds(expected, SmallEngine(PARTITIONS, dedup=False).run(inputs).observed())
    assert {"row with another value", "duplicate that differs", "output with another value", "hash chain"} <= found


def test_a_rejected_msg_id_marked_as_seen_is_reported(inputs: Logs, expected: Expected) -> None:
    found = kinds(expected, SmallEngine(PARTITIONS, mark_rejected=True).run(inputs).observed())
    assert {"missing output", "missing row", "sums"} <= found


def test_an_event_lost_before_it_was_read_is_reported(inputs: Logs, expected: Expected) -> None:
    lossy = {topic: {p: list(records) for p, records in log.items()} for topic, log in inputs.items()}
    records, at = _pick(lossy["user-events"], lambda r: b'"comment.created"' in (r.value or b""))
    del records[at]
    assert not compare(expected, SmallEngine(PARTITIONS).run(lossy).observed()).ok


@pytest.mark.parametrize("prefix", [b"comments\x00", b"follows\x00", b"_marks\x00"])
def test_a_changelog_record_that_was_never_written_is_reported(
    expected: Expected, engine: SmallEngine, prefix: bytes
) -> None:
    log = engine.logs[CHANGELOG]
    last = {(p, r.key): at for p, records in log.items() for at, r in enumerate(records)}
    records, at = _pick(
        log, lambda r: (r.key or b"").startswith(prefix) and log[r.partition][last[r.partition, r.key]] is r
    )
    del records[at]
    assert not compare(expected, engine.observed()).ok


def test_a_stale_disk_is_reported(expected: Expected, engine: SmallEngine) -> None:
    observed = engine.observed()
    view = {p: dict(rows) for p, rows in observed.views["RocksDB"].items()}
    key = next(key for key in view[0] if key.startswith(b"comments\x00"))
    view[0][key] = b"%d" % (int(view[0][key]) - 1)
    found = kinds(expected, replace(observed, views={**observed.views, "RocksDB": view}))
    assert found == {"row with another value", "places that disagree"}


def test_a_row_of_nobody_is_reported(expected: Expected, engine: SmallEngine) -> None:
    engine.logs[CHANGELOG][1].append(Record(CHANGELOG, 1, 10**6, b"follows\x00no\x00body", b"1"))
    assert kinds(expected, engine.observed()) == {"unexpected row"}


def test_a_conflict_that_was_not_audited_is_reported(expected: Expected, engine: SmallEngine) -> None:
    records, at = _pick(engine.logs[AUDIT])
    del records[at]
    assert kinds(expected, engine.observed()) == {"conflict without an audit record"}
