"""CSV of other programs: the samples have the columns that docs/import.md names."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.errors import ApiError
from iredapi.transfer.mappings import FilesOfProgram, Source

CRYPT = "$6$rounds=5000$abcdefgh$nothing"
MAILCOW = (
    """domain,description,aliases,mailboxes,defquota,maxquota,quota,relayhost,backupmx,gal,active
ex.com,Example,400,10,3072,10240,0,0,0,1,1
relay.com,Relay,0,0,0,0,0,0,1,1,1
""",
    f"""username,password,name,mailbox_path_prefix,quota,local_part,domain,kind,active
A@ex.com,{{BLF-CRYPT}}$2y$10$x,"Anna, A.",/var/vmail/,3221225472,a,ex.com,,1
off@ex.com,{CRYPT},Off,/var/vmail/,1048577,off,ex.com,,0
two@ex.com,{CRYPT},Two,/var/vmail/,0,two,ex.com,,2
room@ex.com,x,Room,/var/vmail/,0,room,ex.com,location,1
odd@ex.com,secret,Odd,/var/vmail/,many,odd,ex.com,,1
""",
    """id,address,goto,domain,active
1,a@ex.com,a@ex.com,ex.com,1
2,sales@ex.com,"a@ex.com,b@far.org",ex.com,1
3,@ex.com,a@ex.com,ex.com,1
4,trash@ex.com,null@localhost,ex.com,1
5,two@ex.com,"two@ex.com,b@far.org",ex.com,1
6,off@ex.com,b@far.org,ex.com,0
""",
    "alias_domain,target_domain,created,active\nex.org,ex.com,NULL,1\nno.org,ex.com,NULL,0\n",
)
POSTFIXADMIN = (
    """domain,description,aliases,mailboxes,maxquota,quota,transport,backupmx,active
ALL,,0,0,0,0,,0,1
ex.com,Example,0,-1,100,2048,virtual,0,t
""",
    """username,password,name,maildir,quota,local_part,domain,active,phone
a@ex.com,$1$salt$hash,A,ex.com/a/,1024000,a,ex.com,1,+49 1
""",
    """address,goto,domain,active
a@ex.com,"a@ex.com,a#ex.com@autoreply.ex.com",ex.com,1
all@ex.com,a@ex.com,ex.com,0
""",
)
MODOBOA = (
    """domain; ex.com; 1000; 100; True
domainalias; ex.org; ex.com; True
relaydomain; far.org; 192.0.2.1; 25; relay; True; False
account; a@ex.com; {SHA512-CRYPT}$6$x; Anna; Abel; True; DomainAdmins; a@ex.com; 50; ex.com
account; boss; {SHA512-CRYPT}$6$x; B; B; True; SuperAdmins; ; 0
alias; sales@ex.com; True; a@ex.com; b@far.org
forward; a@ex.com; True; b@far.org
dlist; old@ex.com; False; a@ex.com
""",
)
IREDMAIL = (
    """ex.com, zhang, secret_Pass1, Zhang Huangbin, 104857600
