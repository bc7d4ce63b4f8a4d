"""The LDAP client on a real slapd."""

from __future__ import annotations

import asyncio
import string
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import bonsai
import pytest

import iredapi.backends.ldap.client as client_module
from iredapi.backends.ldap.client import (
    Change,
    Directory,
    DirectoryOptions,
    Entry,
    Op,
    Scope,
    escape_filter,
    names_in,
    rdn,
)
from iredapi.backends.ldap.errors import (
    EntryExists,
    InvalidData,
    LdapError,
    NoSuchEntry,
    NoSuchValue,
    NotLeaf,
    Refused,
    SizeLimit,
    Unavailable,
    ValueExists,
)
from tests.ldap.conftest import Heartbeat, freeze, opened, options_for
from tests.servers.openldap import BASE, BIND_DN, OpenldapServer

PERSON = f"cn=p,{BASE}"


def person(name: str = "p", **more: list[str | bytes]) -> dict[str, list[str | bytes]]:
    """Attributes of an entry whose object classes allow nearly all attributes."""
    return {"objectClass": ["inetOrgPerson"], "cn": [name], "sn": ["s"], **more}


# Values -----------------------------------------------------------------------------------------

ODD = ["TRUE", "FALSE", "12345", "+3", "0x10", "1_000", "007", "0b11", "-1", "ü€😀", "a b", "\\2C"]


async def test_values_come_back_as_they_were_sent(client: Directory) -> None:
    await client.add(
        PERSON,
        {
            **person(),
            "description": ODD,
            "description;lang-de": ["16"],
            "carLicense": ["0x10", "FALSE"],
            "userPassword": [b"\x00\xff12", b"12", "TRUE"],
            "jpegPhoto": [b"\xff\xd8\x00"],
            "mobile": [],
        },
    )
    for _ in range(2):  # before and after the names are known
        found = await client.get(PERSON)
        assert found is not None
        assert sorted(found.values("DESCRIPTION")) == sorted(ODD)
        assert found.raw("description;lang-de") == (b"16",)
        assert set(found.raw("carlicense")) == {b"0x10", b"FALSE"}
        assert set(found.raw("userPassword")) == {b"\x00\xff12", b"12", b"TRUE"}
        assert found.raw("jpegPhoto") == (b"\xff\xd8\x00",)
        assert all(type(value) is bytes for values in found.attributes.values() for value in values)
    found = await client.get(PERSON)
    assert found is not None
    assert "carLicense" in found.attributes
    assert found.values("mobile") == ()
    assert found.value("mobile") == ""
    assert found.dn == PERSON


async def test_pages_give_values_as_they_were_sent(client: Directory) -> None:
    for number in range(25):
        # Attributes that bonsai has not converted before.
        more: dict[str, list[str | bytes]] = {"roomNumber": [f"{number}"], "employeeType": ["TRUE"]}
        await client.add(f"cn=n{number},{BASE}", person(f"n{number}", **more))
    pages = [
        page
        async for page in client.pages(BASE, Scope.ONE, "(cn=n*)", ("roomNumber", "cn"), size=10)
    ]
    assert [len(page) for page in pages] == [10, 10, 5]
    entries = [entry for page in pages for entry in page]
    assert {entry.value("roomNumber") for entry in entries} == {str(n) for n in range(25)}
    assert {tuple(entry.attributes) for entry in entries} == {("cn", "roomNumber")}
    found = await client.search(BASE, Scope.ONE, "(cn=n*)", ("employeeType",))
    assert {entry.raw("employeetype") for entry in found} == {(b"TRUE",)}


async def test_entry_reads_text() -> None:
    entry = Entry("cn=x", {"CN": (b"a", b"\xff")})
    assert entry.values("cn") == ("a", "\N{REPLACEMENT CHARACTER}")
    assert entry.raw("cN") == (b"a", b"\xff")
    assert entry.value("CN") == "a"


# Changes ----------------------------------------------------------------------------------------


