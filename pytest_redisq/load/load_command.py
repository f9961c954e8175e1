"""`redisq load NAME`: start or use a server, run a scenario against it, and exit by the verdict."""

from __future__ import annotations

import ast
import contextlib
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from pytest_redisq.errors import RedisqError
from pytest_redisq.faults import examples, faults_for
from pytest_redisq.load.codec import SHORT_TRAILER_BYTES
from pytest_redisq.load.engine import ENGINES
from pytest_redisq.load.engine.rate_profile import RateProfile
from pytest_redisq.load.knee import capacity
from pytest_redisq.load.locust_process import (
    ENDED_TOO_SOON,
    LoadError,
    LoadReport,
    LoadRun,
    ended_by_signals,
    locustfile,
    require_locust,
    scenarios,
    under_way,
)
from pytest_redisq.load.results import baseline
from pytest_redisq.load.results.exit_status import EXIT_MISSED, EXIT_NOT_RUN, EXIT_PASS, EXIT_UNKNOWN, EXITS, worst
from pytest_redisq.load.results.output_files import OutputFile, locust_files
from pytest_redisq.load.results.thresholds import Threshold
from pytest_redisq.load.timed_faults import FaultSchedule
from pytest_redisq.options import OptionError, Settings
from pytest_redisq.servers import Server, start

#: Clients added to those of the run when `maxclients` of a server that redisq started is raised.
_OTHER_CLIENTS = 1000


class _DurationType(click.ParamType[float]):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
        try:
            seconds = float(text[:-1]) * factor if factor else float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{text!r} is not a time; write 30s, 5m or 1h", param, ctx)
        return seconds


class _ParsedType(click.ParamType[str]):
    """Text that `parse` accepts."""

    def __init__(self, name: str, parse: Any) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _list(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    """Print the name of each supplied scenario, and what it does."""
    if asked:
        for name, file in scenarios().items():
            told = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            click.echo(f"{name.replace('_', '-'):15} {' '.join(told.split())}")
        ctx.exit()


LOAD_OPTIONS = (
    click.argument("scenario", metavar="NAME"),
    click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="list the scenarios"),
    click.option(
        "--time", "seconds", type=_DurationType(), default="10s", show_default=True, help="how long producers send"
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="epoll",
        show_default=True,
        help="epoll: one loop for each process; locust: a Locust user for each connection",
    ),
    click.option("--producers", type=click.IntRange(1), help="connections that send"),
    click.option("--consumers", type=click.IntRange(0), help="connections that receive"),
    click.option(
        "--rate",
        type=_ParsedType("RATE", RateProfile.parse),
        help="messages a second, or breakpoints SECONDS:RATE,… for a ramp or a spike",
    ),
    click.option(
        "--payload",
        type=click.IntRange(SHORT_TRAILER_BYTES),
        default=100,
        show_default=True,
        help="size of a message in bytes",
    ),
    click.option(
        "--pipeline",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="messages that a producer sends at once",
    ),
    click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="NAME=VALUE",
        help="a setting of the scenario, such as 'elements=1_000_000'; repeatable; a wrong name lists the settings",
    ),
    click.option(
        "--drain-seconds",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        help="at the end, wait as long as consumers receive something new in so many seconds",
    ),
    click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="worker processes"),
    click.option(
        "--fail-if",
        multiple=True,
        type=_ParsedType("THRESHOLD", Threshold.parse),
        help="a threshold, such as 'p99>5ms', 'BLPOP.p99>2ms', 'lost>0'; repeatable",
    ),
    click.option(
        "--fault",
        multiple=True,
        type=_ParsedType("FAULT", partial(faults_for, "load")),
        help=f"NAME:TARGET@TIME[+DURATION], such as {', '.join(examples('load'))}; repeatable",
    ),
    click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="write the result to this file",
    ),
    click.option("--csv", "csv_prefix", help="Locust's CSV files, with this prefix"),
    click.option("--html", "html_file", help="Locust's HTML report"),
    click.option(
        "--knee", is_flag=True, help="find the highest rate that keeps every --fail-if, in runs of --time each"
    ),
    click.option("--tcp", is_flag=True, help="connect to a container by its published port, not by a unix socket"),
    click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="the number of runs"),
    click.option("--save", "save_as", metavar="BASELINE", help="store the figures under this name"),
    click.option(
        "--compare", "compare_with", metavar="BASELINE", help="fail if a figure is worse than in this baseline"
    ),
)


