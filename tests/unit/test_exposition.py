"""Our text of the files that worker processes share says what the library's own would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.openmetrics import exposition, parser

from iredapi.observability.exposition import END, Sample, SharedFiles, text_of

_Collector: Any = multiprocess.MultiProcessCollector
_Dict: Any = MmapedDict
_generate: Any = exposition.generate_latest
_key: Any = mmap_key
families: Any = parser.text_string_to_metric_families
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _samples(text: str) -> tuple[dict[str, tuple[str, str]], Samples]:
    kinds, found = {}, {}
    for family in families(text):
        kinds[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return kinds, found


class _Worker:
    """The files that one process writes."""

    def __init__(self, directory: Path, pid: int) -> None:
        self._files = {
            kind: _Dict(str(directory / f"{kind}_{pid}.db"))
            for kind in ("counter", "histogram", "gauge_livesum")
        }

    def write(self, kind: str, family: str, name: str, value: float, **labels: str) -> None:
        key = _key(family, name, list(labels), list(labels.values()), f"Help of {family}.")
        self._files[kind].write_value(key, value, 0.0)

    def observe(self, family: str, counts: list[int], total: float, **labels: str) -> None:
        for limit, count in zip(("0.001", "2.5", "10.0", "+Inf"), counts, strict=True):
            self.write("histogram", family, f"{family}_bucket", count, **labels, le=limit)
        self.write("histogram", family, f"{family}_sum", total, **labels)


def _both(directory: Path, own: SharedFiles) -> None:
    registry = CollectorRegistry()
    _Collector(registry, str(directory))
    expected = _samples(_generate(registry).decode())
    assert _samples(own.text() + END) == expected


def test_the_text_says_what_the_library_says(tmp_path: Path) -> None:
    own = SharedFiles(str(tmp_path))
    assert own.text() == ""
    one, two = _Worker(tmp_path, 11), _Worker(tmp_path, 22)
    one.write("counter", "x_requests", "x_requests_total", 3, code="", operation="a")
    two.write("counter", "x_requests", "x_requests_total", 4, code="", operation="a")
    two.write("counter", "x_requests", "x_requests_total", 0.5, code='B"\\\n', operation="b")
    one.write("counter", "x_plain", "x_plain_total", 0)
    _both(tmp_path, own)
    one.observe("x_seconds", [1, 2, 0, 1], 17.25, operation="a")
    two.observe("x_seconds", [5, 0, 0, 0], 1e-5, operation="a")
    two.observe("x_seconds", [0, 0, 0, 2], 1e9, operation="b")
    two.observe("x_sizes", [0, 0, 0, 0], 0)
    one.write("gauge_livesum", "x_pool", "x_pool", 4, pool="vmail")
    two.write("gauge_livesum", "x_pool", "x_pool", 6, pool="vmail")
    _both(tmp_path, own)
    # Numbers change, series come later, and a process ends.
    one.write("counter", "x_requests", "x_requests_total", 300, code="", operation="a")
    two.observe("x_seconds", [1, 1, 1, 1], 4, operation="c")
    _both(tmp_path, own)
    (tmp_path / "gauge_livesum_22.db").unlink()
    _both(tmp_path, own)
    (tmp_path / "gauge_livesum_11.db").unlink()
    assert "x_pool{" not in own.text()


@pytest.mark.parametrize("value", ["plain", 'quote "', "back\\slash", "two\nlines", ""])
def test_samples_are_escaped(value: str) -> None:
    text = text_of([
        Sample("one", 'A "help"\\.', {"name": value, "other": "x"}, 1),
        Sample("two", "Without labels.", {}, 2.5),
    ])  # fmt: skip
    kinds, found = _samples(text + END)
    assert kinds["iredapi_one"][0] == "gauge"
    assert found == {
        ("iredapi_one", (("name", value), ("other", "x"))): 1.0,
        ("iredapi_two", ()): 2.5,
    }
