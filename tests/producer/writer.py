"""A process that produces as fast as it is let, and writes down what was accepted: for tests that kill it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.producer import BufferFull, Delivery, Limits, ReliableProducer

WINDOW = 400


async def write(bootstrap: str, topic: str, directory: Path, first: int, count: int, rate_per_s: float) -> None:
    """Messages `first` … to partitions in turn. A line a message in `accepted`, once it was accepted."""
    limits = Limits(memory_messages=2_000, disk_free_bytes_min=0)
    options = {"bootstrap_servers": bootstrap}
    journal = (directory / "accepted").open("a", buffering=1)
    async with ReliableProducer(options, spill=directory / "spill", durable=True, limits=limits) as producer:
        print("ready", flush=True)

        async def taken(number: int) -> Delivery:
            while True:
                try:
                    return producer.produce(topic, number % 3, b"%d" % number)
                except BufferFull:
                    await asyncio.sleep(0.01)

        async def one(number: int, delivery: Delivery) -> None:
            await delivery.accepted()
            journal.write(f"{number}\n")

        loop = asyncio.get_running_loop()
        began, tasks = loop.time(), set()
        for number in range(first, first + count):
            while len(tasks) >= WINDOW:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(one(number, await taken(number)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if rate_per_s and not number % 50:
                await asyncio.sleep(max(0.0, began + (number - first) / rate_per_s - loop.time()))
        await asyncio.gather(*tasks)
        print("accepted", flush=True)
        await producer.drained()
        print("drained", flush=True)


if __name__ == "__main__":
    bootstrap, topic, directory, first, count, rate = sys.argv[1:]
    asyncio.run(write(bootstrap, topic, Path(directory), int(first), int(count), float(rate)))
