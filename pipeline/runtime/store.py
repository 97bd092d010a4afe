"""A unit's local state: one RocksDB, written only with what the changelog has acknowledged."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.core.state import Row
from pipeline.core.turn import TURN

log = logging.getLogger("hardparts.store")

FORMAT = b"1"
OFFSET = b"_offset"
OWNER = b"_owner"
"""The fence: the id of an ownership, in front of all that its owner writes."""
FENCE = b"_fence"
"""The fence of an older version, which doesn't say where its rows end: what `_turn` said before is out of date."""
SEEN = b"_seen"
"""`<offset> <offset of the row _origin, or ->` as of the last write of a version that keeps it. An older one writes
only _offset, and copies every row but fences: then what the copy says of where it stands is out of date."""
FORMAT_KEY = b"_format"
LOCAL = frozenset({FORMAT_KEY, OFFSET, SEEN})
"""Rows that no changelog has."""
BLOCK_CACHE_BYTES = 32 << 20
WRITE_BUFFER_BYTES = 8 << 20
BLOOM_BITS = 10
MEMTABLE_BLOOM_SHARE = 0.1
"""Most look-ups are for marks that aren't there; with a filter on the memtable they cost a third (measured)."""
RECENT_ROWS_MAX = 5_000
"""Rows read lately and kept decoded in Python: the counts of busy keys are read again and again."""
SET_ASIDE_MAX = 3
"""Of a unit."""


class StateFormatUnknown(Misconfigured):
    """The directory holds state of another format version (D9)."""


class StoreFailed(HardpartsError):
    """The disk's fault, never the record's."""


class StoreDamaged(StoreFailed):
    """The state on the disk can't be trusted: set it aside and rebuild it from the changelog."""


class StoreUnusable(StoreFailed):
    """The directory can't be used, though what it holds may be fine: in use, denied, read-only, no files left, full."""


