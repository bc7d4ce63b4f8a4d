"""Checks of domains and accounts: codes, severities and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from iredapi.doctor.catalog import Check, Severity

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

DOMAINS: Final[Mapping[str, Check]] = {
    "ALIAS_DOMAIN_IS_DOMAIN": Check(
        _E,
        "An alias domain is also a mail domain.",
        "Postfix finds both: mail reaches the accounts of one domain, of the other, or of both.",
    ),
    "ALIAS_DOMAIN_WITHOUT_TARGET": Check(
        _W,
        "An alias domain points to a domain that is not hosted.",
        "Mail to it is refused, and no domain of this name can be created.",
        "The row is removed.",
    ),
    "ALIAS_DOMAIN_OF_ALIAS_DOMAIN": Check(
        _W,
        "An alias domain points to another alias domain.",
        "Postfix resolves one alias domain only: mail to it is refused.",
    ),
    "ALIAS_DOMAIN_TWICE": Check(
        _E,
        "Two domains have the same alias domain.",
        "Mail to it reaches the accounts of one domain, of the other, or of both.",
    ),
    "ALIAS_DOMAINS_OFF": Check(
        _E,
        "A domain has alias domains, but not the service domainalias.",
        "Postfix does not find the alias domains: mail to them is refused.",
        "The service is switched on.",
    ),
    "CONTAINER_MISSING": Check(
        _E,
        "One of the containers (ou=…) of a domain is missing.",
        "Accounts that belong into it cannot be created, and lookups of Postfix fail.",
        "The container is created.",
    ),
    "COUNTER_WRONG": Check(
        _N,
        "A counter of a domain does not match the number of its accounts.",
        "iRedAdmin shows a wrong number. No other program reads it.",
        "The right number is stored.",
    ),
    "TRANSPORT_EMPTY": Check(
        _W,
        "A domain has an empty transport.",
        "Postfix logs a warning at every lookup and uses its default transport.",
        "The default transport is stored.",
    ),
    "TRANSPORT_BARE_ADDRESS": Check(
        _W,
        "A transport has an IP address without brackets.",
        "Postfix takes the address for a host name: mail stays in the queue.",
        "The address is put into brackets.",
    ),
    "BACKUP_MX_DELIVERS_HERE": Check(
        _E,
        "A backup MX domain has a transport that delivers on this server.",
        "Mail to the domain is accepted and then bounces.",
    ),
    "SETTINGS_UNREADABLE": Check(
        _W,
        "The settings of an account have an item that iRedAdmin cannot read.",
        "iRedAdmin fails on this account. An item must have exactly one colon.",
    ),
}

ACCOUNTS: Final[Mapping[str, Check]] = {
    "NOT_LOWER_CASE": Check(
        _E,
        "An address or domain name is stored with upper-case letters.",
        "Where the database compares with regard to case, Postfix and Dovecot do not find it.",
    ),
    "ACCOUNT_WITHOUT_DOMAIN": Check(
        _E,
        "An account is in a domain that is not hosted.",
        "It gets no mail and cannot log in. It works again when the domain is added.",
    ),
    "ACCOUNT_DOMAIN_WRONG": Check(
        _E,
        "The domain column of an account is not the domain of its address.",
        "The account counts for the other domain, and its admins can manage it. Delivery fails.",
        "The domain of the address is stored.",
    ),
    "ENTRY_MISPLACED": Check(
        _W,
        "An entry is not at the DN that its kind and address require, or has several addresses.",
        "Postfix and the API find it by its address. iRedAdmin, and the lookups of BCC addresses "
        "and relay hosts, do not find it.",
    ),
    "DOMAIN_STATUS_MISSING": Check(
        _E,
        "An account of a disabled domain has no domainStatus=disabled.",
        "Postfix and Dovecot read accounts only: it gets mail, and its user can log in.",
        "The attribute is added.",
    ),
    "DOMAIN_STATUS_LEFT": Check(
        _E,
        "An account has domainStatus=disabled, but its domain is active.",
        "It gets no mail and its user cannot log in.",
        "The attribute is removed.",
    ),
    "TWIN_MISSING": Check(
        _E,
        "An account or a member of a list lacks its address in an alias domain.",
        "With LDAP each address in an alias domain must be stored: mail to it is refused.",
        "The address is added, unless another account has it.",
    ),
    "ALIAS_ADDRESS_WITHOUT_DOMAIN": Check(
        _W,
        "An account has an address in a domain that is neither hosted nor an alias domain.",
        "The address gets no mail. It gets mail when somebody adds the domain.",
        "The address is removed.",
    ),
    "ADDRESS_TWICE": Check(
        _E,
        "Two accounts have the same address.",
        "Mail goes to both, or to one of them at random.",
    ),
    "ALIAS_ADDRESS_SHARED": Check(
        _W,
        "An alias address belongs to more than one user.",
        "Each of them gets the mail, and can send with this address.",
    ),
    "MAILBOX_SHARED": Check(
        _E,
        "Two users have the same mailbox directory.",
        "They can read and delete each other's mail.",
    ),
    "MAILBOX_IN_REMOVAL_QUEUE": Check(
        _E,
        "The mailbox of an existing user is in the queue of mailboxes to delete.",
        "The clean-up job deletes the user's mail on the date of the row.",
        "The row is removed from the queue.",
    ),
    "DATE_UNKNOWN": Check(
        _N,
        "A date column holds something that is not a date: zeros, month 0, infinity, text, or a "
        "year after 9999.",
        "The API reads it as no date. Other programs may fail on it. MariaDB may refuse to alter "
        "a table that holds it.",
    ),
    "LOGIN_NETWORKS_EMPTY": Check(
        _E,
        "The list of networks that a user may log in from is an empty text, not NULL.",
        "Dovecot refuses every login of the user.",
        "The list is set to NULL: the user can log in from any network.",
    ),
    "SOGO_SWITCH_NUMERIC": Check(
        _W,
        "A SOGo column holds 0 or 1 instead of n or y.",
        "SOGo does not understand it.",
        "0 becomes n, 1 becomes y.",
    ),
    "USER_NAME_REFUSED": Check(
        _E,
        "A user's address has characters that Dovecot refuses in user names.",
        "The user cannot log in, and Dovecot 2.3 delivers no mail. Change the address, or add the "
        "characters to Dovecot's `auth_username_chars` and to IREDAPI_AUTH_USERNAME_CHARS.",
    ),
    "PASSWORD_BARE_CRYPT": Check(
        _E,
        "A hash is stored without its scheme, or with {BCRYPT}, which Dovecot does not know.",
        "With SQL, Dovecot 2.4 takes the text of the hash for the password itself: whoever has "
        "read the hash can log in with it, and the user cannot. With LDAP, Dovecot 2.4 takes it "
        "for a hash, but a bind (Dovecot 2.3, SOGo, iRedAdmin) takes the text for the password. "
        "With {BCRYPT} nobody can log in.",
        "The right scheme is put in front, {CRYPT} for a crypt hash. The hash does not change.",
    ),
    "PASSWORD_BARE_ON_23": Check(
        _W,
        "A crypt hash is stored without its scheme.",
        "Dovecot 2.3 with SQL takes it for a hash. Dovecot 2.4 takes the text of the hash for the "
        "password itself: repair it before the upgrade.",
        "{CRYPT} is put in front. The hash does not change.",
    ),
    "ADMIN_PASSWORD_BARE": Check(
        _W,
        "The hash of a standalone admin is stored without its scheme, or with {BCRYPT}.",
        "This service reads it. Another program may take the text of the hash for the password.",
        "The right scheme is put in front. The hash does not change.",
    ),
    "PASSWORD_WITHOUT_SCHEME": Check(
        _E,
        "A password is stored without a scheme, and is not clearly a hash.",
        "With SQL, Dovecot 2.4 takes the text for the password itself, and 2.3 for a crypt hash. "
        "With LDAP, each login is a temporary failure with Dovecot 2.4. Set the password anew.",
    ),
    "PASSWORD_REFUSED_BY_DOVECOT": Check(
        _E,
        "Dovecot refuses or does not know the scheme of a user's password.",
        "The user cannot log in; with Dovecot 2.4 and a weak scheme it is a temporary failure. "
        "Set the password anew. `auth_allow_weak_schemes = yes` in Dovecot's configuration helps "
        "until that is done; this report does not read it.",
    ),
    "PASSWORD_VALUES_IGNORED": Check(
        _W,
        "A user has several values of `userPassword`.",
        "Dovecot 2.4 reads the first only: nobody can log in with the others. A bind takes all.",
    ),
    "BACKUP_MX_USER": Check(
        _W,
        "There is an active user in a backup MX domain.",
        "Dovecot 2.4, and every Dovecot with LDAP, lets the user log in to send mail. The mail "
        "that comes in goes to the primary MX, not to this mailbox. Disable or remove the user.",
    ),
    "PASSWORD_SPELLING": Check(
        _W,
        "The scheme of a password is not written as slapd writes it.",
        "With Dovecot 2.3 slapd checks the password: the user cannot log in.",
        "The scheme is written as slapd writes it, and the hash does not change. A password in "
        "plain text ({PLAIN}) is hashed.",
    ),
    "PASSWORD_UNKNOWN_TO_SLAPD": Check(
        _N,
        "slapd does not know the scheme of a password.",
        "With Dovecot 2.3 slapd checks passwords: the user cannot log in. Dovecot 2.4 checks "
        "passwords itself.",
    ),
    "INTERNAL_SERVICE_OFF": Check(
        _N,
        "A service that Dovecot itself needs is switched off for a user.",
        "doveadm, quota, indexing or shared folders do not work for the user.",
    ),
    "LIST_WITHOUT_ID": Check(
        _W,
        "A mailing list has no id.",
        "A second mailing list without an id cannot be stored.",
    ),
}
