"""File descriptors: how many a worker may need, and the limit that this process has (RLIMIT_NOFILE).

A worker may have to run every unit of its group, when the others are gone.
"""

import logging
import resource

log = logging.getLogger("hardparts.descriptors")

SOFT_MAX = 1 << 20
"""More than any worker needs; some systems allow a billion."""
PROCESS = 100
STATE_OF_A_UNIT = 16
"""RocksDB has 6 files open for a small unit (lock, log, manifest, write-ahead log, …); 10 more are for tables.

Measured with 96 units on 3 brokers: 6 files and 3.5 sockets each just after the start.
"""


def needed(units: int, brokers: int) -> int:
    """An upper estimate for this many units. brokers: a unit's producer has a connection to each, and one to ask."""
    return PROCESS + units * (STATE_OF_A_UNIT + brokers + 1)


def raise_limit() -> None:
    """The soft limit becomes the hard one: nothing here uses select(), which takes no descriptors above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = attainable()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays at %d: %s", soft, error)


def attainable() -> int:
    """What `raise_limit` gets to, or has got to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return SOFT_MAX if resource.RLIM_INFINITY in (soft, hard) else max(soft, min(hard, SOFT_MAX))


def remedy(wanted: int) -> str:
    """What a person does about a limit that is too low."""
    return f"raise the hard limit to {wanted}: ulimit -Hn, LimitNOFILE= of systemd, ulimits: nofile of Docker"


def too_low(units: int, brokers: int) -> str | None:
    """A line when this process may run out of descriptors with so many units."""
    wanted, limit = needed(units, brokers), attainable()
    if wanted <= limit:
        return None
    return f"up to {wanted} open files for {units} units, and {limit} are allowed: {remedy(wanted)}"
