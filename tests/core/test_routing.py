"""Which partition a key belongs to (O1, O5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.routing import encode_key, moved_share, partition_of, signed_murmur2


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_the_one_that_kafkas_java_client_publishes_for_its_own_tests(key: bytes, hashed: int) -> None:
    assert signed_murmur2(key) == hashed


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_and_its_text_are_one_key(number: int) -> None:
    assert encode_key(number) == encode_key(str(number)) == str(number).encode()


@given(st.binary(), st.integers(1, 10_000))
def test_a_partition_is_always_one_of_the_topics_and_always_the_same(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == (signed_murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize("key", [True, None, 1.0, ["7"]])
def test_what_is_no_key_is_refused(key: object) -> None:
    with pytest.raises(TypeError, match=type(key).__name__):
        encode_key(key)  # type: ignore[arg-type]


def test_a_topic_without_partitions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one partition"):
        partition_of(b"7", 0)


def test_going_from_five_to_six_partitions_moves_83_percent_of_the_keys() -> None:  # O5
    assert round(moved_share(5, 6), 2) == 0.83


def test_the_same_count_moves_nothing_and_doubling_moves_half() -> None:
    assert moved_share(7, 7, 1000) == 0
    assert moved_share(4, 8) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("key", "hashed"), [(b"", 0), (b"123456789", 0xCBF43926), (b"a", 0xE8B7BE43)])
def test_crc32_is_the_common_one(key: bytes, hashed: int) -> None:
    assert [partition_of(key, n, "crc32") for n in (5, 6, 7)] == [hashed % n for n in (5, 6, 7)]


def test_a_key_that_each_writer_may_put_anywhere_is_put_by_murmur2_here() -> None:
    assert partition_of(b"7", 8, "any") == partition_of(b"7", 8)
