"""Times in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time as one would say it."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def short_duration(seconds: float) -> str:
    """A time in the unit that suits it, with three digits, for tables and log files."""
    for unit, length in (("years", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
