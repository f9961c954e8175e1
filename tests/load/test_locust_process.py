"""Short runs of Locust against a real server: the right ones pass, in either engine and over processes."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from pytest_redisq.errors import DeliveryError
from pytest_redisq.load import locust_process
from pytest_redisq.load.locust_process import LoadError, LoadReport, LoadRun, locustfile, run, scenarios, under_way
from pytest_redisq.load.results.thresholds import LATENCIES, Threshold
from pytest_redisq.servers import Server, start
from tests.load.conftest import when_pushing
from tests.support import eventually, local

Play = Callable[..., LoadReport]

SHARED = ("blpop_workers", "drain", "mixed", "xadd_group")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["epoll", "locust"])
@pytest.mark.parametrize("scenario", [*SHARED, "xadd_fanout", "xadd-burst", "lrange_payload"])
def test_every_scenario_passes_in_either_engine(play: Play, scenario: str, engine: str) -> None:
    report = play(scenario, engine=engine)
    assert (report.exit_code, report.outcome, report.counts) == (0, "pass", {})
    readers = {"xadd_fanout": 3, "lrange_payload": 4, "xadd_burst": 4}.get(scenario.replace("-", "_"), 1)
    totals = report.told["verdict"]["totals"]
    assert totals["delivered"] == readers * totals["acknowledged"] > 100
    assert report.told["engine"] == engine


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["own_queue", "drain_to_file"])
def test_a_queue_of_ones_own_passes(play: Play, scenario: str) -> None:
    report = play(scenario)
    assert (report.exit_code, report.told["engine"], report.counts) == (0, "locust", {})
    assert report.figures["received"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["blpop-workers", "xadd-group", "drain", "xadd-fanout"])
def test_order_is_judged_where_it_is_promised(play: Play, scenario: str) -> None:
    contract = {"blpop-workers": "effectively-once", "xadd-fanout": "fan-out"}.get(scenario, "at-least-once")
    report = play(scenario, settings=[f"contract={contract}, fifo"])
    assert (report.exit_code, report.counts) == (0, {})
    assert report.told["verdict"]["contract"] == f"{contract}, fifo"


@pytest.mark.slow
def test_a_scenarios_own_settings_are_taken_over_processes(play: Play) -> None:
    report = play("lrange-payload", settings=["elements=300", "chunk=100"], processes=2)
    assert report.exit_code == 0
    assert report.told["verdict"]["totals"]["acknowledged"] == 300
    assert play("blpop-workers", settings=["queues=5"]).exit_code == 0


@pytest.mark.slow
def test_what_a_bounded_stream_threw_away_is_told_and_breaks_a_contract_that_is_not_bounded(play: Play) -> None:
    """Producers are faster by far than one reader that asks for a hundred at a time."""
    crowded = {"pipeline": 500, "consumers": 1, "settings": ["maxlen=100", "readers=1", "groups=0"]}
    report = play("xadd-burst", **crowded)
    assert report.exit_code == 1
    assert report.counts["trimmed"] > 0
    assert "lost" not in report.counts
    assert (
        play("xadd-burst", **crowded | {"settings": [*crowded["settings"], "contract=fan-out, bounded"]}).exit_code == 0
    )


@pytest.mark.slow
def test_figures_of_the_server_and_of_the_processes_are_there_and_thresholds_may_name_them(play: Play) -> None:
    report = play("xadd-burst", seconds=2, fail_if=["lag>=0", "fairness<2"])
    assert report.exit_code == 2
    assert next(words.partition(":")[0] for words in report.told["missed"]) == "lag>=0"
    for figure in report.figures:
        Threshold.parse(f"{figure}>0{'s' * (figure.rpartition('.')[2] in LATENCIES)}").check()
    for figure in ("depth", "pending", "server.memory", "server.buffers", "client.memory", "connect"):
        assert figure in report.figures
    assert report.figures["server.memory"] > 1e5 < report.figures["client.memory"]


@pytest.mark.slow
def test_workers_are_served_evenly(play: Play) -> None:
    """The server serves waiting clients in the order of their arrival."""
    report = play("blpop-workers", producers=2, consumers=10, rate="2000", seconds=2)
    assert 0.9 < report.figures["fairness"] <= 1
    assert 0 < report.figures["connect"] < report.told["seconds"]


def test_a_short_run_is_judged_and_told_in_microseconds(play: Play) -> None:
    report = play("blpop_workers", consumers=20, producers=5)
    report.verify()
    figures = report.figures
    assert figures["requests"] >= 2 * figures["received"] > 0
    assert 10 < figures["RPUSH.p50"] <= figures["RPUSH.p99"] <= figures["RPUSH.max"] < 5e6
    assert "effectively-once holds: " in report.output


def test_books_of_several_processes_are_merged_through_locust(play: Play) -> None:
    report = play("blpop_workers", processes=2)
    assert report.exit_code == 0
    assert report.told["verdict"]["totals"]["delivered"] > 100


@pytest.mark.slow
def test_two_runs_of_several_processes_at_once_keep_apart(server: Server) -> None:
    load = LoadRun(scenario="blpop_workers", url=server.url, seconds=1.0, processes=2)
    with under_way(load, output=subprocess.PIPE) as one, under_way(load, output=subprocess.PIPE) as other:
        reports = [one.wait(), other.wait()]
    assert [(report.exit_code, report.counts) for report in reports] == [(0, {})] * 2


def test_a_paced_run_tells_latencies_from_the_intended_start(play: Play) -> None:
    report = play("blpop_workers", rate="200", seconds=2)
    assert report.exit_code == 0
    assert report.figures["attempted"] == pytest.approx(200 * report.told["seconds"], rel=0.25)
    assert report.figures["RPUSH.p50"] >= 1
    assert "service.p50" in report.figures


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "deliveries"), [("xadd-fanout", 3), ("mixed", 0.5), ("own-queue", 1)])
def test_the_rate_that_was_kept_to_is_told_however_many_receive(play: Play, scenario: str, deliveries: float) -> None:
    figures = play(scenario, rate="400", seconds=2, pipeline=1 + (scenario == "own-queue")).figures
    assert figures["paced"] == pytest.approx(400, rel=0.25)
    assert figures["rate"] == pytest.approx(400 * deliveries, rel=0.25)


@pytest.mark.slow
def test_pipelines_are_accounted_for_message_by_message(play: Play) -> None:
    report = play("drain", pipeline=50)
    totals = report.told["verdict"]["totals"]
    assert report.exit_code == 0
    assert totals["attempted"] % 50 == 0
    assert totals["delivered"] == totals["attempted"]


def test_a_missed_threshold_is_exit_code_2(play: Play) -> None:
    report = play("blpop_workers", fail_if=["p99>1us", "lost>0"])
    assert report.exit_code == 2
    assert [words.partition(":")[0] for words in report.told["missed"]] == ["p99>1us"]
    with pytest.raises(DeliveryError, match="exit code 2"):
        report.verify()


@pytest.mark.slow
def test_without_consumers_what_was_sent_is_left_and_nobody_can_say_more(play: Play) -> None:
    report = play("blpop_workers", consumers=0)
    assert report.exit_code == 3
    totals = report.told["verdict"]["totals"]
    assert totals["remaining"] == totals["attempted"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_long_run_drained_and_proves_nothing(server: Server, number: int) -> None:
    load = LoadRun(scenario="blpop_workers", url=server.url, seconds=600)
    with server.client() as client, under_way(load, output=subprocess.PIPE) as running:
        when_pushing(client)
        running.process.send_signal(number)
        report = running.wait()
    assert (report.exit_code, report.outcome, report.counts) == (3, "unknown", {})
    assert report.interrupted
    totals = report.told["verdict"]["totals"]
    assert totals["delivered"] == totals["acknowledged"] > 0
    assert re.search(r"unknown: (.|\n)*the run was interrupted after [\d.]+ s of 600 s", report.output)


def test_a_mistyped_scenario_is_told_the_right_one() -> None:
    with pytest.raises(LoadError, match="Did you mean 'blpop_workers'"):
        locustfile("blpop-worker")
    assert set(SHARED) < set(scenarios())


def test_a_server_that_is_not_there_is_said_without_a_traceback() -> None:
    with pytest.raises(LoadError, match=r"redis://127\.0\.0\.1:1/0") as error:
        run(LoadRun(scenario="drain", url="redis://127.0.0.1:1/0", seconds=1))
    assert "Traceback" not in str(error.value)


@pytest.mark.slow
def test_elements_of_ten_bytes_are_told_from_each_other(play: Play) -> None:
    report = play("lrange-payload", settings=["elements=2000", "chunk=500"], payload_bytes=10)
    assert (report.exit_code, report.counts) == (0, {})
    assert report.told["verdict"]["totals"]["delivered"] == 4 * 2000


def test_messages_too_small_to_say_when_they_were_sent_are_refused() -> None:
    with pytest.raises(LoadError, match=r"a payload of 19 bytes is too small: (.|\n)*20 bytes"):
        run(LoadRun(scenario="drain", url="redis://127.0.0.1:1/0", seconds=1, payload_bytes=19))


def test_a_misspelt_threshold_ends_a_run_before_anything_is_sent(
    server: Server, saboteur: Callable[[str], str]
) -> None:
    for scenario in ("drain", saboteur("readers"), saboteur("blind")):
        with pytest.raises(LoadError, match=r"no figure is called 'losst'\. Did you mean 'lost'\?"):
            run(LoadRun(scenario=scenario, url=server.url, seconds=600, fail_if=["losst>0"]))


def test_a_server_behind_tls_is_left_to_the_other_engine_before_anything_is_sent() -> None:
    with pytest.raises(LoadError, match="the epoll engine does not support TLS; use --engine locust, or a tunnel"):
        run(LoadRun(scenario="drain", url="rediss://127.0.0.1:1/0", seconds=1))


@pytest.mark.parametrize(("name", "words"), [("stumbler", "no such context"), ("unmade", "no such broker")])
def test_a_scenario_that_stumbles_while_it_begins_ends_the_run_with_its_words(
    play: Play, saboteur: Callable[[str], str], name: str, words: str
) -> None:
    with pytest.raises(LoadError, match=rf"exit code 3(.|\n)*The run could not begin:(.|\n)*{words}"):
        play(saboteur(name))


@pytest.mark.slow
def test_a_run_that_does_not_end_is_aborted_and_says_where_it_stood(
    play: Play, saboteur: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locust_process, "_GRACE_SECONDS", 0.0)
    where = r"did not come to an end, and was killed.(.|\n)*most recent call first"
    with pytest.raises(LoadError, match=where):
        play(saboteur("never_begins"), seconds=5, drain_seconds=0)


@pytest.mark.slow
def test_one_that_is_at_work_says_where_its_greenlets_stood(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locust_process, "_GRACE_SECONDS", -60.0)
    load = LoadRun(scenario="drain", url=server.url, seconds=60, drain_seconds=0)
    with under_way(load, output=subprocess.PIPE) as running:
        with server.client() as client:
            when_pushing(client)
        with pytest.raises(LoadError, match=r"was killed.(.|\n)*Greenlet(.|\n)*progress\.py(.|\n)*recent call first"):
            running.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["outlived", "waits_at_exit"])
def test_a_process_that_outlives_the_run_is_ended_and_the_run_is_judged(
    play: Play,
    saboteur: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    monkeypatch.setattr(locust_process, "_WORKER_SECONDS", 0.0)
    monkeypatch.setattr(locust_process, "_LAST_WORDS_SECONDS", 0.1)
    report = play(saboteur(name))
    assert (report.exit_code, report.outcome) == (0, "pass")
    assert "effectively-once holds: " in report.output
    assert "did not end with the run, and was killed" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_that_refuses_what_a_scenario_begins_with_ends_the_run_with_its_words(processes: int) -> None:
    with stopped(start(local(server_args=("--rename-command", "XGROUP", "")))) as server:
        told = "exit code 3(.|\n)*could not be prepared, as the server refuses a command: unknown command"
        with pytest.raises(LoadError, match=told):
            run(LoadRun(scenario="xadd-burst", url=server.url, seconds=1.0, processes=processes))


def test_a_server_that_is_full_is_not_loaded() -> None:
    told = r"exit code 4(.|\n)*is out of memory: .*maxmemory(.|\n)*What to do: "
    with stopped(start(local(server_args=("--maxmemory", "1mb")))) as full, pytest.raises(LoadError, match=told):
        run(LoadRun(scenario="xadd-burst", url=full.url, seconds=1.0))


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_a_run_that_drains_for_long_is_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine, one consumer with one element per round trip is slower than twenty producers."""
    monkeypatch.setattr(locust_process, "_GRACE_SECONDS", 2.0)
    many = LoadRun(
        scenario="drain",
        url=server.url,
        own_server=True,
        seconds=3.0,
        producers=20,
        consumers=1,
        settings=["chunk=1"],
        drain_seconds=1.0,
    )
    with under_way(many, output=subprocess.PIPE) as running:
        eventually(running.begun, 60)
        report = running.wait()
    assert (report.exit_code, report.counts) == (0, {})
    assert "draining: " in report.output


@pytest.mark.slow
def test_a_signal_for_a_run_that_has_just_ended_is_not_lost(server: Server) -> None:
    """With --repeat and --knee another run would follow."""
    load = LoadRun(scenario="blpop-workers", url=server.url, seconds=0.2, producers=1, consumers=1)
    with under_way(load, output=subprocess.PIPE) as running:
        eventually(lambda: running._report.exists(), 60)
        running.stop()
        report = running.wait()
    assert report.stopped
    assert (report.exit_code, report.interrupted) == (0, False)
