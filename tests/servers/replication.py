"""OpenLDAP servers that replicate (syncrepl, RFC 4533), and overlays that sites use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tests.servers.openldap import BASE, ROOT_DN, SUFFIX, OpenldapServer
from tests.servers.process import free_port

PROVIDER: Final = ("moduleload syncprov", "overlay syncprov", "syncprov-checkpoint 1 1")
"""A server that others follow."""


def following(provider: OpenldapServer, rid: int = 1) -> str:
    """The line of a server that follows another one."""
    return (
        f"syncrepl rid={rid:03} provider={provider.uri} type=refreshAndPersist "
        f'searchbase="{SUFFIX}" bindmethod=simple binddn="{ROOT_DN}" '
        f'credentials={provider.root_password} retry="1 +" timeout=2'
    )


def consumer(provider: OpenldapServer, *more: str) -> OpenldapServer:
    """A server that takes no writes and follows ``provider``; ``more`` may say ``updateref``."""
    return OpenldapServer(like=provider, lines=[following(provider), *more])


def mirror() -> tuple[OpenldapServer, OpenldapServer]:
    """Two servers that follow each other and both take writes."""
    first = OpenldapServer(lines=PROVIDER)
    second = OpenldapServer(
        like=first, lines=["serverID 2", *PROVIDER, following(first, 1), "multiprovider on"]
    )
    first.configure("serverID 1", *PROVIDER, following(second, 2), "multiprovider on")
    return first, second


def mirror_of_two(
    *, sync: bool = False, asks: bool = False
) -> tuple[OpenldapServer, OpenldapServer]:
    """Two servers of mirror mode, each with the addresses of both from its first start.

    With ``asks`` the second one asks the first for changes once a second: it lags.
    """
    seed = OpenldapServer(lines=PROVIDER)
    try:
        ports = free_port(), free_port()
        pair = []
        for number, other in ((1, ports[1]), (2, ports[0])):
            line = following(seed, number).replace(seed.uri, f"ldap://127.0.0.1:{other}")
            if asks and number == 2:
                line = line.replace("refreshAndPersist", 'refreshOnly interval="00:00:00:01"')
            lines = [f"serverID {number}", *PROVIDER, line, "multiprovider on"]
            pair.append(OpenldapServer(like=seed, lines=lines, port=ports[number - 1], sync=sync))
    finally:
        seed.stop()
    return pair[0], pair[1]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it does not happen")
        time.sleep(0.02)


def has(server: OpenldapServer, dn: str) -> Callable[[], object]:
    """Ask whether an entry has arrived."""
    return lambda: server.entry(dn) is not None


POLICY: Final = f"cn=policy,{SUFFIX}"
OVERLAYS: Final = (
    "moduleload ppolicy", "moduleload refint", "moduleload unique", "moduleload memberof",
    "moduleload accesslog", "overlay ppolicy", f"ppolicy_default {POLICY}",
    "overlay refint", "refint_attributes member", "overlay unique",
    f"unique_uri ldap:///{BASE}?employeeNumber?sub",
    "overlay memberof", "memberof-group-oc mailList", "memberof-member-ad member",
    "memberof-refint TRUE", "overlay accesslog", "logdb cn=accesslog", "logops writes",
    "logsuccess TRUE",
    # A database of its own, after the one with the overlays.
    "database mdb", "suffix cn=accesslog", "directory {directory}/accesslog",
    f"rootdn {ROOT_DN}", "index reqStart eq",
)  # fmt: skip


def overlaid() -> OpenldapServer:
    """A server with a password policy, and overlays that change entries by themselves."""
    server = OpenldapServer(lines=OVERLAYS)
    policy = {
        "objectClass": ["device", "pwdPolicy"],
        "cn": "policy",
        "pwdAttribute": "userPassword",
    }
    server.add(POLICY, policy)
    return server


def demand(server: OpenldapServer, **rules: str) -> None:
    """Give the policy these rules and no others."""
    names = ("pwdCheckQuality", "pwdInHistory", "pwdMinAge")
    server.modify(POLICY, replace={name: rules.get(name, "0") for name in names})
