"""Where the embedded broker's program is."""

import os
from pathlib import Path

BINARY = Path(__file__).parent / "bin" / "hardparts-broker"


class BrokerUnavailableError(RuntimeError):
    """This installation carries no embedded broker."""


def broker_binary() -> Path:
    """Path of the program; BrokerUnavailableError, saying how to get one, if it was left out of this installation."""
    if not os.access(BINARY, os.X_OK):
        message = (
            f"this installation has no embedded broker ({BINARY} is missing or not executable). "
            "Install again without HARDPARTS_SKIP_BROKER (`pip install --force-reinstall --no-deps .`), "
            "or use an Apache Kafka: HARDPARTS_BROKER=kafka://host:9092"
        )
        raise BrokerUnavailableError(message)
    return BINARY
