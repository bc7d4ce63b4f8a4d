"""What was answered in a run, and the line that tells of it every 30 seconds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

EVERY: Final = 30.0
"""Seconds between two lines of progress."""


@dataclass
class Figures:
    """What was answered, and how often."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    """By the kind of the change."""
    answers: Counter[str] = field(default_factory=Counter)
    """By ``STATUS _msg``; 200 for what was acknowledged."""
    meanwhile: Counter[str] = field(default_factory=Counter)
    """409 CHANGED_MEANWHILE, by the kind of the change."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no cluster excuses."""
    began: float = field(default_factory=time.monotonic)
    """Monotonic, in seconds."""
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """How many changes were acknowledged."""
        return self.acknowledged.total()

    @property
    def meanwhile_share(self) -> float:
        """The share of CHANGED_MEANWHILE among all answers."""
        return self.meanwhile.total() / max(self.answers.total(), 1)

    def status(self, status: int) -> int:
        """Return how often a status of HTTP was answered."""
        return sum(n for name, n in self.answers.items() if name.startswith(f"{status}"))

    def progress(self, faults: int) -> str:
        """Return one line."""
        seconds = time.monotonic() - self.began
        return (
            f"{seconds:.0f} s: {self.total} acknowledged ({self.total / max(seconds, 1):.1f}/s), "
            f"{faults} faults, 409: {self.status(409)}, 503: {self.status(503)}, "
            f"answers: {dict(self.answers)}"
        )

    async def tell(self, faults: Callable[[], int], every: float = EVERY) -> None:
        """Print progress until cancelled."""
        while True:
            await asyncio.sleep(every)
            print(self.progress(faults()), flush=True)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {
            "acknowledged": self.total,
            "seconds": round(self.seconds, 1),
            "acknowledged_by_kind": dict(self.acknowledged),
            "answers": dict(self.answers),
            "answered_409": self.status(409),
            "answered_503": self.status(503),
            "changed_meanwhile": dict(self.meanwhile),
            "changed_meanwhile_share": round(self.meanwhile_share, 6),
            "wrong_answers": self.wrong[:20],
        }

    def __str__(self) -> str:
        """Return a few lines."""
        return (
            f"{self.total} changes acknowledged in {self.seconds:.0f} s: "
            f"{dict(self.acknowledged)}\nanswers: {dict(self.answers)}\n"
            f"CHANGED_MEANWHILE: {self.meanwhile_share:.3%} {dict(self.meanwhile)}\n"
            f"wrong answers: {self.wrong[:5]}"
        )