class LoadCommand(click.Command):
    """Ends with the statuses of `EXITS`: a mistyped option or an absent server says nothing of the queue."""

    def make_context(self, *words: Any, **options: Any) -> click.Context:
        with _own_status():
            return super().make_context(*words, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _own_status():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), meaning) for status, meaning in EXITS.items()])


@contextlib.contextmanager
def _own_status() -> Iterator[None]:
    """Turn errors into text and a status of `EXITS`."""
    try:
        yield
    except click.ClickException as error:
        raise _Misused(error.format_message(), getattr(error, "ctx", None)) from error
    except OptionError as error:
        raise _Misused(str(error)) from error
    except LoadError as error:
        raise (_NotJudged if error.exit_code == EXIT_UNKNOWN else _NotRun)(str(error)) from error
    except (RedisqError, OSError) as error:
        raise _NotRun(str(error)) from error
    except KeyboardInterrupt:
        raise _NotJudged(ENDED_TOO_SOON) from None
    except click.exceptions.Exit:
        raise
    except Exception as error:
        # Python's own status for a traceback is 1, which says that the contract is broken.
        traceback.print_exc()
        raise _NotJudged(
            "redisq failed with the error above, and could not judge the run. Please report it."
        ) from error


class _Misused(click.UsageError):
    exit_code = EXIT_NOT_RUN


class _NotRun(click.ClickException):
    exit_code = EXIT_NOT_RUN


class _NotJudged(click.ClickException):
    exit_code = EXIT_UNKNOWN


def load_options(command: Any) -> Any:
    """Decorates the command in cli.py with the argument and options that `load` takes."""
    for option in reversed(LOAD_OPTIONS):
        command = option(command)
    return command


def load(
    settings: Settings,
    *,
    scenario: str,
    repeat: int,
    json_file: Path | None,
    csv_prefix: str | None,
    html_file: str | None,
    save_as: str | None,
    compare_with: str | None,
    fault: Sequence[str],
    payload: int,
    knee: bool,
    tcp: bool,
    changes: Sequence[str],
    **run_options: Any,
) -> int:
    """Run `scenario`. Returns the exit status (see `EXITS`)."""
    require_locust()
    if knee:
        others = {"--rate": run_options["rate"], "--fault": fault, "--repeat": repeat > 1, "--json": json_file}
        _check_search(run_options["fail_if"], others | {"--save": save_as, "--compare": compare_with})
    name = locustfile(scenario).stem
    kept = baseline.recall(compare_with, name) if compare_with else []
    with contextlib.ExitStack() as held:
        told = held.enter_context(OutputFile(json_file, "--json")) if json_file else None
        saved = held.enter_context(baseline.opened(save_as)) if save_as else None
        for file in locust_files(csv_prefix, html_file):
            held.enter_context(file)
        server = start(settings, socket=not tcp)
        held.callback(server.stop)
        asked = LoadRun(
            scenario=scenario,
            url=server.url if tcp else server.local_url,
            payload_bytes=payload,
            settings=changes,
            own_server=server.kind != "url",
            locust=[*(("--csv", csv_prefix) if csv_prefix else ()), *(("--html", html_file) if html_file else ())],
            **{name: value for name, value in run_options.items() if value is not None},
        )
        _make_room(server, asked)
        click.echo(f"redisq: {server.header()}", err=True)
        if knee:
            return _find_knee(asked, server)
        reports = [_run(asked, server, fault)]
        while len(reports) < repeat and not reports[-1].stopped:
            reports.append(_run(asked, server, fault))
        status = worst([report.exit_code for report in reports])
        if kept:
            status = _compare(kept, reports[-1], status)
        if told:
            status = _write(told, _as_json(reports, server, asked, repeat), status)
        if saved:
            status = _save(saved, name, reports, status)
        return status


