"""The application: a Faust App whose topics are read in batches, by units, with our takeover in place of recovery."""

import asyncio
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import ServiceT
from sqlalchemy import MetaData

from pipeline.closing import ended
from pipeline.contracts.catalogue import load_contracts
from pipeline.core.agent import Definition
from pipeline.core.contract import Contract
from pipeline.core.errors import HardpartsError, Misconfigured
from pipeline.core.membership import Introduction
from pipeline.core.topic import Catalogue, Topic
from pipeline.kafka.memory import ClusterMemory
from pipeline.kafka.patches import apply_patches
from pipeline.runtime import erase
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.assignor import Assignor
from pipeline.runtime.check import check_topics, odd_setting
from pipeline.runtime.clock import lease_now_s
from pipeline.runtime.context import Context
from pipeline.runtime.crashpoints import CrashPoints
from pipeline.runtime.database import Database
from pipeline.runtime.demand import Demand
from pipeline.runtime.descriptors import too_low
from pipeline.runtime.expiry import expire
from pipeline.runtime.identity import Identity, tell
from pipeline.runtime.instance import adopt, take_instance
from pipeline.runtime.membership import Definitions, blocked_units, introduce
from pipeline.runtime.metrics import Metrics
from pipeline.runtime.security import client_security, faust_credentials, refusal
from pipeline.runtime.settings import Settings, read_settings
from pipeline.runtime.source_logs import SourceLogs
from pipeline.runtime.stall import measure_stalls
from pipeline.runtime.store import shared_cache
from pipeline.runtime.takeover import Tables
from pipeline.runtime.topic_changes import TopicChanges
from pipeline.runtime.topic_limits import TopicLimits
from pipeline.runtime.topics import SourceTopics, changelog_topic, own_topics
from pipeline.runtime.transport import BatchTransport
from pipeline.runtime.units import Units
from pipeline.runtime.watch import ROTATION_MAX_S, WAITING_MAX_S, Watch
from pipeline.runtime.web import install, listening_port, require_free_port

log = logging.getLogger("hardparts.app")

SERVICES = ("faust", "mode", "pipeline")
"""Loggers of Faust's services, ours among them: they log each step of a crash with its stack."""
HEARTBEATS_A_SESSION = 5
HEARTBEAT_MAX_S = 1.0
"""The others learn of a worker that leaves by their next heartbeat; until then its partitions stand still."""
REBALANCE_TIMEOUT_S = 10.0
"""Units are released within 3 s; a member that needs longer than this is left out of the new generation."""
ENDS_WITHIN_S = 2.0
ANSWER_S = 5.0
"""What a broker gets for an answer on top of that; one that hangs without closing its connections is left then."""


