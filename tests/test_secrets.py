"""No password is shown: by no repr of ours, no report of pytest, no error text and no command line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import pprint
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

import pytest_redisq
from pytest_redisq.cli import main
from pytest_redisq.errors import ServerError
from pytest_redisq.explore.exploration_arguments import exploration_arguments
from pytest_redisq.facade import Redisq
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.locust_process import LoadRun
from pytest_redisq.load.locust_run.load_options import LoadOptions
from pytest_redisq.options import OptionError, OptionSource, check_url, resolve
from pytest_redisq.secret import Secret, Url, masked, without_secrets
from pytest_redisq.servers import Address, Server, start
from pytest_redisq.servers.backend import Launched
from pytest_redisq.servers.namespace import Namespaces
from pytest_redisq.session import FixtureContext
from tests.inner import InnerRuns
from tests.support import local

PASSWORD = "ge/heim#47?11@x"
#: As it may stand in a URL, in a repr, in the middle of what was cut.
FORMS = (PASSWORD, quote(PASSWORD, safe=""), "heim#47", "heim%2347")


def tells(text: str) -> bool:
    return any(form in text for form in FORMS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = start(local(server_args=("--requirepass", PASSWORD)))
    yield server
    server.stop()


def attributes(thing: object) -> Iterator[object]:
    """The values that a debugger shows, one level down."""
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from thing
    else:
        yield from vars(thing).values() if hasattr(thing, "__dict__") else ()
        yield from (getattr(thing, name) for name in getattr(type(thing), "__slots__", ()) if hasattr(thing, name))


def walk(thing: object, seen: set[int]) -> Iterator[object]:
    """`thing` and all of this package and of redis-py that can be reached from it."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield thing
    home = type(thing).__module__.partition(".")[0]
    if home in ("pytest_redisq", "redis") or isinstance(thing, (dict, list, tuple, set)):
        for attribute in attributes(thing):
            yield from walk(attribute, seen)


def test_no_object_of_ours_shows_the_password(server: Server) -> None:
    """Each public type, each object that a fixture hands out, and all that can be reached from them."""
    namespaces = Namespaces(server)
    with namespaces.namespace() as namespace, Redisq(server=server, namespace=namespace) as facade:
        run = facade.run(facade.list("jobs"), messages=2, producers=1, consumers=1)
        exploration = facade.explore(
            lambda world: (world.actor(lambda client: client.get("a")), world.run()), schedules=1
        )
        things: list[object] = [
            *(pytest_redisq.Settings(server=server.url), local(server_args=("--requirepass", PASSWORD))),
            *(server, namespace, namespaces, facade, facade.client, facade.async_client, facade.address, facade.url),
            *(facade.reliable_list("a"), facade.stream("b"), facade.stream("c", group="g"), facade.new_client()),
            *(
                run,
                run.history,
                run.verify("at-least-once"),
                exploration,
                exploration_arguments(namespace),
                FixtureContext(server, namespace, shared=True),
            ),
            *(Address(url=server.url), Launched(url=server.url, detail=""), LoadRun(scenario="s", url=server.url)),
            Address(url=f"unix://:{quote(PASSWORD, safe='')}@/tmp/s?password={quote(PASSWORD, safe='')}").client(),
            dataclasses.asdict(LoadRun(scenario="s", url=server.url)),
            pickle.loads(pickle.dumps(facade.address)),
            {**facade.client.connection_pool.connection_kwargs},
        ]
        assert tells(str(facade.url)), "as text it is of use"
        seen: set[int] = set()
        for thing in (found for each in things for found in walk(each, seen)):
            assert not tells(repr(thing)), type(thing)
            assert not tells(pprint.pformat(thing)), type(thing)
            if not isinstance(thing, str):
                assert not tells(str(thing)), type(thing)
    namespaces.close()
    assert len(seen) > 300


def test_an_assignment_of_a_load_run_is_plain_data_for_its_workers(server: Server) -> None:
    numbers = dict.fromkeys(
        ["worker", "producers", "consumers", "first_producer", "first_consumer", "all_producers", "payload_bytes"], 1
    )
    assignment = Assignment(run="a", url=server.url, engine="epoll", pipeline=1, rate="", **numbers)
    assert not tells(repr(assignment))
    assert type(assignment.as_message()["url"]) is str
    assert Assignment.of_message(assignment.as_message()) == assignment
    assert "url" in {field.name for field in dataclasses.fields(LoadOptions)}


def test_a_password_works_whatever_is_in_it(server: Server) -> None:
    """For both of redis-py's ways to pack a command, and for asyncio."""
    with server.client() as client:
        assert client.ping()
    Url(server.url)
    assert (Secret("x"), Url("redis://h")) == ("x", "redis://h")
    assert f"{Secret('xyz')}" == "xyz"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="NOT TESTED: there is no /proc here")
