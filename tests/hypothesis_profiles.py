"""How many examples: few by default; HYPOTHESIS_PROFILE=thorough takes as many as HYPOTHESIS_EXAMPLES says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

#: A real server has no deadline to keep.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

#: The same ones each time, so that what is green stays green; the other profiles are for the search.
settings.register_profile("redisq", _COMMON, max_examples=40, derandomize=True, database=None)
#: Others each time, also where CI is set, for which Hypothesis would draw the same ones again whatever the seed.
_FRESH = settings(_COMMON, derandomize=False)
settings.register_profile("thorough", _FRESH, max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "1000")))
#: For mutants: it is enough to know that something fails.
settings.register_profile("mutants", _FRESH, max_examples=40, phases=[Phase.generate], database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "redisq"))
