"""The tables of the SQL read model, as far as a row must fit them before it is written."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from pipeline.core.effects import Upsert

SHAPES_MAX = 1000


class Columns(NamedTuple):
    """The columns of one table by name. needed: those that the database doesn't fill in by itself."""

    all: frozenset[str]
    key: frozenset[str]
    needed: frozenset[str]


def shape_of(upsert: Upsert) -> tuple[object, ...]:
    """Equal for rows that one statement writes: table, columns, and what `greatest` names."""
    table, values, greatest = upsert
    return table, greatest, *values


class Tables:
    """Which rows fit. A handler makes few shapes of rows (table and columns), so each is judged once."""

    def __init__(self, columns: Mapping[str, Columns] | None = None) -> None:
        self._columns = dict(columns or {})
        self._fitting: set[tuple[object, ...]] = set()

    def fitted(self, upsert: Upsert) -> Upsert:
        """`upsert`, with a dict of its own when its values are another mapping. TypeError when it doesn't fit."""
        table, values, greatest = upsert
        if type(values) is not dict or type(greatest) is not tuple:
            upsert = Upsert(table, dict(values), tuple(greatest))
            table, values, greatest = upsert
        shape = shape_of(upsert)
        if shape not in self._fitting:
            self._require(upsert)
            if len(self._fitting) >= SHAPES_MAX:
                self._fitting.clear()
            self._fitting.add(shape)
        for value in values.values():
            if (type(value) is float or type(value) is Decimal) and value != value:  # noqa: PLR0124 - NaN alone
                raise TypeError(f"a row for {table} has NaN, which databases treat differently: write None")
        return upsert

    def _require(self, upsert: Upsert) -> None:
        table, values, greatest = Upsert(*upsert)
        columns = self._columns.get(table)
        if columns is None:
            raise TypeError(f"the application declares no SQL table {table!r}: add it to its read model")
        given = frozenset(values)
        if not columns.key:
            raise TypeError(f"table {table} has no primary key, so a row can't be upserted: declare one")
        if unknown := given - columns.all:
            raise TypeError(f"table {table} has no column {_named(unknown)}: it has {_named(columns.all)}")
        if missing := (columns.key | columns.needed) - given:
            raise TypeError(f"a row for {table} needs a value for {_named(missing)}")
        if odd := frozenset(greatest) - (given - columns.key):
            raise TypeError(f"greatest names {_named(odd)}, but takes columns of the row beside its primary key")


def _named(columns: frozenset[str]) -> str:
    return ", ".join(sorted(map(repr, columns)))
