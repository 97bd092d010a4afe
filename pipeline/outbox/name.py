"""The name of an outbox table, checked, since it becomes part of SQL."""

import re
from typing import NamedTuple, Self

from pipeline.core.errors import Misconfigured

_PART = re.compile(r"[a-z_][a-z0-9_]{0,47}")  # with the longest suffix of an index still within PostgreSQL's 63


class TableName(NamedTuple):
    """`table`, or in PostgreSQL `schema.table`."""

    schema: str
    table: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Misconfigured."""
        schema, _, table = text.rpartition(".")
        if not all(_PART.fullmatch(part) for part in (table, schema or "public")):
            raise Misconfigured(
                f"HARDPARTS_OUTBOX_TABLE: {text!r} is no table's name: small letters, digits and _, at most 48, "
                "after a schema and a dot if need be"
            )
        return cls(schema, table)

    @property
    def quoted(self) -> str:
        """As SQL has it; also where the name is one of SQL's words."""
        return f'"{self.schema}"."{self.table}"' if self.schema else f'"{self.table}"'

    def index_of(self, what: str) -> str:
        """The name of one of its indexes, quoted."""
        return f'"{self.table}_{what}"'
