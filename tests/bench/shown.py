"""How a benchmark's result is shown: a table, JSON, markdown in a file."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from .report import Sheet

SHOWN = (
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
    click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table to a file."),
)


def surroundings() -> dict[str, Any]:
    """Machine and versions."""
    packages = ("faust-streaming", "aiokafka", "rocksdict", "quixstreams")
    installed = {distribution.name: distribution.version for distribution in distributions()}
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: installed.get(name) for name in packages},
    }


def show(sheet: Sheet, document: dict[str, Any], common: dict[str, Any]) -> None:
    """As a table, or as JSON with the surroundings."""
    if common["as_json"]:
        option = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
        click.echo(orjson.dumps({**surroundings(), **document}, option=option))
    else:
        Console().print(sheet.rich())
    if common["markdown"]:
        common["markdown"].write_text(sheet.markdown(), encoding="utf-8")
