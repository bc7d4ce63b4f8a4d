"""The alerts, the dashboard and the page about metrics name what the service tells."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics import parser

from iredapi.observability.exposition import Sample
from iredapi.observability.health_checks import Condition
from iredapi.observability.metrics import (
    Metrics,
    domain_samples,
    event_samples,
    login_samples,
    server_samples,
    service_samples,
    webhook_samples,
)
from iredapi.observability.signals import PoolUse

_ROOT = Path(__file__).parents[2]
families: Any = parser.text_string_to_metric_families
_NAME = re.compile(r"\biredapi_[a-z_]+")


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The names of all series, each with its labels."""
    metrics = Metrics()
    metrics.request("user.read", "GET", 200, "", seconds=0.1)
    metrics.waited("user.read", "database", 1, 0.1)
    metrics.batch_ran("reads", 2, 0.01)
    metrics.pool("vmail", PoolUse(1, 1, 0))
    metrics.unit_retried()
    metrics.audit_entries_lost(1)
    metrics.webhook_called("")
    metrics.events_published(1)
    described = {"vmail": {"node": "n", "role": "standby", "lag_seconds": 1.0}}
    samples: list[Sample] = [
        *server_samples({"vmail": Condition("ok", needed=True, milliseconds=1.0)}, described),
        *service_samples("0", "sqlite"),
        *login_samples(1, 1),
        *event_samples(1, 1.0),
        *webhook_samples({"active": (1, 1)}),
        *domain_samples([("ex.com", 1, 1, 1)]),
    ]
    found: dict[str, set[str]] = {}
    for family in families(metrics.rendered(samples).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _expressions() -> Iterator[tuple[str, str]]:
    rules = yaml.safe_load((_ROOT / "deploy/prometheus/iredapi.rules.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"], rule
            assert rule["labels"]["severity"] in {"critical", "warning"}, rule
            yield rule["alert"], rule["expr"]
    board: dict[str, Any] = json.loads((_ROOT / "deploy/grafana/iredapi.json").read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize("title, expression", list(_expressions()))
def test_expressions_name_what_there_is(
    title: str, expression: str, told: dict[str, set[str]]
) -> None:
    names = set(_NAME.findall(expression))
    assert names or title == "IredapiDown"
    assert names <= set(told)
    labels = {label for name in names for label in told[name]} | {"instance", "job", "le"}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|=)", expression))
    grouped = {
        word.strip()
        for words in re.findall(r"by \(([^)]*)\)", expression)
        for word in words.split(",")
    }
    assert matched | grouped <= labels


@pytest.mark.needs("prometheus")
def test_promtool_accepts_the_alerts() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", _ROOT / "deploy/prometheus/iredapi.rules.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _family(series: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", series)


def test_the_page_names_everything(told: dict[str, set[str]]) -> None:
    text = (_ROOT / "docs/monitoring.md").read_text("utf-8")
    named = set(_NAME.findall(text))
    families = {_family(name) for name in told}
    assert {name for name in named if not name.endswith("_")} == families
    for name, labels in told.items():
        line = next(
            row for row in text.splitlines() if re.sub(r"_(bucket|count|sum)$", "", name) in row
        )
        assert all(f"`{label}`" in line for label in labels - {"le"}), name
