"""A worker on a broker that lets nobody in by itself: by SCRAM and mutual TLS, with the ACLs of docs/security.md."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest

from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.runtime.admin import connect
from pipeline.runtime.security import NotLetIn, refusal
from pipeline.runtime.settings import read_settings
from tests.behaviour.commandline import CommandLine
from tests.kafka import pages
from tests.kafka.acls import Grant, grants, without
from tests.kafka.certificates import Authority
from tests.kafka.guarded import PASSWORD, USER, GuardedCluster, documented
from tests.kafka.trial import Trial
from tests.kafka.waiting import until
from tests.oracle.generator import Mix, generate

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ACLS = documented("kafka-acls.sh", "ACLs")
AGENTS = ("user-events", "read-model", "notification-sender")
MIX = Mix(events=600, users=30, duplicates=0.05, poison=0.02, conflicts=0.02)
ONE_OF_EACH = [
    next(grant for grant in grants(command) if grant.operation == operation)
    for command in ACLS
    for operation in dict.fromkeys(grant.operation for grant in grants(command))
]
"""Each operation of each documented command, on its first resource."""
LATER = {"Read topic comment-counts", "Write topic comment-counts"} | {
    f"{operation} topic {USER}-user-events-changelog" for operation in ("Read", "Write")
}
AT_START = [grant for grant in ONE_OF_EACH if str(grant) not in LATER]
"""What is missed before the first record; LATER: where the other operation on the topic lets it be found."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedCluster]:
    """With the user and the grants that the documentation says."""
    with GuardedCluster(tmp_path_factory.mktemp("guarded")) as cluster:
        asyncio.run(cluster.run(*documented("kafka-configs.sh", "Password"), *ACLS))
        yield cluster


class Named(Trial):
    """A trial under the names that the documentation uses. agents: what runs, all of them when empty."""

    def __init__(self, cluster: GuardedCluster, directory: Path, agents: str = "", **settings: str) -> None:
        super().__init__(cluster, directory, partitions=2, **settings)
        self.app_id = USER
        self._settings |= {"app_id": USER, "agents": agents}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        others = [f"{USER}-{agent}-changelog" for agent in AGENTS if agent != self.agent]
        self.cluster.create_topics(dict.fromkeys(others, self.partitions), {"cleanup.policy": "compact"})
        return self


@pytest.fixture
async def trial(guarded: GuardedCluster, tmp_path: Path) -> AsyncIterator[Named]:
    async with Named(guarded, tmp_path, **guarded.through_scram()) as trial:
        yield trial


@pytest.mark.versions
@pytest.mark.parametrize(("way", "guarantee"), [("scram", "at_least_once"), ("certificate", "exactly_once")])
async def test_a_worker_runs_with_the_documented_acls(
    guarded: GuardedCluster, tmp_path: Path, way: str, guarantee: str
) -> None:
    settings = guarded.through_scram() if way == "scram" else guarded.through_certificate()
    settings["processing_guarantee"] = guarantee
    async with Named(guarded, tmp_path, agents="user-events", **settings) as trial:
        one = trial.worker("one")
        await trial.start(one)
        report = await trial.verdict(await trial.write(generate(1, MIX)))
        said = one.log.read_text()
    assert "transaction.max.timeout.ms of the broker is below 30000: trying 15000" in said
    assert report.figures["inputs"] == MIX.events
    assert report.figures["error records"] > 0
    assert PASSWORD not in said


REVOKED = [
    next(grant for command in ACLS for grant in grants(command) if str(grant) == wanted)
    for wanted in ("Read topic user-events", f"Read group {USER}")
]


@pytest.mark.parametrize("grant", REVOKED, ids=str)
async def test_a_read_grant_that_is_revoked_ends_a_running_worker_with_one_line(
    guarded: GuardedCluster, trial: Named, grant: Grant
) -> None:
    worker = trial.worker("one")
    await trial.start(worker)
    async with without(guarded.bootstrap, grant):
        await trial.write(generate(1, MIX))
        if grant.resource == "--topic":
            cli = command_line(guarded, trial.directory, **guarded.through_scram(), app_id=USER)
            found = {row["check"]: row for row in (await asyncio.to_thread(cli, "doctor", "--json")).rows}
            assert "may not see" in found[f"topic {grant.name}"]["detail"], found
        assert await asyncio.to_thread(worker.process.wait, 60) == 1
    said = worker.log.read_text()
    assert "Traceback" not in said, said
    assert "uthorization" in said.splitlines()[-1], said
    assert grant.name in said.splitlines()[-1], said