class App(faust.App):
    """`App(catalogue=…, modules=[…])`: the composition root of an application.

    catalogue: every topic that the agents read or write. modules: where the agents are, imported when the app is
    loaded. contracts: directory of the contracts, `<topic>/<type>.json` (HARDPARTS_CONTRACTS_DIR goes first).
    read_model: the SQL tables that agents upsert into.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        modules: Sequence[str],
        contracts: Path,
        read_model: MetaData | None = None,
        settings: Settings | None = None,
    ) -> None:
        _require_arguments(catalogue, modules, read_model)
        apply_patches()
        self.settings = settings or read_settings()
        self.catalogue = catalogue
        self.modules = list(modules)
        self.read_model = read_model
        self._contracts_dir = self.settings.contracts_dir or contracts
        self._contracts: dict[str, Contract] | None = None
        self._declared: dict[str, Definition] = {}
        self._context: Context | None = None
        self._units: Units | None = None
        self.block_cache = shared_cache()
        self.cluster_memory = ClusterMemory(kept_in=self.settings.cluster_file)
        self.fatal_error: BaseException | None = None
        self.watch: Watch | None = None
        self.partitioners_seen = False
        self._releasing = asyncio.Lock()
        self.ready_partitions: list[int] | None = None
        self.topic_changes: TopicChanges | None = None
        self._looking: list[asyncio.Future[Any]] = []
        self.consumer_generation_id = 0
        self._blocked: tuple[str, ...] = ()
        self.web_port = listening_port(self.settings)
        session_s = self.settings.session_timeout_s
        super().__init__(
            self.settings.app_id,
            broker=[f"kafka://{server}" for server in self.settings.brokers],
            autodiscover=self.modules,
            datadir=str(self.settings.state_dir / "faust"),
            store="memory://",
            key_serializer="raw",
            value_serializer="raw",
            TableManager=Tables,
            PartitionAssignor=Assignor,
            Topic=SourceTopics,
            topic_partitions=self.settings.partitions,
            topic_replication_factor=self.settings.replication,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=self.settings.standby_replicas,
            stream_wait_empty=False,
            stream_publish_on_commit=False,
            stream_recovery_delay=0.0,
            producer_threaded=False,
            producer_acks=-1,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=1.0,
            broker_session_timeout=session_s,
            broker_heartbeat_interval=self.heartbeat_s,
            broker_request_timeout=max(REBALANCE_TIMEOUT_S, session_s) + ANSWER_S,  # so long a join waits for others
            broker_rebalance_timeout=max(REBALANCE_TIMEOUT_S, session_s),
            broker_max_poll_interval=self.settings.max_poll_interval_s,
            web_enabled=True,
            web_host=self.settings.web_host,
            web_bind=self.settings.web_host,
            web_port=self.web_port,
            web_in_thread=False,
            web_tables_enabled=False,
            web_router_enabled=False,
        )

    # ------------------------------------------------------------------ what is declared

    def declare(self, definition: Definition) -> None:
        """Register an agent; Misconfigured for a second one of that name or a topic outside the catalogue."""
        if definition.name in self._declared:
            raise Misconfigured(f"agent {definition.name!r} is declared twice")
        for topic in (*definition.sources, *definition.outputs):
            self.catalogue.require(topic, f"agent {definition.name!r}")
        readers: dict[str, str] = {t.name: d.name for d in self._declared.values() for t in d.sources}
        for topic in definition.sources:
            if topic.name in readers:
                raise Misconfigured(
                    f"topic {topic.name!r} is read by agents {readers[topic.name]!r} and {definition.name!r}: "
                    "one agent reads all types of a topic, or a second application (HARDPARTS_APP_ID) reads it too"
                )
        self._declared[definition.name] = definition

    def runs(self, name: str) -> bool:
        """Whether HARDPARTS_AGENTS lets this agent run here."""
        return not self.settings.agent_names or name in self.settings.agent_names

    @property
    def declared(self) -> list[Definition]:
        """Every agent of the application, whether it runs here or not."""
        return list(self._declared.values())

    @property
    def definitions(self) -> list[Definition]:
        """The agents that run here."""
        return [definition for name, definition in self._declared.items() if self.runs(name)]

    @property
    def contracts_dir(self) -> Path:
        """Where the contracts are."""
        return self._contracts_dir

    @property
    def contracts(self) -> dict[str, Contract]:
        """topic → contract; Misconfigured when a topic that is read or written has none."""
        if self._contracts is None:
            loaded = load_contracts(self._contracts_dir)
            for definition in self._declared.values():
                for topic in (*definition.sources, *definition.outputs):
                    if topic.name not in loaded:
                        raise Misconfigured(
                            f"topic {topic.name!r} has no contract: add {self._contracts_dir / topic.name}/<type>.json"
                        )
                known = {type_ for topic in definition.sources for type_ in loaded[topic.name].types}
                for type_ in definition.handlers:
                    if type_ not in known:
                        raise Misconfigured(
                            f"agent {definition.name!r} handles {type_!r}, which no contract of its sources names"
                        )
            self._contracts = dict(loaded)
        return self._contracts

    def changelog(self, definition: Definition) -> str:
        """The changelog topic of an agent."""
        return self.settings.changelog(definition.name)

    def all_topics(self) -> list[Topic]:
        """The catalogue, our own topics and the changelogs: what `topics apply` makes."""
        changelogs = [
            changelog_topic(self.changelog(definition), definition.sources[0].partitions)
            for definition in self.declared
        ]
        return [*self.catalogue, *own_topics(self.settings), *changelogs]

    # ------------------------------------------------------------------ what runs

    @cached_property
    def security(self) -> dict[str, Any]:
        """How each client of the broker is let in, and what all of them remember of the cluster; Misconfigured."""
        return {**client_security(self.settings), "cluster_memory": self.cluster_memory}

    def on_init_dependencies(self) -> Iterable[ServiceT]:
        """Faust's own consumer and producer, which are made from here on, are let in like ours."""
        self.conf.broker_credentials = faust_credentials(self.security)
        return super().on_init_dependencies()

    @property
    def context(self) -> Context:
        """What the units share; made on first use, inside the running loop."""
        if self._context is None:
            settings = self.settings
            self._context = Context(
                app_id=settings.app_id,
                app_version=app_version(),
                bootstrap=settings.brokers,
                security=self.security,
                contracts=self.contracts,
                partitions={},
                errors_topic=settings.topic("errors"),
                audit_topic=settings.topic("audit"),
                demand=Demand(settings.demand),
                metrics=Metrics(),
                alerts=Alerts(settings.alert_webhook, settings.instance),
                database=Database(settings.database, self.read_model),
                fatal=self.fatal,
                holds_lease=self._holds_lease,
                crash=CrashPoints.armed(),
            )
        return self._context

    @property
    def units(self) -> Units:
        """The units of this worker."""
        if self._units is None:
            self._units = Units(self.context, self.settings.batch_records_max)
        return self._units

    @cached_property
    def source_logs(self) -> SourceLogs:
        """The logs that the units read."""
        group = cast(Any, self.consumer).group
        return SourceLogs(self.units, lambda sources: group.ends(sources, ENDS_WITHIN_S), group.rewind)

    def fatal(self, error: BaseException) -> None:
        """Stop the process with this error: going on would lose or repeat something."""
        if self.fatal_error is None:
            self.fatal_error = error
            if isinstance(error, HardpartsError | KafkaError):  # it says all there is; how Faust is taken down doesn't
                for name in SERVICES:
                    logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            self._crashing = asyncio.get_running_loop().create_task(self.crash(error))

    @property
    def trouble(self) -> tuple[float, str] | None:
        """What keeps this worker from getting ready: since when (time.monotonic), and its text."""
        group = getattr(self._consumer, "group", None)
        return (group.trouble if group is not None else None) or cast(Tables, self.tables).recovery.trouble

    def note_ready(self, partitions: list[int]) -> None:
        """A takeover is done: these partition numbers run here (none is fine too)."""
        self.ready_partitions = partitions
        shown = ",".join(map(str, partitions)) or "none"
        agents = ",".join(definition.name for definition in self.definitions)
        web = f"http://{self.settings.web_host}:{self.web_port}"
        try:
            print(f"ready partitions={shown} agents={agents} instance={self.settings.instance} web={web}", flush=True)
        except OSError as error:  # who read it is gone, or the disk behind it full: no reason to end
            log.warning("standard output takes nothing more: %s", error.strerror)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered mustn't fail at the end

    @property
    def heartbeat_s(self) -> float:
        """Seconds between two heartbeats of the group."""
        return min(self.settings.session_timeout_s / HEARTBEATS_A_SESSION, HEARTBEAT_MAX_S)

    def _holds_lease(self) -> bool:
        heartbeat_at_s: float = cast(Any, self.consumer).group.heartbeat_at_s
        return lease_now_s() - heartbeat_at_s < self.settings.session_timeout_s

    async def still_member(self) -> None:
        """Wait for a heartbeat, later than now, of the generation in which we are."""
        group, asked_at = cast(Any, self.consumer).group, lease_now_s()
        while group.heartbeat_at_s <= asked_at:  # noqa: ASYNC110 - the heartbeat happens in another thread
            await asyncio.sleep(self.heartbeat_s / 4)

    async def on_first_start(self) -> None:
        """Check what the broker has before the first record is read."""
        require_free_port(self.settings)
        take_instance(self.settings)
        adopt(self.settings, self._declared)
        self.require_own_agents()
        await super().on_first_start()
        self.context.partitions.update(counts := await check_topics(self))
        self.context.alerts.closed_anew("cluster")
        if (odd := odd_setting(self, counts)) is not None:
            log.warning("%s", odd)
        definitions, assignor = Definitions(self.context.alerts), cast(Assignor, self.assignor)
        units = sum(counts[definition.sources[0].name] for definition in self.definitions)
        if (few := too_low(units, len(self.settings.brokers))) is not None:
            log.warning("%s", few)
        self._looking.append(self.add_future(self.source_logs.watch()))
        self._looking.append(self.add_future(measure_stalls(self.context.metrics.loop_stall)))
        self.watch = Watch(
            self.units,
            self.cluster_memory,
            group_failure=cast(Any, self.consumer).group.failure,
            takeover_trouble=lambda: self.trouble,
            sources_silence=lambda: self.source_logs.silence,
            let_in=lambda: refusal(self.settings),
            refused_max_s=WAITING_MAX_S if self.settings.sasl_password_file is None else ROTATION_MAX_S,
            tell_differences=lambda: definitions.tell(assignor.differ),
        )
        self._looking.append(self.add_future(self.watch.run()))
        self.topic_changes = self._topic_changes(counts)
        topic_limits = TopicLimits(self)
        self.context.ask_limits, self.context.ask_counts = topic_limits.ask, self.topic_changes.ask
        self._looking += [self.add_future(self.topic_changes.watch()), self.add_future(topic_limits.watch())]
        if self.settings.dedup_horizon_s is not None:
            self._looking.append(self.add_future(expire(self, self.settings.dedup_horizon_s)))

    def _topic_changes(self, counts: dict[str, int]) -> TopicChanges:
        return TopicChanges(
            cast(Any, self.consumer).group,
            self.context.alerts,
            started_with=counts,
            assigned=cast(Assignor, self.assignor).assigned_counts,
            read={topic.name for agent in self.definitions for topic in agent.sources},
            changelogs={self.changelog(agent) for agent in self.definitions},
            keyed={topic.name for agent in self.definitions for topic in agent.outputs if topic.ordered},
            moved=self.context.moved,
        )

    def introduction(self) -> Introduction:
        """What this worker says of itself when it joins the group; called by the consumer's thread."""
        return introduce(self, app_version(), self._blocked)

    def on_webserver_init(self, web: Any) -> None:
        """Add our pages to Faust's web server."""
        tell(web.web_app, lambda: Identity(self.settings.app_id, self.context.cluster_id))
        install(self, web.web_app.router)
        erase.install(self, web.web_app.router)

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self, loop=self.loop)

    async def _on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self._release()
        await super()._on_partitions_revoked(revoked)

    async def _stop_consumer(self) -> None:
        await self._release()
        await super()._stop_consumer()
        await ended(*self._looking)  # they would open again what is closed here
        await self.context.alerts.drain()
        self.context.database.close()

    async def _release(self) -> None:
        """Everything that this worker owns, finished or abandoned, and what was finished committed.

        One at a time: a stop may come in the middle of a rebalance.
        """
        async with self._releasing:
            try:
                await cast(Tables, self.tables).recovery.revoke_all()
            finally:  # whatever became of a takeover: no unit goes on
                await self._release_units()

    async def _release_units(self) -> None:
        self.ready_partitions = None
        self._blocked = blocked_units(self.units)
        consumer = cast(Any, self._consumer)
        if consumer is None:
            return
        consumer.stop_flow()
        await self.units.stop()
        await consumer.maybe_wait_for_commit_to_finish()  # Faust's commit() would leave it at that
        await consumer.force_commit()
        self.units.forget()
        consumer.group.lives.end()

    def require_own_agents(self) -> None:
        """Misconfigured when an agent was made by Faust's `@app.agent`: no record would ever come to it."""
        for name in self.agents:
            if name not in self._declared:
                raise Misconfigured(f"agent {name!r} is made by @app.agent: make it by Agent(app, name, sources=[…])")

    def select(self, names: Iterable[str]) -> list[Definition]:
        """Agents by name; Misconfigured for one that isn't declared."""
        for name in names:
            if name not in self._declared:
                raise Misconfigured(f"no agent {name!r}: there are {', '.join(sorted(self._declared))}")
        return [self._declared[name] for name in names]


def _require_arguments(catalogue: Any, modules: Any, read_model: Any) -> None:
    """Misconfigured for arguments of App that would only fail when they are used."""
    if not isinstance(catalogue, Catalogue):
        raise Misconfigured(f"App(catalogue=…) takes a Catalogue, Catalogue.of([…]), not {catalogue!r:.100}")
    if isinstance(modules, str) or not all(isinstance(name, str) for name in modules):
        raise Misconfigured(f"App(modules=…) takes a list of the names of modules, not {modules!r:.100}")
    if read_model is not None and not isinstance(read_model, MetaData):
        raise Misconfigured(f"App(read_model=…) takes SQLAlchemy's MetaData of its tables, not {read_model!r:.100}")


def app_version() -> str:
    """The version of the installed package."""
    try:
        return metadata.version("hardparts")
    except metadata.PackageNotFoundError:
        return "0+unknown"
