#!/usr/bin/python
"""Ansible module for mail domains."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iredapi_domain
short_description: Mail domains of an iRedMail server
version_added: 0.1.0
description:
  - Creates, changes and removes mail domains through the HTTP API iredapi.
  - Options that are not given change nothing. An empty text or list clears a value.
author: The iredapi project
extends_documentation_fragment:
  - iredapi.mail.connection
options:
  domain:
    description: Name of the domain. Names in other scripts than Latin may be given as they are written.
    type: str
    required: true
  state:
    description: Whether the domain is there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Short description, such as the company's name.
    type: str
  account_status:
    description: C(disabled) stops mail and logins of the whole domain.
    type: str
    choices: [active, disabled]
  suspended:
    description: With C(true) mail is still received, but no user of the domain logs in or sends.
    type: bool
  quota:
    description: Maximum sum of all mailbox quotas in MB; 0 is unlimited.
    type: int
  default_quota:
    description: Quota of new users in MB when none is given; 0 removes it.
    type: int
  max_user_quota:
    description: Maximum quota of one user in MB; 0 removes it.
    type: int
  number_of_users:
    description: Maximum number of users; 0 is unlimited, -1 is none.
    type: int
  number_of_aliases:
    description: Maximum number of aliases; 0 is unlimited, -1 is none.
    type: int
  number_of_lists:
    description: Maximum number of mailing lists; 0 is unlimited, -1 is none.
    type: int
  language:
    description: Language of new users, such as C(en_US).
    type: str
  transport:
    description: Postfix transport; empty is the server's default.
    type: str
  is_backupmx:
    description: Whether this server only relays mail of the domain.
    type: bool
  primarymx:
    description: Host or address of the primary MX, with an optional port; needs O(is_backupmx=true).
    type: str
  outbound_relay:
    description: Host through which mail from the domain is sent.
    type: str
  catchall:
    description:
      - Addresses that get mail for unknown recipients.
      - Those in the same domain must exist, others are left out with a warning.
    type: list
    elements: str
  alias_domains:
    description: All alias domains.
    type: list
    elements: str
  sender_bcc:
    description: Address that gets a copy of what users of the domain send.
    type: str
  recipient_bcc:
    description: Address that gets a copy of what users of the domain receive.
    type: str
  services:
    description: All services of the domain; on SQL only C(self-service) exists.
    type: list
    elements: str
  min_password_length:
    description: Minimum length of passwords; 0 is the server's rule.
    type: int
  max_password_length:
    description: Maximum length of passwords; 0 is the server's rule.
    type: int
  disabled_domain_profile:
    description: All settings of the domain that normal admins may not change, such as C(bcc).
    type: list
    elements: str
  disabled_user_profile:
    description: All settings of users that normal admins may not change, such as C(forwarding).
    type: list
    elements: str
  disabled_user_preference:
    description: All settings that users may not change themselves, such as C(wblist).
    type: list
    elements: str
  keep_mailbox_days:
    description: With O(state=absent), days after which the mailboxes may be removed from disk; without it, never.
    type: int
"""

EXAMPLES = r"""
- name: A customer with 20 mailboxes and 10 GB
  iredapi.mail.iredapi_domain:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    domain: example.com
    name: Example Inc.
    quota: 10240
    number_of_users: 20
    alias_domains: [example.net]

- name: An unpaid bill (mail still arrives)
  iredapi.mail.iredapi_domain:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    domain: example.com
    suspended: true

- name: The end, with mailboxes kept for 30 days
  iredapi.mail.iredapi_domain:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    domain: example.com
    state: absent
    keep_mailbox_days: 30
"""

RETURN = r"""
changed_fields:
  description: Options that have another value now (of the service's own names where there is no option). Empty for a new account.
  returned: success
  type: list
  elements: str
  sample: [quota]
account:
  description: The profile in the service's canonical form, the same on every storage. In check mode, that of before.
  returned: when the account exists
  type: dict
  sample: {domain: example.com, quota: 10240, accountStatus: active}
skipped_values:
  description: Values that the service left out, or that have no effect in the mail server. Each is a warning, too.
  returned: success
  type: list
  elements: dict
  sample: []
code:
  description: Code of the error, such as C(INVALID_NUMBER), or C(UNREACHABLE).
  returned: failure
  type: str
options:
  description: Options with wrong values.
  returned: failure
  type: list
  elements: str
errors:
  description: What the service says of each wrong parameter.
  returned: failure
  type: list
  elements: dict
request_id:
  description: Id of the request in the log of the service.
  returned: failure
  type: str
"""

from ansible_collections.iredapi.mail.plugins.module_utils.accounts import (
    LIST,
    NUMBER,
    STATE,
    STATUS,
    SWITCH,
    TEXT,
    Task,
    difference,
    wire,
)

PARAMETERS = {
    "name": "name",
    "account_status": "accountStatus",
    "suspended": "suspend",
    "quota": "quota",
    "default_quota": "defaultQuota",
    "max_user_quota": "maxUserQuota",
    "number_of_users": "numberOfUsers",
    "number_of_aliases": "numberOfAliases",
    "number_of_lists": "numberOfLists",
    "language": "language",
    "transport": "transport",
    "is_backupmx": "is_backupmx",
    "primarymx": "primarymx",
    "outbound_relay": "outboundRelay",
    "catchall": "catchall",
    "alias_domains": "aliasDomains",
    "sender_bcc": "senderBcc",
    "recipient_bcc": "recipientBcc",
    "services": "services",
    "min_password_length": "minPasswordLength",
    "max_password_length": "maxPasswordLength",
}
DISABLED = {
    "disabled_domain_profile": "DomainProfile",
    "disabled_user_profile": "UserProfile",
    "disabled_user_preference": "UserPreference",
}


def ensure(task):
    """Bring the domain into the wanted state; return its profile."""
    params = task.params
    path = f"domain/{params['domain']}"
    if params["state"] == "absent":
        task.remove(path, wire(params, {"keep_mailbox_days": "keep_mailbox_days"}))
        return None

    def adapt(parameters, current):
        for option, name in DISABLED.items():
            if params[option] is not None:
                stored = (current or {}).get(f"disabled{name}", [])
                disabled, enabled = difference(params[option], stored)
                for verb, words in (("disable", disabled), ("enable", enabled)):
                    if words:
                        parameters[f"{verb}{name}"] = ",".join(words)
        return parameters

    current = task.create_or_change(path, wire(params, PARAMETERS), adapt=adapt)
    return task.after(path, current)


def main():
    """Run the module."""
    options = {
        "domain": {"type": "str", "required": True},
        "state": STATE,
        "name": TEXT,
        "account_status": STATUS,
        "suspended": SWITCH,
        "quota": NUMBER,
        "default_quota": NUMBER,
        "max_user_quota": NUMBER,
        "number_of_users": NUMBER,
        "number_of_aliases": NUMBER,
        "number_of_lists": NUMBER,
        "language": TEXT,
        "transport": TEXT,
        "is_backupmx": SWITCH,
        "primarymx": TEXT,
        "outbound_relay": TEXT,
        "catchall": LIST,
        "alias_domains": LIST,
        "sender_bcc": TEXT,
        "recipient_bcc": TEXT,
        "services": LIST,
        "min_password_length": {**NUMBER, "no_log": False},
        "max_password_length": {**NUMBER, "no_log": False},
        "disabled_domain_profile": LIST,
        "disabled_user_profile": LIST,
        "disabled_user_preference": LIST,
        "keep_mailbox_days": NUMBER,
    }
    Task(options, "domain", PARAMETERS).run(ensure)


if __name__ == "__main__":
    main()
