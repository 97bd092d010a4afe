"""Strays: which records are, what is said of them, and after how many of them a unit blocks."""

from itertools import count, islice
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts.catalogue import load_contracts
from pipeline.core import homes as memory
from pipeline.core.agent import Definition
from pipeline.core.decode import decode
from pipeline.core.errors import Misconfigured
from pipeline.core.homes import Homes
from pipeline.core.outcome import Blocked, Candidate, Rejected
from pipeline.core.record import StoredRecord
from pipeline.core.routing import belongs, canonical, murmur2, partition_of
from pipeline.core.strays import KEYS_MAX, PARTITIONER, RECORDS_MAX, WRONG_PARTITION, Strays
from pipeline.core.topic import Topic
from pipeline.core.views import MsgIdSet
from tests.behaviour.small_agent import CONTRACTS

CONTRACT = load_contracts(CONTRACTS)["user-events"]
MSG_ID = "8700635f-1802-417e-89e7-595ad3600104"
HERE, PARTITIONS = 1, 4
MURMUR2, CRC32 = Topic("user-events"), Topic("user-events", partitioner="crc32")


def users(accepts):
    return (number for number in count() if accepts(str(number).encode()))


def at_home(key: bytes) -> bool:
    return partition_of(key, PARTITIONS) == HERE


def by_crc32(key: bytes) -> bool:
    return crc32(key) % PARTITIONS == HERE


GOOD = list(islice(users(lambda key: at_home(key) and not by_crc32(key)), 30))
STRAYS = list(islice(users(lambda key: by_crc32(key) and not at_home(key)), 60))
BOTH = list(islice(users(lambda key: by_crc32(key) and at_home(key)), 30))
NOWHERE = list(islice(users(lambda key: not by_crc32(key) and not at_home(key)), 60))


def agent(*sources: Topic, **options) -> Definition:
    definition = Definition("agent", sources or (MURMUR2,), **options)
    definition.on("comment.created")(lambda event: [])
    return definition


def record(user: int | str, key: bytes | None = None) -> StoredRecord:
    value = CONTRACT.encode("comment.created", MSG_ID, {"user_id": user, "msg": "x"}, None)
    return StoredRecord("user-events", HERE, 0, 0, str(user).encode() if key is None else key, value)


BROKEN = record(1)._replace(value=b"{")


def decided(records, strays: Strays, topic: Topic = MURMUR2):
    return decode(records, topic, CONTRACT, agent(topic), strays)


def messages(user: int | str, topic: Topic = MURMUR2) -> str:
    (one,) = decided([record(user)], Strays(topic, HERE, PARTITIONS), topic)
    assert isinstance(one, Rejected)
    assert one.rejection.error_class == WRONG_PARTITION
    return one.rejection.message


def test_a_record_where_its_key_belongs_is_none():
    strays = Strays(MURMUR2, HERE, PARTITIONS)
    assert all(isinstance(one, Candidate) for one in decided(map(record, GOOD + BOTH), strays))


def test_it_names_the_key_both_partitions_and_the_partitioner_that_explains_it():
    user = STRAYS[0]
    home = partition_of(str(user).encode(), PARTITIONS)
    said = f"key '{user}' in partition {HERE} belongs to partition {home} of user-events by murmur2; crc32 puts it here"
    assert messages(user) == said
    assert "crc32" not in messages(NOWHERE[0])
    assert "murmur2 puts it here" in messages(GOOD[0], CRC32)


UUIDS = (str(UUID(int=number * 7**40 % 2**128)).upper() for number in count(1))
CAPITAL = next(key for key in UUIDS if at_home(key.encode()) and not at_home(key.lower().encode()))
MOVED = next(key for key in UUIDS if at_home(key.lower().encode()) and not at_home(key.encode()))


