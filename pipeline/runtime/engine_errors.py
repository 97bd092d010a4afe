"""What goes wrong in the engine while an agent's function runs, and is never that function's failure."""

from pipeline.core.errors import OwnershipLost
from pipeline.runtime.ownership import ChangelogLost, ProducerBroken
from pipeline.runtime.store import StoreFailed

ENGINE_ERRORS = (OwnershipLost, ProducerBroken, StoreFailed, ChangelogLost)
"""The producer, the store or the changelog is of no use: the unit acts on it, and the whole batch is redone or ends."""
