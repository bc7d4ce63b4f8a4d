"""Set-valued parameters: the three of reset, add and remove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from iredapi.domain.addresses import joined, without


def resettable(
    present: Set[str],
    changes: Mapping[str, Any],
    reset: str,
    add: str,
    remove: str,
    *,
    only: Set[str] | None = None,
) -> frozenset[str]:
    """Return a set after a reset, or after removals and then additions.

    Values are compared folded; existing ones keep their spelling. ``only`` limits the values that
    can be added; existing values stay.
    """
    if reset not in changes and add not in changes and remove not in changes:
        return frozenset(present)

    def allowed(words: Iterable[str]) -> set[str]:
        return set(words) if only is None else set(words) & only

    if reset in changes:
        return frozenset(allowed(changes[reset]))
    return joined(without(present, changes.get(remove, ())), allowed(changes.get(add, ())))