def test_a_uuid_belongs_where_it_does_in_lower_case():
    assert "keys that are UUIDs are written in lower case" in messages(CAPITAL)
    (one,) = decided([record(MOVED)], Strays(MURMUR2, HERE, PARTITIONS))
    assert isinstance(one, Candidate)
    assert one.event.key == MOVED.lower()


@given(st.text())
def test_only_whole_uuids_are_the_same_in_capitals(text):
    key = text.encode(errors="replace")
    assert canonical(key) == key
    assert canonical(CAPITAL.encode() + key) == (CAPITAL.encode() + key if key else CAPITAL.lower().encode())


def test_an_empty_key_is_anywhere_with_librdkafka_and_hashed_with_java():
    assert all(belongs(b"", number, 8, "crc32") for number in range(8))
    assert [belongs(b"", number, 8, "murmur2") for number in range(8)].count(True) == 1


@pytest.mark.parametrize("topic", [Topic("user-events", partitioner="any"), Topic("user-events", key=None)])
def test_a_topic_without_a_known_partitioner_has_none(topic):
    strays = Strays(topic, HERE, PARTITIONS)
    assert all(isinstance(one, Candidate) for one in decided(map(record, STRAYS + NOWHERE), strays, topic))
    strays.finished(decided(map(record, STRAYS), strays, topic))


def test_one_partition_has_none():
    assert all(isinstance(one, Candidate) for one in decided(map(record, STRAYS), Strays(MURMUR2, 0, 1)))


def test_a_batch_of_them_ends_with_the_first_that_is_too_many():
    found = decided(map(record, STRAYS), Strays(MURMUR2, HERE, PARTITIONS, unread={"user-events"}))
    assert len(found) == KEYS_MAX + 1
    assert {type(one) for one in found[:-1]} == {Rejected}
    blocked = found[-1]
    assert isinstance(blocked, Blocked)
    assert blocked.reason == PARTITIONER
    assert 'Topic("user-events", …, partitioner="crc32")' in blocked.message


@pytest.mark.parametrize("keys", [1, KEYS_MAX - 1])
def test_few_keys_block_after_so_many_records(keys):
    strays, done = Strays(MURMUR2, HERE, PARTITIONS), 0
    records = [record(STRAYS[number % keys]) for number in range(5_000)]
    while not isinstance((found := decided(records[done:], strays))[-1], Blocked):
        strays.finished(found)
        done += len(found)
    assert done + len(found) - 1 == RECORDS_MAX
    assert f"strays of {RECORDS_MAX} records in a row" in found[-1].message


def test_few_keys_with_good_records_between_go_on():
    strays = Strays(MURMUR2, HERE, PARTITIONS)
    for _ in range(3 * RECORDS_MAX):
        strays.finished(found := decided([record(STRAYS[0]), record(GOOD[0])], strays))
        assert [type(one) for one in found] == [Rejected, Candidate]


def blocked(strays: Strays) -> Blocked:
    found = decided(map(record, STRAYS), strays)
    assert isinstance(found[-1], Blocked)
    return found[-1]


def test_another_declaration_is_proposed_only_while_nothing_speaks_for_the_declared_one():
    """Its state is where the declared one puts the keys: they would begin anew in other partitions."""
    unread = {"user-events"}
    strays = Strays(MURMUR2, HERE, PARTITIONS, unread=unread)
    strays.finished(decided(map(record, BOTH), strays))
    assert 'declare Topic("user-events"' in blocked(strays).message
    other_unit = Strays(MURMUR2, HERE, PARTITIONS, unread=unread)
    other_unit.finished(decided([record(GOOD[0])], other_unit))
    for one in (strays, Strays(MURMUR2, HERE, PARTITIONS)):
        assert "Topic(" not in blocked(one).message
        assert "set the producers' partitioner to murmur2, see docs/runbook.md" in blocked(one).message


