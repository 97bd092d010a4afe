"""A schema that was changed before the code: the partition waits, nothing is lost, and it goes on when the schema fits.

On a real PostgreSQL and on SQLite. A constraint that refuses one row while others pass is that row's record's fault.
"""

import sqlite3

import pytest
from sqlalchemy import BigInteger, Column, MetaData, SmallInteger, String, Table, event

from agents.read_model import read_model
from pipeline.core.effects import Upsert
from pipeline.runtime.database import Database, UpsertsRejected
from pipeline.runtime.refusals import REFUSALS_MAX
from pipeline.testing import Kit
from tests.behaviour.postgres import Postgres
from tests.behaviour.small_agent import small_agent

POSTGRES = pytest.mark.postgres


@pytest.fixture(scope="module")
def server():
    with Postgres() as server:
        yield server


class Place:
    """A read model's database: `alter` changes its schema, as somebody else would."""

    def __init__(self, url: str, alter) -> None:
        self.url, self.alter = url, alter

    def kit(self) -> Kit:
        return Kit(read_model, attempts_max=1, database_url=self.url)


@pytest.fixture
def postgres(server):
    name = server.database()

    def alter(*statements: str) -> None:
        with server.connect(name) as connection:
            for statement in statements:
                connection.execute(statement)

    return Place(server.url(name), alter)


@pytest.fixture
def sqlite(tmp_path):
    path = tmp_path / "read-model.sqlite3"

    def alter(*statements: str) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return Place(f"sqlite:///{path}", alter)


@pytest.fixture(params=[pytest.param("postgres", marks=POSTGRES), "sqlite"])
def place(request):
    return request.getfixturevalue(request.param)


def counts(kit: Kit, users, count: int = 1) -> None:
    for user in users:
        kit.given("comment.counted", user_id=user, count=count)


def stored(kit: Kit) -> list[int]:
    kit.run()  # a blocked partition is tried again
    return sorted(int(row["user_id"]) for row in kit.rows("comment_counts"))


def made_and_used(kit: Kit, *, used: bool) -> None:
    """The tables are there; whether this worker has written a row before the change."""
    if used:
        counts(kit, [1000])
    else:
        kit.worker.database.check()
    kit.run()


COLUMNS = "user_id varchar(64) primary key, count bigint not null"
NEW_COLUMN = 'alter table comment_counts add column "rank" bigint'
CHANGES = {
    "not null on a column that isn't written": (
        [NEW_COLUMN, "update comment_counts set rank = 0", "alter table comment_counts alter column rank set not null"],
        ["alter table comment_counts alter column rank drop not null"],
    ),
    "a check of a column that isn't written": (
        [NEW_COLUMN, "alter table comment_counts add constraint ranked check (rank is not null) not valid"],
        ["alter table comment_counts drop constraint ranked"],
    ),
    "a check that no row fulfils": (
        ["alter table comment_counts add constraint big check (count > 1000000) not valid"],
        ["alter table comment_counts drop constraint big"],
    ),
    "a text column made shorter than any value": (
        ["delete from comment_counts", "alter table comment_counts alter column user_id type varchar(1)"],
        ["alter table comment_counts alter column user_id type varchar(64)"],
    ),
    "a foreign key to an empty table": (
        ["delete from comment_counts", "create table users (id varchar primary key)",
         "alter table comment_counts add constraint known foreign key (user_id) references users (id)"],
        ["alter table comment_counts drop constraint known"],
    ),
    "a trigger that raises": (
        ["create function no() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$",
         "create trigger t before insert on comment_counts for each row execute function no()"],
        ["drop trigger t on comment_counts"],
    ),
    "a column renamed": (
        ["alter table comment_counts rename column count to total"],
        ["alter table comment_counts rename column total to count"],
    ),
    "a column dropped": (
        ["alter table comment_counts drop column count"],
        ["delete from comment_counts", "alter table comment_counts add column count bigint not null"],
    ),
    "a column of another type": (
        ["alter table comment_counts alter column count type boolean using true"],
        ["alter table comment_counts alter column count type bigint using 0"],
    ),
    "a column that is generated": (
        ["alter table comment_counts drop column count",
         "alter table comment_counts add column count bigint generated always as (1) stored"],
        ["delete from comment_counts", "alter table comment_counts drop column count",
         "alter table comment_counts add column count bigint not null"],
    ),
    "the table renamed": (
        ["alter table comment_counts rename to old"],
        ["alter table old rename to comment_counts"],
    ),
    "no partition": (
        ["drop table comment_counts",
         f"create table comment_counts ({COLUMNS}) partition by list (user_id)"],
        ["create table all_of_it partition of comment_counts default"],
    ),
}  # fmt: skip


