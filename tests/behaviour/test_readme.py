"""The documents are true: the agents that they show run, what they name exists, and the reference is complete."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from prometheus_client import CollectorRegistry

from agents.app import app
from pipeline.cli import COMMANDS, main
from pipeline.client.metrics import ClientMetrics
from pipeline.gateway.metrics import GatewayMetrics
from pipeline.outbox.metrics import OutboxMetrics
from pipeline.runtime.load import load_app
from pipeline.runtime.metrics import Metrics
from pipeline.runtime.settings import Settings, read_settings
from pipeline.runtime.watch import WAITING_MAX_S
from tests.behaviour.commandline import CommandLine
from tests.behaviour.documents import (
    DOCUMENTS,
    ROOT,
    anchors,
    commands_named,
    files_shown,
    inline_code,
    lines_to_append,
    links,
    make_targets_named,
    table,
)

README, WRITING, REFERENCE = ROOT / "README.md", ROOT / "docs" / "writing-an-agent.md", ROOT / "docs" / "reference.md"
AGENT, CATALOGUE = "agents/login_counter.py", "agents/topics.py"
AGENT_LINES_MAX = 15
NOT_SETTINGS = {
    "HARDPARTS_SKIP_BROKER",
    "HARDPARTS_TEST_HOSTILE",
    "HARDPARTS_",
}
"""What a build and a test read; and the prefix, where `HARDPARTS_…` stands for all."""


@pytest.fixture
def scratch(tmp_path):
    """A copy of the application, with the agent, topic, contract and test that the README shows."""
    for name in ("agents", "tables"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path, files_shown(README))
    for path, lines in lines_to_append(README).items():
        target = tmp_path / path
        target.write_text(f"{target.read_text()}{lines}")
    register(tmp_path, "agents.login_counter")
    return tmp_path


def write(scratch: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        target = scratch / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def register(scratch: Path, module: str) -> None:
    """The one name that is added by hand: to `modules` of the application."""
    composition = scratch / "agents" / "app.py"
    before = composition.read_text()
    after = before.replace("modules=[", f'modules=["{module}", ', 1)
    assert after != before
    composition.write_text(after)


def run_pytest(scratch: Path, test: str) -> str:
    """The summary of pytest's run of one file in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(scratch), test]
    ended = run(scratch, command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()[-1]


def run(scratch: Path, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    """A program in the copy: its own `agents` and `tables`, the repository's `pipeline`."""
    environment = CommandLine("kafka://127.0.0.1:1", scratch).environment | more
    return subprocess.run(
        command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=90, check=False
    )


# ---------------------------------------------------------------------- the agents that are shown


def test_the_readmes_agent_passes_its_test_in_a_copy_of_the_application(scratch):
    shown = files_shown(README)
    assert set(shown) == {AGENT, "agents/contracts/logins/user.logged-in.json", "tests/behaviour/test_login_counter.py"}
    assert set(lines_to_append(README)) == {CATALOGUE}
    assert run_pytest(scratch, "tests/behaviour/test_login_counter.py").startswith("2 passed")


def test_the_readmes_test_fails_when_its_agent_counts_wrong(scratch):
    agent = scratch / AGENT
    agent.write_text(agent.read_text().replace('f"login {nth}"', '"login 1"'))
    with pytest.raises(AssertionError, match="1 failed, 1 passed"):
        run_pytest(scratch, "tests/behaviour/test_login_counter.py")


def test_the_readmes_agent_has_at_most_15_lines():
    lines = [line for line in files_shown(README)[AGENT].splitlines() if line.strip()]
    assert len(lines) <= AGENT_LINES_MAX
    entry = [line for line in lines_to_append(README)[CATALOGUE].splitlines() if line.strip()]
    assert len(lines) + len(entry) - docstring_lines(files_shown(README)[AGENT]) <= AGENT_LINES_MAX


def docstring_lines(code: str) -> int:
    tree = ast.parse(code)
    documented = [tree, *(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))]
    docstrings = [ast.get_docstring(node, clean=False) for node in documented]
    return sum(len(text.splitlines()) for text in docstrings if text is not None)


def test_the_agent_of_the_guide_passes_its_test(scratch):
    write(scratch, files_shown(WRITING))
    (scratch / "agents" / "login_counter.py").unlink()
    composition = scratch / "agents" / "app.py"
    composition.write_text(composition.read_text().replace("agents.login_counter", "agents.new_device"))
    assert run_pytest(scratch, "tests/behaviour/test_new_device.py").startswith("4 passed")


def test_the_catalogue_of_the_copy_has_the_new_topic_and_the_new_changelog(scratch):
    program = (
        "from pipeline.runtime.load import load_app; from pipeline.runtime.settings import read_settings; "
        "print(*[topic.name for topic in load_app(read_settings()).all_topics()])"
    )
    ended = run(scratch, [sys.executable, "-c", program])
    assert {"logins", "hardparts-login-counter-changelog"} <= set(ended.stdout.split()), ended.stderr


# ---------------------------------------------------------------------- what is named exists


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_flag_that_is_named_exists(document):
    for words in commands_named(document):
        command, rest = command_of(words)
        flags = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert flags <= flags_of(command), words


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and what is left of them."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"hardparts {' '.join(words)}: no {rest[0]}"
        command, rest = found, rest[1:]
    return command, rest


def flags_of(command: click.Command) -> set[str]:
    return {"--help"}.union(*(parameter.opts for parameter in command.params))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_target_metric_and_link_that_is_named_exists(document):
    text = document.read_text()
    settings = {f"HARDPARTS_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"HARDPARTS_[A-Z_]*", text)) <= settings | NOT_SETTINGS
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets_named(document) <= targets
    metrics = [word.split("{")[0] for word in inline_code(document)]
    assert {name for name in metrics if name.startswith(("hardparts_", "user_consumer_"))} <= set(metric_labels())
    for path, anchor in links(document):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path), f"{path.name}#{anchor}"


# ---------------------------------------------------------------------- the reference is complete


def test_the_reference_lists_every_command_with_flags_that_it_has():
    assert plain(REFERENCE, "Commands") == {f"hardparts {' '.join(path)}" for path in commands()}
    for name, does in table(REFERENCE, "Commands"):
        command, _ = command_of(name.strip("`").split()[1:])
        assert set(re.findall(r"--[a-z-]+", does)) <= flags_of(command), name


def commands() -> set[tuple[str, ...]]:
    paths: set[tuple[str, ...]] = set()
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        if isinstance(command, click.Group):
            paths |= {(name, sub) for sub in command.commands}
        if not isinstance(command, click.Group) or command.invoke_without_command:
            paths.add((name,))
    return paths


def test_the_reference_lists_every_setting_with_its_default():
    shown = {row[0].strip("`"): row[1] for row in table(REFERENCE, "Settings")}
    assert set(shown) == {f"HARDPARTS_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = shown[f"HARDPARTS_{name.upper()}"]
        if field.default_factory is None and field.default not in (None, ""):
            assert default == f"`{field.default}`", name
        else:
            assert default.startswith("("), name


def test_the_reference_lists_every_type_of_event():
    load_app(read_settings())
    readers = {topic.name: agent.name for agent in app.declared for topic in agent.sources}
    shown = {(row[0].strip("`"), row[1].strip("`"), row[4].strip("`")) for row in table(REFERENCE, "Topics and events")}
    types = {name: contract.types for name, contract in app.contracts.items()}
    assert shown == {(name, type_, readers[name]) for name in types for type_ in types[name]}
    owners = {row[0].strip("`"): row[3].replace("`", "") for row in table(REFERENCE, "Topics and events")}
    assert owners == {topic.name: topic.owner for topic in app.catalogue}
    for row in table(REFERENCE, "Topics and events"):
        data = app.contracts[row[0].strip("`")].schemas[row[1].strip("`")]["properties"]["data"]
        fields = {name if name in data["required"] else f"{name}?" for name in data["properties"]}
        assert set(row[2].split(", ")) == fields, row


def test_the_reference_lists_every_view():
    load_app(read_settings())
    shown = {(row[0].strip("`"), row[1].strip("`")) for row in table(REFERENCE, "State")}
    assert shown == {(view.name, agent.name) for agent in app.declared for view in agent.views}


def test_the_reference_lists_every_metric_with_its_labels():
    shown = {row[0].strip("`"): set(filter(None, row[1].split(", "))) for row in table(REFERENCE, "Metrics")}
    assert shown == metric_labels()


def metric_labels() -> dict[str, set[str]]:
    labels = {}
    registries = [metrics().registry for metrics in (Metrics, GatewayMetrics, OutboxMetrics)] + [CollectorRegistry()]
    ClientMetrics(registries[-1])
    for collector in (collector for registry in registries for collector in registry._collector_to_names):
        name = collector._name + ("_total" if collector._type == "counter" else "")
        labels[name] = set(collector._labelnames)
    return labels


def test_the_reference_lists_every_page():
    served = ("runtime/web.py", "runtime/erase.py", "gateway/pages.py")
    source = "".join((ROOT / "pipeline" / name).read_text() for name in served)
    pages = {path.replace("{key:.+}", "{key}") for path in re.findall(r'router\.add_[a-z]+\("([^"]+)"', source)}
    assert plain(REFERENCE, "HTTP") == pages


def test_the_reference_and_the_runbook_name_the_time_after_which_the_broker_alert_opens():
    opens = {row[0]: row[1] for row in table(REFERENCE, "Alerts")}["`broker`"]
    assert f" {WAITING_MAX_S:.0f} s " in opens
    section = (ROOT / "docs" / "runbook.md").read_text().split("## Alert broker", 1)[1].split("\n## ", 1)[0]
    assert f" {WAITING_MAX_S:.0f} s " in section


def plain(document: Path, heading: str) -> set[str]:
    """The first column of a table, as text."""
    return {row[0].strip("`") for row in table(document, heading)}
