"""A small DNS server on loopback: answers from a table, over UDP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT: Final = "SILENT"
"""In the table instead of a record type: no question about this name is ever answered."""
BROKEN: Final = "BROKEN"
"""In the table instead of a record type: every question about this name is SERVFAIL."""
Zone = Mapping[tuple[str, str], Sequence[str]]


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """``zone`` maps (name, record type) to texts of records; other names do not exist."""

    zone: Zone
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Every question, in order."""
    address: str = ""
    """``127.0.0.1:port``."""
    _transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        host, port = transport.get_extra_info("sockname")
        self.address = f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = dns.message.from_wire(data)
        asked = question.question[0]
        name, kind = asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
        self.asked.append((name, kind))
        if (name, SILENT) in self.zone:
            return
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if (name, BROKEN) in self.zone:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records := self.zone.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(asked.name, 300, "IN", kind, *records))
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def dns_server(zone: Zone) -> AsyncIterator[DnsServer]:
    """Run a server in this event loop."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: DnsServer(zone), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