def test_nothing_is_a_stray_while_the_topic_has_another_partition_count():
    moved = set[str]()
    strays = Strays(MURMUR2, HERE, PARTITIONS, moved=moved)
    found = decided(map(record, STRAYS[:3]), strays)
    assert strays.begins_or_blocks(found), "time to ask for the count"
    strays.finished(found)
    assert not strays.begins_or_blocks(decided(map(record, STRAYS[:3]), strays))
    assert strays.begins_or_blocks(decided(map(record, STRAYS), strays)), "once more before it blocks"
    moved.add("user-events")
    found = decided(map(record, STRAYS), strays)
    assert {type(one) for one in found} == {Candidate}
    assert not strays.begins_or_blocks(found)
    strays.finished(found)
    moved.clear()
    assert isinstance(decided([record(STRAYS[0])], strays)[0], Rejected)


def test_units_share_a_bounded_memory_and_it_never_changes_what_is_a_stray(monkeypatch):
    monkeypatch.setattr(memory, "KEYS_MAX", 50)
    homes, users = Homes(), [*GOOD, *STRAYS, *BOTH, *NOWHERE]
    units = [Strays(MURMUR2, number, PARTITIONS, homes) for number in range(PARTITIONS)]
    units += [Strays(CRC32, number, PARTITIONS, homes) for number in range(PARTITIONS)]
    for _ in range(3):
        for user in users:
            key = b"%d" % user
            for number, unit in enumerate(units):
                topic, at = (MURMUR2, number) if number < PARTITIONS else (CRC32, number - PARTITIONS)
                (one,) = decode([record(user)._replace(partition=at)], topic, CONTRACT, agent(topic), unit)
                assert isinstance(one, Candidate) == (partition_of(key, PARTITIONS, topic.partitioner) == at)
            assert len(homes) == sum(len(homes.table(by, PARTITIONS)) for by in ("murmur2", "crc32")) <= 50
    homes.find(b"x" * (memory.KEY_BYTES_MAX + 1), "murmur2", PARTITIONS)
    assert all(len(key) <= memory.KEY_BYTES_MAX for key in homes.table("murmur2", PARTITIONS))


@pytest.mark.parametrize("key", [MOVED, CAPITAL])
def test_what_is_remembered_of_an_output_says_nothing_of_a_uuid_in_capitals(key):
    """An output goes by its key as it is written."""
    homes = Homes()
    assert homes.find(key.encode(), "murmur2", PARTITIONS) == partition_of(key.encode(), PARTITIONS)
    (one,) = decided([record(key)], Strays(MURMUR2, HERE, PARTITIONS, homes))
    assert isinstance(one, Candidate) == (key == MOVED)
    assert homes.find(key.encode(), "murmur2", PARTITIONS) == partition_of(key.encode(), PARTITIONS)


def test_nothing_counts_before_it_is_finished():
    strays = Strays(MURMUR2, HERE, PARTITIONS)
    for _ in range(10):
        found = decided(map(record, STRAYS[:15]), strays)
        assert len(found) == 15
    strays.finished(found)
    assert len(decided(map(record, STRAYS[15:]), strays)) == KEYS_MAX - 15 + 1
    strays.finished(found)  # the same keys again
    assert len(decided(map(record, STRAYS[15:]), strays)) == KEYS_MAX - 15 + 1


def test_the_head_blocks_again_at_each_attempt_and_a_new_owner_counts_anew():
    strays = Strays(MURMUR2, HERE, PARTITIONS)
    strays.finished(decided(map(record, STRAYS), strays)[:-1])
    for _ in range(3):
        (head,) = decided([record(STRAYS[KEYS_MAX])], strays)
        assert isinstance(head, Blocked)
        strays.finished([])
    (fresh,) = decided([record(STRAYS[KEYS_MAX])], Strays(MURMUR2, HERE, PARTITIONS))
    assert isinstance(fresh, Rejected)


