"""The instance of a worker: its directory, `<data dir>/<app id>/<instance>`, belongs to one process at a time.

lock        held until the process ends
cluster     id of the cluster that the state belongs to
member      of a slot: what makes its id as a static member of the group unique
tables/<agent>/<partition>/
faust/      Faust's own, nothing of value
"""

import errno
import fcntl
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.core.errors import Misconfigured
from pipeline.files import write_whole
from pipeline.lock import DirectoryInUse, DirectoryLock
from pipeline.runtime.settings import AUTO, Settings

log = logging.getLogger("hardparts.instance")

SLOTS_MAX = 10_000

_held: dict[Path, DirectoryLock] = {}
"""Those of this process. Nobody gives one up: the end of the process does."""


def slot(number: int) -> str:
    """The instance name of a slot."""
    return f"slot-{number}"


def first_slot(settings: Settings) -> Settings:
    """For who looks at an instance without being one: with `auto`, the first slot."""
    return settings.model_copy(update={"instance": slot(0)}) if settings.instance == AUTO else settings


def take_instance(settings: Settings) -> None:
    """The instance's directory is this process's from now on; Misconfigured when another process has it.

    It is made, with Faust's inside (Faust itself makes only the last part). It begins with the cluster's id that an
    older version has left in `<data dir>/<instance>`, where several applications may have shared it.
    """
    if settings.instance == AUTO:
        raise Misconfigured(f"HARDPARTS_INSTANCE={AUTO} needs `hardparts worker`: set a name")
    directory = settings.state_dir
    with named(directory):
        directory.mkdir(parents=True, exist_ok=True)
        key = directory.resolve()
        if key in _held:
            return
        try:
            _held[key] = DirectoryLock(directory)
        except DirectoryInUse as error:
            raise Misconfigured(
                f"instance directory {error}: give this worker a name of its own (--instance or HARDPARTS_INSTANCE), "
                f"or HARDPARTS_INSTANCE={AUTO} for a free slot"
            ) from error
        if not directory.joinpath("faust").exists():  # its first start: later it is missing because someone deleted it
            _copy(settings.data_dir / settings.instance / "cluster", settings.cluster_file)
        directory.joinpath("faust").mkdir(exist_ok=True)


def take_slot(settings: Settings) -> str:
    """Take the first slot of the data directory that no process has; the name of that instance.

    Locks decide, so workers that start at once get different ones. Misconfigured.
    """
    for number in range(SLOTS_MAX):
        directory = settings.application_dir / slot(number)
        with named(directory):
            directory.joinpath("faust").mkdir(parents=True, exist_ok=True)
            with suppress(DirectoryInUse):
                _held[directory.resolve()] = DirectoryLock(directory)
                member = directory / "member"
                if not member.exists():
                    write_whole(member, f"{uuid.uuid4().hex[:12]}\n".encode())
                return directory.name
    raise Misconfigured(f"HARDPARTS_INSTANCE={AUTO}: {settings.application_dir} has no free slot of {SLOTS_MAX}")


def member_id(settings: Settings) -> str:
    """The instance as a static member of the group. Machines with data directories of their own all have a slot 0."""
    with suppress(FileNotFoundError):
        return f"{settings.instance}-{(settings.state_dir / 'member').read_text().strip()}"
    return settings.instance


def adopt(settings: Settings, agents: Iterable[str]) -> None:
    """State of these agents that an older version has left in `<data dir>/<instance>` is moved to where it belongs now.

    Not while a worker of an older version has any of it open, nor where there is state already, nor to another file
    system: then it is named. Each agent's is moved at once, the cluster's id first: a kill in between costs nothing.
    Call it once the directory is taken and before anything in it is read.
    """
    old, new = settings.data_dir / settings.instance, settings.state_dir
    with named(new):
        left = [name for name in agents if (old / "tables" / name).is_dir()]
        wanted = [name for name in left if not (new / "tables" / name).exists()]
        for name in left:
            if name not in wanted:
                log.info("%s: left by an older version, not used any more: delete it", old / "tables" / name)
        with ExitStack() as kept:
            for name in wanted:
                for path in sorted((old / "tables" / name).glob("*/LOCK")):
                    if not kept.enter_context(_unused(path)):
                        log.warning(
                            "%s is in use by a worker of an older version: not moved to %s, state is rebuilt", path, new
                        )
                        return
            if wanted:
                _copy(old / "cluster", new / "cluster")
            for name in wanted:
                _move(old / "tables" / name, new / "tables" / name, mount_at=new)


@contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Whether no process has this RocksDB lock; none gets it inside the block."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            yield False
            return
        yield True
    finally:
        os.close(file)


def _move(old: Path, new: Path, *, mount_at: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        old.rename(new)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EBUSY):  # the second: it is itself where a volume is mounted
            raise
        log.warning(
            "%s can't be moved to another file system: state is rebuilt; mount the volume at %s instead", old, mount_at
        )
    else:
        log.info("%s: moved to %s", old, new)


def _copy(old: Path, new: Path) -> None:
    """Nothing where there is one already."""
    if old.exists() and not new.exists():
        write_whole(new, old.read_bytes())


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError becomes the Misconfigured that names the setting and the path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise Misconfigured(f"HARDPARTS_DATA_DIR: {where}: {error.strerror} (errno {error.errno})") from error
