"""Every command explains itself, and wrong usage exits 2."""

import click
import pytest
from click.testing import CliRunner

from pipeline import __version__
from pipeline.cli import COMMANDS, main


def every_command() -> list[list[str]]:
    """The words of each command and of each command in it."""
    found: list[list[str]] = []
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, inner] for inner in command.commands]
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help_with_a_sentence_for_each_option(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0
    assert f"Usage: main {' '.join(words)}" in result.output
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        inner = command.get_command(click.Context(command), word)
        assert inner is not None
        command = inner
    assert command.help
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


def test_the_list_of_commands_names_each_with_its_purpose() -> None:
    output = CliRunner().invoke(main, ["--help"]).output
    for name, (_, purpose) in COMMANDS.items():
        assert f"{name} " in output
        assert purpose in " ".join(output.split())


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["topics", "nothing"], ["send"], ["tables", "get", "comments"], ["doctor", "--nothing"]]
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.output


def test_the_version_is_shown() -> None:
    assert __version__ in CliRunner().invoke(main, ["--version"]).output
