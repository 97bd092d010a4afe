"""What the topics take: known from the start, asked for again every minute, and at once when the broker refuses a size.

So a limit that a person raises or lowers is in force within a minute, without a restart.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from pipeline.core.errors import HardpartsError
from pipeline.runtime.admin import connect
from pipeline.runtime.check import limits_of, topics_needed

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.topics")

ASK_EVERY_S = 60.0


class TopicLimits:
    """Keeps the application's limits those of its topics. A cluster that doesn't answer leaves them as they are."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._asking: asyncio.Task[None] | None = None

    async def watch(self) -> None:
        """Ask again and again."""
        try:
            while True:
                await asyncio.sleep(ASK_EVERY_S)
                await self.ask()
        finally:
            if self._asking is not None:
                self._asking.cancel()

    async def ask(self) -> None:
        """Ask now; units that want it at the same time share one request."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        app, names = self._app, topics_needed(self._app)
        try:
            async with connect(app.settings, app.cluster_memory) as admin:
                configs = await admin.configs(await admin.topics(names))
        except (HardpartsError, KafkaError, OSError, TimeoutError) as error:
            log.debug("limits of the topics not asked for: %s", error)
            return
        found, known = limits_of(app, configs), app.context.limits
        if found != known:
            sizes = {
                name: size for name, size in (found.record_bytes_max or {}).items() if size != known.record_bytes(name)
            }
            log.info("the topics take other sizes or times than before; bytes of a record: %s", sizes or "as before")
            app.context.limits = found
