"""What became of each line of an import, and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from iredapi.domain.account_records import FORMATS, WRITTEN_AS, RecordType
from iredapi.errors import ApiError, Overloaded, ReadOnlyServer, ServerDown, StorageFull
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas.params import Params
from iredapi.transfer.lines import Entry


class Word(StrEnum):
    """Results of a line."""

    DONE = "done"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


class OnExisting(StrEnum):
    """What happens to a line about something that is there already, with other values."""

    SKIP = "skip"
    UPDATE = "update"
    FAIL = "fail"


class Outcome(NamedTuple):
    """The result of one line."""

    entry: Entry
    word: Word
    more: Mapping[str, Any] = {}

    @property
    def is_fatal(self) -> bool:
        """Whether the next lines would fail as well."""
        return self.more.get("code") in _FATAL_CODES

    def to_dict(self) -> dict[str, Any]:
        """Return the line of the answer."""
        record = self.entry.record
        about: dict[str, Any] = {"line": self.entry.number}
        found = record.get("type")
        if isinstance(found, str) and found in _NAMES:
            about["type"] = found
            for name in _NAMES[found]:
                about[name] = str(record.get(name, ""))[:255]
        about["result"] = self.word
        about.update(self.more)
        return about


FATAL: Final = (ServerDown, ReadOnlyServer, StorageFull, Overloaded)
"""Errors that the next lines would have as well."""
_FATAL_CODES: Final = frozenset(error.code for error in FATAL)
_NAMES: Final = {item.value: FORMATS[item].names for item in RecordType}
"""By type: the keys that say what a line is about."""


def failed(entry: Entry, error: ApiError, form: type[Params] | None = None) -> Outcome:
    """Return the result of a line that was refused; ``error`` may name fields of the form."""
    errors = [
        {"param": name_in_file(item.param, form), "code": item.code, "detail": item.detail}
        for item in error.errors
    ]
    more: dict[str, Any] = {"code": error.code}
    if errors:
        more["param"] = errors[0]["param"]
    detail = error.detail or (errors[0]["detail"] if errors else "")
    if detail:
        more["detail"] = detail
    if len(errors) > 1:
        more["errors"] = errors
    return Outcome(entry, Word.FAILED, more)


def written(
    entry: Entry, done: WriteResult, form: type[Params] | None, ignored: Iterable[str] = ()
) -> Outcome:
    """Return the result of a line that was carried out."""
    word = Word.UNCHANGED if done.changed == () else Word.DONE
    left_out = [*ignored, *(name_in_file(name, form) for name in done.ignored)]
    return Outcome(entry, word, notes(form, left_out, done.skipped, done.adjusted))


def notes(
    form: type[Params] | None,
    ignored: Sequence[str] = (),
    skipped: Sequence[Mapping[str, Any]] = (),
    adjusted: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return what a successful answer reports beside success, with the names of the file."""
    found: dict[str, Any] = {}
    if skipped:
        found["_skipped"] = [
            {**item, "param": name_in_file(item["param"], form), "value": item["value"][:255]}
            for item in skipped
        ]
    if ignored:
        found["_ignored"] = list(dict.fromkeys(ignored))
    if adjusted:
        found["_adjusted"] = [
            {**item, "param": name_in_file(item["param"], form)} for item in adjusted
        ]
    return found


def name_in_file(param: str, form: type[Params] | None) -> str:
    """Return the key of a record for the field or parameter of an operation."""
    wire = param if form is None else form.wire_names().get(param, param)
    return WRITTEN_AS.get(wire, wire)


@dataclass(slots=True)
class Summary:
    """The numbers of an import."""

    counts: Counter[Word] = field(default_factory=Counter)
    dry_run: bool = False

    def told(self, outcomes: Iterable[Outcome]) -> bytes:
        """Count results and return their lines of the answer."""
        lines = []
        for item in outcomes:
            self.counts[item.word] += 1
            lines.append(orjson.dumps(item.to_dict(), option=orjson.OPT_APPEND_NEWLINE))
        return b"".join(lines)

    def last_line(self, error: ApiError | None = None) -> bytes:
        """Return the last line of the answer; ``error``: why the import ended early."""
        found: dict[str, Any] = {"_success": error is None}
        if error is not None:
            found["_msg"] = error.code
            if error.detail:
                found["_detail"] = error.detail
        found["summary"] = {"lines": self.counts.total()} | {
            word.value: self.counts[word] for word in Word
        }
        if self.dry_run:
            found["_dry_run"] = True
        return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)
