"""The OpenMetrics text of the files that worker processes share, and of samples.

``prometheus_client`` writes the files. Its ``MultiProcessCollector`` and ``generate_latest`` parse
the names and labels of each series again for each scrape, which takes four times as long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client.mmap_dict import MmapedDict

END: Final = "# EOF\n"
_read: Final[Any] = MmapedDict.read_all_values_from_file  # it has no types


@dataclass(frozen=True, slots=True)
class Sample:
    """A number that is read when metrics are asked for."""

    name: str
    help: str
    labels: Mapping[str, str]
    value: float


class _Series(NamedTuple):
    """One number of the files; they sort as they are shown."""

    family: str
    labels: tuple[tuple[str, str], ...]
    """Without ``le``."""
    is_sum: bool
    """The sum of a histogram, which is shown behind its buckets."""
    limit: float
    """Upper limit of a bucket; 0: it is none."""
    kind: str
    name: str
    help: str
    key: str
    """The series in the files."""


class _Line(NamedTuple):
    """One line of the text."""

    head: str
    """The name and the labels, with a blank; or a whole line."""
    key: str
    """The series whose number follows; empty: none."""
    adds: bool
    """A bucket, which counts those before it, too."""


class SharedFiles:
    """Adds the numbers of all worker processes up. Gauges are sums as well."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._kinds: dict[str, str] = {}
        """The type of each series that was found so far."""
        self._lines: list[_Line] = []

    def text(self) -> str:
        """Return the text, without its end."""
        sums: dict[str, float] = {}
        known = len(self._kinds)
        for file in self._directory.glob("*.db"):
            try:
                values = _read(file)
            except FileNotFoundError:  # a process has ended
                continue
            for key, value, _, _ in values:
                if key in sums:
                    sums[key] += value
                else:
                    sums[key] = value
                    if key not in self._kinds:
                        self._kinds[key] = file.name.partition("_")[0]
        if len(self._kinds) != known:
            self._lines = list(_lines(_series(key, kind) for key, kind in self._kinds.items()))
        found, total = [], 0.0
        for head, key, adds in self._lines:
            if adds:
                if key:
                    total += sums.get(key, 0.0)
                found.append(f"{head}{total}\n")
            elif not key:
                found.append(head)
                total = 0.0
            elif key in sums:
                found.append(f"{head}{sums[key]}\n")
                total = 0.0
        return "".join(found)


def _series(key: str, kind: str) -> _Series:
    family, name, labels, help_text = json.loads(key)
    limit = labels.pop("le", None)
    return _Series(
        family, tuple(sorted(labels.items())), kind == "histogram" and limit is None,
        0.0 if limit is None else float(limit), kind, name, help_text, key,
    )  # fmt: skip


def _lines(every: Iterable[_Series]) -> Iterator[_Line]:
    for family, members in groupby(sorted(every), key=lambda one: one.family):
        for number, one in enumerate(members):
            if number == 0:
                yield _Line(_head_of_family(family, one.help, one.kind), "", False)
            if one.kind != "histogram":
                yield _Line(_head(one.name, one.labels), one.key, False)
            elif not one.is_sum:
                limit = "+Inf" if one.limit == float("inf") else repr(one.limit)
                yield _Line(_head(one.name, (*one.labels, ("le", limit))), one.key, True)
            else:
                yield _Line(_head(f"{family}_count", one.labels), "", True)
                yield _Line(_head(one.name, one.labels), one.key, False)


def text_of(samples: Sequence[Sample]) -> str:
    """Return the text of gauges, without its end."""
    families: dict[str, list[Sample]] = {}
    for sample in samples:
        families.setdefault(sample.name, []).append(sample)
    found = []
    for name, members in families.items():
        full = f"iredapi_{name}"
        found.append(_head_of_family(full, members[0].help, "gauge"))
        found += [f"{_head(full, one.labels.items())}{float(one.value)}\n" for one in members]
    return "".join(found)


def _head_of_family(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {_escaped(text)}\n# TYPE {name} {kind}\n"


def _head(name: str, labels: Iterable[tuple[str, str]]) -> str:
    words = ",".join([f'{label}="{_escaped(value)}"' for label, value in labels])
    return f"{name}{{{words}}} " if words else f"{name} "


def _escaped(value: str) -> str:
    if value.isalnum():
        return value
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
