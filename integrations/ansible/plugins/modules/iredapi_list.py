#!/usr/bin/python
"""Ansible module for mailing lists."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iredapi_list
short_description: Mailing lists of an iRedMail server
version_added: 0.1.0
description:
  - Creates, changes and removes mailing lists through the HTTP API iredapi.
  - Options that are not given change nothing. An empty text or list clears a value.
  - Options that the kind of list does not have are refused with C(IGNORED_PARAMETER).
author: The iredapi project
extends_documentation_fragment:
  - iredapi.mail.connection
options:
  mail:
    description: Address of the list.
    type: str
    required: true
  kind:
    description:
      - C(ml) are lists of mlmmj. People can subscribe to them.
      - C(maillist) are lists of OpenLDAP. Their members are set here.
    type: str
    choices: [ml, maillist]
    default: ml
  state:
    description: Whether the list is there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Display name.
    type: str
  account_status:
    description: C(disabled) lists receive no mail; C(ml) only.
    type: str
    choices: [active, disabled]
  access_policy:
    description: Who may send to the list.
    type: str
    choices: [public, domain, subdomain, membersonly, moderatorsonly, membersandmoderatorsonly]
  members:
    description: All members; C(maillist) only.
    type: list
    elements: str
  subscribers:
    description:
      - All subscribers; C(ml) only.
      - Who is not named is unsubscribed, whatever the kind of subscription is.
    type: list
    elements: str
  subscription:
    description: Kind of the subscriptions of O(subscribers), each post, collected, or nothing.
    type: str
    choices: [normal, digest, nomail]
    default: normal
  require_confirm:
    description: Whether new subscribers are asked by mail first. Until they answer, each run asks them again and says C(changed).
    type: bool
    default: false
  is_newsletter:
    description: Whether the list is on the web page of newsletters. C(ml) only.
    type: bool
  close_list:
    description: Refuse to subscribe and to unsubscribe by mail. C(ml) only.
    type: bool
  only_moderator_can_post:
    description: Only moderators may post. C(ml) only.
    type: bool
  only_subscriber_can_post:
    description: Only subscribers may post. C(ml) only.
    type: bool
  disable_subscription:
    description: Refuse to subscribe by mail, but not to unsubscribe. C(ml) only.
    type: bool
  disable_subscription_confirm:
    description: Subscribe without a confirmation by mail. C(ml) only.
    type: bool
  disable_digest_subscription:
    description: Refuse digest subscriptions. C(ml) only.
    type: bool
  disable_digest_text:
    description: Leave the summary out of digests. C(ml) only.
    type: bool
  disable_nomail_subscription:
    description: Refuse nomail subscriptions. C(ml) only.
    type: bool
  moderated:
    description: Moderators decide on each post. C(ml) only.
    type: bool
  moderate_non_subscriber_post:
    description: Let moderators decide on posts of those who may not post. C(ml) only.
    type: bool
  disable_retrieving_old_posts:
    description: Refuse to send old posts. C(ml) only.
    type: bool
  only_subscriber_can_get_old_posts:
    description: Send old posts to subscribers only. C(ml) only.
    type: bool
  disable_retrieving_subscribers:
    description: Refuse to send the list of subscribers to the owner. C(ml) only.
    type: bool
  disable_send_copy_to_sender:
    description: Senders get no copy of their posts. C(ml) only.
    type: bool
  notify_owner_when_sub_unsub:
    description: Tell the owners who comes and goes. C(ml) only.
    type: bool
  notify_sender_when_moderated:
    description: Tell senders that their post waits for a moderator. C(ml) only.
    type: bool
  disable_archive:
    description: Keep no posts. C(ml) only.
    type: bool
  moderate_subscription:
    description: Let moderators of subscriptions, or else the owners, decide on subscriptions. C(ml) only.
    type: bool
  newsletter_description:
    description: What that page says of the list. C(ml) only.
    type: str
  subscription_moderators:
    description: Who decides on subscriptions. C(ml) only.
    type: list
    elements: str
  extra_addresses:
    description: All other addresses of the list. C(ml) only.
    type: list
    elements: str
  owner:
    description: All owners; a new list's is its postmaster. C(ml) only.
    type: list
    elements: str
  moderators:
    description: All moderators; a new list's is its postmaster. C(ml) only.
    type: list
    elements: str
  max_message_size:
    description: Maximum size of a post in bytes; 0 is unlimited. C(ml) only.
    type: int
  subject_prefix:
    description: Begins the subject of each post. C(ml) only.
    type: str
  custom_headers:
    description: All own headers of posts, each C(Name, colon, value). C(ml) only.
    type: list
    elements: str
  remove_headers:
    description: All headers that are taken out of posts. C(ml) only.
    type: list
    elements: str
  footer_text:
    description: Ends the text of each post. C(ml) only.
    type: str
  footer_html:
    description: Ends the HTML of each post. C(ml) only.
    type: str
  open_extra_addresses:
    description: Take O(extra_addresses) together with O(access_policy=domain) or C(subdomain), although everybody can send to them. C(ml) only.
    type: bool
  keep_archive:
    description: With O(state=absent), whether settings and posts stay in the archive directory; they do without it. C(ml) only.
    type: bool
"""

