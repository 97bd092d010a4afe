"""One application's topics on an embedded broker of its own, and its workers."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.broker import EmbeddedBroker
from tests.behaviour.commandline import CommandLine
from tests.kafka.waiting import until
from tests.oracle.process import Worker
from tests.oracle.records import AGENT, OUTPUTS, SOURCES, Record
from tests.oracle.truth import read


class Place:
    """`with Place(directory, app="module:attribute", …) as place`: a fresh broker with the application's topics.

    topics: what its agents read and write. agents: those that run, each with a changelog. bytes_max: the largest record
    batch that what they write takes. broker: instead of an embedded one. settings: HARDPARTS_ settings of every worker
    and command, in lower case. At the end the workers are killed, and a failure carries the ends of their logs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        topics: Iterable[str] = (*SOURCES, *OUTPUTS),
        agents: Iterable[str] = (AGENT,),
        partitions: int = 2,
        bytes_max: int | None = None,
        broker: Any = None,
        **settings: str,
    ) -> None:
        self.directory = directory
        self._topics, self._agents, self._partitions = list(topics), list(agents), partitions
        self._bytes_max = bytes_max
        self.app_id = f"place-{uuid.uuid4().hex[:8]}"
        self._broker = broker or EmbeddedBroker()
        self._settings = {
            "app_id": self.app_id,
            "agents": ",".join(self._agents),
            "partitions": str(partitions),
            "session_timeout_s": "6",
            **settings,
        }
        self._ending = contextlib.ExitStack()
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        self._ending.enter_context(self._broker)
        self.cli = CommandLine(self._broker.url, self.directory, **self._settings)
        with ThreadPoolExecutor(1) as another_thread:  # a test may have a loop in this one
            another_thread.submit(asyncio.run, self._create_topics()).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.workers:
            if worker.alive:
                worker.kill()
            if error is not None:
                error.add_note(f"--- {worker.instance}:\n{worker.end_of_log(3000)}")
        self._ending.close()

    @property
    def bootstrap(self) -> str:
        """`host:port` of the broker."""
        return str(self._broker.bootstrap)

    def worker(self, instance: str = "one", **settings: str) -> Worker:
        """A worker that is ready."""
        environment = {name: value for name, value in self.cli.environment.items() if name.startswith("HARDPARTS_")}
        environment |= {f"HARDPARTS_{name.upper()}": value for name, value in settings.items()}
        worker = Worker(instance, self.directory / f"{instance}.log", environment)
        self.workers.append(worker)
        return worker.start().wait_ready()

    async def _create_topics(self) -> None:
        """As `topics apply` makes them, in a tenth of its time."""
        names = [*self._topics, f"{self.app_id}.errors", f"{self.app_id}.audit"]
        changelogs = [f"{self.app_id}-{agent}-changelog" for agent in self._agents]
        size = {} if self._bytes_max is None else {"max.message.bytes": str(self._bytes_max)}
        async with self._admin() as admin:
            await admin.create_topics([
                *(NewTopic(name, self._partitions, 1, topic_configs={} if name in SOURCES else size) for name in names),
                *(
                    NewTopic(name, self._partitions, 1, topic_configs=size | {"cleanup.policy": "compact"})
                    for name in changelogs
                ),
            ])  # fmt: skip

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def send(
        self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]], partition: int, compression: str = ""
    ) -> None:
        """Append (key, value) records of any size to one partition, in this order."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", compression_type=compression or None, max_request_size=1 << 30
        ) as producer:
            sent = [await producer.send(topic, value, key=key, partition=partition) for key, value in records]
            await asyncio.gather(*sent)

    async def committed(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → committed offset of the workers' group."""
        async with self._admin() as admin:
            stored = await admin.list_consumer_group_offsets(self.app_id)
        return {(tp.topic, tp.partition): at.offset for tp, at in stored.items() if isinstance(tp, TopicPartition)}

    async def committed_to(self, position: int, topic: str, partition: int, timeout_s: float = 30) -> None:
        """Wait until the offset of one partition is committed."""

        async def is_there() -> bool:
            return (await self.committed()).get((topic, partition)) == position

        await until(is_there, timeout_s, f"{topic}[{partition}] committed to {position}")

    async def log(self, topic: str) -> dict[int, list[Record]]:
        """partition → records of a topic, in order."""
        return (await read(self.bootstrap, [topic]))[topic]
