"""The `redisq` command: parse, delegate, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.markup import escape

from pytest_redisq import failure_store, interrupts
from pytest_redisq.check import Contract
from pytest_redisq.check import check as judge
from pytest_redisq.demo import as_json, screen
from pytest_redisq.doctor import EnvironmentReport, examine
from pytest_redisq.drain_command import reach, run_drain
from pytest_redisq.errors import HistoryError, RedisqError
from pytest_redisq.history import read_history
from pytest_redisq.load.load_command import LoadCommand, load_options
from pytest_redisq.load.load_command import load as run_load
from pytest_redisq.load.standard_streams import outlive_readers
from pytest_redisq.options import OPTIONS, OptionError, OptionSource, Settings, environment, resolve
from pytest_redisq.queues.framing import Framing
from pytest_redisq.regressions import VERDICTS
from pytest_redisq.regressions import keep as keep_failure
from pytest_redisq.report import explain, verdict_data
from pytest_redisq.servers import start
from pytest_redisq.terminal import degrade

CommandFunction = Callable[..., None]

SERVER_OPTIONS = [option for option in OPTIONS if option.of_server]


class _Group(click.Group):
    """Ends a command that raises `RedisqError` with its text and status 1, and a wrong option with status 2.

    If the reader of the output ends early (`| head`), the status stays. Click would end with 1, as for a failure.
    """

    def main(self, *words: Any, **options: Any) -> Any:
        outlive_readers()
        degrade(sys.stdout)
        degrade(sys.stderr)
        return super().main(*words, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interrupts.repeated_where_lost():
                return super().invoke(ctx)
        except RedisqError as error:
            raise click.ClickException(str(error)) from error
        except OptionError as error:
            raise click.UsageError(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pytest-redisq", prog_name="redisq")
def main() -> None:
    """Prove that a Redis-backed queue loses nothing, before its users find out."""


def _server_options(command: CommandFunction) -> CommandFunction:
    """Add the server options of the plugin, with and without the prefix `redisq-`."""
    for option in reversed(SERVER_OPTIONS):
        short = option.flag.replace("--redisq-", "--")
        command = click.option(
            short, option.flag, option.name, metavar=option.metavar, help=option.help, multiple=option.repeatable
        )(command)
    return command


def _settings(given: Mapping[str, Any]) -> Settings:
    flags = OptionSource(
        values={name: value for name, value in given.items() if value not in (None, ())},
        origin=lambda option: option.flag.replace("--redisq-", "--"),
    )
    return resolve([flags, environment(os.environ)])


@main.command()
@_server_options
@click.option("--json", "json_file", metavar="FILE", type=click.File("w", lazy=False), help="write the result to FILE")
def demo(json_file: IO[str] | None, **server_options: Any) -> None:
    """Show four true queue bugs caught on a real server, and their fixes pass.

    Exit status 0 only if all four were caught and all four fixes passed.
    """
    server = start(_settings(server_options))
    try:
        acts = screen.show(Console(), server)
        if json_file is not None:
            json.dump(as_json(server, acts), json_file, indent=2)
    finally:
        server.stop()
    sys.exit(0 if all(act.as_it_should for act in acts) else 1)


@main.command()
@_server_options
@click.option("--json", "as_json_text", is_flag=True, help="print the findings as JSON")
def doctor(as_json_text: bool, **server_options: Any) -> None:
    """Report the servers available on this machine and risky defaults in your environment.

    Exit status 0 if at least one server is available.
    """
    findings = examine(_settings(server_options), os.environ)
    if as_json_text:
        click.echo(json.dumps(findings.as_json(), indent=2))
    else:
        _print_findings(Console(), findings)
    sys.exit(0 if any(finding.server for finding in findings.servers) else 1)


def _print_findings(console: Console, findings: EnvironmentReport) -> None:
    console.print(f"Python {findings.python} on {findings.platform}; auto would choose: {escape(findings.auto)}\n")
    for finding in findings.servers:
        if not finding.server:
            console.print(f"[red]✗[/red] {finding.kind}: {escape(finding.why_not)}", highlight=False)
            continue
        lacks = [command for command, there in finding.capabilities.items() if not there]
        more = f"; without {', '.join(lacks)}" if lacks else ""
        console.print(f"[green]✓[/green] {escape(finding.server)}{more}", highlight=False)
    packages = ", ".join(f"{name} {number or '–'}" for name, number in findings.packages.items())
    console.print(f"\nPackages: {packages}", highlight=False)
    for risk in findings.risks:
        console.print(f"\n[yellow]![/yellow] {escape(risk.where)}\n  {escape(risk.what)}", highlight=False)
        console.print(f"  What to do: {escape(risk.advice)}.", highlight=False)


@main.command(cls=LoadCommand)
@_server_options
@load_options
def load(**options: Any) -> None:
    """Run the load scenario NAME, and report whether every message arrived."""
    server_options = {option.name: options.pop(option.name) for option in SERVER_OPTIONS}
    sys.exit(run_load(_settings(server_options), **options))


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("contract")
@click.option("--json", "as_json_text", is_flag=True, help="print the verdict as JSON")
def check(file: Path, contract: str, as_json_text: bool) -> None:
    """Check the history in FILE (JSON Lines) against CONTRACT, such as "at-least-once, fifo".

    Exit status 0 if it passes, 1 if it fails, 2 if FILE is not a history, 3 if the verdict is unknown.
    """
    try:
        promised = Contract.parse(contract)
        history = read_history(file)
    except (ValueError, HistoryError) as error:
        raise click.UsageError(str(error)) from error
    verdict = judge(history, promised)
    start_ns = min((op.invoked_ns for op in history), default=0)
    said = json.dumps(verdict_data(verdict), indent=2) if as_json_text else explain(verdict, start_ns=start_ns)
    click.echo(said, file=sys.stdout)  # click's own choice is UTF-8 even where a terminal knows ASCII alone
    sys.exit({"pass": 0, "fail": 1, "unknown": 3}[verdict.outcome])


@main.command()
@click.argument("failure", default="")
@click.option("--name", required=True, help="name of the regression and of its file")
@click.option("--why", required=True, help="one sentence: what went wrong")
@click.option("--verdict", type=click.Choice(VERDICTS), default="holds", show_default=True, help="the expected result")
@click.option("--contract", default="", help="the contract by which a history is checked")
@click.option(
    "--into",
    default=Path("tests/regressions"),
    show_default=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="the folder of regressions",
)
@click.option(
    "--from",
    "source",
    default=Path(failure_store.FOLDER),
    show_default=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="the failure store",
)
def keep(failure: str, name: str, why: str, verdict: str, contract: str, into: Path, source: Path) -> None:
    """Save a failure as a regression, which runs with every test run.

    FAILURE is a part of the failing test's name, or the file of a schedule or a history. You can omit it if there is
    only one failure. Run this command in the folder where you run pytest.
    """
    chosen = failure_store.choose(failure, source)
    if chosen.suffix == ".jsonl":
        try:
            Contract.parse(contract)
        except ValueError as error:
            raise click.UsageError(f"--contract, for checking {chosen.name}: {error}") from error
    file = keep_failure(chosen, into, name=name, why=why, verdict=verdict, contract=contract)
    click.echo(
        f"Saved {file}. From now on it must {'pass' if verdict == 'holds' else 'fail'}: pytest {into} -k {file.stem}",
        file=sys.stdout,
    )


@main.command()
@click.argument("key")
@click.option(
    "--to",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="append to this file; .gz and .zst files are compressed",
)
@click.option(
    "--url",
    default="redis://localhost:6379/0",
    envvar="REDIS_URL",
    show_default=True,
    show_envvar=True,
    help="the server",
)
@click.option(
    "--framing",
    type=click.Choice(["lines", "json"]),
    help="one raw element or one JSON string a line  [default: json for .jsonl, else lines]",
)
@click.option(
    "--chunk", default=10_000, show_default=True, type=click.IntRange(min=1), help="the most elements in one chunk"
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    help="give up when the server does not answer for this time",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="take over at once what other drains have claimed; only if you know that they are dead",
)
def drain(key: str, path: Path, url: str, framing: Framing | None, chunk: int, timeout: float, take_over: bool) -> None:
    """Empty the list KEY into a file, a chunk at a time.

    Each element is written once, even if this is killed and run again; what is pushed meanwhile stays in the list.
    Several lists can be drained into one file, one after the other. Until all are finished, FILE.redisq-drain lies
    beside the file: it tells the next drain what a killed one had written.

    Exit status 0 if all was drained, 1 if the drain failed or was interrupted, 2 for a mistake in the command line,
    3 if another drain holds a part of the list or the file.
    """
    framing = framing or ("json" if ".jsonl" in path.suffixes else "lines")
    if str(path) == "-" or (path.exists() and not path.is_file()):
        raise click.UsageError(
            f"--to: {str(path)!r} is not a regular file, so an interrupted drain could not continue."
        )
    settings = resolve([OptionSource(values={"server": url}, origin=lambda _: "--url")])
    if not settings.url:
        raise click.UsageError(f"--url: {url!r} is not a URL; write it as redis://localhost:6379/0.")
    with reach(settings.url, timeout) as client:
        sys.exit(run_drain(client, key, path, framing=framing, chunk=chunk, take_over=take_over))
