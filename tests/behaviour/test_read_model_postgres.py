"""The SQL read model on a real PostgreSQL: what it refuses, and what it only can't do now."""

import threading
import time

import pytest

from agents.read_model import read_model
from pipeline.runtime.database import Database
from pipeline.testing import Kit
from tests.behaviour.postgres import Postgres
from tests.behaviour.test_read_model_refusals import METADATA, author, written

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server():
    with Postgres() as server:
        yield server


@pytest.fixture
def database(server):
    return server.database()


@pytest.fixture
def kit(server, database):
    with Kit(read_model, attempts_max=2, database_url=server.url(database)) as kit:
        yield kit


def test_the_larger_count_stays_and_a_message_is_written_once(kit):
    for count in (3, 7, 2):
        kit.given("comment.counted", user_id=1, count=count)
    given = kit.given("message.accepted", user_id=1, to=2, msg="hi")
    kit.restart("lost")
    kit.feed([given])
    assert kit.rows("comment_counts") == [{"user_id": "1", "count": 7}]
    assert kit.rows("messages") == [{"msg_id": given.msg_id, "user_id": "1", "to_user_id": "2", "msg": "hi"}]
    kit.then_nothing_else()


def test_a_text_that_postgresql_refuses_is_rejected_and_its_neighbours_are_written(kit):
    for text in ("before", "with\0nul", "between", "\0", "after"):
        kit.given("message.accepted", user_id=1, to=2, msg=text)
    assert sorted(row["msg"] for row in kit.rows("messages")) == ["after", "before", "between"]
    for offset in ("1", "3"):
        assert kit.then_rejected("DataRefused").hp["source-offset"] == offset
    kit.then_nothing_else()


def test_a_server_that_goes_away_blocks_and_nothing_is_lost(kit, server):  # E3
    kit.given("comment.counted", user_id=1, count=1)
    kit.run()
    server.stop()
    try:
        kit.given("comment.counted", user_id=1, count=2)
        kit.given("comment.counted", user_id=2, count=1)
        blocked = kit.then_blocked("database")
    finally:
        server.start()
    assert blocked.record.offset == 1
    assert kit.rejections() == []
    kit.run()
    assert kit.rows("comment_counts") == [{"user_id": "1", "count": 2}, {"user_id": "2", "count": 1}]
    kit.then_nothing_else()


def test_a_connection_that_is_cut_within_a_batch_is_tried_again(kit, server, database):
    kit.given("comment.counted", user_id=1, count=1)
    kit.run()
    with server.connect("postgres") as admin:
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])
    kit.given("comment.counted", user_id=1, count=2)
    kit.run()
    assert kit.rows("comment_counts") == [{"user_id": "1", "count": 2}]
    kit.then_nothing_else()


def test_a_serialisation_failure_is_tried_again(server, database):
    url = server.url(database) + "?options=-c%20default_transaction_isolation%3Dserializable"
    with Kit(read_model, attempts_max=2, database_url=url) as kit:
        kit.given("comment.counted", user_id=1, count=1)
        kit.run()
        holds, problem = threading.Event(), []

        def rival() -> None:
            with server.connect(database) as connection, server.connect(database) as watch:
                connection.execute("begin")
                connection.execute("update comment_counts set count = 99 where user_id = '1'")
                holds.set()
                until = time.monotonic() + 20
                waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = %s"
                while watch.execute(waiting, [database]).fetchone()[0] == 0:
                    if time.monotonic() > until:
                        problem.append("nobody waits for the lock")
                        break
                    time.sleep(0.01)
                connection.execute("commit")

        thread = threading.Thread(target=rival)
        thread.start()
        assert holds.wait(20)
        before = kit.worker.failures.made("database")
        kit.given("comment.counted", user_id=1, count=7)
        kit.run()
        thread.join()
        assert problem == []
        assert kit.worker.failures.made("database") == before + 2  # one failed, one worked
        assert kit.rows("comment_counts") == [{"user_id": "1", "count": 99}]
        kit.then_nothing_else()


def test_a_lock_that_takes_too_long_blocks(server, database):
    url = server.url(database) + "?options=-c%20lock_timeout%3D100"
    with Kit(read_model, attempts_max=1, database_url=url) as kit:
        kit.given("comment.counted", user_id=1, count=1)
        kit.run()
        with server.connect(database) as rival:
            rival.execute("begin")
            rival.execute("lock table comment_counts in exclusive mode")
            kit.given("comment.counted", user_id=1, count=2)
            kit.then_blocked("database")
            assert kit.rejections() == []
            rival.execute("rollback")
        kit.run()
        assert kit.rows("comment_counts") == [{"user_id": "1", "count": 2}]


async def test_rows_that_refer_to_earlier_ones_are_written_in_the_order_of_their_events(server, database):
    authors_and_books = Database(server.url(database), METADATA)
    await authors_and_books.write([author("a")])
    await authors_and_books.write([written("a1", "a"), author("b"), written("b1", "b")])
    authors_and_books.close()
    with server.connect(database) as connection:
        assert connection.execute("select title from books order by title").fetchall() == [("a1",), ("b1",)]


@pytest.mark.parametrize(("silence_s", "query"), [(1, ""), (600, "?options=-c%20statement_timeout%3D300")])
def test_a_statement_that_takes_too_long_blocks(server, database, monkeypatch, silence_s, query):  # E3
    monkeypatch.setattr("pipeline.runtime.database.SILENCE_MAX_S", silence_s)
    with Kit(read_model, attempts_max=1, database_url=server.url(database) + query) as kit:
        kit.given("comment.counted", user_id=1, count=1)
        kit.run()
        with server.connect(database) as rival:
            rival.execute("begin")
            rival.execute("lock table comment_counts in exclusive mode")
            kit.given("comment.counted", user_id=1, count=2)
            assert "statement timeout" in kit.then_blocked("database").message
            rival.execute("rollback")
        kit.run()
        assert kit.rows("comment_counts") == [{"user_id": "1", "count": 2}]


def test_a_server_that_only_reads_blocks(server, database):  # a standby before its promotion
    url = server.url(database)
    with Kit(read_model, attempts_max=1, database_url=url) as kit:
        kit.given("comment.counted", user_id=1, count=1)
        kit.run()
        with server.connect("postgres") as admin:
            admin.execute(f'alter database "{database}" set default_transaction_read_only = on')
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])
        kit.given("comment.counted", user_id=1, count=2)
        assert "read-only" in kit.then_blocked("database").message
        assert kit.rejections() == []
        with server.connect("postgres") as admin:
            admin.execute(f'alter database "{database}" reset default_transaction_read_only')
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])
        kit.run()
        assert kit.rows("comment_counts") == [{"user_id": "1", "count": 2}]
