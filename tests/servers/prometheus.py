"""Debian's Prometheus: scrapes services and answers PromQL."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

from tests.servers.process import Daemon, free_port, remove_directory, temporary_directory

INTERVAL: Final = 0.5
"""Seconds between two scrapes."""
_RULES: Final = Path(__file__).parents[2] / "deploy/prometheus/iredapi.rules.yml"
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
Found = list[tuple[Mapping[str, str], float]]


def missing() -> str | None:
    """Why there can be no Prometheus here, or None."""
    present = shutil.which("prometheus") and shutil.which("promtool")
    return None if present else "prometheus is not installed"


class Prometheus:
    """Scrapes ``/metrics`` of addresses as job ``iredapi``, with the alerts of deploy/."""

    def __init__(self, addresses: Sequence[str], *, token: str) -> None:
        self._directory = temporary_directory("prometheus")
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        targets = [address.removeprefix("http://") for address in addresses]
        job = {
            "job_name": "iredapi",
            "authorization": {"credentials": token},
            "static_configs": [{"targets": targets}],
        }
        interval = f"{INTERVAL * 1000:.0f}ms"
        configuration = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval,
                       "evaluation_interval": "1s"},
            "rule_files": [str(_RULES)],
            "scrape_configs": [job],
        }  # fmt: skip
        file = self._directory / "prometheus.yml"
        file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
        self._daemon = Daemon.start(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={self._directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            log=self._directory / "log",
            ready=self._is_ready,
        )

    def _is_ready(self) -> bool:
        try:
            with _OPENER.open(f"{self.address}/-/ready", timeout=5):
                return True
        except (URLError, OSError):
            return False

    def ask(self, path: str, **parameters: str | float) -> Any:
        """Return ``data`` of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        with _OPENER.open(f"{self.address}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str, at: float | None = None) -> Found:
        """Return the result of an expression, at a time in seconds since 1970 or now."""
        when = {} if at is None else {"time": at}
        data = self.ask("query", query=expression, **when)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(item["metric"], float(item["value"][1])) for item in data["result"]]

    def value(self, expression: str, at: float | None = None) -> float:
        """Return the only number of an expression; 0 without any."""
        found = self.query(expression, at)
        assert len(found) < 2, found
        return found[0][1] if found else 0.0

    def settle(self) -> float:
        """Wait until everything up to now was scraped; return the time of the last sample."""
        asked = time.time()
        deadline = asked + 60
        while time.time() < deadline:
            # A scrape that took too long has a time as well, but no numbers.
            found = self.query('timestamp(up{job="iredapi"}) and up{job="iredapi"} == 1')
            if found and min(value for _, value in found) > asked:
                return min(value for _, value in found)
            time.sleep(INTERVAL / 2)
        raise AssertionError(f"nothing was scraped:\n{self._daemon.tail()}")

    def stop(self) -> None:
        """Stop it and remove its data."""
        self._daemon.stop()
        remove_directory(self._directory)
