"""What both clients are made of."""

from typing import Any

import httpx

TIMEOUT, CONNECTION = "timeout", "connection"


def options(url: str, token: str | None) -> dict[str, Any]:
    """For httpx. Proxies of the environment aren't used: a gateway is near. Raises ValueError for what is no URL."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is no address of a gateway: write http://host:port")
    return {"base_url": parsed, "trust_env": False, "headers": headers(token)}


def headers(token: str | None) -> dict[str, str]:
    """Of every request."""
    given = {"Content-Type": "application/json"}
    return given | {"Authorization": f"Bearer {token}"} if token else given


def name_of(error: httpx.RequestError | TimeoutError) -> str:
    """Which kind of no answer this is."""
    return TIMEOUT if isinstance(error, httpx.TimeoutException | TimeoutError) else CONNECTION
