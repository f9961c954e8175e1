"""The option table, its precedence and its errors."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.option_table import OPTIONS
from pytest_redisq.options import (
    OptionError,
    OptionSource,
    Settings,
    environment,
    flags,
    keywords,
    markdown_table,
    resolve,
    unknown_flag,
    unknown_variables,
)

README = Path(__file__).parent.parent / "README.md"


def ini(**values: str) -> OptionSource:
    return OptionSource(values=values, origin=lambda option: f"{option.ini} in pytest.ini")


def complaint(*sources: OptionSource) -> str:
    with pytest.raises(OptionError) as caught:
        resolve(sources)
    return str(caught.value)


def test_every_field_of_settings_has_one_row_and_every_row_a_field() -> None:
    fields = [field.name for field in dataclasses.fields(Settings) if field.name != "origin"]
    assert [option.name for option in OPTIONS] == fields


def test_names_derive_from_the_field() -> None:
    names = {option.name: (option.flag, option.ini, option.env) for option in OPTIONS}
    assert names["server_args"] == ("--redisq-server-arg", "redisq_server_args", "REDISQ_SERVER_ARGS")
    assert names["image"] == ("--redisq-image", "redisq_image", "REDISQ_IMAGE")


def test_nothing_given_is_the_defaults_and_says_so() -> None:
    settings = resolve([flags({}), environment({}), ini()])
    assert settings == Settings()
    assert set(settings.origin.values()) == {"default"}


@pytest.mark.parametrize(
    ("flag", "env", "file", "value", "origin"),
    [
        ("docker", "process", "embedded", "docker", "--redisq-server"),
        (None, "process", "embedded", "process", "REDISQ_SERVER"),
        (None, None, "embedded", "embedded", "redisq_server in pytest.ini"),
        (None, "", "embedded", "embedded", "redisq_server in pytest.ini"),
    ],
)
def test_the_nearest_source_wins(flag: str | None, env: str | None, file: str, value: str, origin: str) -> None:
    """Flag before environment before ini file; an empty variable counts as unset."""
    variables = {} if env is None else {"REDISQ_SERVER": env}
    settings = resolve([flags({"redisq_server": flag}), environment(variables), ini(server=file)])
    assert (settings.server, settings.origin["server"]) == (value, origin)


def test_an_image_asks_for_docker_over_a_server_set_farther_away() -> None:
    settings = resolve([flags({"redisq_image": "valkey:9.1"}), environment({"REDISQ_SERVER": "embedded"})])
    assert (settings.server, settings.image) == ("docker", "valkey:9.1")
    assert settings.origin["server"] == "--redisq-image"


def test_an_image_beside_an_explicit_auto_leaves_the_choice_open() -> None:
    settings = resolve([ini(server="auto", image="valkey:9.1")])
    assert (settings.server, settings.image) == ("auto", "valkey:9.1")


def test_an_image_set_farther_away_than_another_server_is_unused() -> None:
    settings = resolve([flags({"redisq_server": "process"}), ini(image="valkey:9.1")])
    assert (settings.server, settings.image, settings.origin["image"]) == ("process", None, "default")


def test_a_url_is_somebody_elses_server() -> None:
    settings = resolve([environment({"REDISQ_SERVER": "rediss://user:secret@db:6380/3"})])
    assert (settings.kind, settings.url) == ("url", "rediss://user:secret@db:6380/3")


def test_server_args_are_lines_of_configuration() -> None:
    """As in redis.conf, as on the server's command line, and with an equals sign; several occurrences add up."""
    lines = ["maxmemory 10mb", "--save ''", "--timeout=1"]
    settings = resolve([flags({"redisq_server_args": lines})])
    assert settings.server_args == ("--maxmemory", "10mb", "--save", "", "--timeout", "1")


def test_server_args_from_the_environment_are_a_command_line_or_lines() -> None:
    one = resolve([environment({"REDISQ_SERVER_ARGS": "--maxmemory 10mb --timeout 1"})])
    two = resolve([environment({"REDISQ_SERVER_ARGS": "maxmemory 10mb\ntimeout 1\n"})])
    assert one.server_args == two.server_args == ("--maxmemory", "10mb", "--timeout", "1")


