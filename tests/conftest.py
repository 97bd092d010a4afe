"""What every test can rely on: marks that say what a test needs, and skips that name what is missing.

A test whose need is missing is skipped on a developer's machine. In continuous integration (CI is set) it runs and
fails, so that a run cannot go green by skipping.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import settings

from pipeline.kafka.patches import apply_patches
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import KafkaUnavailable, jars, java
from tests.needs import missing

# A busy machine is no failure: a test that hangs is ended by its time limit.
settings.register_profile("unhurried", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("unhurried")

apply_patches()  # clients that a test makes itself create no topic by asking, like those of the product


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can reach. pytest's own can't be it: each pytest that starts closes those."""
    with tempfile.TemporaryDirectory(prefix="hardparts-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One broker for the whole session; topics are shared, so a test that needs fixed names calls `reset()` first."""
    yield from _cluster(1, tmp_path_factory)


@pytest.fixture(scope="session")
def kafka3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three brokers; topics with replication 3 and min.insync.replicas 2. A test that takes one down brings it back."""
    yield from _cluster(3, tmp_path_factory)


def _cluster(brokers: Literal[1, 3], directories: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    try:
        cluster = KafkaCluster(brokers, directories.mktemp(f"kafka-{brokers}"))
    except KafkaUnavailable as reason:
        missing(f"real Kafka: {reason}")
    with cluster:
        yield cluster


def _kafka_missing() -> str | None:
    try:
        java()
        jars()
    except KafkaUnavailable as reason:
        return str(reason)
    return None


def _postgres_missing() -> str | None:
    if shutil.which("postgres") or any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        return None
    return "no PostgreSQL server program (postgres) on this machine"


NEEDS = {"kafka": _kafka_missing, "postgres": _postgres_missing}
KAFKA_FIXTURES = {"kafka", "kafka3"}
# Each test of these starts several processes and takes seconds; `make check` runs them, `make test` stays under 90 s.
SLOW = {
    "test_broker_build",
    "test_changelog_checks",
    "test_cli_bad_input",
    "test_cli_doctor",
    "test_cli_outbox",
    "test_cli_state",
    "test_cli_topics",
    "test_client_gateway",
    "test_clock",
    "test_compose",
    "test_demo",
    "test_erase",
    "test_erase_waits",
    "test_expiry_worker",
    "test_custody",
    "test_faulty_answers",
    "test_faust_commands",
    "test_hostile_generator",
    "test_gateway_disks",
    "test_gateway_process",
    "test_hostile_records",
    "test_hostile_worker",
    "test_memory",
    "test_postgres_outage",
    "test_secrets",
    "test_security_commands",
    "test_state_disk",
    "test_state_faults",
    "test_disk",
    "test_on_a_broker",
    "test_outbox_killed",
    "test_outbox_refusals",
    "test_outbox_relay",
    "test_spill",
    "test_state_machine",
    "test_web",
    "test_worker_output",
}


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a real Kafka or is slow, and skip what this machine can't run, with the reason."""
    for item in items:
        if KAFKA_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("kafka")
        elif item.path.stem in SLOW:
            item.add_marker("slow")
    if os.environ.get("CI"):
        return
    missing = {need: reason for need, check in NEEDS.items() if (reason := check())}
    for item in items:
        for need, reason in missing.items():
            if item.get_closest_marker(need):
                item.add_marker(pytest.mark.skip(reason=f"{need}: {reason}"))
