"""Where a unit starts after its state is restored: decided from its changelog and the group, written down, and told.

It is written into the changelog before the unit runs: from then on the changelog speaks under the fence of this owner.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from faust.types import TP

from pipeline.core.origin import CHANGELOG_FORMAT, FORMAT, ORIGIN, Origin, format_row, require_readable
from pipeline.core.outcome import Blocked
from pipeline.core.record import StoredRecord
from pipeline.core.start import Committed, Known, Said, start
from pipeline.core.state import Row
from pipeline.runtime.recovery import Restoring, bookkeeping_only
from pipeline.runtime.source_logs import records_lost
from pipeline.runtime.store import FENCE
from pipeline.runtime.unit import Unit

log = logging.getLogger("hardparts.takeover")

OFFSETS_MOVED = "offsets-moved"


class Place(NamedTuple):
    """Where one source starts, and why there.

    group: the group's offset. state: where the changelog's rows end. Both None when there is none. offset: where it
    starts. wanted: where it would have started if the source had it.
    """

    said: Said
    group: int | None
    state: int | None
    offset: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Starting:
    """What a unit starts with.

    places: source → where it starts. committed: what workers of ours have committed. origin: of the changelog, as it
    should be said. lost: what is wrong with the changelog, for people; "" when nothing is. topics: source → id of the
    topic that its position is of; one that is missing keeps the id that it had.
    """

    places: Mapping[TP, Place]
    committed: Mapping[TP, int]
    origin: Origin
    lost: str
    topics: Mapping[str, str]

    @classmethod
    def of(
        cls,
        unit: Unit,
        restored: Restoring,
        committed: Mapping[TP, Committed | None],
        beginnings: Mapping[TP, int],
        ends: Mapping[TP, int],
        topic_ids: Mapping[str, str],
    ) -> Self:
        """Decide for each source of the unit that is in `beginnings`. Raises ChangelogFromNewerVersion.

        topic_ids: source topic → id of the one that is there now.
        """
        store, cluster, lost = restored.store, unit.context.cluster_id, restored.lost
        require_readable(restored.place, store.get(CHANGELOG_FORMAT))
        empty = unit.turn.number == 0 and store.get(FENCE) is None and bookkeeping_only(store)
        origin = Origin.read(store.get(ORIGIN))
        believed = unit.turn.number > 0
        if origin is None:
            origin = Origin.new(cluster, first=empty)
        elif cluster and origin.cluster not in ("", cluster):
            lost = f"it was copied from cluster {origin.cluster}, whose offsets mean nothing in {cluster}"
            origin, believed = Origin.new(cluster, first=False), False
        places = {}
        for tp in (TP(topic.name, unit.partition) for topic in unit.agent.sources):
            if tp in beginnings:
                was, now = unit.turn.topics.get(tp.topic), topic_ids.get(tp.topic)
                another = bool(was and now and was != now)
                at = unit.turn.positions.get(tp.topic) if believed and not another else None
                group = committed[tp]
                chosen = start(group, Known(at, empty, bool(unit.agent.views)), beginnings[tp], ends[tp])
                offset = None if group is None else group.offset
                said = "made again" if another and chosen.said in ("", "foreign") else chosen.said
                places[tp] = Place(said, offset, at, chosen.offset, chosen.wanted)
        ours = {tp: one.offset for tp in places if (one := committed[tp]) is not None and one.ours}
        known = {tp.topic: topic_id for tp in places if (topic_id := topic_ids.get(tp.topic))}
        return cls(places, ours, origin, lost, {**unit.turn.topics, **known})

    @property
    def positions(self) -> dict[str, int]:
        """Source topic → the first offset to read."""
        return {tp.topic: place.offset for tp, place in self.places.items()}

    @property
    def held_up(self) -> Blocked | None:
        """What a person has to decide first."""
        return next((_moved(tp, place) for tp, place in self.places.items() if place.said == "moved ahead"), None)

    def of_running(self, unit: Unit) -> Self:
        """For a unit that has run: nobody else can set the offsets of a group that has members, what it has finished is
        finished, and what the source has lost since may still be in its hands: the next fetch tells.
        """
        places = dict(self.places)
        for tp, place in self.places.items():
            if place.said in ("set back", "moved ahead", "lost", "rewound") and place.state is not None:
                places[tp] = place._replace(said="", offset=place.state)
            elif place.said == "foreign":
                places[tp] = place._replace(said="", offset=max(place.offset, unit.positions[tp.topic]))
        return replace(self, places=places)


async def claim(unit: Unit, starting: Starting) -> None:
    """Write down where the unit starts, under its owner's fence, and what its changelog doesn't yet say of itself."""
    rows: list[Row] = []
    if unit.store.get(CHANGELOG_FORMAT) != b"%d" % FORMAT:
        rows.append(format_row())
    if Origin.read(unit.store.get(ORIGIN)) != starting.origin:
        rows.append(starting.origin.row())
    place = (unit.store.offset or 0) + len(rows)
    turn = unit.turn._replace(topics=starting.topics).recorded(
        starting.positions, unit.owner.fence, unit.context.now_ms(), place
    )
    rows.append(turn.row())
    end = await unit.owner.append_rows(unit.changelog, unit.partition, [rows])
    origin_at = next((end - len(rows) + at for at, (key, _) in enumerate(rows) if key == ORIGIN), None)
    unit.store.apply(rows, end, origin_at)
    unit.turn = turn


def tell(unit: Unit, starting: Starting) -> None:
    """Log what a person may want to know; an alert for what needs one."""
    behind: dict[str, Any] = {}
    if starting.lost:
        log.error("%s: changelog %s[%d]: %s", unit.name, unit.changelog, unit.partition, starting.lost)
        behind["reason"] = starting.lost
    for tp, place in starting.places.items():
        _tell_of_source(unit, tp, place)
        if place.said in ("behind", "behind: empty"):
            behind = {
                "topic": tp.topic, "group_offset": place.group, "changelog_offset": place.state,
                "going_on_at": place.offset, **behind,
            }  # fmt: skip
    if behind:
        _alert(unit, f"state-behind/{unit.agent.name}", **behind)


def _tell_of_source(unit: Unit, tp: TP, place: Place) -> None:
    where = f"{unit.name}: {tp.topic}[{tp.partition}]"
    match place.said:
        case "":
            pass
        case "behind" | "behind: empty":
            changelog = "is empty" if place.state is None else f"only goes up to {place.state}"
            log.error(
                "%s: the group is at %s, the changelog %s: reading on from %d",
                where,
                place.group,
                changelog,
                place.offset,
            )
        case "rewound":
            log.error(
                "%s: was read up to %s and ends before that now: reading it from %d",
                where,
                place.wanted,
                place.offset,
            )
            _alert(unit, f"rewound/{tp.topic}", topic=tp.topic, read_until=place.wanted, going_on_at=place.offset)
        case "lost":
            records_lost(unit.context.alerts, unit.context.metrics, tp, place.wanted, place.offset)
        case "made again":
            log.warning("%s: the topic was deleted and made again: reading it from %d", where, place.offset)
        case "set back":
            log.warning("%s: somebody has set the group's offset back from %s to %s", where, place.state, place.group)
        case "foreign":
            log.info(
                "%s: its last owner has not said where it stood, so the group's offset counts: %d", where, place.offset
            )
        case _:
            log.info("%s: %s: starting at %d", where, place.said, place.offset)


def _alert(unit: Unit, name: str, **about: Any) -> None:
    unit.context.alerts.happened(f"{name}/{unit.partition}", agent=unit.agent.name, partition=unit.partition, **about)


def _moved(tp: TP, place: Place) -> Blocked:
    assert place.state is not None
    assert place.group is not None
    message = (
        f"somebody has set the group's offset to {place.group}, but the state only goes up to {place.state}: records "
        f"{place.offset} to {place.group - 1} would be passed over. Stop the workers and set it to {place.offset} "
        "or lower"
    )
    return Blocked(StoredRecord(tp.topic, tp.partition, place.state, 0, None, None), OFFSETS_MOVED, message)