def _save(saved: OutputFile, name: str, reports: Sequence[LoadReport], status: int) -> int:
    """Store the figures as a baseline, unless a signal ended the runs: these figures are of less than was asked for."""
    if any(report.stopped or report.interrupted for report in reports):
        click.echo(f"not saved as {saved.path}: the run was interrupted", err=True)
        return status
    status = _write(saved, baseline.dumped(name, [report.figures for report in reports]), status)
    click.echo(f"saved as {saved.path}", err=True)
    return status


def _as_json(reports: Sequence[LoadReport], server: Server, asked: LoadRun, repeat: int) -> str:
    way = "unix socket" if asked.url.startswith("unix:") else "TCP"
    told = [{**report.told, "server": server.header(), "reached_by": way} for report in reports]
    return json.dumps(told[0] if repeat == 1 else told, indent=2)


def _write(file: OutputFile, text: str, status: int) -> int:
    """Write it. Returns the status then: the verdict's own, but no pass if the file could not be written."""
    failure = file.write(text)
    if failure:
        click.echo(failure, err=True)
    return EXIT_NOT_RUN if failure and status == EXIT_PASS else status


def _run(asked: LoadRun, server: Server, faults: Sequence[str]) -> LoadReport:
    with under_way(asked) as running, ended_by_signals(running):
        schedule = FaultSchedule(
            faults_for("load", faults),
            server,
            running.process.pid,
            begun=running.begun,
            note_strike=running.note_strike,
        )
        with schedule.at_work():
            report = running.wait()
        click.echo(schedule.lines(), err=True, nl=False)
        told = schedule.told_by(report)
    # Up to here a signal was for the run, which had come to its end already: no other is to follow.
    return replace(told, stopped=running.stopped)


def _check_search(fail_if: Sequence[str], others: Mapping[str, Any]) -> None:
    """Whether a knee can be searched by `fail_if`, and nothing else is asked for that would be passed over."""
    if not fail_if:
        raise click.UsageError("--knee needs to know what is to be kept: give --fail-if, such as 'p99>5ms'.")
    if vain := [flag for flag, value in others.items() if value]:
        raise click.UsageError(f"--knee chooses the rates and the runs itself, and takes no {', '.join(vain)}.")


def _find_knee(asked: LoadRun, server: Server) -> int:
    """Run after run at one rate after the other. A rate that was not reached within a tenth is not kept either."""

    def keeps(rate: float) -> bool:
        report = _run(replace(asked, rate=f"{rate:g}"), server, ())
        if report.stopped:
            raise LoadError("The search was ended by a signal before the knee was found.", EXIT_UNKNOWN)
        # Not `rate`, which counts deliveries: there are three of each message with three readers, and none of a GET.
        kept = report.exit_code == EXIT_PASS and report.figures.get("paced", 0.0) >= 0.9 * rate
        click.echo(f"knee: {rate:,.0f} messages/s {'holds' if kept else 'breaks'}", err=True)
        return kept

    found = capacity(keeps)
    click.echo(f"capacity: {found:,.0f} messages a second with {', '.join(asked.fail_if)} never true")
    return EXIT_PASS if found else EXIT_MISSED


def _compare(kept: Sequence[baseline.Figures], last: LoadReport, code: int) -> int:
    for line in baseline.table(kept, last.figures):
        click.echo(line, err=True)
    regressions = list(baseline.worse(kept, last.figures))
    for line in regressions:
        click.echo(f"WORSE {line}", err=True)
    return EXIT_MISSED if regressions and code == EXIT_PASS else code


def _make_room(server: Server, asked: LoadRun) -> None:
    """Raise `maxclients` of a server that redisq started, if the run needs more."""
    clients = (asked.producers or 0) + (asked.consumers or 0) + _OTHER_CLIENTS
    if server.kind != "url" and int(server.config("maxclients")) < clients:
        server.config("maxclients", clients)
