"""What has to be done so that accounts and policies are as a file wants them.

The service itself compares: each change is asked for as a dry run, which tells what would change,
and only what differs becomes a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.client.api import Answer, Api
from iredapi.client.desired_state import KINDS, Account, Desired
from iredapi.domain.addresses import domain_of

_STRICT: Final[Mapping[str, Any]] = {"strict": "yes"}
DRY: Final[dict[str, Any]] = {"dry_run": "yes", **_STRICT}
MISSING: Final = frozenset({"NO_SUCH_ACCOUNT", "NO_SUCH_DOMAIN"})
NO_EFFECT: Final = "NO_EFFECT"
_BY_DOMAIN: Final = frozenset(
    {"EXCEEDED_DOMAIN_ACCOUNT_LIMIT", "EXCEEDED_DOMAIN_QUOTA_SIZE", "NOT_ALLOWED"}
    | {"VALUE_ADJUSTED", "INVALID_DOMAIN_NAME"}
)
"""Codes of refusals that a change of the domain may end: limits, alias domains."""
_MASK: Final = "***"
_SECRET: Final = "passw"  # noqa: S105 (part of the names of parameters)


@dataclass(frozen=True, slots=True)
class Change:
    """The values of a field before and after; None: there is none."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation."""

    method: str
    path: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Item:
    """What is to be done with one account, or with one policy."""

    action: str
    """``create``, ``change`` or ``remove``."""
    kind: str
    name: str
    changes: list[Change] = field(default_factory=list)
    steps: list[Call] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The kind and the name."""
        return f"{self.kind} {self.name}"


@dataclass(slots=True)
class Plan:
    """All that is to be done, and what prevents it."""

    items: list[Item] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, action: str) -> int:
        """Return how many items have an action."""
        return sum(item.action == action for item in self.items)


class Planner:
    """Compares what a file wants with what there is."""

    def __init__(self, api: Api, desired: Desired) -> None:
        self.api = api
        self.desired = desired
        self.plan = Plan()
        self.new: set[str] = set()
        """Accounts and domains that will be made."""
        self._changing: set[str] = set()
        """Domains that will be changed."""
        self._named = {item.name for item in desired.accounts}

    async def accounts(self) -> None:
        """Plan all accounts of the file, and then what may name them."""
        for account in self.desired.accounts:
            await self._account(account)
        for account in self.desired.accounts:
            if "admins" in account.special:
                await self._admins(account)
            if "subscribers" in account.special:
                await self._subscribers(account)

    # One account

    async def _account(self, account: Account) -> None:
        path = (account.kind, account.name)
        sent: dict[str, Any] = dict(account.params)
        answer = await self.api.call("PUT", path, sent | DRY)
        if answer.code not in MISSING:
            if account.password and await self._is_other_password(account):
                sent["password"] = account.password
                answer = await self.api.call("PUT", path, sent | DRY)
            self.add("change", account.kind, account.name, Call("PUT", path, sent), answer)
            return
        if account.password:
            sent["password"] = account.password
        answer = await self.api.call("POST", path, sent | DRY)
        self.add("create", account.kind, account.name, Call("POST", path, sent), answer)

    async def _is_other_password(self, account: Account) -> bool:
        """Return whether a user has another password than the file says."""
        path = ("verify_password", "user", account.name)
        answer = await self.api.call("POST", path, {"password": account.password})
        if answer.ok:
            return False
        if answer.code == "INVALID_CREDENTIALS":
            return True
        what = "was not compared"
        self.plan.notes.append(f"user {account.name}: the password {what}: {answer.reason}")
        return False

    def add(self, action: str, kind: str, name: str, call: Call, answer: Answer) -> None:
        """Add an item for a call that was tried as a dry run, if it changes anything."""
        title = f"{kind} {name}"
        if not answer.ok:
            if not self._waits(action, name, answer):
                self.refuse(title, answer)
                return
            changes = [
                Change(key, None, _MASK if _SECRET in key else value)
                for key, value in call.params.items()
                if value != ""
            ]
        else:
            changes = [
                Change(item["field"], item["old"], item["new"])
                for item in answer.body.get("_changes", ())
                if item["old"] != item["new"] or item["old"] == _MASK or action == "change"
            ]
            if action == "create":
                changes = [one for one in changes if one.new not in ("", [], None, 0)]
            changes += self._left_out(title, answer)
        if changes or action == "create":
            self.plan.items.append(Item(action, kind, name, changes, [call]))
            if action == "create":
                self.new.add(name)
            elif kind == "domain":
                self._changing.add(name)

    def _waits(self, action: str, name: str, answer: Answer) -> bool:
        """Return whether a refusal may end when the domain, or the account, is as it is wanted."""
        domain = domain_of(name)
        if answer.code in MISSING:
            return domain in self.new or (action == "change" and name in self.new)
        return domain in self._changing and answer.codes <= _BY_DOMAIN

    def _left_out(self, title: str, answer: Answer) -> Iterable[Change]:
        """Yield values that only wait for other accounts of the file; refuse those that do not."""
        for item in answer.body.get("_skipped", ()):
            param, value, reason = item["param"], item["value"], item["reason"]
            if reason == NO_EFFECT:
                self.plan.notes.append(f"{title}: {param} {value}: the mail server ignores it")
            elif reason in MISSING and value in self._named:
                yield Change(param, None, value)
            else:
                self.plan.errors.append(f"{title}: {param} {value}: {reason}")

    def refuse(self, title: str, answer: Answer) -> None:
        """Note that something cannot be done."""
        self.plan.errors.append(f"{title}: {answer.reason}")

    # What parameters only add to and take from

    async def view(self, kind: str, name: str, **params: str) -> Mapping[str, Any] | None:
        """Return the canonical view of an account; None: it will be made, or it was refused."""
        if name in self.new:
            return {}
        answer = await self.api.call("GET", (kind, name), {"view": "canonical", **params})
        if answer.ok:
            found: Mapping[str, Any] = answer.body["_data"]
            return found
        if answer.code not in MISSING:
            self.refuse(f"{kind} {name}", answer)
        return None

    async def _admins(self, account: Account) -> None:
        view = await self.view("domain", account.name)
        if view is None:
            return
        have, wanted = set(view.get("admins", ())), set(account.special["admins"])
        sent: dict[str, Any] = {
            "addAdmin": sorted(wanted - have),
            "removeAdmin": sorted(have - wanted),
        }
        sent = {name: mails for name, mails in sent.items() if mails}
        if not sent:
            return
        call = Call("PUT", ("domain", "admins", account.name), sent)
        if not self.new & {account.name, *wanted}:
            answer = await self.api.call(call.method, call.path, sent | DRY)
            if not answer.ok:
                self.refuse(f"admins of {account.name}", answer)
                return
            self._left_out(f"admins of {account.name}", answer)
        change = Change("admins", sorted(have), sorted(wanted))
        self.plan.items.append(Item("change", "domain", account.name, [change], [call]))

    async def _subscribers(self, account: Account) -> None:
        view = await self.view("ml", account.name, with_subscribers="yes")
        if view is None:
            return
        have = {item["mail"]: item["subscription"] for item in view.get("subscribers", ())}
        given = account.special["subscribers"]
        kinds = given if isinstance(given, Mapping) else {}
        wanted = {mail: kinds.get(mail) or have.get(mail, "normal") for mail in given}
        path, steps = ("ml", account.name), []
        changes = [Change(f"subscriber {mail}", have[mail], None) for mail in have.keys() - wanted]
        if gone := sorted(have.keys() - wanted.keys()):
            steps.append(Call("PUT", path, {"remove_subscribers": gone}))
        different = {mail: kind for mail, kind in wanted.items() if have.get(mail) != kind}
        for kind in sorted(set(different.values())):
            some = sorted(mail for mail in different if different[mail] == kind)
            sent = {"add_subscribers": some, "subscription": kind, "require_confirm": "no"}
            steps.append(Call("PUT", path, sent))
        changes += [Change(f"subscriber {mail}", have.get(mail), different[mail])
                    for mail in sorted(different)]  # fmt: skip
        if account.name not in self.new:
            for step in steps:
                answer = await self.api.call(step.method, step.path, {**step.params, **DRY})
                if not answer.ok:
                    self.refuse(f"subscribers of {account.name}", answer)
                    return
        if steps:
            self.plan.items.append(Item("change", "ml", account.name, changes, steps))


async def carry_out(api: Api, items: Sequence[Item]) -> tuple[int, list[str]]:
    """Do what is planned; return how many items were done, and what failed.

    What was left out because an account was not there yet is sent again at the end.
    """
    done, failed, again = 0, list[str](), list[tuple[Item, Call]]()
    for item in items:
        for call in item.steps:
            answer = await api.call(call.method, call.path, {**call.params, **_STRICT})
            if not answer.ok:
                failed.append(f"{item.title}: {answer.reason}")
                break
            if _skipped(answer):
                again.append((item, call))
        else:
            done += 1
    for item, call in again:
        method = "PUT" if call.path[0] in KINDS.values() else call.method
        answer = await api.call(method, call.path, {**call.params, **_STRICT})
        if not answer.ok:
            failed.append(f"{item.title}: {answer.reason}")
        failed += [
            f"{item.title}: {param} {value}: {why}" for param, value, why in _skipped(answer)
        ]
    return done, failed


def _skipped(answer: Answer) -> list[tuple[str, str, str]]:
    return [
        (item["param"], item["value"], item["reason"])
        for item in answer.body.get("_skipped", ())
        if item["reason"] != NO_EFFECT
    ]
