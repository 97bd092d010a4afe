"""One process a directory."""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path


class DirectoryInUse(Exception):
    """Another process has the directory. owner: its process id, and the host's name when it isn't this host."""

    def __init__(self, directory: Path, owner: str) -> None:
        super().__init__(f"{directory} belongs to process {owner}")
        self.directory, self.owner = directory, owner


class DirectoryLock:
    """The file `lock` of a directory, locked until `release`, or until the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        """Raises DirectoryInUse; OSError."""
        self._file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _shown(os.pread(self._file, 300, 0))
            os.close(self._file)
            raise DirectoryInUse(directory, owner) from error
        except OSError:
            os.close(self._file)
            raise
        with suppress(OSError):  # the disk may be full: then the next process can't be told who holds the lock
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()} {socket.gethostname()}".encode(), 0)

    def release(self) -> None:
        """Give the directory up."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _shown(written: bytes) -> str:
    number, _, host = written.decode(errors="replace").strip().partition(" ")
    elsewhere = f" on {host}" if host and host != socket.gethostname() else ""
    return f"{number or 'unknown'}{elsewhere}"
