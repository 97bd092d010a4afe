"""One process an instance: names, slots, and where their state is."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.core.errors import Misconfigured
from pipeline.runtime.instance import adopt, member_id, take_instance, take_slot
from pipeline.runtime.settings import Settings, read_settings
from pipeline.runtime.store import Store
from tests.behaviour.commandline import ROOT, CommandLine
from tests.behaviour.place import Place
from tests.oracle.process import Worker
from tests.oracle.records import AGENT
from tests.oracle.views import unit_directories

WORKERS = 4
SLOTS = {f"slot-{number}" for number in range(WORKERS)}
HOLDING = (
    "import sys; from pipeline.runtime.instance import take_slot, take_instance; "
    "from pipeline.runtime.settings import read_settings; settings = read_settings(); "
    "print(take_slot(settings) if settings.instance == 'auto' else take_instance(settings), flush=True); "
    "sys.stdin.read()"
)
OLDER = (
    "import sys; from pathlib import Path; from pipeline.runtime.store import Store; "
    "store = Store(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
)
RESTORED = re.compile(r"local state .* rebuilt")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path, partitions=4) as place:
        yield place


def slots(place: Place, names: Sequence[str]) -> dict[str, Worker]:
    """Workers with `auto`, started at once: the slot of each once all are ready."""
    environment = {name: value for name, value in place.cli.environment.items() if name.startswith("HARDPARTS_")}
    workers = [Worker("auto", place.directory / f"{name}.log", environment) for name in names]
    place.workers += workers
    for worker in workers:
        worker.start()
    return {slot_of(worker.wait_ready()): worker for worker in workers}


def identities(data: Path) -> dict[Path, str]:
    """Directory of a unit → what RocksDB calls its database: one that is made again is another."""
    directories = [path for slot in SLOTS for path in unit_directories(data, slot).values()]
    return {directory: (directory / "IDENTITY").read_text() for directory in directories}


def slot_of(worker: Worker) -> str:
    found = re.findall(r"^ready .* instance=(\S+) web=", worker.log.read_text(), re.MULTILINE)
    return str(found[-1])


def test_a_second_worker_with_the_same_name_ends_with_2_and_names_the_first(place: Place) -> None:
    first = place.worker("one")
    second = place.cli("worker", "--instance", "one").failed(2)
    assert str(Path(place.cli.environment["HARDPARTS_DATA_DIR"]) / place.app_id / "one") in second
    assert f"belongs to process {first.process.pid}" in second
    assert "HARDPARTS_INSTANCE=auto" in second
    first.kill()
    with place.cli.running("worker", "--instance", "one") as third:  # what a kill leaves behind is no obstacle
        assert third.stdout is not None
        assert third.stdout.readline().startswith("ready ")


def test_another_application_has_directories_of_its_own(tmp_path: Path) -> None:
    one, two = (Settings(data_dir=tmp_path, app_id=app_id, instance="host") for app_id in ("one", "two"))
    take_instance(one)
    take_instance(two)
    assert one.state_dir != two.state_dir
    assert one.cluster_file.parent == one.state_dir == tmp_path / "one" / "host"


@pytest.mark.slow
def test_workers_that_start_at_once_take_a_slot_each_and_find_it_again(place: Place) -> None:
    names = [f"worker-{number}" for number in range(WORKERS)]
    workers = slots(place, names)
    assert workers.keys() == SLOTS
    data = Path(place.cli.environment["HARDPARTS_DATA_DIR"])
    before = identities(data)
    assert len(before) >= 4
    for worker in workers.values():
        worker.kill()
    again = slots(place, [f"{name}-again" for name in names])
    assert again.keys() == SLOTS
    for worker in again.values():
        assert not RESTORED.search(worker.log.read_text())
    assert before.items() <= identities(data).items()
    assert {path.name for path in (data / place.app_id).iterdir()} == SLOTS


def test_the_lowest_slot_that_is_free_is_taken(tmp_path: Path) -> None:
    cli = CommandLine("kafka://127.0.0.1:1", tmp_path, instance="auto")
    with ExitStack() as running:
        holders = []
        for number in range(3):
            holder = running.enter_context(holding(cli))
            assert holder.stdout is not None
            assert holder.stdout.readline() == f"slot-{number}\n"
            holders.append(holder)
        holders[1].kill()
        holders[1].wait()
        fourth = running.enter_context(holding(cli))
        assert fourth.stdout is not None
        assert fourth.stdout.readline() == "slot-1\n"
        for holder in (*holders, fourth):
            holder.kill()


def holding(cli: CommandLine) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDING], cwd=ROOT, env=cli.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_slots_of_two_machines_are_different_members_and_a_slot_stays_the_same_one(tmp_path: Path) -> None:
    here, there = (Settings(data_dir=tmp_path / host, instance="auto", static_membership=True) for host in "ab")
    ids = []
    for settings in (here, there):
        name = take_slot(settings)
        assert name == "slot-0"
        ids.append(member_id(settings.model_copy(update={"instance": name})))
        assert ids[-1] == member_id(settings.model_copy(update={"instance": name}))
    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"slot-0-[0-9a-f]{12}", id_) for id_ in ids)
    assert member_id(Settings(data_dir=tmp_path, instance="named")) == "named"


@pytest.mark.parametrize(("name", "value"), [
    ("app_id", "."), ("app_id", ".."), ("instance", ".."), ("instance", "tables"), ("instance", "spill"),
])  # fmt: skip
def test_names_that_would_be_somebody_elses_directory_are_refused(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"--{name.replace('_', '-')}"):
        read_settings(**{name: value})


def test_auto_is_for_workers(tmp_path: Path) -> None:
    cli = CommandLine("kafka://127.0.0.1:1", tmp_path, instance="auto")
    assert "HARDPARTS_INSTANCE=auto is for workers" in cli("gateway", "--port", "0").failed(2)
    assert "slot-0" in {row["check"]: row["detail"] for row in cli("doctor", "--json").rows}["data directory"]


def older_state(tmp_path: Path, instance: str) -> Path:
    """As a version before applications had directories has left it; the directory of one unit."""
    unit = tmp_path / instance / "tables" / AGENT / "0"
    Store(unit).close()
    (tmp_path / instance / "cluster").write_text("the cluster\n")
    return unit


@pytest.mark.parametrize("app_id", ["app", "host"])
def test_state_of_the_layout_before_is_moved_and_the_custody_of_a_gateway_stays(tmp_path: Path, app_id: str) -> None:
    """Also where the application is called as the instance was."""
    unit = older_state(tmp_path, "host")
    (tmp_path / "host" / "spill").mkdir()
    Store(tmp_path / "host" / "tables" / "another-agent" / "0").close()
    settings = Settings(data_dir=tmp_path, app_id=app_id, instance="host")
    take_instance(settings)
    adopt(settings, [AGENT])
    assert (settings.state_dir / "tables" / AGENT / "0" / "CURRENT").exists()
    assert settings.cluster_file.read_text() == "the cluster\n"
    assert not unit.parent.exists()
    assert settings.spill.is_dir()
    assert (tmp_path / "host" / "tables" / "another-agent" / "0").is_dir()
    adopt(settings, [AGENT])
    Store(settings.state_dir / "tables" / AGENT / "0").close()


def test_state_that_an_older_worker_has_open_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unit = older_state(tmp_path, "host")
    older = subprocess.Popen(
        [sys.executable, "-c", OLDER, str(unit)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    settings = Settings(data_dir=tmp_path, app_id="app", instance="host")
    with older:
        try:
            assert older.stdout is not None
            assert older.stdout.readline() == "open\n"
            take_instance(settings)
            adopt(settings, [AGENT])
        finally:
            older.kill()
    assert unit.is_dir()
    assert not (settings.state_dir / "tables").exists()
    assert settings.cluster_file.read_text() == "the cluster\n"
    assert f"{unit / 'LOCK'} is in use by a worker of an older version" in caplog.text


def test_state_on_another_file_system_is_named_and_rebuilt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = older_state(tmp_path, "host")
    settings = Settings(data_dir=tmp_path, app_id="app", instance="host")

    def rename(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(Path, "rename", rename)
    take_instance(settings)
    adopt(settings, [AGENT])
    assert unit.is_dir()
    assert settings.cluster_file.read_text() == "the cluster\n"
    assert f"{unit.parent} can't be moved to another file system: state is rebuilt" in caplog.text
    assert f"mount the volume at {settings.state_dir}" in caplog.text


def test_each_application_that_shared_a_directory_keeps_the_clusters_id_and_one_that_was_deleted_stays_so(
    tmp_path: Path,
) -> None:
    older_state(tmp_path, "host")
    Store(tmp_path / "host" / "tables" / "another-agent" / "0").close()
    for app_id, agents in (("one", [AGENT]), ("two", ["another-agent"]), ("without-state", ["third"])):
        settings = Settings(data_dir=tmp_path, app_id=app_id, instance="host")
        take_instance(settings)
        adopt(settings, agents)
        assert settings.cluster_file.read_text() == "the cluster\n"
        settings.cluster_file.unlink()  # as the runbook says for who has moved to another cluster
        take_instance(settings)
        adopt(settings, agents)
        assert not settings.cluster_file.exists()


def test_state_that_is_there_is_not_replaced_by_older_state(tmp_path: Path) -> None:
    unit = older_state(tmp_path, "host")
    settings = Settings(data_dir=tmp_path, app_id="app", instance="host")
    Store(settings.state_dir / "tables" / AGENT / "1").close()
    take_instance(settings)
    adopt(settings, [AGENT])
    assert unit.is_dir()
    assert not (settings.state_dir / "tables" / AGENT / "0").exists()


async def test_a_worker_goes_on_with_what_an_older_one_has_left(place: Place) -> None:
    worker = place.worker("one")
    assert worker.stop() == 0
    data = Path(place.cli.environment["HARDPARTS_DATA_DIR"])
    new, old = data / place.app_id / "one", data / "one"
    old.mkdir()
    for name in ("tables", "cluster"):
        shutil.move(new / name, old / name)
    before = {path.stat().st_ino for path in old.glob("tables/*/*/CURRENT")}
    assert before
    worker.start().wait_ready()
    assert {path.parent.name for path in new.glob(f"tables/{AGENT}/*/CURRENT")} == {"0", "1", "2", "3"}
    assert not RESTORED.search(worker.log.read_text())
    assert not (old / "tables" / AGENT).exists()
