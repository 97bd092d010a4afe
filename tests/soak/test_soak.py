"""The runs that `make soak` lists can be run, a red one is red, and a green one adds its row and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.kafka import sizes
from tests.kafka.jars import REPOSITORY
from tests.soak import __main__ as command
from tests.soak import execute as executing
from tests.soak.parts import Chaos, FileOfTests, GatewayLoad, NothingFoundError
from tests.soak.rows import DOCUMENT, HEAD, HEADING, row, with_rows
from tests.soak.runs import RUNS, Run

PASSES = 'def test_it(record_property):\n    record_property("soak", "7 of 7")\n'


def test_without_a_name_every_run_is_listed_with_what_it_proves_its_size_and_its_time() -> None:
    shown = " ".join(CliRunner().invoke(command.main).output.split())
    for name, run in RUNS.items():
        assert f"{name} {run.proves} (" in shown
        assert f"about {run.minutes} min, --short {run.short_s} s)" in shown
    assert "1,000,000 events" in shown


def test_an_unknown_name_ends_with_status_2() -> None:
    ended = CliRunner().invoke(command.main, ["no-such-run"])
    assert ended.exit_code == 2
    assert "no-such-run" in ended.output


def test_what_the_runs_are_made_of_is_there_and_reads_the_sizes() -> None:
    tests = [part for run in RUNS.values() for part in run.parts if isinstance(part, FileOfTests)]
    assert tests
    for part in tests:
        text = (REPOSITORY / part.path).read_text()
        assert re.search(r'record_property\(\s*"soak"', text)
        for size in part.sizes:
            assert size.given_by.startswith("HARDPARTS_TEST_")
            assert size.short < size.full


def test_every_size_belongs_to_a_run() -> None:
    used = {size for run in RUNS.values() for part in run.parts for size in part.sizes}
    assert {size for size in vars(sizes).values() if isinstance(size, sizes.Size)} == used


# ---------------------------------------------------------------------- the table of rows


def table(after: str = "") -> str:
    return f"# Measurements\n\n{HEADING}\n\nText.\n\n{row(*HEAD)}\n|---|\n{after}\n## Next\n\n| another | table |\n"


def test_a_row_comes_after_those_that_are_there() -> None:
    once = with_rows(table(), ["| 1 |"])
    assert once == table("| 1 |\n")
    assert with_rows(once, ["| 2 |", "| 3 |"]) == table("| 1 |\n| 2 |\n| 3 |\n")


@pytest.mark.parametrize("text", ["# Measurements\n", table().replace("| date", "| day"), f"\n{HEADING}\n\nText.\n"])
def test_a_document_without_the_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no table"):
        with_rows(text, ["| 1 |"])


def test_the_measurements_have_the_table() -> None:
    assert "| x |" in with_rows(DOCUMENT.read_text(), ["| x |"])


# ---------------------------------------------------------------------- a run


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a test file with this text in the place of a run."""
    document = tmp_path / "measurements.md"
    document.write_text(table())
    monkeypatch.setattr(command, "DOCUMENT", document)
    monkeypatch.setattr(command, "add", lambda rows: document.write_text(with_rows(document.read_text(), rows)))
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    monkeypatch.setattr(command, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(command, "java", lambda: "java")
    monkeypatch.setattr(command, "jars", lambda: tmp_path)
    monkeypatch.setattr(executing, "kafka_version", lambda: "9.9.9")

    def make(text: str):
        path = tmp_path / "test_tiny.py"
        path.write_text(text)
        monkeypatch.setitem(RUNS, "kill", Run("nothing", 1, 1, [FileOfTests((sizes.EVENTS,), str(path))]))
        return lambda *arguments: (CliRunner().invoke(command.main, ["kill", *arguments]), document.read_text())

    return make


def test_a_right_run_adds_a_row_with_all_that_says_what_it_was(run_of) -> None:
    ended, text = run_of(f"import os\n\n{PASSES}    assert os.environ['HARDPARTS_TEST_EVENTS'] == '200000'\n")(
        "--seed", "5"
    )
    assert ended.exit_code == 0, ended.output
    cells = [cell.strip() for cell in text.splitlines()[8].strip("|").split("|")]
    found = dict(zip(HEAD, cells, strict=True))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    assert (found["run"], found["size"], found["seed"]) == ("kill", "200,000 events", "5")
    assert (found["found"], found["Kafka"]) == ("7 of 7", "9.9.9")
    assert re.fullmatch(r"\d+ cores, load [\d.]+ before, [\d.]+ to [\d.]+ during", found["machine"])


def test_a_short_run_is_smaller_and_writes_nothing(run_of) -> None:
    ended, text = run_of(f"import os\n\n{PASSES}    assert os.environ['HARDPARTS_TEST_EVENTS'] == '20000'\n")("--short")
    assert ended.exit_code == 0, ended.output
    assert "20,000 events" in ended.output
    assert text == table()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{PASSES}    assert False\n", "exit status 1"),
        (f'{PASSES}    __import__("pytest").skip("no broker")\n', "was skipped: no broker"),
        ("def test_it():\n    pass\n", "recorded no figures"),
    ],
    ids=["fails", "is skipped", "says nothing"],
)
def test_a_run_that_is_not_right_is_named_and_writes_nothing(run_of, text: str, says: str) -> None:
    ended, document = run_of(text)()
    assert ended.exit_code == 1
    assert says in ended.output
    assert document == table()


# ---------------------------------------------------------------------- figures of programs


def test_a_chaos_report_that_is_not_right_is_none(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"ok": False, "oracle": None}))
    with pytest.raises(NothingFoundError):
        list(Chaos((), "at_least_once").found(tmp_path))


def test_a_gateway_that_lost_events_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_text(json.dumps({"lost": 1, "disordered": 0, "accepted": 9}))
    with pytest.raises(NothingFoundError, match="lost 1"):
        list(GatewayLoad(()).found(tmp_path))
