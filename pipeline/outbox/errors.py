"""What can go wrong with an outbox table.

HardpartsError
└── DatabaseAway        it can't be asked now: tried again, without limit
"""

from pipeline.core.errors import HardpartsError


class DatabaseAway(HardpartsError):
    """The database doesn't do what it is asked now; the message has its words."""
