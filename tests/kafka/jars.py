"""Where Java and Kafka's jars are, or why a test that needs them cannot run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class KafkaUnavailable(RuntimeError):
    """Java or Kafka's jars are missing; the message says which and how to get them."""


def java() -> str:
    """The path of `java`; raises KafkaUnavailable."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise KafkaUnavailable("no java on the PATH (17 or newer is needed)")
    return found


def jars() -> Path:
    """The directory of jars: HARDPARTS_KAFKA_LIBS, else .cache/kafka; raises KafkaUnavailable."""
    named = os.environ.get("HARDPARTS_KAFKA_LIBS")
    directory = Path(named) if named else REPOSITORY / ".cache" / "kafka"
    if not any(directory.glob("kafka_2.13-*.jar")):
        raise KafkaUnavailable(
            f"no kafka_2.13-*.jar in {directory}: run "
            "`mvn -q -f tests/kafka/pom.xml dependency:copy-dependencies` or set HARDPARTS_KAFKA_LIBS"
        )
    return directory
