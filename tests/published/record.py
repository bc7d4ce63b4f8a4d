"""Play the corpus, and normalise what is different in each run.

To record: put this package into the tests of the commit whose answers count (``Recorded`` in
``test_published_answers``), and run ``python -m tests.published.record answers.jsonl`` there.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.published.calls import Call, calls

VOLATILE: Final = {
    "request id": (r'("_request_id":)"[^"]+"', r'\1"ID"'),
    "time": (r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
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


async def play(service: Any, every: Iterable[Call]) -> list[tuple[Call, int, str]]:
    """Send the calls, one after the other; return the status and the normalised body of each."""
    await service.root()  # makes the account
    clients: dict[str, Any] = {}
    found = []
    for call in every:
        if call.who not in clients:
            clients[call.who] = service.client().http
        sent: dict[str, Any] = {call.kind: dict(call.form)} if call.form else {}
        answer = await clients[call.who].request(call.method, call.path, **sent)
        found.append((call, answer.status_code, without(VOLATILE, answer.text)))
    return found


async def record() -> None:
    """Write one line of JSON for each call into the file that is named."""
    from tests.clients import serving
    from tests.servers.process import temporary_directory
    from tests.servers.store import create_sqlite

    store = await create_sqlite(Path(str(temporary_directory("published"))))
    await store.reset()  # as each test finds it
    async with serving(store) as service:
        found = await play(service, calls())
    await store.close()
    lines = [
        json.dumps(
            [call.who, call.method, call.path, call.kind, dict(call.form), status, body],
            ensure_ascii=False,
        )
        for call, status, body in found
    ]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")  # noqa: ASYNC240


if __name__ == "__main__":
    asyncio.run(record())
