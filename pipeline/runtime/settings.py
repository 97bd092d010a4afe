"""Settings: from flags, then the environment (`HARDPARTS_…`), then these defaults. Checked when they are read."""

import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.core.errors import Misconfigured

DEFAULT_PORT = 9092
AUTO = "auto"
"""As the instance: the first free slot of the data directory."""
NOT_AN_INSTANCE = ("tables", "faust", "cluster", "spill")
"""What is in the directory of an instance of older versions, which may have had the application's id as its name."""


class Settings(BaseSettings):
    """One field a setting; the environment variable is HARDPARTS_ and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="HARDPARTS_", extra="ignore", frozen=True, env_ignore_empty=True)

    broker: str = "kafka://127.0.0.1:9092"
    app: str = "agents.app:app"
    app_id: str = Field("hardparts", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    agents: str = ""
    contracts_dir: Path | None = None
    data_dir: Path = Path(".hardparts")
    spill_dir: Path | None = None
    instance: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._-]{1,200}$")
    partitions: int = Field(8, ge=1, le=10_000)
    replication: int = Field(1, ge=1, le=10)
    processing_guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once"
    batch_records_max: int = Field(1000, ge=1, le=100_000)
    dedup_horizon_s: float | None = Field(None, ge=1, allow_inf_nan=False)
    demand: int = Field(50, ge=1, le=10_000)
    static_membership: bool = False
    standby_replicas: int = Field(0, ge=0, le=10)
    session_timeout_s: float = Field(30.0, ge=1, le=86_400)
    max_poll_interval_s: float = Field(1000.0, ge=1, le=2_000_000)  # Kafka has 32 bits of ms
    database_url: str = Field("", repr=False)  # may hold a password
    outbox_url: str = Field("", repr=False)  # may hold a password
    outbox_table: str = "kafka_outbox"
    outbox_keep_s: float | None = Field(None, ge=0, le=3_000_000_000, allow_inf_nan=False)  # dates end
    smtp_url: SecretStr | None = None
    alert_webhook: str = Field("", repr=False)  # may hold a token
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    allow_plaintext: bool = False
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str = ""
    sasl_password: SecretStr | None = None
    sasl_password_file: Path | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    web_token: SecretStr | None = None
    web_host: str = "127.0.0.1"
    web_port: int = Field(6066, ge=0, le=65535)
    gateway_port: int = Field(6070, ge=0, le=65535)
    gateway_body_bytes_max: int = Field(1 << 20, ge=1, le=32 << 20)
    custody_messages_max: int = Field(10_000_000, ge=1)
    custody_bytes_max: int = Field(4 << 30, ge=1)

    @field_validator("broker")
    @classmethod
    def _broker_is_reachable_by_name(cls, value: str) -> str:
        parse_brokers(value)
        return value

    @field_validator("instance", "app_id")
    @classmethod
    def _has_a_directory_of_its_own(cls, value: str) -> str:
        if value in (".", ".."):
            raise ValueError(f"{value!r} is not a valid directory name")
        return value

    @field_validator("instance")
    @classmethod
    def _is_not_a_part_of_an_instance(cls, value: str) -> str:
        if value in NOT_AN_INSTANCE:
            raise ValueError(f"{value!r} is reserved: choose another name")
        return value

    @field_validator("web_host")
    @classmethod
    def _web_host_can_be_looked_up(cls, value: str) -> str:
        if not _is_host(value):
            raise ValueError(f"{value!r} is no host's name or address")
        return value

    @property
    def brokers(self) -> list[str]:
        """`host:port` of each bootstrap server."""
        return parse_brokers(self.broker)

    @property
    def token(self) -> str:
        """What a request must show; empty: no request is asked for one."""
        return self.web_token.get_secret_value() if self.web_token is not None else ""

    @property
    def application_dir(self) -> Path:
        """Where the instances of this application keep their state on this machine."""
        return self.data_dir / self.app_id

    @property
    def state_dir(self) -> Path:
        """Where this instance keeps its state."""
        return self.application_dir / self.instance

    @property
    def cluster_file(self) -> Path:
        """Where this instance keeps the id of the cluster that its state belongs to."""
        return self.state_dir / "cluster"

    @property
    def spill(self) -> Path:
        """Where the reliable producer keeps what Kafka hasn't confirmed; its messages are of no application."""
        return self.spill_dir or self.data_dir / self.instance / "spill"

    @property
    def exactly_once(self) -> bool:
        """Whether outputs, rows and offsets of a batch go in one Kafka transaction."""
        return self.processing_guarantee == "exactly_once"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the read model."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'read-model.sqlite3'}"

    @property
    def agent_names(self) -> frozenset[str]:
        """The agents to run; empty means all of the application's."""
        return frozenset(name.strip() for name in self.agents.split(",") if name.strip())

    def topic(self, name: str) -> str:
        """One of our own topics: `<app id>.<name>`."""
        return f"{self.app_id}.{name}"

    def changelog(self, agent: str) -> str:
        """The changelog topic of an agent's table."""
        return f"{self.app_id}-{agent}-changelog"


def parse_brokers(value: str) -> list[str]:
    """`kafka://a:1,b:2` → ["a:1", "b:2"]; ValueError names the part that is wrong."""
    servers = []
    for part in value.split(","):
        address = part.strip().removeprefix("kafka://").rstrip("/")
        host, colon, port = address.rpartition(":")
        if not colon:
            host, port = address, str(DEFAULT_PORT)
        known = _is_host(host) and "://" not in address and "@" not in address
        if not known or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            shown = f"…@{address.rpartition('@')[2]}" if "@" in address else part.strip()  # a password may stand there
            raise ValueError(f"{shown!r} is no broker address: write kafka://host:port[,host:port]")
        servers.append(f"{host}:{port}")
    return servers


def _is_host(text: str) -> bool:
    """Whether the system can be asked for this name or address: a part of a name has 1 to 63 letters."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def read_settings(*, only: Collection[str] | None = None, **flags: object) -> Settings:
    """The settings, flags first (None: not given); Misconfigured names each wrong one and where it came from.

    only: names that the environment may set; all others have their defaults. None: it may set any.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if only is not None:
        others = {name: field for name, field in Settings.model_fields.items() if name not in only}
        given = {name: field.get_default(call_default_factory=True) for name, field in others.items()} | given
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks each value
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0])
            origin = f"--{name.replace('_', '-')}" if name in given else f"HARDPARTS_{name.upper()}"
            lines.append(f"{origin}: {problem['msg']}")
        raise Misconfigured("; ".join(lines)) from None


def export(settings: Settings) -> dict[str, str]:
    """The environment of a child process that shall have these settings."""
    environment = dict(os.environ)
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is None or value == "":
            continue
        secret = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        environment[f"HARDPARTS_{name.upper()}"] = secret
    return environment
