"""What the last records of a topic say about its partitioner, before any of it is processed."""

from zlib import crc32

import pytest

from pipeline.core.routing import partition_of
from pipeline.core.sample import CHANCE, CONTRADICTED_MIN
from pipeline.core.sample import doubt as judged
from pipeline.core.topic import Topic

TOPIC = Topic("user-events")
UUID = "8700635F-1802-417E-89E7-595AD3600104"


def doubt(topic, partitions, seen, unread=True):
    return judged(topic, partitions, seen, unread)


def murmur2(users, partitions=4):
    return [(b"%d" % user, partition_of(b"%d" % user, partitions)) for user in users]


def by_crc32(users, partitions=4):
    return [(b"%d" % user, crc32(b"%d" % user) % partitions) for user in users]


def test_a_topic_where_each_key_is_at_home_is_fine():
    assert doubt(TOPIC, 4, murmur2(range(500))) is None
    assert doubt(Topic("user-events", partitioner="crc32"), 4, by_crc32(range(500))) is None
    assert doubt(TOPIC, 4, []) is None


@pytest.mark.parametrize("partitions", [2, 4, 96])
def test_a_healthy_topic_of_the_other_partitioner_is_certain_and_has_the_line_to_write(partitions):
    found = doubt(TOPIC, partitions, by_crc32(range(100), partitions))
    assert found is not None
    assert found.certain
    assert 'Topic("user-events", …, partitioner="crc32")' in found.remedy
    other = doubt(Topic("user-events", partitioner="crc32"), partitions, murmur2(range(100), partitions))
    assert other is not None
    assert other.certain
    assert 'partitioner="murmur2"' in other.remedy


def test_a_topic_that_has_been_read_is_only_a_warning_and_nobody_is_told_to_declare_anything_else():
    """Another declaration would begin all counts anew, in other partitions."""
    found = doubt(TOPIC, 4, by_crc32(range(100)), unread=False)
    assert found is not None
    assert not found.certain
    assert "Topic(" not in found.remedy
    assert "set the producers' partitioner to murmur2, see docs/runbook.md" in found.remedy


@pytest.mark.parametrize("partitions", [2, 3, 8, 96])
def test_few_keys_are_only_a_warning(partitions):
    """Luck explains k keys of n partitions once in n ** k topics."""
    for users in range(1, 60):
        seen = by_crc32(range(users), partitions)
        found = doubt(TOPIC, partitions, seen)
        against = [key for key, number in seen if partition_of(key, partitions) != number]
        if found is None:
            assert not against
        else:
            assert found.certain == (len(against) >= CONTRADICTED_MIN and partitions**users >= CHANCE)


def test_one_partition_an_unkeyed_topic_and_a_free_choice_prove_nothing():
    seen = by_crc32(range(100))
    assert doubt(TOPIC, 1, [(key, 0) for key, _ in seen]) is None
    assert doubt(Topic("user-events", key=None), 4, seen) is None
    assert doubt(Topic("user-events", partitioner="any"), 4, seen) is None


def test_a_mixed_topic_is_a_warning_with_an_example_of_each():
    mixed = doubt(TOPIC, 4, murmur2(range(50)) + by_crc32(range(50)))
    assert mixed is not None
    assert not mixed.certain
    assert "(crc32)" in mixed.message
    assert mixed.message.count("key '") == 2
    assert "set the partitioner of all its producers to murmur2" in mixed.remedy


def test_one_user_written_by_two_clients_is_a_warning():
    user = next(user for user in range(100) if by_crc32([user]) != murmur2([user]))
    mixed = doubt(TOPIC, 4, murmur2([user]) + by_crc32([user]))
    assert mixed is not None
    assert not mixed.certain


def test_empty_keys_are_left_out_and_uuids_in_capitals_are_named():
    assert doubt(Topic("user-events", partitioner="crc32"), 4, [(b"", number) for number in range(4)]) is None
    key = UUID.encode()
    home, raw = partition_of(key.lower(), 64), partition_of(key, 64)
    assert home != raw
    assert doubt(TOPIC, 64, [(key, home)]) is None
    found = doubt(TOPIC, 64, [(key, raw)])
    assert found is not None
    assert not found.certain
    assert "UUIDs in capitals" in found.message
    assert "what it has counted of these keys stays in another partition" in found.remedy
    assert "docs/runbook.md, UUID keys in capitals" in found.remedy
