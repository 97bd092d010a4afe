"""State is read from RocksDB directories and folded from changelog records as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from tests.oracle.chain import Chain
from tests.oracle.records import Record
from tests.oracle.views import NotAChangelog, fold_rows, rocksdb_view, unit_directories


def test_rows_are_read_from_the_directory_of_each_unit(tmp_path: Path) -> None:
    for partition, count in ((0, b"1"), (11, b"2")):
        directory = tmp_path / "app" / "one" / "tables" / "user-events" / str(partition)
        directory.mkdir(parents=True)
        database = Rdict(str(directory), options=Options(raw_mode=True))
        database[b"comments\x007"] = count
        database[b"gone"] = b"1"
        del database[b"gone"]
        database[b"_offset"] = b"12"
        database.close()
    directories = unit_directories(tmp_path, "one")
    assert rocksdb_view(directories) == {0: {b"comments\x007": b"1"}, 11: {b"comments\x007": b"2"}}
    assert unit_directories(tmp_path, "two") == {}


def test_a_directory_is_read_while_its_writer_lives(tmp_path: Path) -> None:
    writer = Rdict(str(tmp_path / "db"), options=Options(raw_mode=True))
    writer[b"a"] = b"1"
    assert rocksdb_view({3: tmp_path / "db"}) == {3: {b"a": b"1"}}
    writer.close()


def test_a_missing_directory_is_an_error_not_an_empty_state(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"does not exist|No such file"):
        rocksdb_view({0: tmp_path / "nowhere"})


def test_a_changelog_folds_to_its_last_values() -> None:
    rows: dict[bytes, bytes] = {}
    written = [(b"_fence:1", b"me"), (b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None), (b"_format", b"1")]
    fold_rows([Record("log", 0, at, key, value) for at, (key, value) in enumerate(written)], rows)
    assert rows == {b"a": b"2"}
    with pytest.raises(NotAChangelog):
        fold_rows([Record("log", 0, 9, None, b"x")], rows)


def test_a_hash_chain_shows_loss_repeat_with_effect_and_reorder() -> None:
    def chain(*entries: tuple[str, bytes]) -> Chain:
        built = Chain()
        for msg_id, value in entries:
            built.add(b"k", msg_id, value)
        return built

    right = chain(("1", b"a"), ("2", b"b"))
    assert right.differing(chain(("1", b"a"), ("2", b"b"), ("1", b"a"))) == set()
    for wrong in (chain(("1", b"a")), chain(("2", b"b"), ("1", b"a")), chain(("1", b"a"), ("2", b"c")), chain()):
        assert right.differing(wrong) == {b"k"}
