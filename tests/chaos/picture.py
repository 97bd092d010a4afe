"""The run as one picture: events a second, lag, and a numbered mark for each fault, over time. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import floor, log10

from tests.chaos.outcome import Fired
from tests.chaos.watch import Sample

WIDTH, LEFT, RIGHT = 1080, 70, 16
PANEL, GAP, TOP, BOTTOM = 150, 34, 57, 30
HEIGHT = TOP + 2 * PANEL + GAP + BOTTOM
TICKS = 4
ROWS = 3
"""Of the numbers of faults, so that those close together can be read."""
LABEL = "events a second and lag over time, with the faults"
SECONDS_A_TICK = (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
HOLE_S = 5.0
"""Samples further apart than this aren't joined: the broker was away."""
Point = tuple[float, float]


def picture(samples: Sequence[Sample], faults: Sequence[Fired]) -> str:
    """The SVG element."""
    end_s = max([1.0, *(s.at_s for s in samples), *(f.at_s for f in faults)])
    rates = [(b.at_s, max(b.done - a.done, 0) / (b.at_s - a.at_s)) for a, b in pairwise(samples) if b.at_s > a.at_s]
    lags = [(s.at_s, float(s.lag)) for s in samples]
    second = TOP + PANEL + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{LABEL}">',
        _times(end_s),
        *(_mark(fired, end_s) for fired in faults),
        _panel("events/s committed", "rate", _smooth(rates), TOP, end_s),
        _panel("lag, records", "lag", lags, second, end_s),
        "</svg>",
    ]
    return "\n".join(parts)


def kind_of(fired: Fired) -> str:
    """The colour group of a fault."""
    match fired.fault.kind:
        case "crash" | "kill" | "wipe":
            return "kill"
        case "freeze" | "freeze-at":
            return "freeze"
        case "broker":
            return "broker"
    return "calm"


def _smooth(points: list[Point], width: int = 4) -> list[Point]:
    """The mean of each with its neighbours: offsets are committed once a second."""
    return [
        (at_s, sum(value for _, value in near) / len(near))
        for index, (at_s, _) in enumerate(points)
        if (near := points[max(0, index - width) : index + width + 1])
    ]


def _x(at_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at_s / end_s


def _panel(title: str, name: str, points: Sequence[Point], top: float, end_s: float) -> str:
    highest = TICKS * _step(max([1.0, *(value for _, value in points)]) / TICKS)
    lines = [f'<text class="title" x="{LEFT}" y="{top - 6}">{escape(title)}</text>']
    for tick in range(TICKS + 1):
        y, value = top + PANEL * (1 - tick / TICKS), _short(highest * tick / TICKS)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    for piece in _pieces(points):
        drawn = " ".join(f"{_x(at_s, end_s):.1f},{top + PANEL * (1 - value / highest):.1f}" for at_s, value in piece)
        lines.append(f'<polyline class="{name}" points="{drawn}"/>')
    return "\n".join(lines)


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    pieces: list[list[Point]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= HOLE_S:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def _times(end_s: float) -> str:
    step = next((step for step in SECONDS_A_TICK if end_s / step <= 12), SECONDS_A_TICK[-1])
    y = HEIGHT - 10
    return "\n".join(
        f'<text class="axis" x="{_x(at, end_s):.1f}" y="{y}" text-anchor="middle">{at} s</text>'
        for at in range(0, int(end_s) + 1, step)
    )


def _mark(fired: Fired, end_s: float) -> str:
    x, number = _x(fired.at_s, end_s), fired.fault.number
    y = 14 + 11 * (number % ROWS)
    return (
        f'<g class="mark {kind_of(fired)}"><title>{number} {escape(fired.fault.name)} at {fired.at_s:.1f} s: '
        f'{escape(fired.said)}</title><line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 2}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{number}</text></g>'
    )


def _step(least: float) -> float:
    """The smallest round number that isn't below `least`."""
    power = 10.0 ** floor(log10(least))
    return next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= least)


def _short(value: float) -> str:
    return f"{value / 1000:,g}k" if value >= 10_000 else f"{value:,g}"
