"""What a suspension, a removal and so on mean for one user: real logins and a real delivery."""

from __future__ import annotations

from typing import Protocol

import pytest

from tests.clients import PASSWORD
from tests.servers.store import Store


class Expect(Protocol):
    """Check whether the user reads and sends, and gets a message; or how many it has then."""

    def __call__(
        self, reads: str, sends: str, gets: str, messages: int | None = None, *, password: str = ...
    ) -> None: ...


def mail_of(mail: str, store: Store, request: pytest.FixtureRequest) -> Expect:
    """Start the daemons of a store; on SQLite, which they do not read, nothing is checked."""
    daemons = [
        request.getfixturevalue(name)
        for name in ("dovecot_logins", "submission", "postfix")
        if store.name != "sqlite"
    ]

    def expect(
        reads: str,
        sends: str,
        gets: str,
        messages: int | None = None,
        *,
        password: str = PASSWORD,
    ) -> None:
        if not daemons:
            return
        dovecot, submission, postfix = daemons
        arrives = postfix.query("virtual_mailbox_maps", mail) and dovecot.deliver(mail)
        assert (
            dovecot.imap_login(mail, password),
            submission.login(mail, password),
            "yes" if arrives else "no",
            dovecot.inbox(mail, password),
        ) == (reads, sends, gets, messages)

    return expect
