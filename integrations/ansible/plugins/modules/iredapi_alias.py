#!/usr/bin/python
"""Ansible module for mail aliases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iredapi_alias
short_description: Mail aliases of an iRedMail server
version_added: 0.1.0
description:
  - Creates, changes and removes mail alias accounts through the HTTP API iredapi.
  - Options that are not given change nothing. An empty text or list clears a value.
author: The iredapi project
extends_documentation_fragment:
  - iredapi.mail.connection
options:
  mail:
    description: Address of the alias.
    type: str
    required: true
  state:
    description: Whether the alias is there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Display name.
    type: str
  account_status:
    description: C(disabled) aliases receive no mail.
    type: str
    choices: [active, disabled]
  members:
    description:
      - All members.
      - Those in the same domain must exist, others are left out with a warning.
    type: list
    elements: str
  access_policy:
    description: Who may send to the alias, such as C(public) or C(moderatorsonly). On OpenLDAP only C(public).
    type: str
  moderators:
    description: All who may send under O(access_policy=moderatorsonly). Not on OpenLDAP.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Mail to the sales team
  iredapi.mail.iredapi_alias:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: sales@example.com
    name: Sales team
    members: [alice@example.com, bob@example.net]

- name: No sales any more
  iredapi.mail.iredapi_alias:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: sales@example.com
    state: absent
"""

RETURN = r"""
changed_fields:
  description: Options that have another value now (of the service's own names where there is no option). Empty for a new account.
  returned: success
  type: list
  elements: str
  sample: [members]
account:
  description: The profile in the service's canonical form, the same on every storage. In check mode, that of before.
  returned: when the account exists
  type: dict
  sample: {mail: sales@example.com, members: [alice@example.com]}
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
    STATE,
    STATUS,
    TEXT,
    Task,
    wire,
)

PARAMETERS = {
    "name": "name",
    "account_status": "accountStatus",
    "members": "members",
    "access_policy": "accessPolicy",
    "moderators": "moderators",
}


def ensure(task):
    """Bring the alias into the wanted state; return its profile."""
    path = f"alias/{task.params['mail']}"
    if task.params["state"] == "absent":
        task.remove(path, {})
        return None
    current = task.create_or_change(path, wire(task.params, PARAMETERS))
    return task.after(path, current)


def main():
    """Run the module."""
    options = {
        "mail": {"type": "str", "required": True},
        "state": STATE,
        "name": TEXT,
        "account_status": STATUS,
        "members": LIST,
        "access_policy": TEXT,
        "moderators": LIST,
    }
    Task(options, "alias", PARAMETERS).run(ensure)


if __name__ == "__main__":
    main()
