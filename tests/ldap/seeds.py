"""Entries written by hand, as an iRedMail server has them."""

from __future__ import annotations

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD
from tests.servers.openldap import Attributes, OpenldapServer, account_dn, domain_dn

SERVICES = (
    "mail deliver forward smtp smtpsecured smtptls imap imapsecured imaptls pop3 pop3secured"
    " pop3tls sieve sievesecured sievetls managesieve managesievesecured managesievetls lda lmtp"
    " internal doveadm lib-storage indexer-worker dsync quota-status senderbcc recipientbcc"
    " shadowaddress displayedInGlobalAddressBook sogo"
).split()
"""What a new mail user has."""


class Seeds:
    """Adds entries without any rules; arguments override the usual attributes."""

    def __init__(self, directory: OpenldapServer) -> None:
        self.directory = directory
        self._hash = hash_password(PASSWORD)

    def _add(self, dn: str, usual: Attributes, given: Attributes) -> str:
        together = {**usual, **given}
        self.directory.add(dn, {name: values for name, values in together.items() if values})
        return dn

    def domain(self, domain: str, **given: str | list[str]) -> str:
        """Add a mail domain with its four containers."""
        usual: Attributes = {
            "objectClass": "mailDomain",
            "domainName": domain,
            "mtaTransport": "dovecot",
            "accountStatus": "active",
            "enabledService": "mail",
        }
        dn = self._add(domain_dn(domain), usual, given)
        for name in ("Users", "Groups", "Aliases", "Externals"):
            self._add(f"ou={name},{dn}", {"objectClass": "organizationalUnit", "ou": name}, {})
        return dn

    def user(self, mail: str, **given: str | list[str]) -> str:
        """Add a mail user with all services."""
        local, _, domain = mail.partition("@")
        usual: Attributes = {
            "objectClass": ["inetOrgPerson", "mailUser", "shadowAccount", "amavisAccount"],
            "mail": mail,
            "uid": local,
            "cn": local,
            "sn": local,
            "userPassword": self._hash,
            "homeDirectory": f"/var/vmail/vmail1/{domain}/{local}/",
            "accountStatus": "active",
            "enabledService": SERVICES,
            "mailQuota": "104857600",
            "amavisLocal": "TRUE",
        }
        return self._add(account_dn(mail), usual, given)

    def catch_all(self, domain: str, *targets: str, **given: str | list[str]) -> str:
        """Add a catch-all account."""
        usual: Attributes = {
            "objectClass": ["inetOrgPerson", "mailUser"],
            "mail": f"@{domain}",
            "uid": "catch-all",
            "cn": "catch-all",
            "sn": "catch-all",
            "accountStatus": "active",
            "mailForwardingAddress": list(targets),
        }
        return self._add(account_dn(f"@{domain}"), usual, given)

    def alias(self, mail: str, *members: str, **given: str | list[str]) -> str:
        """Add an alias account."""
        usual: Attributes = {
            "objectClass": "mailAlias",
            "mail": mail,
            "accountStatus": "active",
            "enabledService": ["mail", "deliver"],
            "mailForwardingAddress": list(members),
        }
        return self._add(account_dn(mail, "Aliases"), usual, given)

    def maillist(self, mail: str, **given: str | list[str]) -> str:
        """Add an unsubscribable list; its members have ``memberOfGroup``."""
        usual: Attributes = {
            "objectClass": "mailList",
            "mail": mail,
            "accountStatus": "active",
            "enabledService": ["mail", "deliver", "displayedInGlobalAddressBook"],
        }
        return self._add(account_dn(mail, "Groups"), usual, given)

    def ml(self, mail: str, **given: str | list[str]) -> str:
        """Add a subscribable (mlmmj) list."""
        local, _, domain = mail.partition("@")
        return self.maillist(
            mail,
            **{
                "enabledService": ["mail", "deliver", "mlmmj"],
                "mtaTransport": f"mlmmj:{domain}/{local}",
                "mailingListID": "0b5e8fb5-5d3b-4ba6-8f1f-4a3a1c6c9a11",
                **given,
            },
        )

    def externals(self, maillist: str, *addresses: str, **given: str | list[str]) -> str:
        """Add the members of a list that are accounts of no domain here."""
        usual: Attributes = {
            "objectClass": "mailExternalUser",
            "memberOfGroup": maillist,
            "mail": list(addresses),
            "accountStatus": "active",
            "enabledService": ["mail", "deliver"],
        }
        domain = maillist.partition("@")[2]
        return self._add(f"memberOfGroup={maillist},ou=Externals,{domain_dn(domain)}", usual, given)
