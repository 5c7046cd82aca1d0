r"""Choosing DPS's guidance scale lambda without a clean picture: rules that score one, and the search for the least."""

from emlib.guidance.rules import RULES
from emlib.guidance.search import CALLS, PROBE, SCALES, SearchedDPS, Tried, check_scales, search, searched_dps
from emlib.guidance.sweep import Trial, oracle, sweep

__all__ = [
    "CALLS",
    "PROBE",
    "RULES",
    "SCALES",
    "SearchedDPS",
    "Trial",
    "Tried",
    "check_scales",
    "oracle",
    "search",
    "searched_dps",
    "sweep",
]
