#!/usr/bin/python
"""Ansible module for standalone admins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iredapi_admin
short_description: Standalone admins of an iRedMail server
version_added: 0.1.0
description:
  - Creates, changes and removes standalone admins (without a mailbox) through the HTTP API iredapi.
  - A mail user becomes an admin with O(iredapi.mail.iredapi_user#module:managed_domains).
  - The token must be one of a global admin, without limits.
  - Options that are not given change nothing. An empty text or list clears a value.
author: The iredapi project
extends_documentation_fragment:
  - iredapi.mail.connection
options:
  mail:
    description: Address of the admin; its domain must not be one of this server.
    type: str
    required: true
  state:
    description: Whether the admin is there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Display name.
    type: str
  password:
    description: Plain password. A new admin needs it.
    type: str
  update_password:
    description:
      - With C(always) the password is set if it is not the stored one; with C(on_create) it is for new accounts only.
      - With C(always) each run costs one verification of the stored hash.
    type: str
    choices: [always, on_create]
    default: always
  account_status:
    description: C(disabled) admins cannot log in.
    type: str
    choices: [active, disabled]
  language:
    description: Language of the pages of iRedAdmin, such as C(en_US).
    type: str
  is_global_admin:
    description: Whether the admin manages everything. The limits below are for other admins.
    type: bool
  managed_domains:
    description:
      - All domains that the account is an admin of; others are taken away.
      - They must exist.
    type: list
    elements: str
  max_domains:
    description: Maximum number of domains that the admin may create.
    type: int
  max_quota:
    description: Maximum quota over all domains of the admin, in O(quota_unit); 0 is unlimited.
    type: int
  quota_unit:
    description: Unit of O(max_quota).
    type: str
    choices: [MB, GB, TB]
  max_users:
    description: Maximum number of users over all domains; 0 is unlimited, -1 is none.
    type: int
  max_aliases:
    description: Maximum number of aliases over all domains; 0 is unlimited, -1 is none.
    type: int
  max_lists:
    description: Maximum number of mailing lists over all domains; 0 is unlimited, -1 is none.
    type: int
  disable_viewing_mail_log:
    description: Whether iRedAdmin hides the mail log.
    type: bool
  disable_managing_quarantined_mails:
    description: Whether iRedAdmin hides quarantined mails.
    type: bool
"""

EXAMPLES = r"""
- name: A reseller with five domains at most
  iredapi.mail.iredapi_admin:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: reseller@admins.example
    name: Reseller
    password: "{{ reseller_password }}"
    update_password: on_create
    managed_domains: [example.com, example.net]
    max_domains: 5
    max_quota: 50
    quota_unit: GB
"""

RETURN = r"""
changed_fields:
  description: Options that have another value now (of the service's own names where there is no option). Empty for a new account.
  returned: success
  type: list
  elements: str
  sample: [maxQuota]
account:
  description: The profile in the service's canonical form, the same on every storage. In check mode, that of before.
  returned: when the account exists
  type: dict
  sample: {mail: reseller@admins.example, maxDomains: 5, managedDomains: [example.com]}
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
    "account_status": "accountStatus",
    "language": "language",
    "is_global_admin": "isGlobalAdmin",
    "max_domains": "maxDomains",
    "max_quota": "maxQuota",
    "quota_unit": "quotaUnit",
    "max_users": "maxUsers",
    "max_aliases": "maxAliases",
    "max_lists": "maxLists",
    "disable_viewing_mail_log": "disableViewingMailLog",
    "disable_managing_quarantined_mails": "disableManagingQuarantinedMails",
}


def ensure(task):
    """Bring the admin into the wanted state; return its profile."""
    params = task.params
    path = f"admin/{params['mail']}"
    if params["state"] == "absent":
        task.remove(path, {})
        return None
    current = task.create_or_change(path, wire(params, PARAMETERS))
    task.manage(params["mail"], params["managed_domains"], current)
    return task.after(path, current)


def main():
    """Run the module."""
    options = {
        "mail": {"type": "str", "required": True},
        "state": STATE,
        "name": TEXT,
        "password": SECRET,
        "update_password": UPDATE_PASSWORD,
        "account_status": STATUS,
        "language": TEXT,
        "is_global_admin": SWITCH,
        "managed_domains": LIST,
        "max_domains": NUMBER,
        "max_quota": NUMBER,
        "quota_unit": {"type": "str", "choices": ["MB", "GB", "TB"]},
        "max_users": NUMBER,
        "max_aliases": NUMBER,
        "max_lists": NUMBER,
        "disable_viewing_mail_log": SWITCH,
        "disable_managing_quarantined_mails": SWITCH,
    }
    Task(options, "admin", PARAMETERS).run(ensure)


if __name__ == "__main__":
    main()
