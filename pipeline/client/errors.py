"""Why a gateway didn't take events, each error with a `name` to decide by.

GatewayError
├── NotAccepted     no answer, or not now, until the deadline: it may or may not have them; send them again as they are
├── Refused         422: the events break their contract; `explain` has a line a failure
├── TooLarge        413: the body, or an event of it
├── UnknownTopic    404: no such topic takes events
├── Unauthorized    401: the token is missing or another
├── Forbidden       403
└── Unexpected      any other answer: that isn't a gateway, or something between
"""

from collections.abc import Iterable

from pipeline.core.errors import HardpartsError


class GatewayError(HardpartsError):
    """Everything that a client raises on purpose; nothing was taken, but for NotAccepted. explain: lines for people."""

    name = "gateway_error"

    def __init__(self, message: str, explain: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.explain = tuple(explain)


class NotAccepted(GatewayError):
    """Not until the deadline. cause: the name of what the last attempt ended with."""

    name = "not_accepted"

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class Refused(GatewayError):
    """The events break their contract: sending them again is of no use."""

    name = "refused"


class TooLarge(GatewayError):
    """The body is larger than the gateway takes, or an event than Kafka takes."""

    name = "too_large"


class UnknownTopic(GatewayError):
    """No such topic takes events."""

    name = "unknown_topic"


class Unauthorized(GatewayError):
    """The gateway has another token."""

    name = "unauthorized"


class Forbidden(GatewayError):
    """The gateway doesn't want this caller."""

    name = "forbidden"


class Unexpected(GatewayError):
    """Not an answer of a gateway."""

    name = "unexpected"


BY_STATUS: dict[int, type[GatewayError]] = {
    401: Unauthorized, 403: Forbidden, 404: UnknownTopic, 413: TooLarge, 422: Refused,
}  # fmt: skip
