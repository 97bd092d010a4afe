"""A real broker that lets nobody in by itself: SASL over TLS, mutual TLS, and ACLs that deny what isn't granted."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from pathlib import Path

from tests.kafka.certificates import Authority
from tests.kafka.cluster import KafkaCluster, _free_ports
from tests.kafka.jars import REPOSITORY, program, version

DOCUMENT = REPOSITORY / "docs" / "security.md"
PASSWORD = "correct horse battery staple"
USER = "hardparts"
TIMEOUT_S = 60


class GuardedCluster(KafkaCluster):
    """One broker with three listeners.

    `bootstrap`, plaintext, is the test's own way in, as a super user. `scram`: SASL_SSL. `mutual`: SSL that demands a
    client's certificate, whose common name is the user.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(1, directory)
        node = self.nodes[1]
        taken: set[int] = {node.port, node.controller_port}
        scram, mutual, plain = [port for port in _free_ports(5) if port not in taken][:3]
        self.scram, self.mutual, self.plain = (f"127.0.0.1:{port}" for port in (scram, mutual, plain))
        self.authority = Authority(directory / "certificates")
        own = self.authority.issue("broker", "127.0.0.1")
        self.client = self.authority.issue(USER)
        jaas = "org.apache.kafka.common.security"
        self._settings = {
            "listeners": (
                f"PLAINTEXT://{node.address},SCRAM://{self.scram},MUTUAL://{self.mutual},SASLPLAIN://{self.plain},"
                f"CONTROLLER://127.0.0.1:{node.controller_port}"
            ),
            "advertised.listeners": (
                f"PLAINTEXT://{node.address},SCRAM://{self.scram},MUTUAL://{self.mutual},SASLPLAIN://{self.plain}"
            ),
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MUTUAL:SSL,SASLPLAIN:SASL_SSL"
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(own.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.scram.scram-sha-256.sasl.jaas.config": f"{jaas}.scram.ScramLoginModule required;",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": f"{jaas}.scram.ScramLoginModule required;",
            "listener.name.saslplain.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.saslplain.plain.sasl.jaas.config": (
                f'{jaas}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",  # the plaintext listener's user
            "transaction.max.timeout.ms": "20000",  # less than a worker would like
        }

    def through_scram(self, mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> dict[str, str]:
        """Settings of a worker that comes by SASL."""
        return {
            "broker": f"kafka://{self.scram if mechanism != 'PLAIN' else self.plain}",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_username": USER,
            "sasl_password": password,
            "ssl_cafile": str(self.authority.certificate),
        }

    def through_certificate(self) -> dict[str, str]:
        """Settings of a worker that comes by its certificate."""
        return {
            "broker": f"kafka://{self.mutual}",
            "security_protocol": "SSL",
            "ssl_cafile": str(self.authority.certificate),
            "ssl_certfile": str(self.client.certificate),
            "ssl_keyfile": str(self.client.key),
        }

    async def run(self, *commands: str) -> None:
        """Run commands of the documentation, two at a time, as the super user."""
        slots = asyncio.Semaphore(2)

        async def one(command: str) -> None:
            async with slots:
                ended = await asyncio.to_thread(
                    subprocess.run,
                    self._program(command),
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
            assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"

        await asyncio.gather(*map(one, commands))

    def _program(self, command: str) -> list[str]:
        script, *arguments = shlex.split(command.replace("$BROKER", self.bootstrap).replace("$PASSWORD", PASSWORD))
        at = arguments.index("--command-config")
        del arguments[at : at + 2]  # an administrator's credentials
        return program(main_class(script), *arguments)


def main_class(script: str) -> str:
    """What a script of Kafka's distribution runs."""
    tools = "org.apache.kafka.tools"
    configs = tools if version() >= (4, 4) else "kafka.admin"
    return {"kafka-acls.sh": f"{tools}.AclCommand", "kafka-configs.sh": f"{configs}.ConfigCommand"}[script]


def documented(program: str, heading: str) -> list[str]:
    """The commands of `program` in the section of the documentation with this heading, lines joined."""
    section = DOCUMENT.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    joined = section.replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line).strip().removeprefix("$ ") for line in joined.splitlines() if program in line]
