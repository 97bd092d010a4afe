"""Whose pages these are: each answer names the application and the cluster, so a command knows whom it has asked."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiohttp import web as http

from pipeline.core.errors import HardpartsError

APP_HEADER, CLUSTER_HEADER = "hp-app", "hp-cluster"


class AnotherAnswers(HardpartsError):
    """A process of another application, or of another cluster, answers."""


class Identity(NamedTuple):
    """app: its id. cluster: the id of the Kafka cluster that it works with; "" when that isn't known (yet)."""

    app: str
    cluster: str = ""

    def __str__(self) -> str:
        return f"application {self.app}" + (f" on cluster {self.cluster}" if self.cluster else "")


def tell(pages: http.Application, identity: Callable[[], Identity]) -> None:
    """Have every answer of these pages say it."""

    async def add(_: http.Request, response: http.StreamResponse) -> None:
        app, cluster = identity()
        response.headers[APP_HEADER] = app
        if cluster.isprintable() and cluster:
            response.headers[CLUSTER_HEADER] = cluster

    pages.on_response_prepare.append(add)


def require_ours(url: str, headers: Mapping[str, str], expected: Identity) -> bool:
    """Raises AnotherAnswers. Whether it says at all whose it is: an older version doesn't, nor does another program.

    What isn't known on one of the two sides isn't compared.
    """
    found = Identity(headers.get(APP_HEADER, ""), headers.get(CLUSTER_HEADER, ""))
    if not found.app:
        return False
    if found.app != expected.app or (found.cluster and expected.cluster and found.cluster != expected.cluster):
        raise AnotherAnswers(
            f"{url} belongs to {found}, expected {expected}: name another URL, or correct HARDPARTS_APP_ID, "
            "HARDPARTS_BROKER and HARDPARTS_DATA_DIR"
        )
    return True