def test_no_command_line_shows_the_password(server: Server) -> None:
    """`ps` shows them to every user of the machine; the server's is among them."""
    assert server.supervisor
    ours = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            ours += [line] if str(server.supervisor.directory) in line else []
    assert len(ours) >= 2, "the supervisor and the server"
    assert not any(map(tells, ours))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "redis://h/0?Password={}",
            "it has an unknown option 'Password'. Did you mean 'password'? Valid: client_name,",
        ),
        ("redis://h/0?pasword={}", "it has an unknown option 'pasword'. Did you mean 'password'?"),
        ("redis://h/0?db=1&{}", "it has an unknown option. Valid: "),
        ("redis://h/0?db=1&{}=1", "it has an unknown option. Valid: "),
        ("redis://h/0?ssl_password={}", "it has an unknown option 'ssl_password'."),
        ("redis://h/0?credential_provider={}", "it has an unknown option"),
        ("redis://h:{}/0", "its host or port cannot be read. Write redis://USER:PASSWORD@HOST:PORT/DB"),
        ("redis://:ge#{}@h:1/0", "special characters of the password percent-encoded (# is %23"),
        ("redis://:12#{}@h:1/0", "special characters of the password percent-encoded"),
        ("redis://:12/{}@h:1/0", "the text after the host is not a database number"),
        ("redis://:12?{}@h:1/0", "it has an unknown option. Valid"),
        ("redis://[{}/0", "its host or port cannot be read"),
        ("redis://h/{}", "the text after the host is not a database number"),
        ("redis://h:0/0?password={}", "its port is 0"),
        ("unix://:{}@", "it has no path"),
        (":{}@h:6379/0", "it looks like a URL without its scheme. Write redis://USER:PASSWORD@HOST:PORT/DB."),
        ("http://:{}@h", "'http' is not a scheme of a Redis URL"),
        ("REDIS://:{}@h", "'REDIS' is not a scheme of a Redis URL. Valid: redis, rediss, unix."),
        (":{}@redis://h", "it looks like a URL without its scheme"),
    ],
)
def test_a_url_that_cannot_be_obeyed_is_refused_without_its_password(url: str, words: str) -> None:
    """Neither ignored, nor a crash in the middle of the run."""
    for secret in ("geheim4711", "geheim4711%2F"):
        filled = url.format(secret)
        with pytest.raises(OptionError) as refused:
            resolve([OptionSource(values={"server": filled}, origin=lambda _: "--redisq-server")])
        assert words in str(refused.value)
        assert "geheim" not in str(refused.value)
        done = CliRunner().invoke(main, ["drain", "jobs", "--to", "f", "--url", filled])
        assert (done.exit_code, "geheim" in done.output) == (2, False)
        for made in (lambda: Address(url=filled).client(), lambda: Address(url=filled).async_client()):  # noqa: B023
            if url.startswith(("redis", "unix")):
                with pytest.raises(ServerError) as impossible:
                    made()
                assert "geheim" not in str(impossible.value)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h", "redis://h/", "redis://h:1/3", "redis://:p%23w@h/0?socket_timeout=1&client_name=a@b"),
        *("unix:///tmp/s?db=1", "unix://u:p@/tmp/s", "rediss://u:p@[::1]:1/0?ssl_cert_reqs=none&ssl_ca_certs=/a"),
        *("redis://h/0?protocol=3&health_check_interval=1&username=u&password=p", "redis:///0"),
    ],
)
def test_a_url_that_redis_py_obeys_is_taken(url: str) -> None:
    check_url(url)
    Address(url=url).client().connection_pool.make_connection()


