"""The access control list of the documentation as data, and single grants of it taken away and given back."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from tests.kafka import requests

RESOURCES = {"--topic": 2, "--group": 3, "--transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "DescribeConfigs": 10}
PATTERNS = {"literal": 3, "prefixed": 4}
ALLOW, ANY_HOST = 3, "*"


class Grant(NamedTuple):
    """One line of the list; resource: the flag of `kafka-acls.sh` that names its kind."""

    principal: str
    resource: str
    name: str
    pattern: str
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} {self.resource.removeprefix('--')} {self.name}"


def grants(command: str) -> list[Grant]:
    """Everything that a documented command grants."""
    words = shlex.split(command)
    flags = [(flag, words[at + 1]) for at, flag in enumerate(words[:-1]) if flag.startswith("--")]
    (principal,) = [value for flag, value in flags if flag == "--allow-principal"]
    pattern = next((value for flag, value in flags if flag == "--resource-pattern-type"), "literal")
    operations = [value for flag, value in flags if flag == "--operation"]
    return [
        Grant(principal, flag, name, pattern, operation)
        for flag, name in flags
        if flag in RESOURCES
        for operation in operations
    ]


@asynccontextmanager
async def without(bootstrap: str, grant: Grant) -> AsyncIterator[None]:
    """The cluster without this grant, which it must have had, for as long as the block runs."""
    kind, pattern, operation = RESOURCES[grant.resource], PATTERNS[grant.pattern], OPERATIONS[grant.operation]
    what = (kind, grant.name, pattern, grant.principal, ANY_HOST, operation, ALLOW)
    async with requests.admin(bootstrap) as client:
        answer = await client._send_to_controller(DeleteAclsRequest(*what))
        ((code, message, deleted),) = answer.filter_responses
        assert (code, len(deleted)) == (0, 1), (grant, message, deleted)
        try:
            yield
        finally:
            answer = await client._send_to_controller(CreateAclsRequest(*what))
            assert answer.creation_responses[0][0] == 0, answer
