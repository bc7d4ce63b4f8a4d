"""Signatures of webhooks, verified by the programs of ``docs/webhooks.md``; delays."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iredapi.domain.webhooks import PREFIX, delay, new_secret, signature

_PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text("utf-8")
Check = Callable[[str, str, bytes], bool]


def _program(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)[0])


def _python(secret: str, header: str, body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(_program("python"), names)  # noqa: S102 (it is our own page)
    return bool(names["is_genuine"](secret, header, body))


def _php(secret: str, header: str, body: bytes) -> bool:
    call = "[$s, $h, $b] = json_decode(getenv('GIVEN')); echo json_encode(is_genuine($s, $h, $b));"
    return _run(["php", "-r", f"{_program('php')}\n{call}"], secret, header, body)


def _node(secret: str, header: str, body: bytes) -> bool:
    call = (
        "const [s, h, b] = JSON.parse(process.env.GIVEN);"
        "console.log(JSON.stringify(isGenuine(s, h, Buffer.from(b))))"
    )
    return _run(["node", "-e", f"{_program('js')}\n{call}"], secret, header, body)


def _run(command: list[str], secret: str, header: str, body: bytes) -> bool:
    given = json.dumps([secret, header, body.decode()])
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "GIVEN": given}, capture_output=True, check=True
    )
    return bool(json.loads(done.stdout))


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(_python, id="python"),
        pytest.param(_php, id="php", marks=pytest.mark.needs("php")),
        pytest.param(_node, id="node", marks=pytest.mark.needs("node")),
    ],
)
def test_programs_of_the_page(check: Check) -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    body = '{"id":"1","account":"ä@example.com"}'.encode()
    now = int(time.time())
    header = signature([new, old], now, body)
    assert check(new, header, body)
    assert check(old, header, body)
    assert not check(other, header, body)
    assert not check(new, header, body + b" ")
    assert not check(new, header.replace(f"t={now}", f"t={now - 1}"), body)
    assert not check(new, signature([new], now - 3600, body), body)
    assert not check(new, signature([new], now + 3600, body), body)
    for nonsense in ("", "t=", "v1=", f"t={now}", f"t={now},v1=", "t=x,v1=y", "====,,"):
        assert not check(new, nonsense, body), nonsense


def test_a_known_signature() -> None:
    """RFC 4231 has no such case: this one was made with OpenSSL's command."""
    made = signature([f"{PREFIX}test"], 1796066400, b'{"id":"1"}')
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", f"{PREFIX}test"],
        input=b'1796066400.{"id":"1"}', capture_output=True, check=True,
    )  # fmt: skip
    assert made == f"t=1796066400,v1={done.stdout.decode().split()[-1]}"


def test_delays() -> None:
    for attempts, most in ((1, 1), (2, 2), (5, 16), (12, 2048), (13, 3600), (500, 3600)):
        found = [delay(attempts) for _ in range(50)]
        assert most / 2 <= min(found) <= max(found) <= most
        assert len(set(found)) > 1
