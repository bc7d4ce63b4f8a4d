"""Forms of subscribable mailing lists: the wire names are the names of the fields."""

from __future__ import annotations

from pydantic import ConfigDict

from iredapi.schemas import fields
from iredapi.schemas.listing import Chosen
from iredapi.schemas.params import Params, param
from iredapi.schemas.views import Viewed


class ListFilter(Viewed, Chosen):
    """Which lists, and how much of them."""

    conflicts = (("fields", "email_only"),)

    sort: fields.AccountSort = param(
        "Order of the list; `-` in front: descending. Equal values are sorted by address.", "name"
    )
    email_only: fields.YesNo = param("Only addresses, as a plain list.", "yes", alias="email_only")


class ListView(Viewed):
    """How much of a list."""

    with_subscribers: fields.YesNo = param(
        "Subscribers too, with their kind of subscription.", "yes", alias="with_subscribers"
    )


class ListRemoval(Params):
    """What stays of a list."""

    legacy = {"archive": "keep_archive"}

    keep_archive: fields.YesNo = param(
        "Keep settings and posts in the archive directory; the default is `yes`.",
        "no",
        alias="keep_archive",
    )


class _ListSettings(Params):
    model_config = ConfigDict(alias_generator=None)
    legacy = {"cn": "name", "maxMailSize": "max_message_size"}

    name: fields.Name = param("Display name.", "Sales team")
    account_status: fields.Status = param(
        "`disabled` lists receive no mail.", "active", alias="accountStatus"
    )
    access_policy: fields.ListPolicy = param(
        "Who may send to the list; iRedAPD enforces `domain` and `subdomain`, in SQL not for mail "
        "to `extra_addresses`: see `open_extra_addresses`. Decides `only_subscriber_can_post` and "
        "`only_moderator_can_post`, or is decided by them; a new list is `membersonly`.",
        "membersonly",
        alias="accessPolicy",
    )
    is_newsletter: fields.YesNo = param("Offer the list on the newsletter web page.", "yes")
    newsletter_description: fields.Description = param(
        "What that page says of it.", "News of our shop"
    )
    close_list: fields.YesNo = param("Refuse to subscribe and to unsubscribe by mail.", "no")
    only_moderator_can_post: fields.YesNo = param(
        "Only moderators may post, by the `From:` header.", "no"
    )
    only_subscriber_can_post: fields.YesNo = param(
        "Only subscribers may post, by the `From:` header; `yes` in a new list.", "yes"
    )
    disable_subscription: fields.YesNo = param(
        "Refuse to subscribe by mail, but not to unsubscribe.", "no"
    )
    disable_subscription_confirm: fields.YesNo = param(
        "Subscribe without a confirmation by mail. Anybody can then subscribe anybody.", "no"
    )
    disable_digest_subscription: fields.YesNo = param("Refuse digest subscriptions.", "no")
    disable_digest_text: fields.YesNo = param("Leave the summary out of digests.", "no")
    disable_nomail_subscription: fields.YesNo = param("Refuse nomail subscriptions.", "no")
    moderated: fields.YesNo = param(
        "Moderators decide on each post. A new list needs `owner` or `moderators` with it; without "
        "moderators the owners moderate.",
        "no",
    )
    moderate_non_subscriber_post: fields.YesNo = param(
        "Let moderators decide on posts of those who may not post, instead of refusing them.", "no"
    )
    disable_retrieving_old_posts: fields.YesNo = param(
        "Refuse to send old posts (`name+get-N@`); `yes` in a new list.", "yes"
    )
    only_subscriber_can_get_old_posts: fields.YesNo = param(
        "Send old posts to subscribers only; `yes` in a new list.", "yes"
    )
    disable_retrieving_subscribers: fields.YesNo = param(
        "Refuse to send the owner the list of subscribers (`name+list@`); `yes` in a new list.",
        "yes",
    )
    disable_send_copy_to_sender: fields.YesNo = param(
        "Senders get no copy of their posts; `yes` in a new list.", "yes"
    )
    notify_owner_when_sub_unsub: fields.YesNo = param("Tell the owners who comes and goes.", "no")
    notify_sender_when_moderated: fields.YesNo = param(
        "Tell senders that their post waits for a moderator.", "no"
    )
    disable_archive: fields.YesNo = param("Keep no posts.", "no")
    moderate_subscription: fields.YesNo = param(
        "Let `subscription_moderators`, or else the owners, decide on subscriptions; `no` removes "
        "these moderators.",
        "no",
    )
    subscription_moderators: fields.Mails = param(
        "Who decides on subscriptions; switches `moderate_subscription` on, and empty off.",
        "carol@example.com",
    )
    extra_addresses: fields.AccountMails = param(
        "All other addresses of the list, in hosted domains of yours; those in use are reported in "
        "`_skipped`.",
        "crew@example.com",
    )
    open_extra_addresses: fields.YesNo = param(
        "Take `extra_addresses` together with `accessPolicy=domain` or `subdomain` although "
        "everybody can send to them. Without it the combination is refused where iRedAPD does not "
        "enforce it (SQL).",
        "yes",
    )
    owner: fields.Mails = param(
        "All owners: they get mail to `name+owner@`. In the list's own domain they must exist. A "
        "new list's is its postmaster.",
        "carol@example.com",
    )
    moderators: fields.Mails = param(
        "All moderators. In the list's own domain they must exist. A new list's is its postmaster.",
        "carol@example.com",
    )
    max_message_size: fields.MessageSize = param(
        "Maximum size of a post in bytes, below 2 GiB; 0 or empty: no limit.", "10485760"
    )
    subject_prefix: fields.SubjectPrefix = param("Begins the subject of each post.", "[sales]")
    custom_headers: fields.Headers = param(
        "All own headers of posts, separated by line feeds or by the two characters `\\n`. Each "
        "list also has `Precedence`, `List-Id`, `Reply-To`, `List-Post`, `List-Subscribe` and "
        "`List-Unsubscribe`, which cannot be changed.",
        "X-Team: sales\\nX-Floor: 2",
    )
    remove_headers: fields.HeaderNames = param(
        "All headers that are taken out of posts, with or without a colon.", "Message-ID,Received"
    )
    footer_text: fields.Footer = param(
        "Ends the text of each post. The other footer is made from it unless it was set itself; "
        "an empty one clears both.",
        "Sales team",
    )
    footer_html: fields.Footer = param(
        "Ends the HTML of each post; see `footer_text`.", "<p>Sales team</p>"
    )
    require_confirm: fields.YesNo = param(
        "Ask new subscribers by mail whether they want it; the default is `yes`. At most 1000 in "
        "one request.",
        "no",
    )
    subscription: fields.Subscription = param(
        "Kind of the new subscriptions: each post, collected, or nothing; the default is `normal`. "
        "Who is subscribed in another kind changes to this one, without being asked.",
        "normal",
    )


class ListEdit(_ListSettings):
    """Changes of a mailing list: what is not sent stays as it is."""

    add_subscribers: fields.Mails = param("Subscribers to add.", "carol@example.com")
    remove_subscribers: fields.Subscribers = param(
        "Subscribers to remove, whatever their kind, and whatever `with_subscribers` shows; who is "
        "not subscribed is reported in `_skipped` (`NOT_FOUND`). Who is added at the same time "
        "changes the kind of subscription.",
        "bob@example.net",
    )


class ListDraft(ListEdit):
    """A new mailing list, with the parameters of a change."""

    subscribers: fields.Mails = param(
        "Subscribers, in any domain; those of `add_subscribers` too.",
        "carol@example.com,bob@example.net",
    )
