"""Numbers that come from a file or a caller, where anything may stand; True and False are none."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_whole(x: Any) -> TypeGuard[int]:
    """Whether this is a whole number."""
    return isinstance(x, int) and not isinstance(x, bool)


def is_number(x: Any) -> TypeGuard[int | float]:
    """Whether this is a number, finite or not."""
    return isinstance(x, (int, float)) and not isinstance(x, bool)
