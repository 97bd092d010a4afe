"""`topics plan` and `topics apply`: the catalogue compared with the cluster, and the cluster brought to it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.ops.plan import Difference, Wanted, plan, unequal, wanted
from pipeline.runtime.admin import Admin, Refused, connect
from pipeline.runtime.app import App
from pipeline.runtime.check import lost_changelogs

REMEDY = "mend the catalogue's entry or HARDPARTS_REPLICATION, or have the operator allow it; what came before is done"
READ_BACK_WITHIN_S, READ_BACK_EVERY_S = 10.0, 0.2
"""A broker that is asked right after a change may not have heard of it yet."""
NOT_SO = (
    "`topics apply` asked for this and the cluster still differs: somebody else changes the topic, or a policy does"
)


class Applied(NamedTuple):
    """What was made so, and what wasn't, with the reason in `refused`."""

    done: list[Difference]
    refused: list[Difference]


def catalogue(app: App) -> list[Wanted]:
    """Every topic that should be there."""
    owners = {app.changelog(definition): definition.name for definition in app.declared}
    readers = {source.name: definition.name for definition in app.declared for source in definition.sources}
    return [wanted(topic, app.settings, owners.get(topic.name), readers.get(topic.name)) for topic in app.all_topics()]


async def differences(app: App, force: bool = False) -> list[Difference]:
    """All differences; BrokerAway when the cluster can't be asked."""
    async with connect(app.settings) as admin:
        return await _differences(app, admin, force)


async def apply(app: App, force: bool, on_done: Callable[[Difference], None]) -> Applied:
    """Create missing topics, set their settings, add partitions where that is allowed; `on_done` after each step.

    Reads back what it made; a topic that isn't as it was asked for is in `refused`. Safe to run again and side by side:
    what somebody else has made in the meantime is fine, if it is the same.
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
        result.refused.extend(await _read_back(app, admin, force, result))
    return result


async def _read_back(app: App, admin: Admin, force: bool, result: Applied) -> list[Difference]:
    """How the topics that were made or changed still differ from what was asked for."""
    made, until = {done.topic for done in result.done}, time.monotonic() + READ_BACK_WITHIN_S
    while made:
        found = await _differences(app, admin, force)
        left = [one for one in found if one.topic in made and one not in result.refused]
        if all(one.refused for one in left) or time.monotonic() > until:
            return [one if one.refused else one._replace(refused=NOT_SO) for one in left]
        await asyncio.sleep(READ_BACK_EVERY_S)
    return []


async def _differences(app: App, admin: Admin, force: bool) -> list[Difference]:
    topics = catalogue(app)
    found = await admin.topics(topic.name for topic in topics)
    configs = await admin.configs(found)
    counts = {name: there.partitions for name, there in found.items()}
    lost = await lost_changelogs(app, app.declared, admin, counts)
    return [*_unequal(app, topics), *plan(topics, found, configs, force, lost)]


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
