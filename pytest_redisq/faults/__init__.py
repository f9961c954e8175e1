"""Faults: what goes wrong on purpose. One catalogue, one type and one spelling for `run`, `explore` and `load`."""

from pytest_redisq.faults.catalogue import (
    CATALOGUE,
    EXPLORE_FAULTS,
    KIT_FAULTS,
    RESERVED_TARGETS,
    Driver,
    ExploreFault,
    ExploreFaults,
    FaultSpec,
    KitFault,
    examples,
    faults_for,
    strikes_server,
)
from pytest_redisq.faults.fault import AnyFaults, Fault, FaultName, parse_faults

__all__ = [
    "CATALOGUE",
    "EXPLORE_FAULTS",
    "KIT_FAULTS",
    "RESERVED_TARGETS",
    "AnyFaults",
    "Driver",
    "ExploreFault",
    "ExploreFaults",
    "Fault",
    "FaultName",
    "FaultSpec",
    "KitFault",
    "examples",
    "faults_for",
    "parse_faults",
    "strikes_server",
]
