"""The type of one check: its severity and the texts that an operator reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is. With notes only, the exit status stays 0."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong."""

    severity: Severity
    sentence: str
    """What is wrong."""
    meaning: str
    """What follows from it."""
    fix: str = ""
    """What ``--fix`` does; empty: an operator has to decide."""
    named: str = ""
    """What ``--fix`` does with subjects that the operator gives with ``--named``."""
