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
