"""The report as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.chaos.picture import kind_of, picture

REPEATED = "The schedule and the input are the same again; how processes interleave is not."
STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(outcome: Outcome) -> str:
    """The whole document."""
    options = outcome.options
    verdict = '<span class="right">right</span>' if outcome.ok else '<span class="wrong">wrong</span>'
    setting = (
        f"{options.events:,} events, {options.brokers} broker{'s' if options.brokers > 1 else ''} of Apache Kafka, "
        f"{options.guarantee}, seed {options.seed}, {outcome.took_s:.0f} s"
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Chaos run, seed {options.seed}</title><style>{STYLE}</style></head><body>",
        f"<h1>Chaos run: {verdict}</h1><p>{escape(setting)}.</p><p>{escape(outcome.bound)}</p>",
        f"<p>To repeat it: <code>{escape(options.command)}</code>. {REPEATED}</p>",
        f"<h2>What went wrong</h2><pre>{escape(outcome.failure)}</pre>" if outcome.failure else "",
        f'<h2>Over time</h2><div class="scroll">{picture(outcome.samples, outcome.fired)}</div>',
        "<h2>Faults</h2>",
        _faults(outcome),
        "<h2>Named points</h2>",
        _table(("point", "SIGKILLs"), outcome.points().items()),
        "<h2>The oracle</h2>",
        _oracle(outcome),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _faults(outcome: Outcome) -> str:
    rows = []
    for one in outcome.fired:
        cells = (
            f"{one.at_s:.1f}",
            f"{one.took_s:.1f}",
            f"{one.fed:,}",
            f"{one.standing.done:,}",
            f"{one.standing.lag:,}",
        )
        rows.append(
            f'<tr><td class="n">{one.fault.number}</td><td class="{kind_of(one)}">{escape(one.fault.name)}</td>'
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + f"<td>{escape(one.said)}</td></tr>"
        )
    head = "".join(f'<th class="n">{name}</th>' for name in ("at, s", "took, s", "written", "committed", "lag"))
    missed = outcome.plan[len(outcome.fired) :]
    rest = "".join(f'<p class="wrong">Not fired: {escape(str(fault))}</p>' for fault in missed)
    return (
        f'<div class="scroll"><table><tr><th class="n">#</th><th>fault</th>{head}<th>what happened</th></tr>'
        f"{''.join(rows)}</table></div>{rest}"
    )


def _oracle(outcome: Outcome) -> str:
    report = outcome.report
    if report is None:
        return '<p class="wrong">The run didn\'t get as far as a judgement.</p>'
    lag = f"<p>Lag 0 within {outcome.lag_zero_s} s of the end of the input.</p>"
    different = "".join(f'<p class="wrong">{escape(str(difference))}</p>' for difference in report.differences)
    counts = _table(("different", "how often"), report.counts.items()) if report.counts else ""
    return lag + counts + different + _table(("figure", "number"), report.figures.items())


def _table(head: Sequence[str], rows: Iterable[tuple[str, int]]) -> str:
    body = "".join(f'<tr><td>{escape(name)}</td><td class="n">{number:,}</td></tr>' for name, number in rows)
    return f'<table><tr><th>{head[0]}</th><th class="n">{head[1]}</th></tr>{body}</table>'
