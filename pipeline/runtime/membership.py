"""What this worker says of itself to the group, and the alert `definitions` about members that differ."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.core.membership import Introduction, digest
from pipeline.core.origin import FORMAT
from pipeline.core.settle import BUG
from pipeline.core.strays import PARTITIONER
from pipeline.runtime.alerts import Alerts
from pipeline.runtime.unit import Unit

if TYPE_CHECKING:
    from pipeline.runtime.app import App

log = logging.getLogger("hardparts.group")

ALERT = "definitions"
CURED_BY_A_DEPLOY = (BUG, PARTITIONER)
"""Reasons for which a unit blocks that have to do with the build it runs on."""
OLDER_LEADER = "the leader of the group is of a version that doesn't compare its members"
REMEDY = "finish the deployment or roll it back: see docs/runbook.md, Alert definitions"


def introduce(app: "App", version: str, blocked: tuple[str, ...]) -> Introduction:
    """For the leader of the group. blocked: units that it had, and that waited on a retry."""
    settings = app.settings
    return Introduction(
        instance=settings.instance,
        build=version,
        product=version,
        formats=tuple(range(1, FORMAT + 1)),
        guarantee=settings.processing_guarantee,
        agents={definition.name: digest(definition) for definition in app.definitions},
        reads={definition.name: tuple(topic.name for topic in definition.sources) for definition in app.definitions},
        blocked=blocked,
        url=f"http://{settings.web_host}:{app.web_port}",
    )


def blocked_units(units: Iterable[Unit]) -> tuple[str, ...]:
    """`agent/partition` of those that wait for what another build may have.

    A dependency that is unavailable is so for every build: its units would move back and forth at each rebalance.
    """
    heads = ((f"{unit.agent.name}/{unit.partition}", unit.head.blocked) for unit in units)
    return tuple(name for name, blocked in heads if blocked is not None and blocked.reason in CURED_BY_A_DEPLOY)


class Definitions:
    """The alert is open while members differ, or while nobody can tell."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._told: list[str] = []

    def tell(self, differ: Iterable[str] | None) -> None:
        """What differs now; None: the leader can't say."""
        lines = [OLDER_LEADER] if differ is None else list(differ)
        if lines == self._told:
            return
        if not lines:
            self._alerts.closed(ALERT)
        elif self._told:
            log.warning("workers of the group differ now: %s", "; ".join(lines))
        else:
            self._alerts.opened(ALERT, differences=lines, remedy=REMEDY)
        self._told = lines
