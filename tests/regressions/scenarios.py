"""The scenarios of the entries in this folder that no other module has."""

from __future__ import annotations

from pytest_redisq.explore import queue_scenario
from pytest_redisq.queues import BlockingList, ReliableList
from tests.explore.stories import STORIES

# The origin stories, as they were written and as they should have been.

s1_drains_by_trimming = STORIES["two drainers"].broken
s1_drains_by_popping = STORIES["two drainers"].right
s2_reads_from_now_on = STORIES["xread from $"].broken
s2_reads_from_the_last = STORIES["xread from $"].right
s4_dies_with_its_job = STORIES["blpop and a kill"].broken
s4_keeps_its_job = STORIES["blpop and a kill"].right

# The same races, where others met them.

peeks_and_pops = STORIES["lindex and lpop"].broken
pops = STORIES["lindex and lpop"].right
reads_then_removes_what_is_due = STORIES["zrangebyscore and zremrangebyscore"].broken
takes_what_is_due = STORIES["zrangebyscore and zremrangebyscore"].right
requeues_in_steps = STORIES["hdel, zrem, lpush and a kill"].broken
requeues_at_once = STORIES["hdel, zrem, lpush and a kill"].right
pushes_again = STORIES["lost reply and a retry"].broken
pushes_once = STORIES["lost reply and a retry"].right

# The supplied queues, at what they promise and at what they do not.

blocking_list_keeps_all = queue_scenario(BlockingList("jobs"), "at-least-once", consumers=2, messages=2)
blocking_list_loses_some = queue_scenario(BlockingList("jobs"), "at-most-once", consumers=2, messages=2)
reliable_list_keeps_all = queue_scenario(ReliableList("jobs"), "at-least-once", consumers=2, messages=2)
