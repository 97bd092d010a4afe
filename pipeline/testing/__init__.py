"""Testing agents without a broker.

`Kit` gives an agent records and checks what comes out; the agent runs on the same path as in a worker, with topics,
changelog and state in memory. `interleave`, `duplicated` and `reordered` make orders of inputs for property tests,
`POISON` has records that no agent accepts.
"""

from pipeline.testing.failures import STEPS, Dependency, Failure, Step
from pipeline.testing.kit import Kit
from pipeline.testing.poison import POISON
from pipeline.testing.results import Published, RejectedRecord
from pipeline.testing.sequences import Input, duplicated, interleave, reordered

__all__ = [
    "Kit",
    "Input", "Published", "RejectedRecord",
    "interleave", "duplicated", "reordered", "POISON",
    "STEPS", "Step", "Dependency", "Failure",
]  # fmt: skip
