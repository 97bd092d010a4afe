"""`hardparts contracts explain`."""

from pathlib import Path

import click

from pipeline.commands.frame import FAILED, as_json, echo_json, framed, printable, settings_of, standard_input


@click.group()
def contracts() -> None:
    """What the events of each topic must be."""


@contracts.command("explain")
@click.argument("topic")
@click.argument("path", metavar="[FILE]", default="-")
@click.option("--app", help="The application, module:attribute [HARDPARTS_APP: agents.app:app].")
@click.option("--contracts-dir", type=click.Path(path_type=Path), help="Where contracts are [HARDPARTS_CONTRACTS_DIR].")
@as_json
@framed
def explain(*, topic: str, path: str, app: str | None, contracts_dir: Path | None, as_json: bool) -> int:
    """Judge the events in FILE (or standard input) as a worker would, and say what is wrong with each.

    FILE holds one event or one a line. Exit 1 when one breaks the contract of TOPIC.
    """
    from pipeline.contracts.catalogue import load_contracts
    from pipeline.core.errors import Misconfigured
    from pipeline.ops.application import application
    from pipeline.ops.explain import judged

    settings = settings_of(app=app, contracts_dir=contracts_dir)
    directory = settings.contracts_dir or application(settings).contracts_dir
    known = load_contracts(directory)
    if topic not in known:
        raise Misconfigured(f"topic {topic!r} has no contract in {directory}: there are {', '.join(known) or 'none'}")
    source = standard_input() if path == "-" else None
    if source is not None and source.isatty():
        click.echo(f"{topic} has {', '.join(known[topic].types)}. Type one event, then Ctrl-D:", err=True)
    content = source.read() if source is not None else Path(path).read_bytes()
    valid = True
    for verdict in judged(known[topic], content):
        valid = valid and verdict.valid
        if as_json:
            echo_json(verdict._asdict())
        elif verdict.valid:
            click.echo(f"line {verdict.line}: ok, {verdict.type}")
        else:
            click.echo(f"line {verdict.line}: {verdict.kind}: {printable(verdict.message)}")
            for line in verdict.explain:
                click.echo(f"  {printable(line)}")
    return 0 if valid else FAILED