async def test_changes_happen_in_their_order(client: Directory) -> None:
    await client.add(PERSON, person(title=["Foo", "Bar"], description=["x"], ou=["1", "2"]))
    await client.modify(
        PERSON,
        [
            Change(Op.DELETE, "title", ("Foo",)),
            Change(Op.ADD, "Title", ("foo", "new")),  # equal to Foo: only in this order
            Change(Op.DELETE, "title", ("bar",)),
            Change(Op.DELETE, "description"),
            Change(Op.ADD, "description", ("y", b"z")),
            Change(Op.REPLACE, "ou", ("3",)),
            Change(Op.ADD, "ou", ("4",)),
            Change(Op.REPLACE, "mobile"),
            Change(Op.REPLACE, "sn", ("t",)),
            Change(Op.ADD, "l", ()),
        ],
    )
    found = await client.get(PERSON)
    assert found is not None
    assert sorted(found.values("title")) == ["foo", "new"]
    assert sorted(found.values("description")) == ["y", "z"]
    assert sorted(found.values("ou")) == ["3", "4"]
    assert found.values("sn") == ("t",)
    await client.modify(PERSON, [Change(Op.REPLACE, "ou")])
    await client.modify(PERSON, [])
    found = await client.get(PERSON, ("ou", "title"))
    assert found is not None
    assert set(found.attributes) == {"title"}


async def test_modify_is_atomic(client: Directory) -> None:
    await client.add(PERSON, person(title=["x"]))
    before = await client.get(PERSON)
    with pytest.raises(NoSuchValue):
        await client.modify(
            PERSON, [Change(Op.REPLACE, "title", ("y",)), Change(Op.DELETE, "mail", ("z",))]
        )
    assert await client.get(PERSON) == before


async def test_rename_and_move(client: Directory) -> None:
    await client.add(PERSON, person())
    await client.add(f"ou=a,{BASE}", {"objectClass": ["organizationalUnit"], "ou": ["a"]})
    await client.add(f"cn=below,ou=a,{BASE}", person("below"))
    await client.rename(PERSON, f"cn=q,ou=a,{BASE}")
    moved = await client.get(f"cn=q,ou=a,{BASE}")
    assert moved is not None
    assert moved.values("cn") == ("q",)
    await client.rename(f"ou=a,{BASE}", f"ou=b,{BASE}")
    assert await client.get(f"cn=below,ou=b,{BASE}")
    with pytest.raises(EntryExists):
        await client.rename(f"cn=q,ou=b,{BASE}", f"cn=below,ou=b,{BASE}")
    with pytest.raises(NotLeaf):
        await client.delete(f"ou=b,{BASE}")
    await client.delete(f"cn=q,ou=b,{BASE}")
    assert await client.get(f"cn=q,ou=b,{BASE}") is None


# Errors -----------------------------------------------------------------------------------------