def test_settings_travel_to_another_process() -> None:
    settings = resolve([flags({"redisq_image": "valkey:9.1"})])
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_keyword_arguments_are_a_source_like_any_other() -> None:
    base = flags({"redisq_server": "process"})
    given = keywords({"persistence": "aof", "server_args": ["timeout 1"], "startup_seconds": 5}, "redisq_start")
    settings = resolve([given, base])
    assert (settings.server, settings.persistence, settings.startup_seconds) == ("process", "aof", 5.0)
    assert settings.server_args == ("--timeout", "1")
    assert settings.origin["persistence"] == "redisq_start(persistence=…)"


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        pytest.param(
            [flags({"redisq_server": "dokcer"})],
            "--redisq-server: 'dokcer' is not a server. Did you mean 'docker'? "
            "Valid: auto, docker, process, embedded, or a URL such as redis://localhost:6379/0.",
            id="kind",
        ),
        pytest.param(
            [environment({"REDISQ_SERVER": "redsi://:secret@db"})],
            "REDISQ_SERVER: 'redsi' is not a scheme of a Redis URL. Did you mean 'redis'? Valid: redis, rediss, unix.",
            id="scheme, with the password kept back",
        ),
        pytest.param(
            [flags({"redisq_server": "/opt/redis server"})],
            "--redisq-server: '/opt/redis server' looks like a path. "
            "For a binary, write --redisq-binary='/opt/redis server'.",
            id="path",
        ),
        pytest.param(
            [ini(persistence="afo")],
            "redisq_persistence in pytest.ini: 'afo' is not a kind of persistence. Did you mean 'aof'? "
            "Valid: none, aof, rdb.",
            id="persistence",
        ),
        pytest.param(
            [flags({"redisq_startup_seconds": "-3"})],
            "--redisq-startup-seconds: '-3' is not a number of seconds above 0.",
            id="seconds",
        ),
        pytest.param(
            [flags({"redisq_image": ""})], "--redisq-image: '' is empty or has spaces in it.", id="empty image"
        ),
        pytest.param(
            [flags({"redisq_binary": " "})],
            "--redisq-binary: it is empty; give the path of a redis-server or valkey-server.",
            id="empty path",
        ),
        pytest.param(
            [flags({"redisq_server_args": ["save '"]})],
            """--redisq-server-arg: "save '" is empty or has an open quote. Write it as a line of redis.conf.""",
            id="open quote",
        ),
        pytest.param(
            [flags({"redisq_server": "process", "redisq_image": "valkey:9.1"})],
            "--redisq-image applies to docker, but --redisq-server selects a process server. Remove one of the two.",
            id="image for a process",
        ),
        pytest.param(
            [flags({"redisq_binary": "/bin/redis", "redisq_image": "valkey:9.1"})],
            "--redisq-binary applies to process, but --redisq-image selects a docker server. Remove one of the two.",
            id="image and binary",
        ),
        pytest.param(
            [environment({"REDISQ_SERVER": "redis://db", "REDISQ_PERSISTENCE": "aof"})],
            "REDISQ_PERSISTENCE applies to docker or process or embedded, but REDISQ_SERVER selects your own server "
            "(a URL). Remove one of the two.",
            id="persistence for a URL",
        ),
    ],
)
def test_an_error_says_what_and_where_and_what_would_do(sources: list[OptionSource], text: str) -> None:
    assert complaint(*sources) == text


def test_an_unknown_keyword_argument_is_an_error() -> None:
    with pytest.raises(
        OptionError, match=r"^redisq_start\(\) has no argument 'persistance'. Did you mean 'persistence'"
    ):
        keywords({"persistance": "aof"}, "redisq_start")


def test_unknown_variables_are_named_with_the_nearest_known() -> None:
    strange = unknown_variables({"REDISQ_SEVER": "docker", "REDISQ_IMAGE": "x", "REDIS_URL": "y", "REDISQ_XYZZY": ""})
    assert strange == [
        "REDISQ_SEVER is not a variable of pytest-redisq. Did you mean 'REDISQ_SERVER'?",
        "REDISQ_XYZZY is not a variable of pytest-redisq.",
    ]


def test_an_unknown_flag_is_named_with_the_nearest_known() -> None:
    assert unknown_flag("--redisq-sever=docker").startswith(
        "--redisq-sever is not an option of pytest-redisq. Did you mean '--redisq-server'? Valid: --redisq-server, "
    )


def test_the_documentation_table_has_every_name_and_whole_rows() -> None:
    head, _, *rows = markdown_table().splitlines()
    assert [row.count("|") for row in rows] == [head.count("|")] * len(OPTIONS)
    assert all(f"`{name}`" in row for o, row in zip(OPTIONS, rows, strict=True) for name in (o.flag, o.ini, o.env))


def test_readme_is_in_step_with_the_table() -> None:
    assert markdown_table() in README.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("server", ["auto"], "ini: ['auto'] must be a string."),
        ("startup_seconds", 5, "ini: 5 must be a string."),
        ("replay", {"a": 1}, "ini: {'a': 1} must be a string."),
        ("server_args", [5], "ini: [5] must be a list of strings."),
        ("server_args", 5, "ini: 5 must be a list of strings."),
    ],
)
def test_a_value_of_a_wrong_type_is_told(name: str, raw: Any, words: str) -> None:
    """An ini file of TOML may hold lists and numbers; pytest passes them on."""
    with pytest.raises(OptionError, match=re.escape(words)):
        resolve([OptionSource(values={name: raw}, origin=lambda _: "ini")])
