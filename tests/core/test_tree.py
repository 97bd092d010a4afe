"""The tree itself: short files, one Faust-free core, names that are allowed at the top."""

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 500
SOURCES = (
    "*.py",
    "*.go",
    "*.toml",
    "*.yml",
    "*.yaml",
    "Makefile",
    "Dockerfile",
    ".ci/*",
    "*.json",
    "docs/*.md",
    "README.md",
)
TOP_LEVEL = {
    "pyproject.toml", "pipeline", "agents", "tables", "tests", "docker-compose.yml", "README.md", "Makefile",
    "Dockerfile", "requirements.lock", "LICENSE", "CHANGELOG.md", "SECURITY.md", "docs", "deploy",
}  # fmt: skip
VAGUE = {"utils", "util", "common", "base", "helpers", "helper", "manager", "misc"}


def tracked(*patterns: str) -> list[Path]:
    """Files under version control, and those that are new and not ignored; without git, whatever is there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked source distribution
        folders = ("pipeline", "agents", "tables", "tests")
        return [path for folder in folders for path in ROOT.joinpath(folder).rglob("*.py")]
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def lines_of(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def too_long(paths: list[Path]) -> dict[str, int]:
    return {str(path.name): lines for path in paths if (lines := lines_of(path)) > LINES_MAX}


def test_no_file_is_longer_than_500_lines() -> None:
    files = tracked(*SOURCES)
    assert len(files) > 100
    assert too_long(files) == {}


def test_a_file_of_501_lines_is_found(tmp_path: Path) -> None:
    for lines in (LINES_MAX, LINES_MAX + 1):
        (tmp_path / f"{lines}.py").write_text("x = 1\n" * lines)
    assert too_long(sorted(tmp_path.iterdir())) == {"501.py": 501}


def test_files_are_short_two_folders_deep_and_named_after_one_thing() -> None:
    files = tracked("pipeline/*.py", "agents/*.py", "tables/*.py")
    sizes = sorted(lines for path in files if (lines := lines_of(path)) > 5)
    assert sizes[len(sizes) // 2] <= 110, "the median file has about a hundred lines"
    places = [path.relative_to(ROOT) for path in files]
    assert [str(place) for place in places if len(place.parts) > 3] == []
    assert [str(place) for place in places if place.stem in VAGUE or place.parent.name in VAGUE] == []


def test_nothing_else_stands_at_the_top() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked(".")}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("package", ["agents", "tables", "pipeline"])
def test_imports_point_one_way(package: str) -> None:
    """agents → tables → pipeline. The linter checks the whole of it; this holds without the linter, too."""
    above = {"agents": set(), "tables": {"agents"}, "pipeline": {"agents", "tables"}}[package]
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in tracked(f"{package}/*.py")
        for name in imported(path)
        if name.split(".")[0] in above | {"tests"}
    ]
    assert found == []


def test_the_linter_that_checks_imports_is_part_of_make_check() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {contract["type"] for contract in contracts} == {"layers", "forbidden", "independence"}
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "lint-imports" in check


def test_continuous_integration_runs_the_fast_tests_which_make_check_leaves_to_make_test() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("a source distribution has no .ci")
    steps = [line for line in script.read_text().splitlines() if line.startswith("step ")]
    assert any(" make test" in line for line in steps)
    assert any(" make check" in line for line in steps)


def imported(path: Path) -> list[str]:
    """The modules that a file imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.append(node.module or "")
    return names
