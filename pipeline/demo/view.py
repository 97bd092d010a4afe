"""What a person sees: live on a terminal, plain lines in a pipe, JSON lines with --json."""

import json
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from pipeline.demo.verdict import Row
from pipeline.demo.watch import Standing

LINE_EVERY_S = 2.0


class View:
    """Plain lines: the story as it happens, and a line of numbers every two seconds."""

    def __init__(self, total: int) -> None:
        self.total, self._began_at, self._line_at = total, time.monotonic(), 0.0

    def at_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_at

    def note(self, kind: str, text: str) -> None:
        """Something happened. kind: one word for what."""
        print(f"{self.at_s():5.1f} s  {kind:<8}  {text}", flush=True)

    def progress(self, fed: int, standing: Standing) -> None:
        """The numbers now; most of them pass unprinted."""
        now = time.monotonic()
        if now - self._line_at < LINE_EVERY_S:
            return
        self._line_at = now
        lags = " ".join(str(partition.lag) for partition in standing.partitions)
        parts = [
            f"fed {fed:,} of {self.total:,}", f"done {standing.done:,}", f"{standing.per_s:,.0f}/s",
            f"lag {standing.lag:,} ({lags})", f"outputs' lag {standing.outputs_lag:,}",
            f"errors {standing.errors.total()}", *standing.blocked,
        ]  # fmt: skip
        self.note("running", "  ".join(parts))

    def verdict(self, rows: Sequence[Row]) -> None:
        """The table at the end, and the one sentence that it comes to."""
        wide = max(len(row.name) for row in rows)
        print(f"\n{'':<{wide}}  {'must be':>9}  {'found':>9}")
        for row in rows:
            tail = f"WRONG: {row.trouble}" if row.trouble else f"ok  {row.note}"
            print(f"{row.name:<{wide}}  {row.wanted:>9,}  {row.found:>9,}  {tail}")
        print(f"\n{sentence(rows)}", flush=True)

    def text(self, text: str) -> None:
        """Lines to be copied, as they are."""
        print(text, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No progress comes any more."""


class JsonView(View):
    """One JSON object a line; `what` is note, progress, verdict or text."""

    def note(self, kind: str, text: str) -> None:
        self._say("note", kind=kind, text=text)

    def progress(self, fed: int, standing: Standing) -> None:
        now = time.monotonic()
        if now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            partitions = [partition._asdict() for partition in standing.partitions]
            self._say("progress", fed=fed, total=self.total, partitions=partitions, errors=standing.errors)

    def verdict(self, rows: Sequence[Row]) -> None:
        table = [row._asdict() | {"ok": not row.trouble} for row in rows]
        self._say("verdict", ok=adds_up(rows), rows=table, text=sentence(rows))

    def text(self, text: str) -> None:
        self._say("text", text=text)

    def _say(self, what: str, **about: object) -> None:
        print(json.dumps({"at_s": round(self.at_s(), 2), "what": what, **about}, ensure_ascii=False), flush=True)


def adds_up(rows: Sequence[Row]) -> bool:
    """Whether no row has trouble."""
    return not any(row.trouble for row in rows)


def sentence(rows: Sequence[Row]) -> str:
    """The verdict in words."""
    if adds_up(rows):
        return "It adds up: nothing lost, nothing counted twice, order kept."
    return "It does NOT add up: " + "; ".join(f"{row.name.lstrip('· ')}: {row.trouble}" for row in rows if row.trouble)


def view_for(total: int, as_json: bool) -> View:
    """The one that fits where the output goes."""
    if as_json:
        return JsonView(total)
    if sys.stdout.isatty():
        from pipeline.demo.screen import Screen

        return Screen(total)
    return View(total)
