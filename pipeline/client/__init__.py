"""A client for applications that send events to `hardparts gateway`: async and plain, timed, counted, safe to retry."""

from pipeline.client.errors import (
    Forbidden,
    GatewayError,
    NotAccepted,
    Refused,
    TooLarge,
    Unauthorized,
    Unexpected,
    UnknownTopic,
)
from pipeline.client.gateway import GatewayClient
from pipeline.client.plain import PlainGatewayClient

__all__ = [
    "GatewayClient",
    "PlainGatewayClient",
    "GatewayError",
    "NotAccepted",
    "Refused",
    "TooLarge",
    "UnknownTopic",
    "Unauthorized",
    "Forbidden",
    "Unexpected",
]