ERRORS: list[tuple[str, type[LdapError], int, Callable[[Directory], Awaitable[object]]]] = [
    ("exists", EntryExists, 68, lambda c: c.add(PERSON, person())),
    ("no parent", NoSuchEntry, 32, lambda c: c.add(f"cn=x,ou=no,{BASE}", person("x"))),
    ("no entry", NoSuchEntry, 32, lambda c: c.modify("cn=no," + BASE, [Change(Op.REPLACE, "l")])),
    ("delete none", NoSuchEntry, 32, lambda c: c.delete(f"cn=no,{BASE}")),
    ("rename none", NoSuchEntry, 32, lambda c: c.rename(f"cn=no,{BASE}", f"cn=x,{BASE}")),
    ("value", ValueExists, 20, lambda c: c.modify(PERSON, [Change(Op.ADD, "cn", ("P",))])),
    ("attribute", NoSuchValue, 16, lambda c: c.modify(PERSON, [Change(Op.DELETE, "mail")])),
    ("no value", NoSuchValue, 16, lambda c: c.modify(PERSON, [Change(Op.DELETE, "cn", ("x",))])),
    ("undefined", InvalidData, 17, lambda c: c.modify(PERSON, [Change(Op.ADD, "nix", ("x",))])),
    ("empty", InvalidData, 21, lambda c: c.modify(PERSON, [Change(Op.ADD, "title", ("",))])),
    ("syntax", InvalidData, 21, lambda c: c.modify(PERSON, [Change(Op.ADD, "mail", ("ü",))])),
    ("naming", InvalidData, 64, lambda c: c.modify(PERSON, [Change(Op.REPLACE, "cn", ("x",))])),
    ("must", InvalidData, 65, lambda c: c.modify(PERSON, [Change(Op.REPLACE, "sn")])),
    ("class", InvalidData, 65, lambda c: c.add(f"cn=x,{BASE}", {"objectClass": ["top"]})),
    ("dn", InvalidData, 34, lambda c: c.delete("nonsense")),
    ("search dn", InvalidData, 34, lambda c: c.search("nonsense", Scope.SUB, "(cn=*)")),
    ("no dn", InvalidData, 34, lambda c: c.modify("", [Change(Op.REPLACE, "l")])),
    ("filter", InvalidData, -7, lambda c: c.search(BASE, Scope.SUB, "(cn=*")),
    ("access", Refused, 50, lambda c: c.delete(BIND_DN)),
    ("surrogate", InvalidData, 21, lambda c: c.add(f"cn=x,{BASE}", person("\udc80"))),
]


@pytest.mark.parametrize(
    "kind,code,operation", [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS]
)
async def test_errors_have_their_class_and_code(
    client: Directory,
    kind: type[LdapError],
    code: int,
    operation: Callable[[Directory], Awaitable[object]],
) -> None:
    await client.add(PERSON, person())
    with pytest.raises(LdapError) as caught:
        await operation(client)
    assert (type(caught.value), caught.value.code) == (kind, code)
    # The connection is as good as before.
    assert await client.get(PERSON)
    assert client.open_connections == client.idle_connections == 1


async def test_codes_are_not_mixed_up_between_threads(client: Directory) -> None:
    await client.add(PERSON, person())

    async def fail(name: str) -> int:
        with pytest.raises(InvalidData) as caught:
            await client.modify(PERSON, [Change(Op.ADD, name, ("",))])
        return caught.value.code

    codes = await asyncio.gather(*(fail(name) for name in ("nix", "title") * 100))
    assert codes == [17, 21] * 100


async def test_texts_of_errors_tell_no_values(client: Directory) -> None:
    with pytest.raises(InvalidData) as caught:
        await client.add(PERSON, person(mail=["sécret"]))
    assert "cret" not in f"{caught.value}{caught.value!r}"
    assert "secret" not in repr(DirectoryOptions(("ldap://x",), "cn=x", "secret"))
    assert "secret" not in repr(Change(Op.ADD, "userPassword", ("secret",)))


async def test_searches_without_a_base_find_nothing(client: Directory) -> None:
    assert await client.search(f"ou=no,{BASE}", Scope.SUB, "(objectClass=*)") == []
    assert [page async for page in client.pages(f"ou=no,{BASE}", Scope.SUB, "(cn=*)")] == []
    assert await client.get(f"ou=no,{BASE}") is None
    assert await client.search(BASE, Scope.SUB, "(nix=1)") == []


async def test_wrong_password_is_refused(directory: OpenldapServer) -> None:
    async with opened(options_for(directory, password="wrong")) as client:
        with pytest.raises(Refused) as caught:
            await client.get(BASE)
        assert caught.value.code == 49
        assert client.open_connections == 0


def test_size_limit_class_stands_for_its_codes() -> None:
    assert SizeLimit(4).code == 4


# Names and filters ------------------------------------------------------------------------------

