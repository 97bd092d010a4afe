"""`hardparts doctor` names what keeps a worker from running, one line each."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.topics import catalogue, user_events
from pipeline.broker import EmbeddedBroker
from pipeline.ops.doctor import clock, topics, transactions
from pipeline.runtime.admin import connect
from pipeline.runtime.agent import Agent
from pipeline.runtime.app import App
from pipeline.runtime.settings import Settings
from pipeline.runtime.topics import changelog_topic
from tests.behaviour.commandline import ROOT, CommandLine, Ended

NOBODY = 65534
CHANGELOG = "hardparts-user-events-changelog"


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def cli(broker: EmbeddedBroker, tmp_path: Path) -> CommandLine:
    cli = CommandLine(broker.url, tmp_path, app_id=f"doctor-{tmp_path.name}")
    cli("topics", "apply").fine()
    return cli


def levels(ended: Ended, code: int) -> dict[str, dict[str, Any]]:
    """check → its finding."""
    assert ended.code == code, ended.out + ended.err
    return {row["check"]: row for row in ended.rows}


def failing(ended: Ended) -> dict[str, str]:
    """check → detail and remedy of what FAILs."""
    return {
        name: f"{row['detail']}: {row['remedy']}" for name, row in levels(ended, 1).items() if row["level"] == "FAIL"
    }


def test_a_healthy_place_is_ok_in_every_line(cli: CommandLine) -> None:
    found = levels(cli("doctor", "--json").fine(), 0)
    assert {row["level"] for row in found.values()} == {"ok"}
    assert re.search(r" answers, cluster \S{22,}$", found["broker"]["detail"])
    assert found.keys() >= {"broker", "topics", "contracts", "data directory", "database", "clock", "application"}
    lines = cli("doctor").fine().out.splitlines()
    assert len(lines) == len(found)
    assert all(line.startswith("ok   ") for line in lines)


def test_a_data_directory_that_belongs_to_another_cluster_fails_and_ends_the_worker(
    cli: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "data" / cli.environment["HARDPARTS_APP_ID"] / "one" / "cluster"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("another\n")
    worker = cli("worker")
    assert worker.code == 1
    assert "this process works with another. Nothing is sent to it." in worker.err
    assert f"delete {file}" in worker.err
    assert "this process works with another" in failing(cli("doctor", "--json"))["broker"]
    file.unlink()
    cli("doctor").fine()
    with cli.worker():
        assert re.fullmatch(r"\S{22,}\n", file.read_text())


def test_a_horizon_shorter_than_the_retention_of_a_source_is_a_warning(cli: CommandLine) -> None:  # D6
    def said(horizon: str) -> set[tuple[str, str]]:
        rows = cli("doctor", "--json", dedup_horizon_s=horizon).fine().rows
        return {(row["level"], row["detail"]) for row in rows if row["check"] == "deduplication horizon"}

    found = said("3600")
    assert {level for level, _ in found} == {"WARN"}
    assert any("user-events keeps records for 7 d, marks are kept for 1 h" in detail for _, detail in found)
    assert {level for level, _ in said(str(8 * 86_400))} == {"ok"}


def test_without_a_broker_the_other_checks_run_all_the_same(cli: CommandLine) -> None:
    found = levels(cli("doctor", "--json", broker="kafka://127.0.0.1:1"), 1)
    assert [name for name, row in found.items() if row["level"] == "FAIL"] == ["broker"]
    assert "127.0.0.1:1" in found["broker"]["detail"]
    assert "HARDPARTS_BROKER" in found["broker"]["remedy"]
    assert found["contracts"]["level"] == found["data directory"]["level"] == "ok"


def test_a_missing_topic_and_a_wrong_partition_count_are_named(cli: CommandLine, broker: EmbeddedBroker) -> None:
    app_id = f"{cli.environment['HARDPARTS_APP_ID']}-new"
    changelog = f"{app_id}-user-events-changelog"

    async def wrong() -> None:
        config = {"cleanup.policy": "compact", **dict(changelog_topic(changelog).config)}
        async with connect(Settings(broker=broker.url)) as admin:
            await admin.create(changelog, 1, 1, config)

    asyncio.run(wrong())
    found = failing(cli("doctor", "--json", app_id=app_id))
    assert "doesn't exist" in found[f"topic {app_id}.errors"]
    assert "topics apply" in found[f"topic {app_id}.errors"]
    assert "partitions 1" in found[f"topic {changelog}"]
    assert cli("doctor", app_id=app_id).out.count(f"{changelog} has 1") == 1


def test_a_setting_that_is_not_what_the_topics_have_is_a_warning_with_the_right_number(cli: CommandLine) -> None:
    found = levels(cli("doctor", "--json", partitions="8").fine(), 0)
    assert found["partitions"]["level"] == "WARN"
    assert found["partitions"]["remedy"] == "set HARDPARTS_PARTITIONS=2"
    assert not any(name.startswith("topic ") for name in found)
    assert "--force" not in cli("doctor", partitions="8").out


@pytest.mark.parametrize(
    ("exactly_once", "allowed_ms", "levels"),
    [
        (False, "900000", ["ok"]),
        (False, "900", ["FAIL"]),
        (True, "4000", ["FAIL"]),
        (False, "4000", ["ok"]),
        (True, None, []),
    ],
)
def test_a_broker_that_allows_too_short_transactions_only_is_named(
    exactly_once: bool, allowed_ms: str | None, levels: list[str]
) -> None:
    found = transactions(exactly_once, allowed_ms)
    assert [finding.level for finding in found] == levels
    assert all("transaction.max.timeout.ms" in finding.detail for finding in found)


def test_a_contract_file_that_is_broken_is_named_with_its_place(cli: CommandLine, tmp_path: Path) -> None:
    contracts = tmp_path / "contracts"
    shutil.copytree(ROOT / "agents" / "contracts", contracts)
    broken = contracts / "user-events" / "comment.created.json"
    schema = json.loads(broken.read_text())
    schema["properties"]["data"]["type"] = "objekt"
    broken.write_text(json.dumps(schema))
    found = failing(cli("doctor", "--json", contracts_dir=str(contracts)))
    assert found.keys() == {"contracts"}
    assert str(broken) in found["contracts"]
    assert "/properties/data/type" in found["contracts"]


def test_a_database_that_is_away_is_a_warning(cli: CommandLine) -> None:
    found = levels(cli("doctor", "--json", database_url="postgresql+psycopg://u:p@127.0.0.1:1/x"), 0)
    assert found["database"]["level"] == "WARN"
    assert found["database"]["remedy"]
    found = levels(cli("doctor", "--json", database_url="nonsense"), 0)
    assert found["database"]["level"] == "WARN"


def test_a_data_directory_that_this_user_cannot_write_is_named_with_the_error_number(
    cli: CommandLine, tmp_path: Path
) -> None:
    # Root may write everywhere. The interpreter may be unreadable to anybody else: it loads everything, then changes.
    script = (
        "import os, sys\n"
        "from pipeline.cli import main\n"
        "def run():\n"
        "    try:\n"
        "        main(['doctor', '--json'])\n"
        "    except SystemExit as ended:\n"
        "        return ended.code\n"
        "assert run() == 0\n"
        "print('---', flush=True)\n"
        "os.environ['HARDPARTS_DATA_DIR'] = sys.argv[1]\n"
        "if os.geteuid() == 0:\n"
        f"    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sys.exit(run())\n"
    )
    denied = tmp_path / "denied"
    denied.mkdir(mode=0o555)
    ended = subprocess.run(
        [sys.executable, "-c", script, str(denied)],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env=cli.environment, check=False,
    )  # fmt: skip
    found = failing(Ended(ended.returncode, ended.stdout.partition("---\n")[2], ended.stderr))
    assert str(denied) in found["data directory"]
    assert "errno 13" in found["data directory"]
    assert "HARDPARTS_DATA_DIR" in found["data directory"]
    assert list(denied.iterdir()) == []


def test_a_data_directory_that_is_a_file_is_named(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = failing(cli("doctor", "--json", data_dir=str(tmp_path / "file")))
    assert str(tmp_path / "file") in found["data directory"]


def test_agents_of_another_package_are_named_with_where_they_come_from(cli: CommandLine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "site"
    (elsewhere / "agents").mkdir(parents=True)
    (elsewhere / "agents" / "__init__.py").write_text("")
    cli.environment["PYTHONPATH"] = f"{elsewhere}{os.pathsep}{ROOT}"
    (tmp_path / "home").mkdir()
    cli.directory = tmp_path / "home"
    found = failing(cli("doctor", "--json"))
    assert str(elsewhere / "agents") in found["import agents"]
    assert "application" in found


def test_tables_of_another_package_are_named_with_where_they_come_from(cli: CommandLine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "site"
    shutil.copytree(ROOT / "tables", elsewhere / "tables")
    cli.environment["PYTHONPATH"] = f"{elsewhere}{os.pathsep}{ROOT}"
    (tmp_path / "home").mkdir()
    cli.directory = tmp_path / "home"
    found = failing(cli("doctor", "--json"))
    assert found.keys() == {"import tables"}
    assert str(elsewhere / "tables") in found["import tables"]


def test_a_record_from_the_future_makes_the_clock_doubtful(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert clock(settings, 0.0).level == "ok"
    assert clock(settings, 3600.0).level == "WARN"
    assert "3600 s ahead" in clock(settings, 3600.0).detail


async def test_a_topic_that_may_not_be_seen_hides_no_finding_on_another(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cli.environment.items():
        if name.startswith("HARDPARTS_"):
            monkeypatch.setenv(name, value)
    app = App(catalogue=catalogue, modules=[], contracts=ROOT / "agents" / "contracts")
    Agent(app, "user-events", sources=[user_events])
    changelog = app.changelog(app.declared[0])

    async def hidden(_: object) -> set[str]:
        return {"user-events"}

    async with connect(app.settings) as admin:
        found = await admin.topics()
        del found["user-events"], found[changelog], found["messages"]
        monkeypatch.setattr(admin, "hidden", hidden)  # the embedded broker has no ACLs
        findings = {one.check: one for one in await topics(app, admin, found)}
    assert "Describe" in findings["topic user-events"].remedy
    assert findings["topic messages"].detail == "topic messages doesn't exist"
    assert findings[f"topic {changelog}"].level == "FAIL"
