"""The exit status of a load run."""

from __future__ import annotations

#: All went as promised; the contract is broken; a threshold was missed; nobody can tell.
EXIT_PASS, EXIT_BROKEN, EXIT_MISSED, EXIT_UNKNOWN = 0, 1, 2, 3