NAMES = [
    *(f"a{char}b" for char in string.punctuation + " é"),
    *(char for char in string.punctuation),
    "a\\2Cb", "a\\,b", "\\5C2C", "\\\\", "\\5c\\2c", " a", "b ", " #x ", "#a", "c\u2028d", "😀",
    "cn=x,o=y", 'a"b",c', "x" * 64, "e  f", "g\x01h", "i\x7fj", "+", "a+sn=b", "\\20",
]  # fmt: skip


async def test_names_find_the_entry_and_no_other(client: Directory) -> None:
    seen = {}
    for name in NAMES:
        if name.casefold() in seen:
            continue
        dn = f"{rdn('cn', name)},{BASE}"
        await client.add(dn, person(name))
        found = await client.get(dn)
        assert found is not None, name
        assert name in found.values("cn")
        [by_filter] = await client.search(BASE, Scope.ONE, f"(cn={escape_filter(name)})")
        assert by_filter == found
        # The name that the server gives leads there, too.
        await client.modify(found.dn, [Change(Op.ADD, "title", (name,))])
        seen[name.casefold()] = found.dn
    everything = await client.search(BASE, Scope.ONE, "(cn=*)")
    assert {entry.dn: entry.values("title") for entry in everything} == {
        entry.dn: entry.values("cn") for entry in everything
    }
    for number, dn in enumerate(seen.values()):
        await client.rename(dn, f"cn=number{number},{BASE}")
        await client.rename(f"cn=number{number},{BASE}", dn)
        await client.delete(dn)
    assert await client.search(BASE, Scope.ONE, "(cn=*)") == []


async def test_nul_never_names_another_entry(client: Directory) -> None:
    await client.add(PERSON, person())
    before = await client.get(PERSON)
    for operation in (
        client.delete(f"{PERSON}\0x"),
        client.modify(f"{PERSON}\0x", [Change(Op.REPLACE, "title", ("x",))]),
        client.modify(PERSON, [Change(Op.REPLACE, "title\0x", ("x",))]),
        client.rename(f"{PERSON}\0x", f"cn=q,{BASE}"),
        client.rename(PERSON, f"cn=q,{BASE}\0,o=x"),
        client.search(BASE, Scope.SUB, "(cn=p\0*)"),
        client.get(f"{PERSON}\0x"),
        client.add(f"cn=x,{BASE}\0", person("x")),
    ):
        with pytest.raises(InvalidData):
            await operation
    assert await client.get(PERSON) == before
    assert escape_filter("a*()\\\0é") == "a\\2a\\28\\29\\5c\\00é"
    assert rdn("cn", "") == "cn="
    assert rdn("cn", "a\0") == "cn=a\\00"


async def test_schema_has_names_of_attributes_and_classes(client: Directory) -> None:
    schema = await client.schema()
    assert {"mailquota", "mailuser", "surname", "sn", "inetorgperson", "domainstatus"} <= schema
    assert "nix" not in schema
    assert names_in("( 1.2 NAME ( 'a' 'B-c' ) DESC 'NAME x' )") == ["a", "b-c"]
    assert names_in("( 1.2 NAME 'Only' SUP top )") == ["only"]
    assert names_in("( 1.2 SUP top )") == []


# Connections ------------------------------------------------------------------------------------


async def test_opens_nothing_until_it_is_used(directory: OpenldapServer) -> None:
    async with opened(options_for(directory)) as client:
        assert client.open_connections == 0
        await asyncio.gather(*(client.get(BASE) for _ in range(40)))
        assert 1 <= client.open_connections <= 8


async def test_pool_works_at_once_after_a_restart(own_server: OpenldapServer) -> None:
    async with opened(options_for(own_server)) as client:
        await asyncio.gather(*(client.get(BASE) for _ in range(40)))
        own_server.restart()
        await client.add(PERSON, person())  # a write is not tried twice: it must be right
        assert all(await asyncio.gather(*(client.get(PERSON) for _ in range(40))))


