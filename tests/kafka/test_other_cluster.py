"""A worker whose disk holds the state of another cluster, or of a newer version, doesn't take it for its own."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from pipeline.core.origin import CHANGELOG_FORMAT
from pipeline.runtime.ownership import Owner
from tests.kafka.cluster import KafkaCluster
from tests.kafka.test_changelog_tail import comment, counts, one_by_one
from tests.kafka.trial import GUARANTEES, Trial
from tests.oracle.process import WorkerEnded
from tests.oracle.views import unit_directories

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


def made_anew(cluster: KafkaCluster) -> None:
    """Its disks are wiped; it comes back under the same addresses as another cluster."""
    cluster.close()
    for node in cluster.nodes.values():
        shutil.rmtree(node.directory / "data")
    cluster.start()


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_state_of_a_cluster_that_was_wiped_is_refused_and_then_set_aside(tmp_path: Path, guarantee: str) -> None:
    with KafkaCluster(1, tmp_path / "kafka") as kafka:
        trial = Trial(kafka, tmp_path, partitions=1, processing_guarantee=guarantee)
        async with trial:
            worker = trial.worker("one")
            await trial.start(worker)
            await trial.write(comment(number) for number in range(3))
            await trial.caught_up()
            await trial.stop(worker)
        old = kafka.cluster_id
        await asyncio.to_thread(made_anew, kafka)
        async with trial:  # its topics again
            other = trial.worker("two")
            await trial.start(other)
            await one_by_one(trial, 5)  # its changelog grows past the offset of the copy
            await trial.stop(other)
            with pytest.raises(WorkerEnded, match="exited 1") as ended:
                await trial.start(worker)
            file = trial.data / trial.app_id / "one" / "cluster"
            last = str(ended.value).splitlines()[-1]
            assert f"its id is {kafka.cluster_id}, this process works with {old}" in last
            assert f"delete {file}; the state in {file.parent} is then set aside" in last
            assert file.read_text() == f"{old}\n"
            file.unlink()
            await trial.start(worker)
            assert file.read_text() == f"{kafka.cluster_id}\n"
            await trial.write([comment(5)])
            await trial.caught_up()
            assert await counts(trial) == [1, 2, 3, 4, 5, 6]
            assert "it is a copy of changelog" in worker.end_of_log(100_000)
            assert len(list(unit_directories(trial.data, "one")[0].parent.glob("0.set-aside-*"))) == 1
            await trial.stop(worker)


async def test_a_changelog_of_a_newer_version_is_refused_by_name(kafka: KafkaCluster, tmp_path: Path) -> None:
    async with Trial(kafka, tmp_path, partitions=1) as trial:
        owner = await Owner.take(kafka.bootstrap.split(","), f"{trial.app_id}/{trial.agent}/0", {})
        await owner.append_rows(trial.changelog, 0, [[(CHANGELOG_FORMAT, b"3")]])
        await owner.abandon()
        with pytest.raises(WorkerEnded, match="exited 2") as ended:
            await trial.start(trial.worker("one"))
        last = str(ended.value).splitlines()[-1]
        assert f"{trial.changelog}[0] has format 3, this version of hardparts reads up to 2" in last
