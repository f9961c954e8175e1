"""A baseline is read back unchanged, or rejected as unfit for a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_redisq.errors import RedisqError
from pytest_redisq.load.results.baseline import dumped, recall


def test_the_baseline_of_another_scenario_is_none(tmp_path: Path) -> None:
    (tmp_path / "main.json").write_text(dumped("drain", [{"rate": 5.0}]))
    with pytest.raises(RedisqError, match="'main' is of drain, and says nothing of mixed"):
        recall("main", "mixed", tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": []}', '{"runs": [3]}', '{"runs": [{"rate": null}]}'])
def test_a_spoilt_baseline_is_to_be_saved_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "main.json").write_text(text)
    with pytest.raises(RedisqError, match=r"main\.json (cannot be read|has no runs).* Save it again"):
        recall("main", "drain", tmp_path)
