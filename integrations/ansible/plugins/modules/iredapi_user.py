#!/usr/bin/python
"""Ansible module for mail users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iredapi_user
short_description: Mail users of an iRedMail server
version_added: 0.1.0
description:
  - Creates, changes and removes mail users through the HTTP API iredapi.
  - Options that are not given change nothing. An empty text or list clears a value.
author: The iredapi project
extends_documentation_fragment:
  - iredapi.mail.connection
options:
  mail:
    description: Address of the user.
    type: str
    required: true
  state:
    description: Whether the user is there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Display name.
    type: str
  password:
    description: Plain password. A new user needs it, or O(password_hash).
    type: str
  password_hash:
    description: A password that is hashed already, with its scheme in braces.
    type: str
  update_password:
    description:
      - With C(always) the password is set if it is not the stored one; with C(on_create) it is for new accounts only.
      - With C(always) each run costs one verification of the stored hash.
    type: str
    choices: [always, on_create]
    default: always
  account_status:
    description: C(disabled) users neither receive mail nor log in.
    type: str
    choices: [active, disabled]
  suspended:
    description: With C(true) mail is still received, but the user neither logs in nor sends.
    type: bool
  quota:
    description: Quota of the mailbox in MB; 0 is unlimited.
    type: int
  language:
    description: Language of the pages of iRedAdmin, such as C(en_US).
    type: str
  gn:
    description: Given name.
    type: str
  sn:
    description: Surname.
    type: str
  employeeid:
    description: Number or name in the organisation.
    type: str
  telephone_number:
    description: Telephone number.
    type: str
  mobile:
    description: Mobile phone number.
    type: str
  transport:
    description: Postfix transport of the user; empty is the domain's.
    type: str
  forwarding:
    description:
      - All destinations of the mail; name the user itself to keep a copy.
      - Empty ends forwarding.
    type: list
    elements: str
  aliases:
    description: All further addresses of the user, in its domain or the alias domains of it.
    type: list
    elements: str
  sender_bcc:
    description: Address that gets a copy of what the user sends.
    type: str
  recipient_bcc:
    description: Address that gets a copy of what the user receives.
    type: str
  services:
    description: All services of the user.
    type: list
    elements: str
  is_global_admin:
    description: Whether the user manages everything; only tokens of global admins without limits may say so.
    type: bool
  managed_domains:
    description:
      - All domains that the account is an admin of; others are taken away.
      - They must exist.
    type: list
    elements: str
  mailbox_format:
    description: Format of the mailbox; mail that is there is not converted.
    type: str
    choices: [maildir, mdbox, sdbox]
  mailbox_folder:
    description: Folder of the mailbox in the user's home.
    type: str
  maildir:
    description: Absolute path of the mailbox.
    type: str
  restore:
    description: For a new user only, C(yes) or the id of a deleted mailbox. The user gets the mailbox that an earlier user with this address had.
    type: str
  keep_mailbox_days:
    description: With O(state=absent), days after which the mailbox may be removed from disk; without it, never.
    type: int
"""

EXAMPLES = r"""
- name: A user; the password is only set when the user is new
  iredapi.mail.iredapi_user:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: alice@example.com
    name: Alice Example
    password: "{{ first_password }}"
    update_password: on_create
    quota: 1024
    aliases: [sales@example.com]

- name: Alice gets her mail elsewhere too, and manages the domain
  iredapi.mail.iredapi_user:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: alice@example.com
    forwarding: [alice@example.com, alice@example.net]
    managed_domains: [example.com]

- name: Alice has left
  iredapi.mail.iredapi_user:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: alice@example.com
    state: absent
    keep_mailbox_days: 90
"""

RETURN = r"""
changed_fields:
  description: Options that have another value now (of the service's own names where there is no option). Empty for a new account.
  returned: success
  type: list
  elements: str
  sample: [quota, name]
account:
  description: The profile in the service's canonical form, the same on every storage. In check mode, that of before.
  returned: when the account exists
  type: dict
  sample: {mail: alice@example.com, quota: 1024, accountStatus: active}
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
    SECRET,
    STATE,
    STATUS,
    SWITCH,
    TEXT,
    UPDATE_PASSWORD,
    Task,
    wire,
)

PARAMETERS = {
    "name": "name",
    "password": "password",
    "password_hash": "password_hash",
    "account_status": "accountStatus",
    "suspended": "suspend",
    "quota": "quota",
    "language": "language",
    "gn": "gn",
    "sn": "sn",
    "employeeid": "employeeid",
    "telephone_number": "telephoneNumber",
    "mobile": "mobile",
    "transport": "transport",
    "forwarding": "forwarding",
    "aliases": "aliases",
    "sender_bcc": "senderBcc",
    "recipient_bcc": "recipientBcc",
    "services": "services",
    "is_global_admin": "isGlobalAdmin",
    "mailbox_format": "mailboxFormat",
    "mailbox_folder": "mailboxFolder",
    "maildir": "maildir",
}


def ensure(task):
    """Bring the user into the wanted state; return its profile."""
    params = task.params
    path = f"user/{params['mail']}"
    if params["state"] == "absent":
        task.remove(path, wire(params, {"keep_mailbox_days": "keep_mailbox_days"}))
        return None
    new = wire(params, {"restore": "restore"})
    current = task.create_or_change(path, wire(params, PARAMETERS), new=new)
    task.manage(params["mail"], params["managed_domains"], current)
    return task.after(path, current)


def main():
    """Run the module."""
    options = {
        "mail": {"type": "str", "required": True},
        "state": STATE,
        "name": TEXT,
        "password": SECRET,
        "password_hash": SECRET,
        "update_password": UPDATE_PASSWORD,
        "account_status": STATUS,
        "suspended": SWITCH,
        "quota": NUMBER,
        "language": TEXT,
        "gn": TEXT,
        "sn": TEXT,
        "employeeid": TEXT,
        "telephone_number": TEXT,
        "mobile": TEXT,
        "transport": TEXT,
        "forwarding": LIST,
        "aliases": LIST,
        "sender_bcc": TEXT,
        "recipient_bcc": TEXT,
        "services": LIST,
        "is_global_admin": SWITCH,
        "managed_domains": LIST,
        "mailbox_format": {"type": "str", "choices": ["maildir", "mdbox", "sdbox"]},
        "mailbox_folder": TEXT,
        "maildir": TEXT,
        "restore": TEXT,
        "keep_mailbox_days": NUMBER,
    }
    exclusive = [("password", "password_hash")]
    Task(options, "user", PARAMETERS, mutually_exclusive=exclusive).run(ensure)


if __name__ == "__main__":
    main()
