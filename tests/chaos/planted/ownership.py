"""Bugs of who owns a unit, and of what it begins with."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from pipeline.runtime.app import App
from pipeline.runtime.ownership import Owner
from pipeline.runtime.recovery import OURS, Changelogs, Restoring
from pipeline.runtime.unit import Unit
from tests.chaos.planted.patching import replaced


def stale_restore(_app: App) -> None:
    """A local copy is taken as it is, whatever rows the changelog has got since."""

    def make(original: Any) -> Any:
        def apply(changelogs: Changelogs, unit: Restoring, records: list[Any]) -> bool:
            if unit.tp not in changelogs._renewed:
                records = [record for record in records if record.key in OURS]
            return not records or bool(original(changelogs, unit, records))

        return apply

    replaced(Changelogs, "_apply", make)


def fence_off(_app: App) -> None:
    """Every producer has an id of its own, so no earlier owner is refused."""

    def make(original: Any) -> Any:
        async def take(_cls: type[Owner], bootstrap: Sequence[str], unit: str, *args: Any, **more: Any) -> Owner:
            owner: Owner = await original(bootstrap, f"{unit}/{uuid.uuid4()}", *args, **more)
            return owner

        return classmethod(take)

    replaced(Owner, "take", make)


def producer_reused(_app: App) -> None:
    """After an error that isn't retried, the unit goes on with the same producer."""

    async def go_on(_unit: Unit) -> None:
        return

    replaced(Unit, "_take_anew", lambda _original: go_on)
