"""A small DNS server on loopback: answers from a table, over UDP."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
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
        else:
            while kind != "CNAME" and (alias := self.zone.get((name, "CNAME"))):
                answer.answer.append(_records(name, "CNAME", alias))
                name = alias[0].rstrip(".")
            if records := self.zone.get((name, kind)):
                answer.answer.append(_records(name, kind, records))
            elif not any(known == name for known, _ in self.zone):
                answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


def _records(name: str, kind: str, texts: Sequence[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text(f"{name}.", 300, "IN", kind, *texts)


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


@cache
def nowhere() -> str:
    """The address of a server for which no name exists: tests ask nobody outside of this host."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            data, address = server.recvfrom(4096)
            answer = dns.message.make_response(dns.message.from_wire(data))
            answer.set_rcode(dns.rcode.NXDOMAIN)
            server.sendto(answer.to_wire(), address)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"
