"""Checks of routes (rows of ``forwardings``, members in LDAP) and of rows related to accounts.

Codes, severities and texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from iredapi.doctor.catalog import Check, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

ROUTES: Final[Mapping[str, Check]] = {
    "LIST_UNDELIVERABLE": Check(
        _E,
        "A subscribable mailing list lacks the services or the transport that mail to it needs.",
        "Mail to it is refused or bounces.",
        "What is missing is added.",
    ),
    "LIST_MARK_WRONG": Check(
        _N,
        "The attribute hasMember of a list is wrong.",
        "iRedAdmin shows it wrongly. No other program reads it.",
        "The attribute is corrected.",
    ),
    "MEMBER_OF_NO_LIST": Check(
        _W,
        "An entry is a member of a list that does not exist.",
        "Postfix reads members only: mail to the list still arrives, although iRedAdmin does not "
        "show the list.",
    ),
    "MEMBER_NAME_DEAD": Check(
        _W,
        "A list names the entry (DN) of a member that does not exist.",
        "SOGo uses these names when it expands the list.",
        "The name is removed.",
    ),
    "USER_WITHOUT_ROUTE": Check(
        _E,
        "A mail user has no row in forwardings, not even the row to itself.",
        "The catch-all gets the user's mail, and mail to it through alias domains is refused.",
        "The user's row to itself is added.",
    ),
    "DISABLED_USER_ROUTED": Check(
        _W,
        "A route from or to a disabled user is active.",
        "Mail is accepted and bounces later, also to forged senders.",
        "The route is made inactive. It becomes active again when the user is enabled.",
    ),
    "ACTIVE_USER_NOT_ROUTED": Check(
        _E,
        "The row of an active user to itself is inactive.",
        "Mail to the user is refused, or goes to the catch-all.",
        "The row is made active.",
    ),
    "DISABLED_ALIAS_ROUTED": Check(
        _E,
        "A disabled alias or list has active routes.",
        "It still gets mail: Postfix reads only the routes.",
        "The routes are made inactive.",
    ),
    "ACTIVE_ALIAS_NOT_ROUTED": Check(
        _W,
        "An active alias or list has an inactive route to a member that is not disabled.",
        "The member gets no mail.",
        "The route is made active.",
    ),
    "LIST_WITHOUT_ROUTE": Check(
        _E,
        "A mailing list has no row in forwardings.",
        "Postfix refuses mail to it as unknown.",
        "The row is added.",
    ),
    "LIST_ADDRESS_OPEN": Check(
        _W,
        "A mailing list that accepts mail from some domains only has a second address.",
        "iRedAPD does not find the list by the second address: everybody can send to it.",
    ),
    "ALIAS_CLOSED": Check(
        _W,
        "Only moderators may send to an alias, and it has no moderators.",
        "iRedAPD refuses all mail to it. Add moderators, or change its accessPolicy.",
    ),
    "SELF_ROUTE_WITHOUT_ACCOUNT": Check(
        _E,
        "A row delivers an address to itself, but there is no such user or list.",
        "Mail is accepted and bounces. The address cannot be used for a new account.",
        "The row is removed.",
    ),
    "FORWARDING_WITHOUT_USER": Check(
        _W,
        "An address is forwarded, but there is no such user.",
        "Mail is forwarded, although iRedAdmin does not show it. Create an alias with this "
        "address, or remove the rows.",
        named="The row is removed.",
    ),
    "MEMBERS_WITHOUT_ALIAS": Check(
        _W,
        "There are members of an alias that does not exist.",
        "Mail reaches them, although iRedAdmin does not show it. Create the alias, or remove the "
        "rows.",
        named="The row is removed.",
    ),
    "ALIAS_ADDRESS_WITHOUT_USER": Check(
        _E,
        "An alias address belongs to a user that does not exist.",
        "Mail is accepted and bounces. The address cannot be used for a new account.",
        "The row is removed.",
    ),
    "ALIAS_OF_ITSELF": Check(
        _E,
        "An alias is a member of itself.",
        "Postfix delivers mail to a mailbox that does not exist.",
        "The member is removed.",
    ),
    "DEAD_DESTINATION": Check(
        _W,
        "Mail is forwarded to an address of a hosted domain that does not exist.",
        "It bounces. Correct the address, or remove it.",
    ),
    "ROUTE_WITHOUT_DOMAIN": Check(
        _W,
        "The address of a route is in a domain that is neither hosted nor an alias domain.",
        "The route has no effect. It takes effect when the domain is added.",
        "The row is removed.",
    ),
    "ROUTE_DOMAIN_WRONG": Check(
        _E,
        "The domain column of a route is not the mail domain of its address.",
        "The address gets no mail, or loses it when the other domain is disabled or removed.",
        "The right domain is stored.",
    ),
    "ROUTE_DESTINATION_WRONG": Check(
        _W,
        "The dest_domain of a route is not the domain of its destination.",
        "Postfix does not read it. When a domain is removed, the wrong rows are removed or kept.",
        "The right domain is stored.",
    ),
    "ROUTE_OF_FOREIGN_ADDRESS": Check(
        _E,
        "A route redirects an address of a domain that is not hosted.",
        "Mail from local users to this address outside goes to the wrong destination.",
    ),
    "ROUTE_WITHOUT_KIND": Check(
        _W,
        "A route belongs to no user, alias, list or catch-all.",
        "Mail is delivered by it, although iRedAdmin does not show it.",
        named="The row is removed.",
    ),
}

RELATED_ROWS: Final[Mapping[str, Check]] = {
    "BCC_DOMAIN_WRONG": Check(
        _W,
        "The domain column of a user's BCC row is not the domain of the user.",
        "Postfix does not find the row: no copies are sent.",
        "The right domain is stored.",
    ),
    "BCC_WITHOUT_ACCOUNT": Check(
        _W,
        "A BCC row is for an account or domain that does not exist.",
        "When the account or domain is created, copies of its mail are sent.",
        "The row is removed.",
    ),
    "BCC_INACTIVE_BUT_USED": Check(
        _E,
        "The BCC row of a domain is marked inactive.",
        "Postfix does not read this mark: copies are still sent.",
        "The row is removed, so that no copies are sent.",
    ),
    "RELAY_EMPTY": Check(
        _W,
        "A relay host is empty.",
        "Postfix logs a warning for every mail of the sender.",
        "The row is removed.",
    ),
    "RELAY_WITH_PREFIX": Check(
        _E,
        "A relay host begins with smtp:, relay: or lmtp:.",
        "Postfix takes the prefix for a host name: the sender's mail stays in the queue.",
        "The prefix is removed.",
    ),
    "RELAY_WITHOUT_ACCOUNT": Check(
        _W,
        "A relay host is for an address of a hosted domain that does not exist.",
        "When the address is created, its mail goes through this host.",
        "The row is removed.",
    ),
    "RELAY_OF_ALIAS": Check(
        _N,
        "A relay host is set for an alias or a mailing list.",
        "Postfix uses it for mail that is sent with this address.",
        named="The row is removed.",
    ),
    "USAGE_WITHOUT_USER": Check(
        _W,
        "Mailbox sizes or login times are stored for a user that does not exist.",
        "A new user with this address starts with these values.",
        "The row is removed.",
    ),
    "SHARE_WITHOUT_USER": Check(
        _W,
        "A user that does not exist has a shared folder, or access to one.",
        "A new user with this address could read mail that was never shared with it.",
        "The row is removed.",
    ),
    "FOLDER_SHARED": Check(
        _N,
        "A user has shared folders with another user, or with anyone.",
        "Nothing is wrong; Dovecot shows these folders. Reported only with `--only FOLDER_SHARED`.",
        named="The row is removed.",
    ),
    "MODERATOR_WITHOUT_LIST": Check(
        _W,
        "A moderator or owner is stored for an alias or list that does not exist.",
        "A new alias or list with this address starts with them.",
        "The row is removed.",
    ),
    "MODERATOR_GONE": Check(
        _W,
        "A moderator or owner in a hosted domain does not exist.",
        "A new account with this address can post to the list, or owns it.",
        "The moderator or owner is removed.",
    ),
}
