"""`topics plan` and `topics apply`: the catalogue compared with the cluster, and the cluster brought to it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.ops.plan import Difference, Wanted, plan, unequal, wanted
from pipeline.runtime.admin import Admin, Refused, connect
from pipeline.runtime.app import App

REMEDY = "mend the catalogue's entry or HARDPARTS_REPLICATION, or have the operator allow it; what came before is done"


class Applied(NamedTuple):
    """What was made so, and what wasn't, with the reason in `refused`."""

    done: list[Difference]
    refused: list[Difference]


def catalogue(app: App) -> list[Wanted]:
    """Every topic that should be there."""
    owners = {app.changelog(definition): definition.name for definition in app.declared}
    return [wanted(topic, app.settings, owners.get(topic.name)) for topic in app.all_topics()]


async def differences(app: App, force: bool = False) -> list[Difference]:
    """All differences; BrokerAway when the cluster can't be asked."""
    async with connect(app.settings) as admin:
        return await _differences(app, admin, force)


async def apply(app: App, force: bool, on_done: Callable[[Difference], None]) -> Applied:
    """Create missing topics, set their settings, add partitions where that is allowed; `on_done` after each step.

    Safe to run again and side by side: what somebody else has made in the meantime is fine.
    """
    topics = {topic.name: topic for topic in catalogue(app)}
    result = Applied([], [])
    async with connect(app.settings) as admin:
        for difference in await _differences(app, admin, force):
            if difference.refused:
                result.refused.append(difference)
                continue
            await _make(admin, difference, topics[difference.topic])
            result.done.append(difference)
            on_done(difference)
    return result


async def _differences(app: App, admin: Admin, force: bool) -> list[Difference]:
    topics = catalogue(app)
    found = await admin.topics(topic.name for topic in topics)
    configs = await admin.configs(found)
    return [*_unequal(app, topics), *plan(topics, found, configs, force)]


def _unequal(app: App, topics: Sequence[Wanted]) -> list[Difference]:
    by_name = {topic.name: topic for topic in topics}
    differences: list[Difference] = []
    for definition in app.declared:
        names = [*(source.name for source in definition.sources), app.changelog(definition)]
        differences += unequal(definition.name, (by_name[name] for name in names))
    return differences


async def _make(admin: Admin, difference: Difference, topic: Wanted) -> None:
    try:
        await _change(admin, difference, topic)
    except Refused as error:
        raise Refused(f"{error}: {REMEDY}") from error


async def _change(admin: Admin, difference: Difference, topic: Wanted) -> None:
    if difference.kind == "missing":
        await admin.create(topic.name, topic.partitions, topic.replication, topic.config)
    elif difference.kind == "partitions":
        await admin.grow(topic.name, topic.partitions)
    else:
        name, _, value = difference.wanted.partition("=")
        await admin.configure(topic.name, {name: value})
