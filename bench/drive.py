"""Driving a program: many small requests with ``wrk``, a long one with a plain socket."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

CONNECTIONS = 16

_SCRIPT = """\
local made = {start}
request = function()
    made = made + 1
    local n = math.random(0, {users} - 1)
    local d = n % {domains}
    local path = string.gsub(string.gsub(string.gsub("{path}", "#n", n), "#d", d), "#i", made)
    local body = string.gsub("{body}", "#i", made)
    local headers = {{ ["Cookie"] = "{cookie}" }}
    if body ~= "" then headers["Content-Type"] = "application/x-www-form-urlencoded" end
    return wrk.format("{method}", path, headers, body ~= "" and body or nil)
end
done = function(summary, latency, requests)
    local failed = summary.errors.status + summary.errors.connect + summary.errors.read
        + summary.errors.timeout
    io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, summary.duration, failed,
        latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request: ``#n`` in the path a random user, ``#d`` its domain, ``#i`` counts."""

    method: str
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk saw."""

    per_second: float
    p99: float
    """Milliseconds."""
    requests: int
    """How many were answered."""


class Failed(Exception):
    """A program answered something else than success."""


def wrk(
    address: str,
    request: Request,
    *,
    seconds: int,
    cookie: str = "",
    users: int = 1,
    domains: int = 1,
    connections: int = CONNECTIONS,
    lenient: bool = False,
) -> Rate:
    """Send one kind of request over parallel connections for some seconds. Raises Failed."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is missing: scripts/install-test-servers installs it")
    script = _SCRIPT.format(
        start=time.time_ns() // 1000 % 10**12,  # Lua writes longer numbers with an exponent
        users=users,
        domains=domains,
        path=request.path,
        body=request.body,
        cookie=cookie,
        method=request.method,
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="ascii") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s",
             "-s", file.name, address],
            capture_output=True, text=True, check=False, timeout=seconds + 60,
        )  # fmt: skip
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if found is None:
        raise Failed(f"wrk: {done.stdout}{done.stderr}")
    requests, microseconds, failed, p99 = map(int, found.groups())
    if (failed and not lenient) or not requests:
        raise Failed(f"{request.method} {request.path}: {failed} of {requests} failed")
    return Rate(requests / microseconds * 1e6, p99 / 1000, requests)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One long answer; times in seconds from the request on."""

    first: float
    """When the first byte of the body was there."""
    total: float
    size: int
    """Bytes, with the framing."""


def transfer(address: str, request: Request, cookie: str = "") -> Transfer:
    """Send one request and read the answer to its end. Raises Failed."""
    place = urlsplit(address)
    assert place.hostname and place.port
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
    if cookie:
        head += f"Cookie: {cookie}\r\n"
    if request.body:
        head += "Content-Type: application/x-www-form-urlencoded\r\n"
        head += f"Content-Length: {len(request.body)}\r\n"
    buffer, size, first = bytearray(1 << 18), 0, 0.0
    with socket.create_connection((place.hostname, place.port), timeout=600) as connection:
        started = time.perf_counter()
        connection.sendall(f"{head}\r\n{request.body}".encode())
        begin = tail = b""
        while count := connection.recv_into(buffer):
            size += count
            if not first:
                begin += buffer[:count]
                if not begin.partition(b"\r\n\r\n")[2]:
                    continue
                first = time.perf_counter() - started
            tail = (
                (tail + buffer[:count])[-80:] if count < 80 else bytes(buffer[count - 80 : count])
            )
        total = time.perf_counter() - started
    if b" 200 " not in begin[:20] or b'"_success":true' not in begin + tail:
        raise Failed(f"{request.method} {request.path}: {bytes(begin[:300])!r} … {tail!r}")
    return Transfer(first, total, size)


@contextmanager
def batch(address: str, request: Request, connections: int) -> Iterator[list[Rate]]:
    """Let others send a kind of request meanwhile; what they reached is in the list at the end."""
    program = shutil.which("wrk")
    assert program is not None
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "load.lua"
        file.write_text(
            _SCRIPT.format(
                start=0, users=1, domains=1, path=request.path, body=request.body, cookie="",
                method=request.method,
            ),
            encoding="ascii",
        )  # fmt: skip
        process = subprocess.Popen(
            [program, "-t1", f"-c{connections}", "-d600s", "--timeout=60s", "-s", file, address],
            stdout=subprocess.DEVNULL,
        )
        try:
            time.sleep(0.5)
            yield []
        finally:
            process.terminate()
            process.wait(30)


class Prober(threading.Thread):
    """Sends a small request again and again over one connection, and notes how long each took."""

    def __init__(self, address: str, path: str, cookie: str) -> None:
        super().__init__(daemon=True)
        self._connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
        self._path, self._headers = path, {"Cookie": cookie}
        self._stopping = threading.Event()
        self.milliseconds: list[float] = []

    def run(self) -> None:
        """Send until somebody says stop."""
        while not self._stopping.is_set():
            started = time.perf_counter()
            self._connection.request("GET", self._path, headers=self._headers)
            answer = self._connection.getresponse()
            answer.read()
            self.milliseconds.append((time.perf_counter() - started) * 1000)
            if answer.status != 200:
                raise Failed(f"GET {self._path}: {answer.status}")
            time.sleep(0.01)

    def stop(self) -> list[float]:
        """Stop, and return what was noted."""
        self._stopping.set()
        self.join(60)
        self._connection.close()
        return self.milliseconds