class Store:
    """Rows of one unit. `offset` is the next changelog offset to apply; None when nothing was applied yet."""

    def __init__(self, path: Path, cache: Cache | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.cache = path, cache
        self._recent: dict[bytes, bytes] = {}
        self._closed = False
        self._db = Rdict(str(path), _options(cache))
        try:
            version = self._db.get(FORMAT_KEY)
            if version is None:
                self._db.put(FORMAT_KEY, FORMAT)
            elif version != FORMAT:
                raise StateFormatUnknown(
                    f"{path}: state format {version.decode(errors='replace')}, this version reads {FORMAT.decode()}"
                )
            stored = self._db.get(OFFSET)
            self.offset: int | None = None
            self.written_at_s: float = 0.0
            self.origin_at: int | None = None
            if stored is not None:
                offset, written = stored.split(b" ")
                self.offset, self.written_at_s = int(offset), float(written)
                seen, _, origin_at = (self._db.get(SEEN) or b"").partition(b" ")
                if seen == offset:
                    self.origin_at = None if origin_at == b"-" else int(origin_at)
                else:
                    self._db.delete(TURN)
        except BaseException:
            self._db.close()
            raise

    @property
    def owner(self) -> str | None:
        """The last ownership whose fence was applied; None without one."""
        value = self.get(OWNER)
        return None if value is None else value.decode()

    def get(self, row: bytes) -> bytes | None:
        """One row."""
        value: bytes | None = self._recent.get(row)
        if value is None:
            try:
                value = self._db.get(row)
            except Exception as error:
                raise self._told(error) from error
            if value is not None:
                if len(self._recent) >= RECENT_ROWS_MAX:
                    self._recent.clear()
                self._recent[row] = value
        return value

    def get_many(self, rows: Sequence[bytes]) -> list[bytes | None]:
        """Many rows in one call, in the order asked."""
        if not rows:
            return []
        try:
            return cast(list[bytes | None], self._db.get(list(rows)))
        except Exception as error:
            raise self._told(error) from error

    def apply(self, rows: Iterable[Row], offset: int, origin_at: int | None = None) -> None:
        """Rows and the changelog offset behind them, in one atomic write. origin_at: where the row `_origin` stands."""
        batch = WriteBatch(raw_mode=True)
        put, recent = batch.put, self._recent
        for key, value in rows:
            if value is None:
                batch.delete(key)
                recent.pop(key, None)
            else:
                put(key, value)
                if key in recent:
                    recent[key] = value
        now_s = time.time()
        if origin_at is None:
            origin_at = self.origin_at
        put(OFFSET, b"%d %.3f" % (offset, now_s))
        put(SEEN, b"%d -" % offset if origin_at is None else b"%d %d" % (offset, origin_at))
        try:
            self._db.write(batch)
        except Exception as error:
            self._recent.clear()
            raise self._told(error) from error
        self.offset, self.written_at_s = offset, now_s
        self.origin_at = origin_at

    def touch(self) -> None:
        """Say that the rows are whole as of now: for the owner, which knows that nobody else has written any."""
        if self.offset is not None:
            self.apply((), self.offset)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, in key order. start: leave out those before this key."""
        rows = self._db.iter()
        rows.seek(start or prefix)
        while rows.valid():
            key, value = cast(tuple[bytes, bytes], (rows.key(), rows.value()))
            if not key.startswith(prefix):
                return
            yield key, value
            rows.next()
        try:
            rows.status()  # an iterator also ends at a block that it can't read
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> StoreFailed:
        return StoreDamaged(str(error)) if _is_damage(error) else _unusable(self.path, error)

    def close(self) -> None:
        """Write what is buffered and release the directory; a second time does nothing.

        What can't be written is logged, not raised: the changelog has it, and who closes has more to give back.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001 - rocksdict has one type for all
            log.warning("%s: not closed cleanly: %s", self.path, error)


def _options(cache: Cache | None) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_compression_type(DBCompressionType.lz4())
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(BLOOM_BITS, False)
    blocks.set_block_cache(cache or Cache(BLOCK_CACHE_BYTES))
    options.set_block_based_table_factory(blocks)
    return options


def _is_damage(error: BaseException) -> bool:
    """Whether RocksDB says that its files are damaged; other errors (no files left, disk full) say nothing of that."""
    message = str(error)
    return message.startswith("Corruption") or "No such file" in message


def _unusable(path: Path, error: Exception) -> StoreUnusable:
    """Says where, what and, when RocksDB quotes the system's words, under which number."""
    message = str(error)
    number = next((number for number, words in _SYSTEM_ERRORS.items() if words in message), None)
    return StoreUnusable(f"{path}: {message}" + ("" if number is None else f" (errno {number})"))


_SYSTEM_ERRORS = {number: os.strerror(number) for number in errno.errorcode}


def open_or_set_aside(path: Path, cache: Cache | None = None) -> tuple[Store, str | None]:
    """The store at `path`; a damaged one is renamed and an empty one opened, with the reason as second value.

    Raises StoreUnusable when the directory can't be opened for a reason that says nothing about its rows.
    """
    try:
        return Store(path, cache), None
    except StateFormatUnknown:
        raise
    except Exception as error:
        if not isinstance(error, ValueError) and not _is_damage(error):  # ValueError: an offset that isn't one
            raise _unusable(path, error) from error
        _set_aside(path)
        return Store(path, cache), f"{type(error).__name__}: {error}"


def renewed(store: Store, cache: Cache | None, *, keep: bool) -> Store:
    """An empty store in place of `store`, which is closed; StoreUnusable when there can't be one.

    keep: its directory stays under another name, to look at.
    """
    store.close()
    try:
        if keep:
            _set_aside(store.path)
        else:
            stale = store.path.with_name(
                f"{store.path.name}.stale"
            )  # renamed first: a process may die while it deletes
            shutil.rmtree(stale, ignore_errors=True)
            store.path.rename(stale)
            shutil.rmtree(stale, ignore_errors=True)
        return Store(store.path, cache)
    except Exception as error:
        raise _unusable(store.path, error) from error


def _set_aside(path: Path) -> None:
    """Keep it to look at: the first and the last ones, or a disk that damages whatever it is given fills up."""
    path.rename(path.with_name(f"{path.name}.set-aside-{time.time_ns()}"))
    kept = sorted(path.parent.glob(f"{path.name}.set-aside-*"))
    for between in kept[1 : 1 - SET_ASIDE_MAX]:
        shutil.rmtree(between, ignore_errors=True)


def shared_cache() -> Any:
    """One block cache for all units of a worker."""
    return Cache(BLOCK_CACHE_BYTES * 2)
