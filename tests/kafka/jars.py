"""Which Apache Kafka the tests run, where Java and its jars are, or why a test that needs them cannot run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NEWEST = "4.4.0"
"""The version that tests, benchmarks and chaos runs take unless HARDPARTS_TEST_KAFKA names another one."""
JAR = "kafka_2.13-{}.jar"
SHORT_LIVED = ("-Xmx128m", "-XX:TieredStopAtLevel=1")
"""For a program that ends soon: a small heap, and less compiling, so that it starts sooner."""


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
    """The directory of jars: HARDPARTS_KAFKA_LIBS, else .cache/kafka/<version>; raises KafkaUnavailable."""
    version = os.environ.get("HARDPARTS_TEST_KAFKA") or NEWEST
    named = os.environ.get("HARDPARTS_KAFKA_LIBS")
    directory = Path(named) if named else REPOSITORY / ".cache" / "kafka" / version
    if not any(directory.glob(JAR.format("*"))):
        fetch = f"make .cache/kafka/{version}/complete"
        raise KafkaUnavailable(f"no {JAR.format('*')} in {directory}: run `{fetch}` or set HARDPARTS_KAFKA_LIBS")
    return directory


def version() -> tuple[int, ...]:
    """The version of the jars, such as (4, 4, 0); raises KafkaUnavailable."""
    before, after = JAR.split("{}")
    (jar,) = jars().glob(JAR.format("*"))
    return tuple(map(int, jar.name.removeprefix(before).removesuffix(after).split(".")))


def program(main: str, *arguments: str, options: tuple[str, ...] = SHORT_LIVED) -> list[str]:
    """The command that runs a class of the jars; raises KafkaUnavailable."""
    return [java(), *options, "-cp", str(jars() / "*"), main, *arguments]
