"""An application that writes: several threads, transactions that serialise on a key, some of them rolled back."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, field
from uuid import NAMESPACE_OID, uuid5

from tests.outbox.databases import TABLE, Database

KEYS = 40
ROWS_MAX = 8
TOPICS = ("orders", "invoices")


@dataclass
class Writers:
    """`rows` rows by so many threads, in parts: a part is begun when `go_on` has been called for the one before."""

    database: Database
    threads: int
    rows: int
    parts: int
    _part: int = 1
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _running: list[threading.Thread] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def start(self) -> None:
        connection = self.database.connect()
        for number in range(KEYS):
            connection.execute(f"INSERT INTO counters VALUES ('{number}', 0)")
        connection.close()
        for number in range(self.threads):
            thread = threading.Thread(target=self._guarded, args=(number,), daemon=True)
            self._running.append(thread)
            thread.start()

    def join(self) -> None:
        for thread in self._running:
            thread.join()
        assert not self.failures, self.failures

    def go_on(self) -> None:
        """The next part may be written."""
        with self._changed:
            self._part += 1
            self._changed.notify_all()

    def _guarded(self, number: int) -> None:
        try:
            self._write(random.Random(number))
        except BaseException as error:
            self.failures.append(error)
            raise

    def _write(self, chance: random.Random) -> None:
        database, mark = self.database, self.database.mark
        connection = database.connect()
        left = share = self.rows // self.threads
        while left:
            with self._changed:
                self._changed.wait_for(lambda: share - left < share * self._part // self.parts)  # noqa: B023
            key, rows = str(chance.randrange(KEYS)), min(left, chance.randint(1, ROWS_MAX))
            ghost = chance.random() < 0.1
            connection.execute(database.begin)
            update = f"UPDATE counters SET n = n + {rows} WHERE key = {mark} RETURNING n"  # locks the key's row
            end = connection.execute(update, (key,)).fetchone()[0]
            for number in range(end - rows, end):
                value = {"msg_id": str(uuid5(NAMESPACE_OID, f"{key}/{number}")), "n": number, "ghost": ghost}
                connection.execute(
                    f"INSERT INTO {TABLE} (topic, key, value) VALUES ({mark}, {mark}, {mark})",
                    (topic_of(key), key, json.dumps(value)),
                )
            connection.execute("ROLLBACK" if ghost else "COMMIT")
            left -= 0 if ghost else rows
        connection.close()


def topic_of(key: str) -> str:
    """A key's rows are all of one topic."""
    return TOPICS[int(key) % len(TOPICS)]
