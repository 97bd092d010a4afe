"""One process a spill directory."""

import fcntl
import os
from pathlib import Path

from pipeline.producer.errors import SpillInUse, SpillUnusable


class DirectoryLock:
    """Held until `release`, or until the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        """Raises SpillInUse, naming the process that has it; SpillUnusable."""
        path = directory / "lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise SpillUnusable.of(error, directory, "its lock can't be opened") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise SpillInUse(
                f"spill directory {directory} belongs to process {owner}: give this one another"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the directory up."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
