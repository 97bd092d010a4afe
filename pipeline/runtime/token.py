"""The token that HTTP requests show: `Authorization: Bearer TOKEN`."""

import hmac
from typing import Final

HEADER: Final = "Authorization"


def shows(authorization: str, token: str) -> bool:
    """Whether the header's value shows this token; takes equally long for every wrong one of a length."""
    given = authorization.encode(errors="surrogateescape")
    return bool(token) and hmac.compare_digest(given, bearer(token).encode())


def bearer(token: str) -> str:
    """The header's value."""
    return f"Bearer {token}"
