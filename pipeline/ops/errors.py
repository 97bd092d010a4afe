"""The error topic, read and filtered."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.core.errors import HardpartsError
from pipeline.ops.reading import partitions_of, read_to_end
from pipeline.runtime.settings import Settings

PREFIX = "hp-"
DIGITS_MAX = 20


class NoSuchError(HardpartsError):
    """There is no error record of that id."""


class ErrorRecord(NamedTuple):
    """One record of the error topic. id: `<partition>-<offset>` there. about: the hp- headers without their prefix."""

    id: str
    about: dict[str, str]
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @property
    def failed_at_ms(self) -> int:
        """When it failed last, milliseconds since the epoch; 0 when the record doesn't say."""
        return number(self.about.get("last-failed-at")) or 0


class Filter(NamedTuple):
    """Which error records: None takes all. fingerprint: its beginning is enough. since, until: milliseconds, [ , )."""

    agent: str | None = None
    fingerprint: str | None = None
    key: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, error: ErrorRecord) -> bool:
        """Whether `error` is one of them."""
        return (
            (self.agent is None or error.about.get("agent") == self.agent)
            and (self.fingerprint is None or error.about.get("error-fingerprint", "").startswith(self.fingerprint))
            and (self.key is None or error.key == self.key.encode())
            and (self.since_ms is None or error.failed_at_ms >= self.since_ms)
            and (self.until_ms is None or error.failed_at_ms < self.until_ms)
        )


async def listed(
    settings: Settings, which: Filter, newest: int | None, on_progress: Callable[[int, int], None]
) -> list[ErrorRecord]:
    """Error records without their values, in order of arrival; with `newest`, only so many of the last ones."""
    found = []
    async for record in read_to_end(settings, settings.topic("errors"), on_progress=on_progress):
        error = _read(record)
        if which.takes(error):
            found.append(error._replace(value=None))
    found.sort(key=lambda error: (error.failed_at_ms, *map(int, error.id.split("-"))))
    return found if newest is None else found[len(found) - min(newest, len(found)) :]


async def one(settings: Settings, id_: str) -> ErrorRecord:
    """The error record of this id; NoSuchError."""
    topic = settings.topic("errors")
    partition, offset = (number(part) for part in (id_.partition("-")[0], id_.partition("-")[2]))
    if partition is None or offset is None:
        raise NoSuchError(f"{id_!r} is no id: `hardparts errors list` shows them, as <partition>-<offset>")
    if partition >= await partitions_of(settings, topic):
        raise NoSuchError(f"no error record {id_}: {topic} has no partition {partition}")
    async for record in read_to_end(settings, topic, [partition], first=offset):
        if record.offset == offset:
            return _read(record)
        break
    raise NoSuchError(f"no error record {id_} in {topic}: it was never there, or its retention is over")


def number(text: str | None) -> int | None:
    """A count, an offset or a time as a header or an id has it; None when it is none."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= DIGITS_MAX else None


def _read(record: Any) -> ErrorRecord:
    ours = {
        name.removeprefix(PREFIX): (value or b"").decode(errors="replace")  # a header may have none
        for name, value in record.headers
        if name.startswith(PREFIX)
    }
    others = [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]
    return ErrorRecord(f"{record.partition}-{record.offset}", ours, record.key, record.value, others)
