"""Where faults may strike, learnt from executions: rather where an actor does something new than where it polls."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.fault_scheduler import StepNumber
from pytest_redisq.explore.schedulers.scheduler import random_below
from pytest_redisq.explore.trace import ExecutedStep

#: The share of faults that strike where an actor has done something new. A program that polls has few such places.
_SHARE_OF_NEWS = 0.75


@dataclass(slots=True)
class FaultPlaces:
    """The places where a fault could strike in any execution, each with how often it was drawn.

    `every`: all of them. `news`: those where an actor took a step, with its reply, that it had not taken before in that
    execution. `fewest`: the fewest steps that each actor has taken in one. `struck`: whether a fault has struck.
    """

    every: dict[StepNumber, int] = field(default_factory=dict)
    news: dict[StepNumber, int] = field(default_factory=dict)
    fewest: dict[int, int] = field(default_factory=dict)
    struck: bool = False

    def learn(self, choices: Sequence[tuple[ChoicePoint, Step]], events: Sequence[ExecutedStep]) -> None:
        """Add the places of one execution. `events`: what its steps did, as far as that is known."""
        taken: dict[int, int] = {}
        seen: set[object] = set()
        for at, (point, step) in enumerate(choices):
            place = step.actor, taken.get(step.actor, 0)
            taken[step.actor] = place[1] + 1
            missed = at < len(events) and events[at].missed
            self.struck = self.struck or (point.costs(step) > 0 and not missed)
            enabled = point.enabled_step(step)
            if point.early or (enabled and enabled.faults):
                self.every.setdefault(place, 0)
            if at < len(events):
                event = events[at]
                done = [(place, (step.actor, event.args, event.reply))]
                # A command that was blocked brings its news when another step ends it.
                done += [
                    ((woken.actor, taken[woken.actor] - 1), (woken.actor, woken.args, woken.reply))
                    for woken in event.woken
                ]
                for where, what in done:
                    if what not in seen and where in self.every:
                        self.news.setdefault(where, 0)
                    seen.add(what)
        for actor in taken.keys() | self.fewest.keys():
            steps = taken.get(actor, 0)
            self.fewest[actor] = min(steps, self.fewest.get(actor, steps))

    def draw(self, rng: random.Random) -> StepNumber:
        """One of the places that were drawn least often. There must be places.

        Until a fault has struck, it is a place that every execution has reached, so that few schedules are enough.
        """
        places = self.news if self.news and rng.random() < _SHARE_OF_NEWS else self.every
        candidates = list(places)
        if not self.struck:
            candidates = [place for place in places if place[1] < self.fewest[place[0]]] or candidates
        least = min(map(places.__getitem__, candidates))
        candidates = [place for place in candidates if places[place] == least]
        place = candidates[random_below(rng, len(candidates))]
        places[place] += 1
        return place