async def test_a_write_grant_on_the_changelog_that_is_revoked_is_named_by_the_ready_page(
    guarded: GuardedCluster, trial: Named
) -> None:
    grant = next(one for command in ACLS for one in grants(command) if str(one) == f"Write topic {trial.changelog}")
    worker = trial.worker("one")
    await trial.start(worker)
    async with without(guarded.bootstrap, grant):
        await trial.write(generate(1, MIX))

        async def named() -> bool:
            return trial.changelog in str((await pages.ready(worker)).get("trouble"))

        await until(named, 60, "the ready page names the changelog")
    await trial.caught_up()
    assert "trouble" not in await pages.ready(worker)


async def test_all_agents_run_with_the_documented_acls(trial: Named) -> None:
    worker = trial.worker("one")
    await trial.start(worker)
    journal = await trial.write(generate(1, MIX))
    await trial.caught_up()

    async def finished() -> bool:
        done = [await pages.metric(worker, "hardparts_records_total", agent=name, outcome="applied") for name in AGENTS]
        return all(done)

    await until(finished, 60, "each agent has applied something")
    assert journal.acked == MIX.events
    assert "Authorization" not in worker.log.read_text()


@pytest.mark.parametrize("lacking", ONE_OF_EACH, ids=str)
async def test_without_any_one_grant_a_worker_says_what_it_may_not_do(
    guarded: GuardedCluster, trial: Named, lacking: Grant
) -> None:
    await trial.write(generate(1, MIX))
    async with without(guarded.bootstrap, lacking):
        worker = trial.worker("one")
        worker.start()

        remedy = "docs/security.md" if lacking in AT_START else ""

        def said() -> bool:
            lines = worker.end_of_log().splitlines()
            return any("uthorization" in line and lacking.name in line and remedy in line for line in lines)

        await until(said, 90, f"a worker without {lacking} names it")
        if lacking in AT_START:
            assert await asyncio.to_thread(worker.process.wait, 60) == 1


async def test_commands_get_in_and_name_what_they_may_not_do(guarded: GuardedCluster, trial: Named) -> None:
    cli = command_line(guarded, trial.directory, **guarded.through_scram())
    line = json.dumps({"key": "1", "value": {"text": "hello"}})
    (await asyncio.to_thread(cli, "send", "comment-counts", stdin=line)).fine()
    (await asyncio.to_thread(cli, "tables", "dump", "comments")).fine()
    denied = (await asyncio.to_thread(cli, "send", "user-events", stdin=line)).failed(1)
    assert "TopicAuthorizationFailed" in denied
    (await asyncio.to_thread(command_line(guarded, trial.directory), "send", trial.errors, stdin=line)).fine()
    denied = (await asyncio.to_thread(cli, "errors", "list")).failed(1)
    assert f"refuses: [Error 29] TopicAuthorizationFailedError: {trial.errors}" in denied
    assert "docs/security.md" in denied


async def test_plain_lets_a_command_in(guarded: GuardedCluster, tmp_path: Path) -> None:
    cli = command_line(guarded, tmp_path, **guarded.through_scram("PLAIN"))
    found = {row["check"]: row for row in (await asyncio.to_thread(cli, "doctor", "--json")).rows}
    assert found["broker"]["level"] == "ok", found
    assert found["security"]["detail"] == f"TLS, PLAIN as {USER}"
    super_user = command_line(guarded, tmp_path)
    found = {row["check"]: row for row in (await asyncio.to_thread(super_user, "doctor", "--json")).rows}
    assert found["transactions"]["detail"] == "transaction.max.timeout.ms of the broker is 20000"


def command_line(guarded: GuardedCluster, directory: Path, broker: str = "", **settings: str) -> CommandLine:
    """Without settings: plaintext, as the super user."""
    return CommandLine(broker or guarded.bootstrap, directory, **settings)


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a wrong password": ({"sasl_password": "wrong"}, "HARDPARTS_SASL_USERNAME"),
    "an unknown user": ({"sasl_username": "mallory"}, "refuses SCRAM-SHA-512 as mallory"),
    "a mechanism without a password": ({"sasl_mechanism": "SCRAM-SHA-256"}, "refuses SCRAM-SHA-256 as hardparts"),
    "a mechanism that isn't offered": ({"sasl_mechanism": "PLAIN"}, "refuses PLAIN as hardparts"),
    "an unknown authority": ({"ssl_cafile": "OTHER"}, "HARDPARTS_SSL_CAFILE"),
    "another name": ({"broker": "LOCALHOST"}, "the certificate of localhost:"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "hint"), REFUSED.values(), ids=REFUSED.keys())
