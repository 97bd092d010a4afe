"""The SQL read model of the read-model agent, on SQLite."""

import sqlite3

import pytest

from agents.read_model import read_model
from pipeline.testing import STEPS, Kit

ALICE = "8700635F-1802-417E-89E7-595AD3600104"


@pytest.fixture
def kit():
    with Kit(read_model, attempts_max=2) as kit:
        yield kit


def test_a_count_becomes_a_row_of_its_user(kit):
    kit.given("comment.counted", user_id=1, count=1)
    kit.given("comment.counted", user_id=ALICE, count=5)
    assert kit.rows("comment_counts") == [{"user_id": "1", "count": 1}, {"user_id": ALICE.lower(), "count": 5}]
    kit.then_nothing_else()


def test_the_larger_count_stays_whatever_comes_last(kit):
    for count in (3, 7, 2):
        kit.given("comment.counted", user_id=1, count=count)
        kit.run()
    assert kit.rows("comment_counts") == [{"user_id": "1", "count": 7}]


def test_a_message_becomes_a_row_once(kit):
    given = kit.given("message.accepted", user_id=1, to=ALICE, msg="hi\0there")
    kit.restart("lost")
    kit.feed([given])
    row = {"msg_id": given.msg_id, "user_id": "1", "to_user_id": ALICE.lower(), "msg": "hi\0there"}
    assert kit.rows("messages") == [row]
    kit.then_nothing_else()


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_anywhere_writes_each_row_once(step):
    with Kit(read_model, batch_records_max=2) as kit:
        for at in range(5):
            kit.given("message.accepted", user_id=at % 2, to=9, msg=str(at))
            kit.given("comment.counted", user_id=1, count=at + 1)
        kit.crash(step, times=2)
        assert sorted(row["msg"] for row in kit.rows("messages")) == list("01234")
        assert kit.rows("comment_counts") == [{"user_id": "1", "count": 5}]
        assert kit.worker.crashes == [step]


def test_a_replay_of_the_topics_makes_the_same_tables(kit):
    inputs = [kit.given("comment.counted", user_id=user, count=count) for user in (1, 2) for count in (1, 2, 3)]
    inputs += [kit.given("message.accepted", user_id=1, to=2, msg=text) for text in "ab"]
    kit.run()
    with Kit(read_model) as again:
        again.feed(reversed(inputs))
        for table in ("comment_counts", "messages"):
            assert again.rows(table) == kit.rows(table)


def test_a_locked_database_blocks_and_nothing_is_lost(tmp_path):  # E3
    path = tmp_path / "read-model.sqlite3"
    with Kit(read_model, attempts_max=1, database_url=f"sqlite:///{path}?timeout=0.05") as kit:
        kit.given("comment.counted", user_id=1, count=1)
        kit.run()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin exclusive")
        kit.given("comment.counted", user_id=1, count=2)
        kit.given("comment.counted", user_id=2, count=1)
        assert "locked" in kit.then_blocked("database").message
        other.execute("rollback")
        other.close()
        kit.run()
        assert kit.rows("comment_counts") == [{"user_id": "1", "count": 2}, {"user_id": "2", "count": 1}]
        kit.then_nothing_else()
