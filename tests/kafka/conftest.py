"""Session-wide clusters of real Kafka. Without Java or the jars a test is skipped with the reason; in CI it fails."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Literal

import pytest

from tests.goprogram import NoGo
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import KafkaUnavailable, jars, java
from tests.kafka.links import LinkedCluster


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One broker for the whole session; topics are shared, so a test that needs fixed names calls `reset()` first."""
    yield from _cluster(1, tmp_path_factory)


@pytest.fixture(scope="session")
def kafka3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three brokers, replication 3, min.insync.replicas 2; a test that takes one down brings it back."""
    yield from _cluster(3, tmp_path_factory)


@pytest.fixture
def changelog(kafka: KafkaCluster) -> str:
    """A compacted topic of its own for each test, of two partitions."""
    topic = f"changelog-{uuid.uuid4().hex[:8]}"
    kafka.create_topics({topic: 2}, {"cleanup.policy": "compact"})
    return topic


@pytest.fixture(scope="session")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedCluster]:
    """One broker at the other end of a link; a test that makes it bad makes it well again."""
    _needs_kafka()
    try:
        cluster = LinkedCluster(tmp_path_factory.mktemp("linked"))
    except NoGo as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the bad link can't be compiled: {reason}")
    with cluster:
        yield cluster


def _cluster(brokers: Literal[1, 3], directories: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    _needs_kafka()
    with KafkaCluster(brokers, directories.mktemp(f"kafka-{brokers}")) as cluster:
        yield cluster


def _needs_kafka() -> None:
    try:
        java()
        jars()
    except KafkaUnavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(f"real Kafka is a must in CI: {reason}", pytrace=False)
        pytest.skip(f"real Kafka: {reason}")
