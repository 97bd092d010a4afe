"""aiokafka's client, which finds its cluster again at other addresses, and never talks to another cluster.

aiokafka 0.14 asks the configured (bootstrap) addresses once, when it starts; from then on only the brokers that it has
been told of. When all of them come back at other addresses, it never finds them, though a name or a balancer leads
there. Java's client asks the bootstrap addresses again since Kafka 4.0 (metadata.recovery.strategy=rebootstrap,
KIP-899); so does this one. Whoever answers there must be the same cluster: each connection is asked for the cluster's
id before it is used.
"""

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest

from pipeline.closing import ended
from pipeline.kafka.contact import Address
from pipeline.kafka.memory import ClusterMemory, OtherCluster

log = logging.getLogger("hardparts.kafka")
aiokafka_log = logging.getLogger("aiokafka")
"""For what aiokafka itself says, and who has silenced it expects there."""

REBOOTSTRAP_AFTER_S = 5.0
"""So long no known broker has answered when the bootstrap addresses are asked again. A broker that restarts at its
address is found there sooner; Java waits 5 minutes (metadata.recovery.rebootstrap.trigger.ms)."""
CONNECT_TIMEOUT_S = 10.0
"""For each step of a new connection, as Java's socket.connection.setup.timeout.ms. aiokafka's is the request timeout
(40 s by default), and an address that swallows packets costs that much each time."""
BOOTSTRAP_WAIT_S = 1.0
"""A client that starts waits so long for its turn at addresses that others have found silent."""
POLL_S = 0.05

ConnectionId = tuple[Any, ConnectionGroup]
_WATCHED = {FetchRequest: "fetch", HeartbeatRequest: "heartbeat", FindCoordinatorRequest: "coordinator"}
"""What a consumer lives by; without an answer to these it is blind, or out of its group."""
_NO_COORDINATOR = (
    GroupLoadInProgressError.errno,
    GroupCoordinatorNotAvailableError.errno,
    NotCoordinatorForGroupError.errno,
)
"""Answers of a broker that can't do what the coordinator of a group does; the real one is looked for, for ever."""
_BOOTSTRAP: ConnectionId = ("bootstrap", ConnectionGroup.DEFAULT)
_FAILED = (OSError, KafkaError, TimeoutError)
"""What is expected of a connection. Anything else (ValueError on a bad SASL signature, UnicodeError on a bad host name)
is logged with its stack, and must not end the task for whose answer everybody waits."""


