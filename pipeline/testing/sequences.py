"""Orders of inputs that a test can generate: interleaved, repeated, reordered. Pure: what is picked is an argument."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from pipeline.core.record import type_headers

T = TypeVar("T")


class Input(NamedTuple):
    """A record that can be given to an agent. msg_id, type: of a well-formed event, else empty."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: type_headers = ()
    msg_id: str = ""
    type: str = ""


def interleave(lanes: Sequence[Sequence[T]], choices: Iterable[int]) -> list[T]:
    """One sequence of all lanes' items, each lane in its own order; `choices` picks whose turn it is.

    >>> interleave(["ab", "XY"], [0, 1, 1])
    ['a', 'X', 'Y', 'b']
    """
    rest = [list(lane) for lane in lanes if lane]
    merged: list[T] = []
    for choice in choices:
        if not rest:
            break
        lane = rest[choice % len(rest)]
        merged.append(lane.pop(0))
        rest = [lane for lane in rest if lane]
    for lane in rest:
        merged.extend(lane)
    return merged


def duplicated(inputs: Sequence[T], positions: Iterable[int]) -> list[T]:
    """The inputs, and then once more those at these positions (modulo their number), as a producer's retry does.

    >>> duplicated("abc", [1, 4])
    ['a', 'b', 'c', 'b', 'b']
    """
    picked = [inputs[position % len(inputs)] for position in positions] if inputs else []
    return [*inputs, *picked]


def reordered(inputs: Sequence[Input], choices: Iterable[int]) -> list[Input]:
    """The inputs in an order that a topic with several partitions may deliver: records of one key stay in order."""
    lanes: dict[bytes | None, list[Input]] = {}
    for one in inputs:
        lanes.setdefault(one.key, []).append(one)
    return interleave(list(lanes.values()), choices)