async def test_wait_for_a_slot_is_limited(own_server: OpenldapServer) -> None:
    options = options_for(own_server, size=2, pool_timeout=0.3, timeout=2.0)
    async with opened(options) as client:
        async with aclosing(client.pages(BASE, Scope.SUB, "(objectClass=*)", size=1)) as pages:
            await anext(pages)
            await freeze(own_server)
            reading = asyncio.create_task(client.get(BASE))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                await client.add(PERSON, person())
            assert 0.2 < time.monotonic() - started < 1
            assert not caught.value.uncertain
            own_server.thaw()
            await reading
        assert await client.get(BASE)


async def test_closing_pages_early_gives_the_connection_back(client: Directory) -> None:
    for number in range(12):
        await client.add(f"cn=n{number},{BASE}", person(f"n{number}"))
    for _ in range(20):
        async with aclosing(client.pages(BASE, Scope.ONE, "(cn=n*)", size=5)) as pages:
            assert len(await anext(pages)) == 5
            # Other requests work at the same time.
            assert await client.get(BASE)
    await asyncio.sleep(0.05)
    assert client.open_connections == client.idle_connections <= 2
    assert len(await client.search(BASE, Scope.ONE, "(cn=n*)")) == 12


async def test_cancelled_write_runs_to_its_end(own_server: OpenldapServer) -> None:
    async with opened(options_for(own_server)) as client:
        assert await client.get(BASE)
        await freeze(own_server)
        writing = asyncio.create_task(client.add(PERSON, person()))
        await asyncio.sleep(0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert client.idle_connections == 0
        own_server.thaw()
        assert await client.get(PERSON)
        with pytest.raises(EntryExists):
            await client.add(PERSON, person())


async def test_closing_is_limited_in_time(
    own_server: OpenldapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_CLOSE_SECONDS", 0.3)
    client = Directory(options_for(own_server, timeout=30.0))
    assert await client.get(BASE)
    await freeze(own_server)
    reading = asyncio.create_task(client.add(PERSON, person()))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await client.close()
    assert time.monotonic() - started < 2
    with pytest.raises(Unavailable):
        await reading
    assert client.open_connections == 0
    with pytest.raises(Unavailable):
        await client.get(BASE)


async def test_failover_to_the_next_server_and_back(
    own_server: OpenldapServer, directory: OpenldapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iredapi.backends.ldap.server_selection._DOWN", 0.5)
    own_server.add(f"ou=first,{BASE}", {"objectClass": "organizationalUnit", "ou": "first"})
    # Both must know the same login.
    directory.modify(BIND_DN, replace={"userPassword": own_server.password})
    try:
        async with opened(options_for(own_server, uris=(own_server.uri, directory.uri))) as client:
            assert await client.get(f"ou=first,{BASE}")
            own_server.halt()
            assert await client.get(f"ou=first,{BASE}") is None
            assert await client.get(BASE)
            own_server.resume()
            for _ in range(100):
                await asyncio.sleep(0.05)
                if await client.get(f"ou=first,{BASE}"):
                    break
            else:
                raise AssertionError("the first server is not used again")
    finally:
        directory.modify(BIND_DN, replace={"userPassword": directory.password})


async def test_dead_first_server_costs_its_time_once(
    directory: OpenldapServer, dropped_port: int
) -> None:
    uris = (f"ldap://127.0.0.1:{dropped_port}", directory.uri)
    async with opened(options_for(directory, uris=uris, connect_timeout=0.5, size=4)) as client:
        started = time.monotonic()
        assert await client.get(BASE)
        first = time.monotonic() - started
        started = time.monotonic()
        assert all(await asyncio.gather(*(client.get(BASE) for _ in range(40))))
        rest = time.monotonic() - started
    assert first >= 0.5
    assert rest < 0.5


# TLS --------------------------------------------------------------------------------------------

_TLS_PROGRAM = """
import asyncio, sys
from iredapi.backends.ldap.client import Directory, DirectoryOptions
from iredapi.backends.ldap.errors import LdapError
uri, dn, password, starttls, ca_file, verify, base = sys.argv[1:]
async def main():
    options = DirectoryOptions((uri,), dn, password, bool(starttls), ca_file, bool(verify))
    client = Directory(options)
    try:
        print("found" if await client.get(base) else "nothing")
    except LdapError as error:
        print(type(error).__name__, error)
    await client.close()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def tls_server(openldap_server: OpenldapServer) -> object:
    server = OpenldapServer(tls=True)
    yield server
    server.stop()


@pytest.mark.parametrize("starttls", [False, True], ids=["ldaps", "starttls"])
@pytest.mark.parametrize("trust", ["right", "wrong", "system", "unverified", "name"])
def test_tls_verifies_certificates(
    tls_server: OpenldapServer, starttls: bool, trust: str, tmp_path: Path
) -> None:
    from tests.servers.certificates import Authority

    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(Authority("another").certificate)
    ca_file = {"right": str(tls_server.ca_file), "name": str(tls_server.ca_file)}.get(trust, "")
    uri = tls_server.uri if starttls else tls_server.tls_uri
    if trust == "name":
        uri = uri.replace("127.0.0.1", "127.0.0.2" if starttls else "localhost")
    done = subprocess.run(
        [sys.executable, "-c", _TLS_PROGRAM, uri, BIND_DN, tls_server.password,
         "yes" if starttls else "", str(wrong) if trust == "wrong" else ca_file,
         "" if trust == "unverified" else "yes", BASE],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    answer = done.stdout.splitlines()[-1]
    assert done.returncode == 0, done.stderr
    if trust in {"right", "unverified"}:
        assert answer == "found", done.stdout
    else:
        assert answer.startswith("Unavailable"), done.stdout


def test_a_second_tls_configuration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_tls", None)

    def options(**more: object) -> DirectoryOptions:
        return DirectoryOptions(("ldaps://127.0.0.1",), "cn=x", "x", **more)  # type: ignore[arg-type]

    Directory(options(ca_file="/a"))
    Directory(options(ca_file="/a"))
    Directory(DirectoryOptions(("ldap://127.0.0.1",), "cn=x", "x", ca_file="/b"))
    with pytest.raises(ValueError, match="TLS"):
        Directory(options(ca_file="/b"))
    with pytest.raises(ValueError, match="TLS"):
        Directory(options(ca_file="/a", verify=False))


@pytest.mark.parametrize("uri", ["http://x", "ldap://", "x", "ldap://h/o=x", "ldap://h:port"])
def test_wrong_uris_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Directory(DirectoryOptions((uri,), "cn=x", "x"))


@pytest.mark.parametrize("starttls", [False, True], ids=["ldaps", "starttls"])
async def test_silent_tls_server_does_not_stall(
    starttls: bool, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_tls", None)
    uri = f"{'ldap' if starttls else 'ldaps'}://127.0.0.1:{silent_port}"
    options = DirectoryOptions((uri,), "cn=x", "x", starttls, connect_timeout=0.5)
    stalls = []
    for _ in range(3):
        async with Heartbeat() as heart, opened(options) as client:
            started = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                await client.get(BASE)
            assert time.monotonic() - started < 1.5
            assert not caught.value.uncertain
        stalls.append(heart.longest)
        if heart.longest < 0.1:
            return
    raise AssertionError(stalls)


# What is replaced in bonsai ---------------------------------------------------------------------


def test_replaced_pieces_of_bonsai_are_in_use(openldap_server: OpenldapServer) -> None:
    """A newer bonsai with other names must fail this test."""
    connection = openldap_server.connect()
    try:
        with pytest.raises(bonsai.NoSuchObjectError) as caught:
            connection.delete(f"cn=no,{BASE}")
        assert type(caught.value).__module__ == "iredapi.backends.ldap.bonsai_patches"
        [entry] = connection.search(BASE, 0)
        assert type(entry).__module__ == "iredapi.backends.ldap.bonsai_patches"
        assert str(entry.dn) == BASE
    finally:
        connection.close()
