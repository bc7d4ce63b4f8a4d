"""Play the corpus, and normalise what is different in each run.

To record: put this package into the tests of the commit whose answers count, and run there
``pytest tests/published/record.py``. It writes ``answers/<store>.jsonl`` beside it: all answers of
SQLite, and of the other storages those that differ from SQLite's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients import serving
from tests.published.calls import Call, calls
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import ALL_STORES, Store

ANSWERS: Final = Path(__file__).parent / "answers"
VOLATILE: Final = {
    "request id": (r'("_request_id":)"[^"]+"', r'\1"ID"'),
    "time": (r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    "time in LDAP": (r"20\d{12}Z", "TIME"),
    "day of a new password in LDAP": (r'(shadowLastChange(?:: |":\["))\d+', r"\1DAY"),
    "id of a new mailing list": (r'("mlid":")[0-9a-f-]{36}"', r'\1ID"'),
    "time in the path of a mailbox": (r"-20\d\d\.\d\d\.\d\d\.\d\d\.\d\d\.\d\d", "-PATH.TIME"),
}
"""Named rules: what differs in each run, as an expression, and what stands for it."""


ADDED: Final = {
    "what a write reports": (
        r',"_(changed|skipped|ignored|adjusted)":\[(("[^"]*"|\{[^}]*\}),?)*\]',
        "",
    ),
    "sentences for people": (r',"_?detail":"(\\.|[^"\\])*"', ""),
}
"""Named rules: what later versions have added to answers, or say in other words."""


def without(rules: Mapping[str, tuple[str, str]], body: str) -> str:
    """Return the body of an answer without what these rules name."""
    for expression, instead in rules.values():
        body = re.sub(expression, instead, body)
    return body


Line = tuple[int, str, int, str]
"""Number and name of a call, status and normalised body of its answer."""


async def play(service: Any, every: Iterable[Call]) -> list[Line]:
    """Send the calls, one after the other."""
    await service.root()  # makes the account
    clients: dict[str, Any] = {}
    found: list[Line] = []
    for number, call in enumerate(every):
        if call.who not in clients:
            clients[call.who] = service.client().http
        sent: dict[str, Any] = {call.kind: dict(call.form)} if call.form else {}
        answer = await clients[call.who].request(call.method, call.path, **sent)
        found.append((number, call.name, answer.status_code, without(VOLATILE, answer.text)))
    return found


async def answers_of(store: Store) -> list[Line]:
    """Play all calls on a store that was emptied; its mailing lists are in a new directory."""
    spool = temporary_directory("published")
    (spool / "mlmmj").mkdir(mode=0o700)
    # Nobody listens on port 1: mail stays in the queue.
    given = {"mlmmj_spool": f"{spool}/mlmmj", "mlmmj_smtp_port": 1}
    async with serving(store, **given) as service:
        found = await play(service, calls())
    remove_directory(spool)
    return found


def recorded(store: str) -> list[Line]:
    """The recorded answers of a storage."""
    every = _read("sqlite")
    for line in _read(store) if store != "sqlite" else ():
        every[line[0]] = line
    return every


def _read(store: str) -> list[Line]:
    path = ANSWERS / f"{store}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(number, name, status, body) for number, name, status, body in map(json.loads, lines)]


@pytest.mark.stores(*ALL_STORES)
async def test_record(store: Store) -> None:
    found = await answers_of(store)
    if store.name != "sqlite":
        found = [line for line, known in zip(found, _read("sqlite"), strict=True) if line != known]
    ANSWERS.mkdir(exist_ok=True)
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in found]
    (ANSWERS / f"{store.name}.jsonl").write_text("".join(lines), encoding="utf-8")
