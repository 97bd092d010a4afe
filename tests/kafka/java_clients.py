"""Kafka's own console clients, as a user starts them."""

from __future__ import annotations

import asyncio
import subprocess
from typing import NamedTuple

from tests.kafka.jars import program, version

TIMEOUT_S = 60.0


class Line(NamedTuple):
    """A record as the console consumer prints it."""

    partition: int
    key: str
    value: str


async def console_produce(bootstrap: str, topic: str, keyed: list[tuple[str, str]]) -> None:
    """Send keys and values through `kafka-console-producer`."""
    lines = "".join(f"{key}\t{value}\n" for key, value in keyed)
    command = program(
        "org.apache.kafka.tools.ConsoleProducer",
        *("--bootstrap-server", bootstrap, "--topic", topic),
        *_properties("reader", "parse.key=true", "key.separator=\t"),
    )
    ended = await asyncio.to_thread(
        subprocess.run, command, input=lines, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ended.returncode == 0, ended.stderr


async def console_consume(bootstrap: str, topic: str, group: str, count: int) -> list[Line]:
    """The first `count` records of `topic` that `kafka-console-consumer` prints."""
    command = program(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--group", group, "--from-beginning"),
        *("--max-messages", str(count), "--timeout-ms", str(int(TIMEOUT_S * 500))),
        *_properties("formatter", "print.key=true", "print.partition=true", "key.separator=\t"),
    )
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    lines = []
    for text in ended.stdout.decode().splitlines():
        partition, key, value = text.split("\t", 2)
        lines.append(Line(int(partition.removeprefix("Partition:")), key, value))
    return lines


def _properties(of: str, *settings: str) -> list[str]:
    """Flags that set properties of the console's reader or formatter: named for it since 4.2 (KIP-1147)."""
    flag = f"--{of}-property" if version() >= (4, 2) else "--property"
    return [part for setting in settings for part in (flag, setting)]