async def test_who_is_not_let_in_is_told_why_at_once(
    guarded: GuardedCluster, tmp_path: Path, change: dict[str, str], hint: str
) -> None:
    settings = guarded.through_scram() | change
    if change.get("ssl_cafile"):
        settings["ssl_cafile"] = str(Authority(tmp_path / "other").certificate)
    if change.get("broker"):
        settings["broker"] = guarded.through_scram()["broker"].replace("127.0.0.1", "localhost")
    said = await turned_away(Misconfigured, **settings)
    assert hint in said
    assert settings["sasl_password"] not in said


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_no_log_shows_the_password(
    guarded: GuardedCluster, caplog: pytest.LogCaptureFixture, mechanism: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with connect(read_settings(**guarded.through_scram(mechanism))):
        pass
    assert "SaslHandShakeRequest" in caplog.text  # requests are logged
    assert "SaslAuthenticateRequest" not in caplog.text  # this one isn't
    assert PASSWORD not in caplog.text


async def test_a_worker_that_is_not_let_in_ends_with_status_2_and_one_line(
    guarded: GuardedCluster, tmp_path: Path
) -> None:
    cli = command_line(guarded, tmp_path, **guarded.through_scram(password="wr0ng"))
    said = (await asyncio.to_thread(cli, "worker")).failed(2)
    assert "refuses SCRAM-SHA-512 as hardparts" in said
    assert "wr0ng" not in said


@pytest.mark.parametrize("case", ["no certificate", "a stranger's certificate", "plaintext to TLS", "TLS to plaintext"])
async def test_a_way_in_that_cannot_work_is_named(guarded: GuardedCluster, tmp_path: Path, case: str) -> None:
    tls = {"security_protocol": "SSL", "ssl_cafile": str(guarded.authority.certificate)}
    stranger = Authority(tmp_path / "other").issue(USER)
    address, settings = {
        "no certificate": (guarded.mutual, tls),
        "a stranger's certificate": (guarded.mutual, tls | {"ssl_certfile": str(stranger.both)}),
        "plaintext to TLS": (guarded.scram, {}),
        "TLS to plaintext": (guarded.bootstrap, tls),
    }[case]
    said = await turned_away(HardpartsError, broker=f"kafka://{address}", **settings)
    assert "HARDPARTS_SECURITY_PROTOCOL" in said or "HARDPARTS_SSL_CERTFILE" in said


async def test_a_changed_password_is_read_from_its_file_and_otherwise_ends_the_worker(
    guarded: GuardedCluster, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    settings = guarded.through_scram() | {"sasl_password": "", "sasl_password_file": str(file)}
    [command] = documented("kafka-configs.sh", "Password")
    async with Named(guarded, tmp_path, agents="user-events", **settings) as trial:
        told = trial.worker("told", sasl_password=PASSWORD, sasl_password_file="")
        reads = trial.worker("reads")
        await trial.start(told, reads)
        try:
            await guarded.run(command.replace("$PASSWORD", "another one"))
            file.write_text("another one\n")
            await asyncio.to_thread(guarded.restart_broker, 1)
            assert await asyncio.to_thread(told.process.wait, 120) == 2
            assert "refuses SCRAM-SHA-512 as hardparts" in told.end_of_log()
            assert reads.alive
            await trial.verdict(await trial.write(generate(1, MIX)))
        finally:
            await guarded.run(command)


async def test_one_broker_that_lets_in_is_enough(guarded: GuardedCluster) -> None:
    settings = guarded.through_scram()
    refusing_first = f"kafka://{guarded.plain},{guarded.scram}"  # the first has another mechanism
    assert await refusal(read_settings(**settings | {"broker": refusing_first})) == ""
    with pytest.raises(NotLetIn, match="refuses SCRAM-SHA-512 as hardparts"):
        await refusal(read_settings(**settings | {"broker": f"kafka://{guarded.plain}"}))


async def turned_away(how: type[HardpartsError], **settings: str) -> str:
    """What is said to who connects with these settings."""
    with pytest.raises(how) as refusal:
        async with connect(read_settings(**settings)):
            pass
    return str(refusal.value)
