"""Results as tables: rich for a terminal, markdown for a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from .compare import Comparison
from .flat import Flatness
from .latency import Latencies
from .peer import COMPARED, ECHO, ONCE, OURS


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as text: the first column is a name, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a document."""
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        return "\n".join([f"{self.title}\n", *(f"| {' | '.join(cells)} |" for cells in lines)]) + "\n"


def comparison_sheet(comparison: Comparison) -> Sheet:
    """A row per peer, medians over the rounds."""
    rows = []
    for peer in comparison.peers:
        ratio = comparison.ratio(peer)
        rows.append(
            (
                COMPARED[peer].title,
                f"{comparison.median_of(peer, 'rate_per_s'):,.0f}",
                f"{ratio:.2f}" if ratio else "-",
                f"{comparison.median_of(peer, 'rate_from_start_per_s'):,.0f}",
                f"{comparison.median_of(peer, 'cpu_s_per_100k'):.2f}",
                f"{comparison.median_of(peer, 'rss_peak_mib'):,.0f}",
            )
        )
    title = (
        f"{comparison.events:,} events, {comparison.applied:,} to apply (stock Faust: {comparison.stock_events:,}), "
        f"{comparison.partitions} partitions, one process, median of {comparison.rounds}"
    )
    columns = ("peer", "events/s", "ours ÷ peer", "from start", "CPU s/100k", "RSS MiB")
    return Sheet(title, columns, rows)


def flatness_sheet(flatness: Flatness) -> Sheet:
    """A row per number of ids."""
    title = f"{flatness.existing:,} ids in all, then {flatness.measured:,} events, median of {flatness.rounds}"
    rows = [
        (
            f"{cost.ids:,} to {cost.ids_after:,}",
            f"{cost.cpu_us:.1f}",
            f"{cost.wall_us:.1f}",
            f"{flatness.ratio(cost):.2f}",
        )
        for cost in flatness.costs
    ]
    return Sheet(title, ("ids of an event's user", "CPU µs an event", "µs an event", "CPU ÷ first row"), rows)


def latency_sheet(latencies: Latencies) -> Sheet:
    """A row each for the echo and for ours with each guarantee."""
    rows = []
    for peer in (ECHO, OURS, ONCE):
        p50, p99, longest = (f"{latencies.median_of(peer.name, m):.1f}" for m in ("p50_ms", "p99_ms", "max_ms"))
        rows.append((peer.title, p50, p99, longest, f"{latencies.ratio(peer.name):.1f}"))
    title = (
        f"End to end at {latencies.rate_per_s:,.0f} events/s for {latencies.seconds:g} s, median of {latencies.rounds}"
    )
    return Sheet(title, ("peer", "p50 ms", "p99 ms", "max ms", "p99 ÷ echo"), rows)
