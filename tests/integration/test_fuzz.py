"""schemathesis over the whole OpenAPI document, with real sessions, over real HTTP.

No answer is a 5xx (but 501, for what this storage has not), has a status that the document does
not name, or another shape than it says. Paths often name what is there; what a call destroys is
made again. ``make fuzz`` sends ``FUZZ_EXAMPLES`` (default 100) requests of each kind to each
operation; without it a few, the same every time.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

from iredapi.app import create_app
from iredapi.config.settings import Settings
from tests.clients import PASSWORD, ROOT
from tests.servers.api import add_root, running_on
from tests.servers.store import Store

FULL: Final = "FUZZ_EXAMPLES" in os.environ
EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "3"))
CHECKS: Final = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
PERSONAS: Final = {
    "global": ROOT,
    "of-ex.com": "norm@admins.test",
    "of-nothing": "poor@admins.test",
}
THERE: Final[dict[str, tuple[str, ...]]] = {
    "domain": ("ex.com", "other.com", "new.com", "al.com"),
    "mail": (
        "u@ex.com", "v@ex.com", "x@other.com", "list@ex.com", "new@ex.com", "norm@admins.test",
    ),
    "new_mail": ("n@ex.com", "v@ex.com", "n@other.com"),
    "account": ("global", "ex.com", "u@ex.com", "other.com", "x@other.com", "list@ex.com"),
}  # fmt: skip
"""What a path may name."""


@cache
def operations() -> list[Any]:
    """Return the document's operations."""
    document = create_app(Settings(_env_file=None)).openapi()
    schema = schemathesis.openapi.from_dict(document)
    found: list[Any] = list(schema.get_all_operations())
    return [item.ok() for item in found]


@dataclass
class World:
    """A running service, and what was sent to it."""

    address: str
    sent: Counter[int] = field(default_factory=Counter)
    """Requests by the status of their answer."""

    def client(self, username: str) -> httpx.Client:
        """Log in."""
        client = httpx.Client(base_url=f"{self.address}/api/", timeout=60, trust_env=False)
        answer = client.post("login", data={"username": username, "password": PASSWORD}).json()
        assert answer["_success"], answer
        return client

    def mend(self) -> None:
        """Make again what is not there."""
        # A session of its own each time: DELETE /api/sessions ends those of other logins, too.
        with closing(self.client(ROOT)) as root:
            self._mend(root)

    @staticmethod
    def _mend(root: httpx.Client) -> None:
        make = {
            "domain/ex.com": {}, "domain/other.com": {},
            "user/u@ex.com": {"password": PASSWORD}, "user/v@ex.com": {"password": PASSWORD},
            "user/x@other.com": {"password": PASSWORD}, "alias/list@ex.com": {},
            "admin/norm@admins.test": {"password": PASSWORD},
            "admin/poor@admins.test": {"password": PASSWORD},
        }  # fmt: skip
        for path, form in make.items():
            status = root.post(path, data=form).status_code
            assert status in {200, 403, 409}, (path, status)
        for mail in ("norm", "poor"):
            form = {"password": PASSWORD, "accountStatus": "active", "isGlobalAdmin": "no"}
            assert root.put(f"admin/{mail}@admins.test", data=form).status_code == 200
        form = {"accountStatus": "active", "numberOfUsers": "0", "numberOfAliases": "0"}
        assert root.put("domain/ex.com", data=form).status_code == 200
        form = {"addAdmin": "norm@admins.test", "removeAdmin": "poor@admins.test"}
        assert root.put("domain/admins/ex.com", data=form).status_code == 200


def placed(operation: Any) -> st.SearchStrategy[dict[str, str]]:
    """Draw existing names for most of the path's parameters."""
    names = [item for item in THERE if f"{{{item}}}" in operation.path]
    some = st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(THERE[name]) for name in names}
    )
    every = st.fixed_dictionaries({name: st.sampled_from(THERE[name]) for name in names})
    return st.one_of(every, every, some)


def fuzz(world: World, operation: Any, username: str, examples: int) -> None:
    """Send requests of an operation as somebody."""
    world.mend()

    # What is said of cases must hold for wrong ones too.
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @settings(
        max_examples=examples,
        derandomize=not FULL,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, names=placed(operation))
    def send(case: Case[Any], names: dict[str, str]) -> None:
        if isinstance(case.path_parameters, dict):
            case.path_parameters.update(names)
        response = case.call(base_url=world.address, cookies=cookies, session=session, timeout=60)
        world.sent[response.status_code] += 1
        assert response.status_code < 500 or response.status_code == 501, response.content
        case.validate_response(response, checks=CHECKS)
        if "application/x-ndjson" in response.headers.get("content-type", ()):
            assert all(isinstance(json.loads(line), dict) for line in response.content.splitlines())
            return
        answer = json.loads(response.content)
        assert answer["_success"] is (response.status_code == 200)

    with requests.Session() as session, closing(world.client(username)) as client:
        cookies = dict(client.cookies)
        session.trust_env = False
        send()


@pytest.mark.parametrize("persona", PERSONAS)
@pytest.mark.stores("sqlite", "postgresql")
async def test_every_operation(store: Store, persona: str, tmp_path: Path) -> None:
    """Whatever is sent, the answer is one that the document describes."""
    await add_root(store)
    given = {
        "IREDAPI_LOGIN_FAILURES": "1000000",
        # Nobody listens on port 1: what lists send stays in their queue.
        "IREDAPI_MLMMJ_SPOOL": str(tmp_path),
        "IREDAPI_MLMMJ_SMTP_PORT": "1",
    }
    with running_on(store, **given) as api:
        world = World(api.address)
        failures: list[str] = []
        for operation in operations():
            try:
                fuzz(world, operation, PERSONAS[persona], EXAMPLES)
            except (Exception, BaseExceptionGroup) as error:
                failures.append(f"{operation.label}: {error!r}"[:3000])
                failures += [str(note)[:1500] for note in getattr(error, "__notes__", [])]
                if hasattr(error, "exceptions"):
                    failures += [str(item)[:1500] for item in error.exceptions]
        print(f"\n{store.name} {persona}: {world.sent.total()} requests {dict(world.sent)}")
        assert not failures, "\n\n".join(failures)
        # Many are understood, or this tries nothing but doors.
        assert world.sent[200] > world.sent.total() * (0.1 if persona == "global" else 0.01)
        assert "Traceback" not in api.output
