"""Workers replace those of the other version one after the other, forward, back and forward again, under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka import sizes
from tests.kafka.cluster import KafkaCluster
from tests.kafka.feed import WITHOUT_END, Feed
from tests.kafka.trial import GUARANTEES, Trial
from tests.oracle.generator import Mix
from tests.upgrade.rolling import Rolling
from tests.upgrade.versions import NEW, Version

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

RATE = 500.0
MIX = Mix(events=WITHOUT_END, users=300, duplicates=0.1, poison=0.01)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_two_versions_replace_each_other_under_load(
    old: Version, kafka: KafkaCluster, tmp_path: Path, guarantee: str
) -> None:
    assert old.directory != NEW.directory
    async with Trial(kafka, tmp_path, processing_guarantee=guarantee) as trial:
        rolling = Rolling(trial, one=old, two=old)
        await rolling.start()
        async with Feed(trial, sizes.seed(), RATE, MIX) as feed:
            await rolling.replace("one", NEW, feed)
            await rolling.replace("two", NEW, feed)
            back = await rolling.goes_back("one", old, feed, kill=True) and await rolling.goes_back("two", old, feed)
            print(f"way back: {'works' if back else 'refused by name'}")
            for name in [name for name, version in rolling.versions.items() if version is old]:
                await rolling.replace(name, NEW, feed)
            journal = await feed.end()
        await trial.verdict(journal)