@pytest.mark.parametrize("option", ["protocol=9", "db=x", "socket_timeout=x", "ssl_cert_reqs=x"])
def test_an_option_with_a_wrong_value_is_told_in_words(server: Server, option: str) -> None:
    scheme = "rediss" if option.startswith("ssl") else "redis"
    with pytest.raises(ServerError, match="What to do") as refused:
        start(pytest_redisq.Settings(server=f"{scheme}{server.url[5:]}?{option}"))
    assert not tells(str(refused.value))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ann:secret@h/0?db=1", "redis://ann:***@h/0?db=1"),
        ("redis://secret@h/0", "redis://***@h/0"),
        ("redis://h/0?PASSWORD=x&db=2&y", "redis://h/0?PASSWORD=***&db=2&***"),
        ("redis://h/0?xyz=1", "redis://h/0?***"),
        ("redis://h:secret/0", "redis://***"),
        ("redis://h/secret", "redis://h/***"),
        ("unix:///tmp/s", "unix:///tmp/s"),
        ("redis://:p@ss:w/r#d?x@h:1/0", "redis://:***@h:1/0"),
        ("redis://h/0#secret", "redis://h/0#***"),
        ("redis://h/0?db=1#secret", "redis://h/0?db=1#***"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert repr(Url(text)) == repr(shown)


def test_text_of_others_is_masked() -> None:
    Secret("geheimnis-0815")
    Url("redis://:p%40sswort%23@h")
    said = "AUTH geheimnis-0815, then p@sswort# or p%40sswort%23; REDIS://:kurz@h/0 'unix://a:b@/s'"
    assert masked(said) == "AUTH ***, then *** or ***; REDIS://:***@h/0 'unix://a:***@/s'"


@pytest.mark.parametrize("command", [["doctor"], ["doctor", "--json"], ["load", "blpop-workers", "--time", "1s"]])
def test_a_command_that_cannot_reach_your_server_does_not_show_its_password(command: list[str]) -> None:
    url = f"redis://ann:{quote(PASSWORD, safe='')}@127.0.0.1:1/0"
    done = subprocess.run(
        [sys.executable, "-m", "pytest_redisq", *command, "--server", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == {"doctor": 0, "load": 4}[command[0]], done.stderr
    assert "redis://ann:***@127.0.0.1:1/0" in done.stdout + done.stderr
    assert not tells(done.stdout + done.stderr)


#: Fails once in each function of ours through whose frame the password comes, with that frame and those above it in
#: the report.
_EVERYWHERE = """
import sys
import pytest
from pytest_redisq.facade import Redisq
from pytest_redisq.options import OptionSource, resolve
from pytest_redisq.servers import start
from pytest_redisq.servers.namespace import Namespaces

PASSWORD = %r

def scenario():
    settings = resolve([OptionSource({"server": %r, "server_args": [f"requirepass '{PASSWORD}'"]}, lambda o: o.flag)])
    server = start(settings)
    namespaces = Namespaces(server)
    try:
        with namespaces.namespace() as namespace, Redisq(server=server, namespace=namespace) as redisq:
            theirs = start(resolve([OptionSource({"server": redisq.url}, lambda o: o.flag)]))
            with Namespaces(theirs).namespace() as prefixed:
                prefixed.client.set("a", 1)
            server.restart()
            redisq.async_client
            redisq.run(redisq.list("jobs"), producers=1, consumers=1, messages=1, workers="thread")
            redisq.explore(lambda world: (world.actor(lambda client: client.get("a")), world.run()), schedules=1)
    finally:
        sys.setprofile(None)
        server.stop()

def name_of(frame):
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"

class Boom(Exception):
    pass

def has_it(frame):
    return any(PASSWORD[3:9] in text(value) for value in frame.f_locals.values())

def text(value):
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return " ".join(each for each in value.values() if isinstance(each, str))
    if isinstance(value, (list, tuple)):
        return " ".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) else ""

def watch(found, name=None):
    def profile(frame, event, arg):
        if event != "return" or not frame.f_globals.get("__name__", "").startswith(("pytest_redisq.", "redis.")):
            return
        if "secret" in frame.f_globals["__name__"]:
            return
        if name is None:
            if name_of(frame) not in found and has_it(frame):
                found.append(name_of(frame))
        elif name_of(frame) == name and has_it(frame):
            sys.setprofile(None)
            found.append(name)
            raise Boom(f"in {name}")
    sys.setprofile(profile)

NAMES = []
watch(NAMES)
scenario()

@pytest.mark.parametrize("name", NAMES)
def test_fails(redisq_start, name):
    redisq_start  # a run with a session
    watch([], name)
    try:
        scenario()
    finally:
        sys.setprofile(None)
    raise Boom("not reached again")
"""


@pytest.mark.slow
@pytest.mark.timeout(660)
def test_no_report_of_pytest_shows_the_password(inner: InnerRuns) -> None:
    """For each failure, with all locals in full length, also in the XML and from workers of xdist."""
    inner.file("test_it.py", _EVERYWHERE % (PASSWORD, local().server))
    options = ("-l", "--tb=long", "-vv", "--setup-show", "-rA", "--junitxml=report.xml", "-p", "no:randomly")
    result = inner.run(*options, seconds=600)  # each of its tests makes a load run
    failed = result.parseoutcomes()["failed"]
    assert failed >= 25
    text = "\n".join([*result.outlines, *result.errlines, (inner.path / "report.xml").read_text()])
    assert text.count("Boom: in ") >= 2 * 25
    ids = [line for line in text.splitlines() if tells(line)]
    assert not ids


_DIFFERENCES = """
import pytest

def test_difference(redisq_url, redisq):
    print(redisq_url)
    assert redisq_url == redisq_url + "x"

def test_contained(redisq):
    assert redisq.url not in [redisq.url]

def test_options(redisq):
    assert redisq.client.connection_pool.connection_kwargs == {}

def test_error(redisq):
    raise RuntimeError(f"no way to {redisq.url}")

@pytest.fixture
def broken(redisq_url):
    raise RuntimeError(f"no way to {redisq_url}")

def test_fixture(broken):
    pass
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_neither_do_differences_and_errors(inner: InnerRuns, options: tuple[str, ...]) -> None:
    inner.file("conftest.py", "import os\nos.environ['REDISQ_SERVER_ARGS'] = \"requirepass 'geheim-0815'\"\n")
    inner.file("test_it.py", _DIFFERENCES)
    result = inner.run("-l", "-vv", *options, plugins=("xdist",) if options else ())
    result.assert_outcomes(failed=4, errors=1)
    text = "\n".join([*result.outlines, *result.errlines])
    assert "redis://:***@127.0.0.1" in text
    assert "geheim" not in text
