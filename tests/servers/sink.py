"""Where mail ends: an SMTP server on loopback that keeps everything."""

from __future__ import annotations

import time
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller

from tests.servers.process import free_port


class Sink:
    """Listens from its construction on."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail (aiosmtpd calls this)."""
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 kept"

    def to(self, recipient: str, *, seconds: float = 20.0) -> Message:
        """Wait for a mail to somebody."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for recipients, mail in self.mails:
                if recipient in recipients:
                    return mail
            time.sleep(0.05)
        raise AssertionError(f"no mail to {recipient}: {[r for r, _ in self.mails]}")

    def stop(self) -> None:
        self._controller.stop()
