"""Messages on the disk: rows in a RocksDB of its own, whose log, checksums and crash recovery they rely on."""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from rocksdict import DBCompressionType, DBRecoveryMode, Options, Rdict, WriteBatch

from pipeline.lock import DirectoryInUse, DirectoryLock
from pipeline.producer.codec import RowBroken, decode, encode
from pipeline.producer.errors import SpillInUse, SpillUnusable
from pipeline.producer.message import OVERHEAD_BYTES, Letter, Message
from pipeline.producer.probe import probe, room
from pipeline.producer.rows import (
    COUNTS,
    FORMAT,
    FORMAT_KEY,
    MESSAGES,
    UNDELIVERED,
    LaneId,
    Row,
    lane_prefix,
    parse_place,
    parse_row_key,
    row_key,
)

log = logging.getLogger("hardparts.producer")

WRITE_BUFFER_BYTES = 16 << 20
ROW_MESSAGES_MAX = 256
ROW_BYTES_MAX = 256 << 10


class Spill:
    """The spill directory of one process. Sequence numbers order the messages of a lane while it holds any."""

    def __init__(self, directory: Path, free_bytes_min: int) -> None:
        """Tested by a real write, locked, opened. Raises SpillUnusable, SpillInUse."""
        self.directory, self._free_bytes_min = directory, free_bytes_min
        self.damaged_rows = 0
        probe(directory, free_bytes_min)
        self._lock = _lock(directory)
        self._logs: dict[str, int] = {}
        self._syncing = threading.RLock()
        self._unlisted = False
        self.removed_bytes = 0
        try:
            self._db = self._open()
        except BaseException:
            self._lock.release()
            raise

    def write(self, rows: Iterable[tuple[LaneId, int, Sequence[Letter]]]) -> list[Row]:
        """Rows of (lane, first sequence number, messages), all or none; a kill leaves them, a power cut may not."""
        batch, written = WriteBatch(raw_mode=True), []
        for lane, first, messages in rows:
            value = encode(messages)
            batch.put(row_key(lane, first, len(messages)), value)
            written.append(Row(first, len(messages), len(value)))
        self._write(batch)
        return written

    def sync(self) -> None:
        """Flush what was written to the disk; may run in another thread. Raises SpillUnusable.

        RocksDB's own flush would hold the interpreter up for as long, so the files of its log are flushed here. A log
        that has gone meanwhile is in a table file, which RocksDB has flushed.
        """
        with self._syncing:  # what is refused is flushed on the event loop, what is accepted in a thread
            self._sync()

    def _sync(self) -> None:
        try:
            for name in self.close_old_logs() - self._logs.keys():
                with suppress(FileNotFoundError):
                    self._logs[name] = os.open(self._db_path / name, os.O_RDWR | os.O_CLOEXEC)
                    self._unlisted = True
            for file in self._logs.values():
                os.fdatasync(file)
            if self._unlisted:
                self._flush_names()
        except OSError as error:
            raise SpillUnusable.of(error, self.directory, "can't be flushed") from error

    def _flush_names(self) -> None:
        """A log that is new must be found after a power cut."""
        self._unlisted = False
        try:
            directory = os.open(self._db_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            self._unlisted = True
            raise

    def close_old_logs(self) -> set[str]:
        """Let go of logs that RocksDB has removed, which take room while they are open; the names of the others."""
        with self._syncing:
            try:
                names = {entry.name for entry in os.scandir(self._db_path) if entry.name.endswith(".log")}
            except OSError as error:
                raise SpillUnusable.of(error, self.directory, "can't be looked at") from error
            self._close_logs(self._logs.keys() - names)
            return names

    def remove(self, rows: Iterable[tuple[LaneId, Row]]) -> None:
        """Rows whose messages are confirmed."""
        batch = WriteBatch(raw_mode=True)
        for lane, row in rows:
            batch.delete(row_key(lane, row.first, row.messages))
            self.removed_bytes += row.bytes
        self._write(batch)

    def read(
        self, lane: LaneId, first: int, end: int, bytes_max: int, messages_max: int
    ) -> tuple[list[Row], list[Message]]:
        """Rows from sequence number `first` on, within these sizes, at least one; none when nothing is readable.

        A gap before a row, or between two, is what was lost; the caller sees it by the numbers.
        """
        rows: list[Row] = []
        messages: list[Message] = []
        size, at = 0, first
        while at < end:
            try:
                for key, value in self._items(row_key(lane, at), lane_prefix(lane)):
                    row_first, count = parse_place(key)
                    size += len(value) + count * OVERHEAD_BYTES
                    if row_first >= end or (rows and (row_first != at or size > bytes_max)):
                        return rows, messages
                    found = decode(value)
                    if len(found) != count:
                        raise RowBroken(f"{len(found)} messages, not {count}")
                    rows.append(Row(row_first, count, len(value)))
                    messages += found
                    at = row_first + count
                    if len(messages) >= messages_max:
                        return rows, messages
            except Exception as error:  # rocksdict raises plain ones
                if rows:
                    return rows, messages
                if not _is_damage(error):
                    raise self._unusable("can't be read", error) from error
                self.damaged_rows += 1
                log.exception("%s[%s]: a row from %d on can't be read", *lane, at)
                at = self._readable_from(lane, at + 1, end)
                continue
            return rows, messages
        return rows, messages

    def scan(self) -> Iterator[tuple[LaneId, Row]]:
        """Every row there is, lane by lane in order; one that can't be read is left out, and its lane has a gap."""
        at = MESSAGES
        while True:
            try:
                for key, value in self._items(at, MESSAGES):
                    at = key + b"\0"
                    lane, first, count = parse_row_key(key)
                    yield lane, Row(first, count, len(value))
            except Exception as error:
                if not _is_damage(error):
                    raise self._unusable("can't be read", error) from error
                self.damaged_rows += 1
                log.exception("spill %s: a row behind %r can't be read", self.directory, at)
                following = self._key_after(at)
                if following is None:
                    return
                at = following
                continue
            return

    def undelivered(self) -> Iterator[tuple[bytes, bytes]]:
        """(id, row) of messages that were refused for good."""
        try:
            for key, value in self._items(UNDELIVERED, UNDELIVERED):
                yield key[1:], value
        except Exception as error:
            if not _is_damage(error):
                raise self._unusable("can't be read", error) from error
            self.damaged_rows += 1
            log.exception("spill %s: refused messages from here on can't be read", self.directory)

    def keep_undelivered(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep refused messages, by id, until `discard`."""
        batch = WriteBatch(raw_mode=True)
        for id_, value in rows:
            batch.put(UNDELIVERED + id_, value)
        self._write(batch)
        self.sync()

    def discard(self, id_: bytes) -> None:
        """Forget a refused message."""
        batch = WriteBatch(raw_mode=True)
        batch.delete(UNDELIVERED + id_)
        self._write(batch)

    def counts(self) -> dict[str, int]:
        """topic → how many partitions it had when it was last seen."""
        found = {}
        for key, value in self._items(COUNTS, COUNTS):
            found[key[1:].decode()] = int(value)
        return found

    def note_count(self, topic: str, partitions: int) -> None:
        """Remember a topic's count of partitions."""
        batch = WriteBatch(raw_mode=True)
        batch.put(COUNTS + topic.encode(), b"%d" % partitions)
        self._write(batch)

    def check(self) -> None:
        """The real write again, and room on the disk. Raises SpillUnusable."""
        self.close_old_logs()
        probe(self.directory, self._free_bytes_min)

    def room(self) -> None:
        """SpillUnusable when what is kept in reserve would be used."""
        room(self.directory, self._free_bytes_min)

    def reopen(self) -> None:
        """After a failure: RocksDB takes no more writes until it is opened anew. Raises SpillUnusable."""
        with self._syncing:
            with suppress(Exception):
                self._db.close()
            self._close_logs(list(self._logs))
            self._db = self._open()

    def compact(self) -> None:
        """Give the space of removed rows back; takes long, for another thread."""
        self.removed_bytes = 0
        try:
            self._db.compact_range(MESSAGES, UNDELIVERED)
        except Exception as error:  # noqa: BLE001 - rocksdict raises plain ones; the next test of the disk tells
            log.warning("spill %s: no space given back: %s", self.directory, error)

    def close(self) -> None:
        """Write what RocksDB has buffered, and release the directory."""
        with suppress(Exception):
            self._db.close()
        self._close_logs(list(self._logs))
        self._lock.release()

    @property
    def _db_path(self) -> Path:
        return self.directory / "messages"

    def _open(self) -> Rdict:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(256)
        options.set_compression_type(DBCompressionType.lz4())
        # A damaged record of the log must not hide those behind it; what is missing shows as a gap in the numbers.
        options.set_wal_recovery_mode(DBRecoveryMode.skip_any_corrupted_record())
        try:
            db = Rdict(str(self._db_path), options)
            version = db.get(FORMAT_KEY)
            if version is None:
                db.put(FORMAT_KEY, FORMAT)
        except OSError as error:
            raise SpillUnusable.of(error, self.directory, "can't be opened") from error
        except Exception as error:
            raise self._unusable("can't be opened", error) from error
        if version not in (None, FORMAT):
            db.close()
            raise SpillUnusable(self.directory, f"has format {version!r}, this version reads {FORMAT!r}")
        return db

    def _items(self, key: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """From a key on, those with `prefix`. Raises at a damaged block, where `Rdict.items` would just end."""
        rows = self._db.iter()
        rows.seek(key)
        while rows.valid():
            found = cast(bytes, rows.key())
            if not found.startswith(prefix):
                return
            yield found, cast(bytes, rows.value())
            rows.next()
        rows.status()

    def _write(self, batch: WriteBatch) -> None:
        if not len(batch):
            return
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._unusable("can't be written", error) from error

    def _unusable(self, what: str, error: Exception) -> SpillUnusable:
        return SpillUnusable(self.directory, f"{what}: {error}", errno_in(str(error)))

    def _close_logs(self, names: Iterable[str]) -> None:
        for name in list(names):
            os.close(self._logs.pop(name))

    def _readable_from(self, lane: LaneId, first: int, end: int) -> int:
        """The smallest sequence number from which reading works again; `end` if there is none."""
        step, low = 1, first
        while low < end and not self._works(row_key(lane, low)):
            low, step = low + step, step * 2
        high = min(low, end)
        low = max(first, high - step)
        while low < high:
            middle = (low + high) // 2
            if self._works(row_key(lane, middle)):
                high = middle
            else:
                low = middle + 1
        return high

    def _key_after(self, at: bytes) -> bytes | None:
        """Where reading works again, when what is behind key `at` doesn't: in the same lane, or the next one."""
        try:
            lane, first, _ = parse_row_key(at[: -1 if at.endswith(b"\0") else None])
        except ValueError:
            return None
        readable = self._readable_from(lane, first + 1, first + (1 << 32))
        key = row_key(lane, readable)
        return key if self._works(key) else None

    def _works(self, key: bytes) -> bool:
        try:
            for _ in self._items(key, MESSAGES):
                return True
        except Exception:  # noqa: BLE001
            return False
        return True


def _lock(directory: Path) -> DirectoryLock:
    """Raises SpillInUse, naming the process that has it; SpillUnusable."""
    try:
        return DirectoryLock(directory)
    except DirectoryInUse as error:
        raise SpillInUse(f"spill directory {error}: give this one another") from error
    except OSError as error:
        raise SpillUnusable.of(error, directory, "its lock can't be opened") from error


def _is_damage(error: Exception) -> bool:
    """Whether RocksDB says that what it reads is damaged; other errors (closed, no files left) say nothing of that."""
    return isinstance(error, RowBroken) or str(error).startswith("Corruption")


def errno_in(message: str) -> int | None:
    """The errno of what RocksDB said, as far as its text tells."""
    for number in (28, 30, 13, 5, 2, 24):
        if os.strerror(number) in message:
            return number
    return None
