"""The part of a plan that is about policies, and the accounts and policies that nobody names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from iredapi.client.desired_state import KINDS, NONE, POLICIES, Policy
from iredapi.client.plan import DRY, MISSING, Call, Change, Item, Planner
from iredapi.domain.addresses import domain_of
from iredapi.domain.wblists import parse_addresses

_LIMITS: Final = ("msg_size", "max_msgs", "max_quota", "max_rcpts")
_GLOBAL: Final = "global"


class PolicyPlanner(Planner):
    """Plans policies, too."""

    async def policies(self) -> None:
        """Plan all policies of the file."""
        for policy in self.desired.policies:
            for direction, limits in policy.wanted.get("throttle", {}).items():
                await self._throttle(policy.account, direction, limits)
            if "greylisting" in policy.wanted:
                await self._greylisting(policy.account, policy.wanted["greylisting"])
            if "greylisting_senders" in policy.wanted:
                path = ("greylisting", policy.account, "whitelists")
                sent = {"senders": policy.wanted["greylisting_senders"]}
                await self._try("greylisting senders", policy.account, Call("POST", path, sent))
            if "spampolicy" in policy.wanted:
                await self._spam_policy(policy.account, policy.wanted["spampolicy"])
            for (direction, kind), addresses in policy.wanted.get("wblist", {}).items():
                await self._wblist(policy.account, direction, kind, addresses)

    async def _try(self, what: str, account: str, call: Call) -> None:
        answer = await self.api.call(call.method, call.path, {**call.params, **DRY})
        self.add("change", what, account, call, answer)

    async def _is_set(self, path: tuple[str, ...], account: str) -> bool:
        """Return whether there is a setting; what is only going to be made has none."""
        if account in self.new or ("@" in account and domain_of(account) in self.new):
            return False
        answer = await self.api.call("GET", path)
        if not answer.ok:
            self.refuse(" ".join(path), answer)
            return False
        found = answer.body["_data"]
        return bool(found) and found.get("status") != "inherit"

    async def _set_or_remove(
        self, what: str, account: str, path: tuple[str, ...], call: Call | None
    ) -> None:
        if call is not None:
            await self._try(what, account, call)
        elif await self._is_set(path, account):
            await self._try(what, account, Call("DELETE", path))

    async def _throttle(
        self, account: str, direction: str, limits: Mapping[str, Any] | None
    ) -> None:
        path = ("throttle", account, direction)
        # A limit that is not named is inherited; the API would leave ``max_rcpts`` as it is.
        sent = None if limits is None else {**dict.fromkeys(_LIMITS, "-1"), **limits}
        call = None if sent is None else Call("POST", path, sent)
        await self._set_or_remove(f"throttle {direction}", account, path, call)

    async def _greylisting(self, account: str, status: Any) -> None:
        path = ("greylisting", account)
        call = None if status in ("", *NONE) else Call("POST", path, {"status": status})
        await self._set_or_remove("greylisting", account, path, call)

    async def _spam_policy(self, account: str, values: Mapping[str, Any] | None) -> None:
        path = spam_path(account)
        call = None if values is None else Call("PUT", path, values)
        await self._set_or_remove("spampolicy", account, path, call)

    async def _wblist(self, account: str, direction: str, kind: str, addresses: Any) -> None:
        path, title = ("wblist", direction, kind, account), f"wblist {direction} {kind}"
        wanted = parse_addresses(addresses if isinstance(addresses, list) else [addresses])
        if wanted.invalid:
            self.plan.errors.append(f"{title} {account}: {wanted.invalid[0]} is no address")
            return
        have: set[str] = set()
        if account not in self.new:
            answer = await self.api.call("GET", path)
            if not answer.ok and answer.code not in MISSING:
                self.refuse(f"{title} {account}", answer)
                return
            have = set(answer.body.get("_data", ()))
        if extra := sorted(have - set(wanted.valid)):
            await self._try(title, account, Call("PUT", path, {"addresses": extra}))
        if more := [address for address in wanted.valid if address not in have]:
            await self._try(title, account, Call("POST", path, {"addresses": more}))

    # What the file does not name

    async def unnamed(self) -> None:
        """Plan the removal of what the file does not name, in the domains that it names.

        Only of kinds whose section is in the file. Domains and admins are never removed.
        """
        policies = {policy.account: policy for policy in self.desired.policies}
        named = {kind: self.desired.names(kind) for kind in KINDS.values()}
        for domain in sorted(self.desired.names("domain") - self.new):
            headers = {"Accept": "application/json"}
            answer = await self.api.call("GET", ("export", domain), headers=headers)
            if not answer.ok:
                self.refuse(f"domain {domain}", answer)
                continue
            gone: set[str] = set()
            for record in answer.body["_data"]:
                kind, name = record["type"], record.get("mail", "")
                if kind in KINDS.values() and kind != "domain":
                    if kind in self.desired.sections and name not in named[kind] | gone:
                        gone.add(name)
                        await self._remove(kind, name, (kind, name))
                elif POLICIES in self.desired.sections and record.get("account") not in gone:
                    await self._remove_policy(record, policies)

    async def _remove(self, what: str, name: str, path: tuple[str, ...]) -> None:
        call = Call("DELETE", path)
        answer = await self.api.call("DELETE", path, DRY)
        if answer.ok:
            self.plan.items.append(Item("remove", what, name, [], [call]))
        else:
            self.refuse(f"{what} {name}", answer)

    async def _remove_policy(
        self, record: Mapping[str, Any], policies: Mapping[str, Policy]
    ) -> None:
        kind, account = record["type"], record.get("account", "")
        wanted = policies[account].wanted if account in policies else {}
        if kind == "throttle":
            direction = record["direction"]
            if direction not in wanted.get("throttle", {}):
                path = ("throttle", account, direction)
                await self._remove(f"throttle {direction}", account, path)
        elif kind == "greylisting" and "status" in record:
            if "greylisting" not in wanted:
                await self._remove("greylisting", account, ("greylisting", account))
        elif kind == "greylisting" and "senders" in record:
            if "greylisting_senders" not in wanted:
                path = ("greylisting", account, "whitelists")
                self._once("greylisting senders", account, Call("POST", path, {"senders": []}))
        elif kind == "spampolicy":
            if "spampolicy" not in wanted:
                await self._remove("spampolicy", account, spam_path(account))
        elif kind == "wblist":
            which = (record["direction"], record["kind"])
            if which not in wanted.get("wblist", {}):
                title = f"wblist {' '.join(which)}"
                self._once(title, account, Call("DELETE", ("wblist", *which, account)))

    def _once(self, what: str, account: str, call: Call) -> None:
        """Plan a removal that several records ask for."""
        if not any(call.path == step.path for item in self.plan.items for step in item.steps):
            self.plan.items.append(Item("remove", what, account, [], [call]))


def spam_path(account: str) -> tuple[str, ...]:
    """Return the path of an account's spam policy."""
    if account == _GLOBAL:
        return ("spampolicy", _GLOBAL)
    return ("spampolicy", "user" if "@" in account else "domain", account)


def changes_of(item: Item) -> list[Change]:
    """Return what an item changes, in a fixed order."""
    return sorted(item.changes, key=lambda change: change.field)
