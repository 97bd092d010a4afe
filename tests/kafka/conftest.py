"""What only tests of a real Kafka ask for; the clusters themselves are in tests/conftest.py."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.goprogram import NoGo
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import KafkaUnavailable
from tests.kafka.links import LinkedCluster
from tests.needs import missing

LONGEST_FIRST = (
    "test_rolling_restart", "test_rebootstrap", "test_changelog_tail", "test_crash_points", "test_topics_change",
    "test_kill", "test_broker_down", "test_replicas", "test_zombie", "test_blocked", "test_bad_link",
    "test_half_open_link",
    "test_definitions_differ", "test_other_members",
    "test_start_refused", "test_security", "test_gateway", "test_source_truncated", "test_records_deleted",
    "test_open_transaction", "test_other_cluster", "test_offsets_moved", "test_topics_untouched", "test_join_leave",
    "test_standby", "test_error_topic", "test_expiry", "test_producer", "test_outbox", "test_hostile_on_kafka",
    "test_static_membership", "test_transaction", "test_fencing",
)  # fmt: skip
"""Modules that take more than half a minute. A long one that begins last lets the other process wait for its end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long modules before all others; inside a module, and among the others, the order stays."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def changelog(kafka: KafkaCluster) -> str:
    """A compacted topic of its own for each test, of two partitions."""
    topic = f"changelog-{uuid.uuid4().hex[:8]}"
    kafka.create_topics({topic: 2}, {"cleanup.policy": "compact"})
    return topic


@pytest.fixture(scope="session")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedCluster]:
    """One broker at the other end of a link; a test that makes it bad makes it well again."""
    try:
        cluster = LinkedCluster(tmp_path_factory.mktemp("linked"))
    except KafkaUnavailable as reason:
        missing(f"real Kafka: {reason}")
    except NoGo as reason:
        missing(f"the bad link can't be compiled: {reason}")
    with cluster:
        yield cluster