class RebootstrappingClient(AIOKafkaClient):
    """In place of AIOKafkaClient; what it has beside is given after it is made.

    cluster_memory: shared by the clients of a process. password_file: holds the SASL password, read anew for each
    connection; None: it is the one that the client was made with.
    """

    _sync_task: Any
    _sasl_plain_password: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cluster_memory = ClusterMemory()
        self.password_file: Path | None = None
        self._unanswered_since_s: float | None = None
        self._asked_s = 0.0
        self._doors: WeakValueDictionary[tuple[ConnectionId, Address], asyncio.Lock] = WeakValueDictionary()

    async def send(self, node_id: Any, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT) -> Any:
        """The answer to a request. Raises KafkaError."""
        what = _WATCHED.get(type(request))
        if what is None:
            return await super().send(node_id, request, group=group)
        with self.cluster_memory.contact.asking(self, what) as failed:
            answer = await super().send(node_id, request, group=group)
            if (code := getattr(answer, "error_code", 0)) in _NO_COORDINATOR:
                failed(for_code(code)())
            return answer

    # ------------------------------------------------------------------ whom to ask

    async def bootstrap(self) -> None:
        """Learn the brokers from the first bootstrap address that answers. Raises KafkaConnectionError."""
        ends_s, answered = time.monotonic() + BOOTSTRAP_WAIT_S, None
        while answered is None and time.monotonic() < ends_s:
            answered = await self._ask_bootstrap(self.cluster, MetadataRequest([]))
            if answered is None:
                await asyncio.sleep(POLL_S)
        if not answered:
            refused = self.cluster_memory.other or self.cluster_memory.contact.refusal
            raise KafkaConnectionError(str(refused or f"Unable to bootstrap from {self.hosts}"))
        if self._sync_task is None:
            self._sync_task = self._loop.create_task(self._md_synchronizer())

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        """Ask the known brokers; when none has answered for REBOOTSTRAP_AFTER_S, the bootstrap addresses too.

        The first may hang, so it doesn't hold up the second. Nobody who repeats this in a loop is let run hot: with
        nothing but silent addresses it takes until one may be tried. While nobody asks, silence doesn't count.
        """
        now_s = time.monotonic()
        if self._unanswered_since_s is None or now_s - self._asked_s > REBOOTSTRAP_AFTER_S:
            self._unanswered_since_s = now_s
        due_s = self._unanswered_since_s + REBOOTSTRAP_AFTER_S
        try:
            with self.cluster_memory.contact.asking(self, "metadata") as failed:
                await self._until_one_may_be_tried(due_s)
                answered = await self._ask_known_then_bootstrap(cluster_metadata, topics, due_s)
                if not answered:
                    failed(NodeNotReadyError("no broker answers"))
        finally:
            self._asked_s = time.monotonic()
        if answered:
            self._unanswered_since_s = None
            self.cluster_memory.found()
        return answered

    async def _ask_known_then_bootstrap(self, cluster_metadata: Any, topics: Any, due_s: float) -> bool:
        asking = self._loop.create_task(self._ask_known(cluster_metadata, topics))
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=max(POLL_S, due_s - time.monotonic()))
                if not asking.done() and await self._rebootstrap(cluster_metadata, topics):
                    return True
            if asking.result():
                return True
            return time.monotonic() >= due_s and await self._rebootstrap(cluster_metadata, topics)
        finally:
            await ended(asking)

    async def _ask_known(self, cluster_metadata: Any, topics: Any) -> bool:
        try:
            return bool(await super()._metadata_update(cluster_metadata, topics))
        except Exception:  # whoever waits for an update would wait for ever: the task that asks has no other
            log.exception("asking for metadata failed")
            return False

    async def _until_one_may_be_tried(self, due_s: float) -> None:
        while not self._has_connection():
            addresses = self._known_addresses()
            if time.monotonic() >= due_s:
                addresses += self._bootstrap_addresses()
            wait_s = min((self.cluster_memory.wait_s(address) for address in addresses), default=0.0)
            if wait_s <= 0:
                return
            await asyncio.sleep(min(wait_s, POLL_S))  # another client may find it sooner

    def _has_connection(self) -> bool:
        nodes = [_BOOTSTRAP[0], *(broker.nodeId for broker in self.cluster.brokers())]
        return any(self._usable((node_id, ConnectionGroup.DEFAULT)) is not None for node_id in nodes)

    async def _rebootstrap(self, cluster_metadata: Any, topics: Any) -> bool:
        if not await self._ask_bootstrap(cluster_metadata, MetadataRequest(list(topics) if topics else None)):
            return False
        log.warning("no known broker answered for %.0f s: asked the bootstrap addresses again", REBOOTSTRAP_AFTER_S)
        self._leave_old_addresses()
        return True

    async def _ask_bootstrap(self, cluster_metadata: Any, request: MetadataRequest) -> bool | None:
        """Take the brokers from the first address that answers as our cluster; None: no address may be tried now.

        In random order, those that were silent the last time at the end: each may cost CONNECT_TIMEOUT_S. Names are
        resolved anew with each connection.
        """
        answered, other, findings = None, None, self.cluster_memory.findings
        for address in sorted(self._bootstrap_addresses(), key=self.cluster_memory.is_silent):
            if not self.cluster_memory.may_try(address):
                continue
            answered = False
            try:
                connection, metadata = await self._connected(address, request)
            except OtherCluster as error:
                other = error
                continue
            except _FAILED as error:
                aiokafka_log.error('Unable connect to "%s:%s": %s', *address, error)
                continue
            except Exception:  # noqa: BLE001 - it is logged
                aiokafka_log.exception('Unable connect to "%s:%s"', *address)
                continue
            cluster_metadata.update_metadata(metadata)
            if metadata.brokers:
                connection.close()
            else:  # a cluster without topics may tell none: it is asked here until it does
                self._keep_for_bootstrap(connection)
            return True
        if other is not None and self.cluster_memory.led_astray(other, findings):
            log.error("%s", other)
        return answered

    def _keep_for_bootstrap(self, connection: AIOKafkaConnection) -> None:
        earlier = self._conns.get(_BOOTSTRAP)
        self._conns[_BOOTSTRAP] = connection
        if earlier is not None:
            earlier.close()

    # ------------------------------------------------------------------ connections

    async def _get_conn(
        self,
        node_id: Any,
        *,
        group: ConnectionGroup = ConnectionGroup.DEFAULT,
        no_hint: bool = False,  # noqa: ARG002 - aiokafka's
    ) -> AIOKafkaConnection | None:
        """The connection to a broker, made if need be; None when it can't be now."""
        conn_id = node_id, group
        if (usable := self._usable(conn_id)) is not None:
            return usable
        address = self._address_of(node_id)
        if address is None:
            aiokafka_log.error("Broker id %s not in current metadata", node_id)
        else:
            door = self._doors.setdefault((conn_id, address), asyncio.Lock())
            async with door:
                if (usable := self._usable(conn_id)) is not None:
                    return usable
                if self.cluster_memory.may_try(address):
                    try:
                        return await self._connect(conn_id, address)
                    except (*_FAILED, OtherCluster) as error:
                        aiokafka_log.error("Unable connect to node with id %s: %s", node_id, error)
                    except Exception:  # noqa: BLE001 - it is logged
                        aiokafka_log.exception("Unable connect to node with id %s", node_id)
        self.force_metadata_update()  # what is known may be out of date
        return None

    async def _connect(self, conn_id: ConnectionId, address: Address) -> AIOKafkaConnection | None:
        connection, _ = await self._connected(address, MetadataRequest([]), on_close=self._on_connection_closed)
        if self._address_of(conn_id[0]) != address:  # it moved meanwhile
            connection.close()
            return self._usable(conn_id)
        self._conns[conn_id] = connection
        return connection

    async def _connected(
        self, address: Address, request: MetadataRequest, on_close: Any = None
    ) -> tuple[AIOKafkaConnection, Any]:
        """A connection to our cluster and its first answer. Raises _FAILED, OtherCluster, and others."""
        try:
            connection = await create_conn(
                *address,
                client_id=self._client_id,
                request_timeout_ms=min(self._request_timeout_ms, int(CONNECT_TIMEOUT_S * 1000)),
                ssl_context=self._ssl_context,
                security_protocol=self._security_protocol,
                on_close=on_close,
                max_idle_ms=self._connections_max_idle_ms,
                sasl_mechanism=self._sasl_mechanism,
                sasl_plain_username=self._sasl_plain_username,
                sasl_plain_password=self._password(),
                sasl_kerberos_service_name=self._sasl_kerberos_service_name,
                sasl_kerberos_domain_name=self._sasl_kerberos_domain_name,
                sasl_oauth_token_provider=self._sasl_oauth_token_provider,
            )
            try:
                metadata = await connection.send(request)
                self.cluster_memory.recognise(getattr(metadata, "cluster_id", None), address)
            except BaseException:
                connection.close()
                raise
        except Exception as error:  # not CancelledError: giving up says nothing about the address
            self.cluster_memory.silent(address)
            self.cluster_memory.contact.connection_failed(address, error)
            raise
        connection._request_timeout = self._request_timeout_ms / 1000
        self.cluster_memory.answers(address)
        self.cluster_memory.contact.connected()
        return connection, metadata

    def _password(self) -> Any:
        """The password as its file has it now: it may have been changed (rotated) since the client was made."""
        if self.password_file is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):  # being written: the one that we know may still do
                self._sasl_plain_password = password_in(self.password_file.read_bytes()) or self._sasl_plain_password
        return self._sasl_plain_password

    def _usable(self, conn_id: ConnectionId) -> AIOKafkaConnection | None:
        connection = self._conns.get(conn_id)
        if connection is not None and not connection.connected():
            del self._conns[conn_id]
            return None
        return connection

    def _leave_old_addresses(self) -> None:
        """Close what leads to where a broker was: such a connection may stay open for long and answer nothing."""
        for conn_id, connection in list(self._conns.items()):
            if conn_id != _BOOTSTRAP and (connection.host, connection.port) != self._address_of(conn_id[0]):
                del self._conns[conn_id]
                connection.close()
        self.cluster_memory.forget_all_but([*self._known_addresses(), *self._bootstrap_addresses()])

    # ------------------------------------------------------------------ addresses

    def _address_of(self, node_id: Any) -> Address | None:
        broker = self.cluster.broker_metadata(node_id)
        return None if broker is None else (broker.host, broker.port)

    def _known_addresses(self) -> list[Address]:
        return [(broker.host, broker.port) for broker in self.cluster.brokers()]

    def _bootstrap_addresses(self) -> list[Address]:  # `hosts` shuffles them
        return [(host, port) for host, port, _ in self.hosts]


def password_in(content: bytes) -> str:
    """The password in the content of its file, without the line's end. Raises UnicodeDecodeError."""
    return content.decode().rstrip("\r\n")
