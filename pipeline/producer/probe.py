"""Is a spill directory fit for use: found out by a real write, not by looking at its permissions."""

import os
from contextlib import suppress
from pathlib import Path

from pipeline.producer.errors import SpillUnusable

PROBE_BYTES = 64 * 1024


def probe(directory: Path, free_bytes_min: int = 0) -> None:
    """Write a file there, flush it to the disk, read it back, remove it. Raises SpillUnusable with path and errno.

    The directory isn't created: one that is missing may be a disk that isn't mounted. free_bytes_min: what the disk
    must have free besides.
    """
    path = directory / f".probe-{os.getpid()}"
    content = os.urandom(PROBE_BYTES)
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.read_bytes() != content:
            raise SpillUnusable(path, "what was written reads back differently")
        path.unlink()
    except OSError as error:
        path_missing = not directory.is_dir()
        _remove(path)
        raise SpillUnusable.of(error, directory, "it doesn't exist" if path_missing else "can't be written") from error
    room(directory, free_bytes_min)


def room(directory: Path, free_bytes_min: int) -> None:
    """SpillUnusable (ENOSPC) when the disk has less than so much free."""
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        raise SpillUnusable.of(error, directory, "can't be looked at") from error
    free = disk.f_bavail * disk.f_frsize
    if free < free_bytes_min:
        full = OSError(28, "No space left on device", str(directory))
        raise SpillUnusable.of(full, directory, f"only {free} bytes are free, {free_bytes_min} are kept in reserve")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