EXAMPLES = r"""
- name: A newsletter
  iredapi.mail.iredapi_list:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: news@example.com
    name: News of our shop
    access_policy: moderatorsonly
    owner: [alice@example.com]
    moderators: [alice@example.com]
    subscribers: "{{ customers }}"
    footer_text: Example Inc.

- name: A list of OpenLDAP, with members
  iredapi.mail.iredapi_list:
    url: https://mail.example.com
    token: "{{ iredapi_token }}"
    mail: staff@example.com
    kind: maillist
    access_policy: membersonly
    members: [alice@example.com, bob@example.com]
"""

RETURN = r"""
changed_fields:
  description: Options that have another value now (of the service's own names where there is no option). Empty for a new account.
  returned: success
  type: list
  elements: str
  sample: [subscribers]
account:
  description: The profile in the service's canonical form, the same on every storage. In check mode, that of before.
  returned: when the account exists
  type: dict
  sample: {mail: news@example.com, accessPolicy: moderatorsonly}
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

SWITCHES = (
    "is_newsletter",
    "close_list",
    "only_moderator_can_post",
    "only_subscriber_can_post",
    "disable_subscription",
    "disable_subscription_confirm",
    "disable_digest_subscription",
    "disable_digest_text",
    "disable_nomail_subscription",
    "moderated",
    "moderate_non_subscriber_post",
    "disable_retrieving_old_posts",
    "only_subscriber_can_get_old_posts",
    "disable_retrieving_subscribers",
    "disable_send_copy_to_sender",
    "notify_owner_when_sub_unsub",
    "notify_sender_when_moderated",
    "disable_archive",
    "moderate_subscription",
    "open_extra_addresses",
)
TEXTS = (
    "newsletter_description",
    "subject_prefix",
    "footer_text",
    "footer_html",
)
LISTS = (
    "subscription_moderators",
    "extra_addresses",
    "owner",
    "moderators",
    "remove_headers",
)
POLICIES = [
    "public",
    "domain",
    "subdomain",
    "membersonly",
    "moderatorsonly",
    "membersandmoderatorsonly",
]
PARAMETERS = {
    "name": "name",
    "account_status": "accountStatus",
    "access_policy": "accessPolicy",
    "members": "members",
    "max_message_size": "max_message_size",
    **{name: name for name in (*SWITCHES, *TEXTS, *LISTS)},
}
NAMES = {**PARAMETERS, "custom_headers": "custom_headers"}


def ensure(task):
    """Bring the list into the wanted state; return its profile."""
    params = task.params
    path = f"{params['kind']}/{params['mail']}"
    if params["state"] == "absent":
        task.remove(path, wire(params, {"keep_archive": "keep_archive"}))
        return None
    # Who is subscribed is a large part of an answer.
    query = {"with_subscribers": "yes"} if params["subscribers"] is not None else {}
    if params["kind"] == "maillist":
        query = {}
    parameters = wire(params, PARAMETERS)
    parameters.update(wire(params, {"custom_headers": "custom_headers"}, joined="\n"))

    def adapt(parameters, current):
        if params["subscribers"] is not None:
            parameters.update(subscriptions(params, current))
        return parameters

    current = task.create_or_change(path, parameters, adapt=adapt, **query)
    return task.after(path, current, **query)


def subscriptions(params, current):
    """Return the parameters that make ``subscribers`` the subscribers of the list."""
    wanted = params["subscribers"]
    if params["kind"] == "maillist" or (current is None and wanted):
        found = {"subscribers": ",".join(wanted)}
        added = wanted
    else:
        stored = {
            item["mail"]: item["subscription"] for item in (current or {}).get("subscribers") or ()
        }
        removed = difference(wanted, stored)[1]
        right = [mail for mail, kind in stored.items() if kind == params["subscription"]]
        added = difference(wanted, right)[0]
        found = {"add_subscribers": ",".join(added), "remove_subscribers": ",".join(removed)}
        found = {name: value for name, value in found.items() if value}
    if added:
        found["subscription"] = params["subscription"]
        found["require_confirm"] = "yes" if params["require_confirm"] else "no"
    return found


def main():
    """Run the module."""
    options = {
        "mail": {"type": "str", "required": True},
        "kind": {"type": "str", "default": "ml", "choices": ["ml", "maillist"]},
        "state": STATE,
        "name": TEXT,
        "account_status": STATUS,
        "access_policy": {"type": "str", "choices": POLICIES},
        "members": LIST,
        "subscribers": LIST,
        "subscription": {
            "type": "str",
            "default": "normal",
            "choices": ["normal", "digest", "nomail"],
        },
        "require_confirm": {"type": "bool", "default": False},
        "max_message_size": NUMBER,
        "custom_headers": LIST,
        "keep_archive": SWITCH,
        **dict.fromkeys(SWITCHES, SWITCH),
        **dict.fromkeys(TEXTS, TEXT),
        **dict.fromkeys(LISTS, LIST),
    }
    Task(options, "list", NAMES).run(ensure)


if __name__ == "__main__":
    main()