@POSTGRES
@pytest.mark.parametrize("used", [False, True], ids=["a fresh worker", "a worker that has written"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_schema_that_refuses_every_row_blocks_and_goes_on_whole(postgres, change, used):
    ahead, back = CHANGES[change]
    with postgres.kit() as kit:
        made_and_used(kit, used=used)
        begin = kit.worker.unit(0).positions["comment-counts"]
        postgres.alter(*ahead)
        counts(kit, range(10, 20))
        blocked = kit.then_blocked("database")
        assert blocked.record.offset == begin
        assert kit.rejections() == []
        assert [name for name in kit.worker.context.alerts.open if name.startswith("blocked:")]
        kit.run()  # still
        kit.then_blocked("database")
        postgres.alter(*back)
        assert set(range(10, 20)) <= set(stored(kit))
        assert kit.blocked() is None
        assert kit.worker.context.alerts.open == {}
        kit.then_nothing_else()


LITE = {
    "a check of a column that isn't written": ["rank bigint check (rank is not null)"],
    "not null on a column that isn't written": ["rank bigint not null"],
    "a column of another name": [],
    "a trigger that raises": [
        "count bigint not null",
        "create trigger t before insert on comment_counts begin select raise(abort, 'no'); end",
    ],
}


@pytest.mark.parametrize("change", LITE)
def test_sqlite_too(sqlite, change):
    table = "create table comment_counts (user_id varchar(64) primary key, {})"
    columns, trigger = [one for one in LITE[change] if "trigger" not in one], [*LITE[change][1:]]
    if columns != ["count bigint not null"]:
        columns = [*columns, "total bigint" if "name" in change else "count bigint not null"]
    sqlite.alter(table.format(", ".join(columns)), *trigger)
    with sqlite.kit() as kit:
        counts(kit, range(10))
        assert kit.then_blocked("database").record.offset == 0
        assert kit.rejections() == []
        sqlite.alter("drop table comment_counts", table.format("count bigint not null"))
        assert stored(kit) == list(range(10))
        kit.then_nothing_else()


@POSTGRES
def test_a_right_that_was_revoked(postgres, server):
    with postgres.kit() as kit:
        made_and_used(kit, used=False)
    postgres.alter("create role reader login", "grant usage on schema public to reader")
    url = postgres.url.replace("test@", "reader@")
    with Kit(read_model, attempts_max=1, database_url=url) as kit:
        counts(kit, range(10))
        assert "permission denied" in kit.then_blocked("database").message
        assert kit.rejections() == []
        postgres.alter("grant select, insert, update on comment_counts to reader")
        assert stored(kit) == list(range(10))
        kit.then_nothing_else()
    postgres.alter("drop owned by reader", "drop role reader")


def test_one_record_at_a_time_at_most_three_are_taken_for_bad_ones(place):
    with place.kit() as kit:
        made_and_used(kit, used=False)
        check = "check (count > 1000000)"
        columns = "user_id varchar(64) primary key, count bigint not null"
        place.alter("drop table comment_counts", f"create table comment_counts ({columns} {check})")
        for user in range(10):
            counts(kit, [user])
            kit.run()
        assert kit.then_blocked("database").record.offset == REFUSALS_MAX
        assert len(kit.rejections()) == REFUSALS_MAX
        place.alter("drop table comment_counts", f"create table comment_counts ({columns})")
        assert stored(kit) == list(range(REFUSALS_MAX, 10))
        for _ in range(REFUSALS_MAX):
            kit.then_rejected("DataRefused")
        kit.then_nothing_else()


def test_a_worker_that_has_written_such_rows_takes_none_for_a_bad_one(place):
    with place.kit() as kit:
        made_and_used(kit, used=True)
        columns = "user_id varchar(64) primary key, count bigint not null"
        place.alter("drop table comment_counts", f"create table comment_counts ({columns} check (count > 1000000))")
        counts(kit, [1])
        kit.then_blocked("database")
        assert kit.rejections() == []
        place.alter("drop table comment_counts", f"create table comment_counts ({columns})")
        assert stored(kit) == [1]


def test_a_row_refused_while_others_pass_is_its_records_fault(place):
    columns = "user_id varchar(64) primary key, count bigint not null check (count < 100)"
    with place.kit() as kit:
        place.alter(f"create table comment_counts ({columns})")
        for user in range(20):
            counts(kit, [user], count=200 if user % 2 else 1)
        assert stored(kit) == list(range(0, 20, 2))
        for offset in range(1, 20, 2):
            assert kit.then_rejected("DataRefused").hp["source-offset"] == str(offset)
        kit.then_nothing_else()


def test_a_good_row_in_between_starts_the_count_again(place):
    columns = "user_id varchar(64) primary key, count bigint not null check (count < 100)"
    with place.kit() as kit:
        place.alter(f"create table comment_counts ({columns})")
        for user in range(12):
            counts(kit, [user], count=1 if user % (REFUSALS_MAX + 1) == 0 else 200)
            kit.run()
        assert stored(kit) == [0, 4, 8]
        assert len(kit.rejections()) == 9


@POSTGRES
async def test_what_breaks_the_declared_table_is_never_the_databases_fault(postgres):
    metadata = MetaData()
    columns = Column("code", String(3), nullable=False), Column("size", SmallInteger, nullable=True)
    Table("parts", metadata, Column("id", BigInteger, primary_key=True, autoincrement=False), *columns)
    database = Database(postgres.url, metadata)
    for at in range(3 * REFUSALS_MAX):
        for values in ({"code": "long", "size": 1}, {"code": "x", "size": 40_000}, {"code": None, "size": 1}):
            with pytest.raises(UpsertsRejected) as refused:
                await database.write([Upsert("parts", {"id": at, **values})])
            assert refused.value.reasons[0].fault == "record"
    database.close()


@POSTGRES
@pytest.mark.parametrize("change", ["foreign key", "unique index", "partition", "trigger", "shorter"])
def test_a_changed_schema_that_refuses_some_rows_only(postgres, change):
    one_partition = (
        "drop table comment_counts",
        f"create table comment_counts ({COLUMNS}) partition by list (user_id)",
        "create table a_few partition of comment_counts for values in ('1', '3', '55555')",
    )
    body = "begin if new.user_id::int > 3 then raise exception 'no'; end if; return new; end"
    ahead = {
        "foreign key": (
            "create table users (id varchar primary key)", "insert into users values ('1'), ('3')",
            "alter table comment_counts add foreign key (user_id) references users (id)",
        ),
        "unique index": ("create unique index one on comment_counts (count)",),
        "partition": one_partition,
        "trigger": (
            f"create function no() returns trigger language plpgsql as $$ {body} $$",
            "create trigger t before insert on comment_counts for each row execute function no()",
        ),
        "shorter": ("alter table comment_counts alter column user_id type varchar(3)",),
    }  # fmt: skip
    with postgres.kit() as kit:
        made_and_used(kit, used=False)
        postgres.alter(*ahead[change])
        for user, count in ((1, 1), (4444, 1), (3, 3)):
            counts(kit, [user], count)
        assert stored(kit) == [1, 3]
        assert kit.then_rejected("DataRefused").hp["source-offset"] == "1"
        kit.then_nothing_else()


@POSTGRES
def test_records_in_front_of_the_refused_row_are_finished(postgres):
    def handler(event):
        if event.data["msg"] == "letter":
            row = {"msg_id": event.msg_id, "user_id": event.key, "to_user_id": "2", "msg": "x"}
            return [Upsert("messages", row)]
        return [Upsert("comment_counts", {"user_id": event.key, "count": 1}, ("count",))]

    with Kit(small_agent({"comment.created": handler}), attempts_max=1, database_url=postgres.url) as kit:
        kit.worker.database.check()
        postgres.alter("alter table messages rename to letters")
        for user in range(6):
            kit.given("comment.created", user_id=user, msg="letter" if user == 3 else "count")
        assert kit.then_blocked("database").record.offset == 3
        assert stored(kit) == [0, 1, 2]
        postgres.alter("alter table letters rename to messages")
        assert stored(kit) == [0, 1, 2, 4, 5]
        assert len(kit.rows("messages")) == 1
        kit.then_nothing_else()


def test_a_full_disk_blocks(sqlite):
    with sqlite.kit() as kit:
        made_and_used(kit, used=True)
        engine = kit.worker.database._engine
        full = [True]

        def limit(connection, _record) -> None:
            pages = connection.execute("pragma page_count").fetchone()[0]
            connection.execute(f"pragma max_page_count = {pages if full[0] else 100_000}")

        engine.dispose()
        event.listen(engine, "connect", limit)
        counts(kit, range(2000, 6000))
        assert "full" in kit.then_blocked("database").message
        assert kit.rejections() == []
        full[0] = False
        engine.dispose()
        assert len(stored(kit)) == 4001
        kit.then_nothing_else()
