"""The state as three places hold it: the changelog folded, a RocksDB directory read directly, and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from rocksdict import AccessType, Options, Rdict

from tests.oracle.records import AGENT, Record
from tests.oracle.truth import stream

View = Mapping[int, Mapping[bytes, bytes]]
"""partition → raw row key → raw value; the product's own bookkeeping rows left out."""

BOOKKEEPING = (b"_changelog_format", b"_fence", b"_format", b"_offset", b"_origin", b"_owner", b"_seen", b"_turn")


class NotAChangelog(ValueError):
    """A record that no changelog may hold."""


def changelog_topic(app_id: str) -> str:
    """The name of the agent's changelog."""
    return f"{app_id}-{AGENT}-changelog"


async def changelog_view(bootstrap: str, app_id: str = "hardparts") -> View:
    """Fold the agent's changelog on the broker, partition by partition."""
    view: dict[int, dict[bytes, bytes]] = {}
    async for chunk in stream(bootstrap, [changelog_topic(app_id)], "read_committed"):
        if chunk:
            fold_rows(chunk, view.setdefault(chunk[0].partition, {}))
    return view


def fold_rows(records: Iterable[Record], rows: dict[bytes, bytes]) -> None:
    """Apply changelog records to `rows`: the last value of a key stands, a tombstone removes it."""
    for record in records:
        if record.key is None:
            raise NotAChangelog(f"{record.topic}/{record.partition}@{record.offset} has no key")
        if record.key.startswith(BOOKKEEPING):
            continue
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value


def unit_directories(data_directory: Path, instance: str) -> dict[int, Path]:
    """partition → RocksDB directory of each unit that `instance` has state of, of the one application there."""
    units = data_directory.glob(f"*/{instance}/tables/{AGENT}/*")
    return {int(path.name): path for path in sorted(units) if path.name.isdigit()}


def rocksdb_view(directories: Mapping[int, Path]) -> View:
    """Read RocksDB directories (partition → directory), opened read-only, their writers stopped."""
    return {partition: rocksdb_rows(directory) for partition, directory in directories.items()}


def rocksdb_rows(directory: Path) -> dict[bytes, bytes]:
    """All rows of one directory but the bookkeeping ones."""
    database = Rdict(str(directory), options=Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        # rocksdict's types speak of its pickling mode; in raw mode keys and values are bytes.
        items = cast("Iterable[tuple[bytes, bytes]]", database.items())
        return {bytes(key): bytes(value) for key, value in items if not bytes(key).startswith(BOOKKEEPING)}
    finally:
        database.close()
