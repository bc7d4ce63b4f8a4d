"""An operation that only reads cannot write: the type checker says so."""

from __future__ import annotations

from pathlib import Path

from mypy import api

PROGRAM = """
from iredapi.backends.protocols.values import Removal
from iredapi.domain.actors import SYSTEM
from iredapi.domain.throttles import Throttle
from iredapi.domain.users import User
from iredapi.runtime.context import AppContext
from iredapi.operations import admins, users
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork


async def read(unit: ReadUnit, user: User, item: Throttle) -> None:
    await unit.users.get(user.mail)
    await unit.throttles.get("@.", "inbound")
    await unit.users.claim(user.mail)  # refused
    await unit.users.save(user, user)  # refused
    await unit.users.remove(user.mail, Removal("", None))  # refused
    await unit.domains.get("a.test", share=True)  # refused
    await unit.admins.remove(user.mail)  # refused
    await unit.throttles.save(item, item)  # refused
    await unit.related_data.remove_account_data(user.mail)  # refused
    unit.note()  # refused
    await users.remove(unit, user.mail, 0)  # refused


async def write(unit: UnitOfWork, user: User) -> None:
    await read(unit, user, await unit.throttles.claim("@.", "inbound"))
    await users.remove(unit, user.mail, 0)


async def use(context: AppContext) -> None:
    await context.read(SYSTEM, users.profile, "u@a.test")
    await context.write(SYSTEM, users.remove, "u@a.test", 0)
    await context.read(SYSTEM, users.remove, "u@a.test", 0)  # refused
    await context.read(SYSTEM, admins.remove, "u@a.test")  # refused
"""


def _lines_with_errors(path: Path, program: str) -> set[int]:
    path.write_text(program)
    root = Path(__file__).parents[2]
    found, trouble, _ = api.run(
        ["--config-file", str(root / "pyproject.toml"), "--no-error-summary", str(path)]
    )
    assert not trouble
    return {int(line.split(":")[1]) for line in found.splitlines() if ": error: " in line}


def test_an_operation_that_reads_is_refused_to_write_by_the_type_checker(tmp_path: Path) -> None:
    """Each line that would write in a ``ReadUnit`` is an error, and no other line is."""
    wanted = {n for n, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# refused")}
    assert _lines_with_errors(tmp_path / "program.py", PROGRAM) == wanted
    # They are errors for no other reason: where the unit may write there are none.
    writing = PROGRAM.replace("unit: ReadUnit", "unit: UnitOfWork")
    for name in ("users.remove", "admins.remove"):
        writing = writing.replace(f"read(SYSTEM, {name}", f"write(SYSTEM, {name}")
    assert _lines_with_errors(tmp_path / "program.py", writing) == set()
