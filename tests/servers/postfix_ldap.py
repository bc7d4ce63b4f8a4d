"""Postfix's lookups in OpenLDAP, as iRedMail has them.

Each map is a search: base, scope, filter, and the attribute whose values are the answer. Written
from the description of the lookups, not copied. ``%s`` is the key, ``%d`` its domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tests.servers.openldap import BASE, READER_DN, OpenldapServer

_ACTIVE: Final = "(accountStatus=active)"
_ACCOUNT: Final = f"{_ACTIVE}(!(domainStatus=disabled))(enabledService=mail)"
_DOMAIN: Final = f"(objectClass=mailDomain){_ACTIVE}(enabledService=mail)"
_ADDRESS: Final = "(|(mail=%s)(shadowAddress=%s))"
_OF_USERS: Final = f"ou=Users,domainName=%d,{BASE}"


@dataclass(frozen=True)
class Search:
    """One map."""

    filter: str
    attribute: str
    base: str = BASE
    scope: Literal["sub", "one"] = "sub"
    format: str = "%s"

    def configuration(self, server: OpenldapServer) -> str:
        """Return the table's file, with the login of the readers."""
        return f"""
server_host = {server.uri}
version = 3
bind = yes
bind_dn = {READER_DN}
bind_pw = {server.reader_password}
start_tls = no
search_base = {self.base}
scope = {self.scope}
query_filter = (&{self.filter})
result_attribute = {self.attribute}
result_format = {self.format}
"""


def _named(key: str) -> str:
    return f"(|(domainName={key})(domainAliasName={key}))"


_HOSTED: Final = "(|(domainName=%s)(&(enabledService=domainalias)(domainAliasName=%s)))"
_GROUP: Final = (
    "(|"
    "(&(|(memberOfGroup=%s)(shadowAddress=%s))"
    "(|(objectClass=mailUser)(objectClass=mailExternalUser)))"
    "(&(memberOfGroup=%s)(!(shadowAddress=%s))(|(objectClass=mailAlias)(objectClass=mailList)))"
    f"(&(objectClass=mailList)(enabledService=mlmmj){_ADDRESS})"
    ")"
)

MAPS: Final[Mapping[str, Search]] = {
    "virtual_mailbox_domains": Search(
        f"{_DOMAIN}{_HOSTED}(!(domainBackupMX=yes))", "domainName", scope="one"
    ),
    "relay_domains": Search(f"{_DOMAIN}{_HOSTED}(domainBackupMX=yes)", "domainName", scope="one"),
    "transport_maps_user": Search(
        f"{_ACCOUNT}{_ADDRESS}"
        "(|(objectClass=mailUser)(&(objectClass=mailList)(enabledService=mlmmj)))",
        "mtaTransport",
        base=f"domainName=%d,{BASE}",
    ),
    "transport_maps_domain": Search(f"{_DOMAIN}{_named('%s')}", "mtaTransport", scope="one"),
    "virtual_mailbox_maps": Search(
        f"(objectClass=mailUser){_ACCOUNT}(enabledService=deliver){_ADDRESS}",
        "homeDirectory",
        format="%s/Maildir/",
    ),
    "virtual_alias_maps": Search(
        f"{_ACCOUNT}(enabledService=deliver){_ADDRESS}"
        "(|(objectClass=mailAlias)(&(objectClass=mailUser)(enabledService=forward)))",
        "mailForwardingAddress",
    ),
    "virtual_group_maps": Search(f"{_ACCOUNT}(enabledService=deliver){_GROUP}", "mail"),
    "virtual_group_members_maps": Search(
        f"(objectClass=mailUser){_ACCOUNT}(enabledService=deliver){_ADDRESS}", "mail"
    ),
    "catchall_maps": Search(
        f"(objectClass=mailUser){_ACTIVE}(!(domainStatus=disabled)){_ADDRESS}",
        "mailForwardingAddress",
    ),
    "sender_login_maps": Search(
        f"(objectClass=mailUser){_ACCOUNT}(enabledService=smtp){_ADDRESS}", "mail"
    ),
    **{
        f"{side}_bcc_maps_user": Search(
            f"(objectClass=mailUser){_ACCOUNT}(enabledService={side}bcc){_ADDRESS}",
            f"user{side.capitalize()}BccAddress",
            base=_OF_USERS,
            scope="one",
        )
        for side in ("sender", "recipient")
    },
    **{
        f"{side}_bcc_maps_domain": Search(
            f"{_DOMAIN}(enabledService={side}bcc){_named('%d')}",
            f"domain{side.capitalize()}BccAddress",
            scope="one",
        )
        for side in ("sender", "recipient")
    },
    "sender_dependent_relayhost_maps_user": Search(
        f"(objectClass=mailUser){_ACCOUNT}(mail=%s)", "senderRelayHost", base=_OF_USERS, scope="one"
    ),
    "sender_dependent_relayhost_maps_domain": Search(
        f"{_DOMAIN}{_named('%d')}", "senderRelayHost", scope="one"
    ),
}

PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "virtual_mailbox_domains": ("virtual_mailbox_domains",),
    "relay_domains": ("relay_domains",),
    "transport_maps": ("transport_maps_user", "transport_maps_domain"),
    "virtual_mailbox_maps": ("virtual_mailbox_maps",),
    "virtual_alias_maps": (
        "virtual_alias_maps",
        "virtual_group_maps",
        "virtual_group_members_maps",
        "catchall_maps",
    ),
    "sender_bcc_maps": ("sender_bcc_maps_user", "sender_bcc_maps_domain"),
    "recipient_bcc_maps": ("recipient_bcc_maps_user", "recipient_bcc_maps_domain"),
    "sender_dependent_relayhost_maps": (
        "sender_dependent_relayhost_maps_user",
        "sender_dependent_relayhost_maps_domain",
    ),
    "smtpd_sender_login_maps": ("sender_login_maps",),
}
"""Parameter of main.cf → its tables, in their order."""