def test_a_record_that_both_partitioners_put_here_speaks_for_neither():
    """Else a whole topic of the other one would go on: of n partitions, one key in n is in its place by chance."""
    mixed = [user for pair in zip(STRAYS, BOTH, strict=False) for user in pair]
    found = decided(map(record, mixed), Strays(MURMUR2, HERE, PARTITIONS))
    assert isinstance(found[-1], Blocked)
    assert len(found) == 2 * KEYS_MAX + 1


def test_capitals_of_one_producer_alone_are_bounded_too_and_no_partitioner_is_proposed():
    keys = [key for key in islice(UUIDS, 400) if at_home(key.encode()) and not at_home(key.lower().encode())]
    last = decided(map(record, keys), Strays(MURMUR2, HERE, PARTITIONS))[-1]
    assert isinstance(last, Blocked)
    assert "Topic(" not in last.message
    assert "set the producers' partitioner to murmur2" in last.message
    assert "lower case" in last.message


KINDS = {"good": GOOD, "both": BOTH, "stray": STRAYS, "nowhere": NOWHERE, "broken": []}
STEP = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 24))
MANY = st.lists(STEP, max_size=120) | st.lists(st.tuples(st.sampled_from(["stray", "both"]), st.just(0)), min_size=200)


@given(MANY, st.lists(st.integers(1, 40), min_size=1), st.lists(st.booleans(), min_size=1))
def test_however_records_are_batched_and_retried_it_blocks_as_one_by_one(steps, sizes, retries):
    """The model counts one record at a time: keys of strays since the last record that contradicts their suspects."""
    records = [BROKEN if kind == "broken" else record(KINDS[kind][number]) for kind, number in steps]
    keys: set[int] = set()
    suspected, many, blocks_at = True, 0, len(records)
    for position, (kind, number) in enumerate(steps):
        if kind in ("stray", "nowhere"):
            if len(keys) == KEYS_MAX or many == RECORDS_MAX:
                blocks_at = position
                break
            suspected = (suspected or not keys) and kind == "stray"
            keys.add(KINDS[kind][number])
            many += 1
        elif kind == "good" or (kind == "both" and not suspected):
            keys, suspected, many = set(), True, 0
    strays, done, turn = Strays(MURMUR2, HERE, PARTITIONS), 0, 0
    while done < len(records):
        batch = records[done : done + sizes[turn % len(sizes)]]
        found = decided(batch, strays)
        ends = bool(found) and isinstance(found[-1], Blocked)
        kept = found[:-1] if ends else found
        if retries[turn % len(retries)]:
            found = decided(batch, strays)
            assert [type(one) for one in found[: len(kept)]] == [type(one) for one in kept]
        strays.finished(kept)
        done, turn = done + len(kept), turn + 1
        if ends:
            break
    assert done == blocks_at


# ---------------------------------------------------------------------- what is declared


def test_an_unknown_partitioner_is_refused_with_the_choices():
    with pytest.raises(Misconfigured, match="topic 'a' has partitioner='fnv1a': choose one of murmur2, crc32, any"):
        Topic("a", partitioner="fnv1a")  # type: ignore[arg-type]


def test_the_sources_of_an_agent_with_state_have_one_known_partitioner():
    views = (MsgIdSet("seen"),)
    with pytest.raises(Misconfigured, match="a has murmur2, b has crc32"):
        agent(Topic("a"), Topic("b", partitioner="crc32"), views=views)
    with pytest.raises(Misconfigured, match="'agent' keeps state, so it can't read b with partitioner 'any'"):
        agent(Topic("b", partitioner="any"), views=views)
    assert agent(Topic("a", partitioner="crc32"), Topic("b", key=None), views=views).partitioner == "crc32"
    agent(Topic("a"), Topic("b", partitioner="crc32"), Topic("c", partitioner="any"))


@given(st.binary(max_size=80))
def test_murmur2_is_the_one_of_the_client(key):
    from aiokafka.partitioner import murmur2 as clients

    assert murmur2(key) == clients(key)
