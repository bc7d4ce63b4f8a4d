"""What is measured: sizes, numbers of rounds, the requests, and the lines of the table."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from bench import seed
from bench.drive import Request
from bench.seed import BIG, Size

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the databases, and lengths and numbers of rounds."""

    size: Size
    seconds: int
    rounds: int
    long_rounds: int
    full: bool = False
    against: str = ""
    """A revision to compare with instead of the bare program."""


QUICK = Plan(Size(20, 2_000, 5_000), seconds=1, rounds=1, long_rounds=1)
USUAL = Plan(Size(100, 10_000, 100_000), seconds=2, rounds=5, long_rounds=3)
SMALL = Size(10, 1_000, 1)
MILLION = Size(10_000, 1_000_000, 1)

_FORM = f"username={quote(seed.ADMIN)}&password={seed.PASSWORD}"
_NEW = f"password={seed.PASSWORD}&name=New"
READ_USER = Request("GET", "/user/u#n@d#d.bench.test")
CREATE_USER = Request("POST", "/user/new#i@d#d.bench.test", _NEW)
UPDATE_USER = Request("PUT", "/user/u#n@d#d.bench.test", "name=Name #i")
SMALL_ONES = {
    "read one user": READ_USER,
    "read one domain": Request("GET", "/domain/d#d.bench.test"),
    "create user": CREATE_USER,
    "update one parameter": UPDATE_USER,
    "read a wblist": Request("GET", "/wblist/inbound/whitelist/d7.bench.test"),
    "login": Request("POST", "/login", _FORM),
}
LONG_ONES = {
    "list names": (Request("GET", f"/users/{BIG}?email_only=yes"), f"/names/{BIG}"),
    "list full profiles": (Request("GET", f"/users/{BIG}"), f"/users/{BIG}"),
}


def show(name: str, own: str, limit: str, ratio: float | None, more: str = "") -> None:
    """Print one line of the table."""
    share = "" if ratio is None else f"{ratio:.2f}"
    print(f"  {name:<34}{own:>12}{limit:>12}{share:>8}  {more}", flush=True)
