"""Results as tables: rich for a terminal, markdown for a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from .compare import Comparison
from .failover import GOALS_S, Failovers
from .flat import Flatness
from .latency import Latencies
from .outage import Outage
from .peer import COMPARED, ECHO, ONCE, OURS, STOCK
from .recovery import Rebuilds
from .storm import Storm


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


def recovery_sheet(rebuilds: Rebuilds) -> Sheet:
    """A row per number of changelog records."""
    rows = []
    for records in rebuilds.sizes:
        cells = [f"{records:,}"]
        for peer in (OURS.name, STOCK.name):
            cells.append(_shown(rebuilds.median_of(peer, records), ".2f"))
            cells.append(_shown(rebuilds.rate_per_s(peer, records), ",.0f"))
            cells.append(_shown(rebuilds.rate_per_s(peer, records, "cpu_s"), ",.0f"))
        rows.append((*cells, _shown(rebuilds.ratio(records), ".0f")))
    title = (
        f"Start on an empty disk until ready, {rebuilds.partitions} partitions, one process, median of "
        f"{rebuilds.rounds}; rates beyond the start without any record"
    )
    columns = (
        "changelog records",
        "ours s",
        "records/s",
        "per CPU s",
        "Faust s",
        "records/s",
        "per CPU s",
        "ours ÷ it",
    )
    return Sheet(title, columns, rows)


def failover_sheet(failovers: Failovers) -> Sheet:
    """A row per way in which partitions changed hands."""
    rows = []
    for how in dict.fromkeys(one.how for one in failovers.handovers):
        fence, p50, p95, longest = (
            f"{failovers.percentile(how, share, measure):.1f}"
            for share, measure in ((0.5, "fence_s"), (0.5, "output_s"), (0.95, "output_s"), (1.0, "output_s"))
        )
        trials = failovers.of(how)
        largest = max(one.rows for one in trials)
        rows.append((how, str(len(trials)), fence, p50, p95, longest, f"{GOALS_S[how]:.0f}", f"{largest:,}"))
    title = (
        f"Seconds until every partition of the worker has a new output; {failovers.partitions} partitions, "
        f"two workers, {failovers.rate:,.0f} events/s, session timeout {failovers.session_timeout_s:g} s, "
        f"{failovers.guarantee}"
    )
    return Sheet(title, ("", "trials", "fence p50", "p50", "p95", "max", "goal", "rows a partition"), rows)


def storm_sheet(storm: Storm) -> Sheet:
    """One row."""
    title = (
        f"A worker joins or leaves every {storm.every_s:g} s for {storm.seconds:g} s at {storm.rate:,.0f} events/s, "
        f"{storm.partitions} partitions, {storm.guarantee}"
    )
    columns = ("changes", "partitions that stood still", "least advance", "events/s", "lag at the end", "lag 0 after s")
    row = (
        str(len(storm.intervals)),
        str(storm.stood_still),
        f"{storm.least_advance:,}",
        f"{storm.events_per_s:,.0f}",
        f"{storm.lag:,}",
        f"{storm.lag_zero_s:.1f}",
    )
    return Sheet(title, columns, [row])


def outage_sheet(outage: Outage) -> Sheet:
    """One row."""
    title = f"The only broker away for {outage.seconds:g} s, {outage.partitions} partitions, {outage.guarantee}"
    columns = ("lag at its return", "commits move after s", "lag falls after s", "lag 0 after s", "events after it")
    row = (
        f"{outage.lag:,}",
        f"{outage.moves_s:.1f}",
        f"{outage.falls_s:.1f}",
        f"{outage.lag_zero_s:.1f}",
        f"{outage.written_after:,}",
    )
    return Sheet(title, columns, [row])


def _shown(number: float | None, how: str) -> str:
    return "-" if number is None else format(number, how)