ex.com, li, {SSHA}abc
ex.com, wang, secret, Wang, 0, group1:group2
ex.com
""",
)


def read(
    source: Source, *files: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Any]]:
    """Return records, later ones, and what was not mapped: line and column."""
    program = FilesOfProgram(source)
    rows = [row for text in files for row in program.rows(text.splitlines(keepends=True))]
    return (
        [row.record for row in rows if row.record and not row.later],
        [row.record for row in rows if row.later],
        [
            (row.number, row.why_not.errors[0].param if row.why_not else row.note)
            for row in rows
            if not row.record
        ],
    )


def test_mailcow() -> None:
    records, later, rest = read(Source.MAILCOW, *MAILCOW)
    assert records == [
        {"type": "domain", "domain": "ex.com", "numberOfUsers": 10, "numberOfAliases": 400,
         "defaultQuota": 3072, "maxUserQuota": 10240, "name": "Example",
         "accountStatus": "active"},
        {"type": "user", "mail": "a@ex.com", "password_hash": "{BLF-CRYPT}$2y$10$x",
         "quota": 3072, "name": "Anna, A.", "accountStatus": "active"},
        {"type": "user", "mail": "off@ex.com", "password_hash": f"{{CRYPT}}{CRYPT}", "quota": 2,
         "name": "Off", "accountStatus": "disabled"},
        {"type": "user", "mail": "two@ex.com", "password_hash": f"{{CRYPT}}{CRYPT}", "quota": 0,
         "name": "Two", "suspended": "yes"},
        {"type": "alias", "mail": "sales@ex.com", "members": ["a@ex.com", "b@far.org"],
         "accountStatus": "active"},
    ]  # fmt: skip
    assert later == [
        {"type": "domain", "domain": "ex.com", "catchall": ["a@ex.com"]},
        {"type": "user", "mail": "two@ex.com", "forwarding": ["two@ex.com", "b@far.org"]},
        {"type": "domain", "domain": "ex.com", "addAliasDomain": "ex.org"},
    ]
    assert rest == [
        (3, "backupmx"), (5, "kind"), (6, "password"), (2, "the mailbox itself"), (5, "goto"),
        (7, "active"), (3, "an alias domain that is switched off"),
    ]  # fmt: skip


def test_postfixadmin() -> None:
    records, later, rest = read(Source.POSTFIXADMIN, *POSTFIXADMIN)
    assert records == [
        {"type": "domain", "domain": "ex.com", "numberOfUsers": -1, "numberOfAliases": 0,
         "maxUserQuota": 100, "quota": 2048, "name": "Example", "accountStatus": "active"},
        {"type": "user", "mail": "a@ex.com", "password_hash": "{CRYPT}$1$salt$hash", "quota": 1,
         "name": "A", "mobile": "+49 1", "accountStatus": "active"},
        {"type": "alias", "mail": "all@ex.com", "members": ["a@ex.com"],
         "accountStatus": "disabled"},
    ]  # fmt: skip
    assert later == []
    assert rest == [(2, "the domain of PostfixAdmin's super admins"), (2, "goto")]


def test_modoboa() -> None:
    records, later, rest = read(Source.MODOBOA, *MODOBOA)
    assert records == [
        {"type": "domain", "domain": "ex.com", "quota": 1000, "defaultQuota": 100,
         "accountStatus": "active"},
        {"type": "user", "mail": "a@ex.com", "password_hash": "{SHA512-CRYPT}$6$x", "gn": "Anna",
         "sn": "Abel", "name": "Anna Abel", "quota": 50, "managedDomains": ["ex.com"],
         "accountStatus": "active"},
        {"type": "alias", "mail": "sales@ex.com", "members": ["a@ex.com", "b@far.org"],
         "accountStatus": "active"},
        {"type": "alias", "mail": "old@ex.com", "members": ["a@ex.com"],
         "accountStatus": "disabled"},
    ]  # fmt: skip
    assert later == [
        {"type": "domain", "domain": "ex.com", "addAliasDomain": "ex.org"},
        {"type": "user", "mail": "a@ex.com", "forwarding": ["b@far.org"]},
    ]
    assert rest == [(3, ""), (5, "address")]


def test_iredmail() -> None:
    records, _, rest = read(Source.IREDMAIL, *IREDMAIL)
    assert records == [
        {"type": "user", "mail": "zhang@ex.com", "password": "secret_Pass1", "quota": 100,
         "name": "Zhang Huangbin"},
        {"type": "user", "mail": "li@ex.com", "password_hash": "{SSHA}abc"},
    ]  # fmt: skip
    assert rest == [(3, "groups"), (4, "")]


def test_a_file_of_something_else() -> None:
    for source in (Source.MAILCOW, Source.POSTFIXADMIN):
        with pytest.raises(ApiError):
            list(FilesOfProgram(source).rows(["a,b\n", "1,2\n"]))
    program = FilesOfProgram(Source.MAILCOW)
    (row,) = program.rows(["address,goto\n", "only one\n"])
    assert row.why_not is not None
