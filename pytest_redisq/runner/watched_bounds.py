"""Watches what the bounds of a queue remove during a run."""

from __future__ import annotations

from collections.abc import Collection

import redis

from pytest_redisq.runner.run_plan import RunPlan
from pytest_redisq.runner.status_table import StatusTable
from pytest_redisq.search import BoundEvidence, EntryWatch, KeptBack, NamespaceSearch, TrimWatch, declared_bound


def watch_bounds(
    client: redis.Redis, search: NamespaceSearch, plan: RunPlan, table: StatusTable, killed: Collection[int]
) -> BoundEvidence:
    """What bounds remove from now on.

    * `client`: asks the server how often it has trimmed.
    * `search`: searches the namespace of the run.
    * `plan`: the run's plan.
    * `table`: where the workers say what their commands have done, and what they were handed.
    * `killed`: the slots of the workers that faults have killed by the end.
    """
    keeps = declared_bound(plan.factory.queue)

    def kept_back() -> KeptBack:
        told = table.kept_back(but_for=killed)
        known = {message for each in told for message in each.first if not each.reads}
        read = {message for each in told for message in each.first if each.reads}
        return KeptBack(known, read, more=any(each.number > len(each.first) for each in told))

    return BoundEvidence(
        search,
        EntryWatch(search.search_streams, table.seen, owned=plan.owns_keys, declared=keeps is not None),
        trims=TrimWatch(client, table.seen, shared=plan.shares_server).evidence,
        kept_back=kept_back,
        keeps=keeps,
    )
