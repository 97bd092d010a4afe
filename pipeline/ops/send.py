"""`send`: JSON lines → records, each confirmed by the broker before this returns."""

import asyncio
import json
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from pipeline.core.errors import HardpartsError
from pipeline.core.failure import line_of
from pipeline.core.routing import DEFAULT, encode_key, partition_of
from pipeline.ops.application import declared_partitioners
from pipeline.ops.reading import partitions_of
from pipeline.producer import Delivery, Limits, ProducerError, ReliableProducer
from pipeline.runtime.admin import client_options
from pipeline.runtime.settings import Settings

CHUNK_BYTES = 1 << 16
LINE_BYTES_MAX = 16 << 20
UNCONFIRMED_MAX = 5_000
MEMORY_BYTES_MAX = 4 * LINE_BYTES_MAX
RECORD_OVERHEAD_BYTES = 256
LINGER_S = 0.002
SILENT_AFTER_S = 10.0
"""No confirmation for so long means that the broker is away: the producer itself would wait for ever."""


class LineBroken(HardpartsError):
    """A line of the input can't be sent; the message says why."""


class Stopped(HardpartsError):
    """Sending ended early. confirmed: how many records, from the beginning, are surely on the topic."""

    def __init__(self, message: str, confirmed: int) -> None:
        super().__init__(f"{message}; confirmed before it: {confirmed}")
        self.confirmed = confirmed


class Line(NamedTuple):
    """One line as a record."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def parse_line(raw: bytes) -> Line:
    """`{"key": …, "value": …, "headers": {…}}` as a record: JSON null as value is a tombstone. Raises LineBroken."""
    try:
        fields = json.loads(raw.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise LineBroken(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise LineBroken('not a JSON object: write {"key": …, "value": …, "headers": {…}}')
    unknown = sorted(fields.keys() - {"key", "value", "headers"})
    if unknown:
        raise LineBroken(f"unknown field {unknown[0]!r}: a line has key, value and headers")
    if "value" not in fields:
        raise LineBroken("no value (null writes a tombstone)")
    key, value, headers = fields.get("key"), fields["value"], fields.get("headers") or {}
    if key is not None and (isinstance(key, bool) or not isinstance(key, (str, int))):
        raise LineBroken(f"the key is text, an integer or null, not {type(key).__name__}")
    if not isinstance(headers, dict) or not all(isinstance(text, str) for text in headers.values()):
        raise LineBroken("headers are an object of texts")
    try:
        return Line(
            None if key is None else encode_key(key),
            None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
            [(name, text.encode()) for name, text in headers.items()],
        )
    except UnicodeEncodeError as error:
        raise LineBroken("a text has half of a surrogate pair, which UTF-8 can't carry") from error


async def send(settings: Settings, topic: str, source: int, on_confirmed: Callable[[int, int], None]) -> int:
    """Send what file descriptor `source` has, line by line; the number of records, all of them confirmed.

    on_confirmed: called with (records confirmed, input bytes read). Raises Stopped, which names the line, at the first
    that can't be sent; TopicMissing; BrokerAway.
    """
    partitioner = declared_partitioners(settings).get(topic, DEFAULT)
    partitions = await partitions_of(settings, topic)
    limits = Limits(memory_messages=2 * UNCONFIRMED_MAX, memory_bytes=MEMORY_BYTES_MAX)
    producer = ReliableProducer(client_options(settings), limits=limits, linger_s=LINGER_S)
    await producer.start()
    sending = _Sending(producer, topic, partitions, partitioner, ",".join(settings.brokers))
    try:
        async for number, raw, read_bytes in _lines(source):
            await sending.line(number, raw)
            on_confirmed(sending.confirmed, read_bytes)
        await sending.finish()
        return sending.confirmed
    finally:
        await producer.stop(timeout_s=0)


class _Sending:
    def __init__(self, producer: ReliableProducer, topic: str, partitions: int, partitioner: str, address: str) -> None:
        self._producer, self._topic, self._partitions, self._address = producer, topic, partitions, address
        self._partitioner = partitioner
        self._unconfirmed: deque[tuple[int, int, Delivery]] = deque()
        self._keyless = self._bytes = 0
        self.confirmed = 0

    async def line(self, number: int, raw: bytes) -> None:
        try:
            line = parse_line(raw)
        except LineBroken as error:
            await self.finish()
            raise Stopped(f"line {number}: {error}", self.confirmed) from error
        size = len(raw) + RECORD_OVERHEAD_BYTES
        while self._unconfirmed and self._bytes + size > MEMORY_BYTES_MAX // 2:
            await self._confirm_oldest()
        try:
            delivery = self._producer.produce(
                self._topic, self._partition(line.key), line.value, key=line.key, headers=line.headers
            )
        except ProducerError as error:
            await self.finish()
            raise Stopped(f"line {number}: {line_of(error)}", self.confirmed) from error
        self._unconfirmed.append((number, size, delivery))
        self._bytes += size
        while self._unconfirmed and (self._unconfirmed[0][2].done or len(self._unconfirmed) > UNCONFIRMED_MAX):
            await self._confirm_oldest()

    async def finish(self) -> None:
        """Wait for every confirmation that is still open."""
        while self._unconfirmed:
            await self._confirm_oldest()

    async def _confirm_oldest(self) -> None:
        number, size, delivery = self._unconfirmed.popleft()
        self._bytes -= size
        started = time.monotonic()
        try:
            async with asyncio.timeout(SILENT_AFTER_S):
                await delivery
        except (ProducerError, TimeoutError) as error:
            silent = isinstance(error, TimeoutError)
            waited_s = time.monotonic() - started
            why = f"{self._address} confirmed nothing for {waited_s:.0f} s" if silent else line_of(error)
            message = f"line {number}: not confirmed ({why}); it and those after it may or may not be on {self._topic}"
            raise Stopped(message, self.confirmed) from error
        self.confirmed += 1

    def _partition(self, key: bytes | None) -> int:
        if key is not None:
            return partition_of(key, self._partitions, self._partitioner)
        self._keyless += 1
        return self._keyless % self._partitions


async def _lines(source: int) -> AsyncIterator[tuple[int, bytes, int]]:
    """(line number from 1, line, bytes read so far); empty lines are passed over."""
    rest, number, read_bytes = b"", 0, 0
    while chunk := await _read(source):
        read_bytes += len(chunk)
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            number += 1
            if line.strip():
                yield number, line, read_bytes
        if len(rest) > LINE_BYTES_MAX:
            raise LineBroken(f"line {number + 1} is longer than {LINE_BYTES_MAX} bytes")
    if rest.strip():
        yield number + 1, rest, read_bytes


async def _read(source: int) -> bytes:
    """What comes next, b"" at the end. In a thread that Ctrl-C needn't wait for: a terminal may stay silent."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()

    def settle(data: bytes, error: OSError | None) -> None:
        if arrived.done():
            return
        if error is not None:
            arrived.set_exception(error)
        else:
            arrived.set_result(data)

    def read() -> None:
        data, failed = b"", None
        try:
            data = os.read(source, CHUNK_BYTES)
        except OSError as error:
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, data, failed)

    threading.Thread(target=read, daemon=True).start()
    return await arrived


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is beyond what a float holds")
    return number
