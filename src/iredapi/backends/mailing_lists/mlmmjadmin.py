"""List server mlmmjadmin: HTTP client of iRedMail's service that manages mlmmj's spool.

mlmmjadmin 3.6.3 answers failures with HTTP 200, needs forms with a Content-Length, and reports
success for unknown and malformed values. An empty ``extra_addresses`` breaks a list, creating an
existing list destroys it, and it has no locks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson
import structlog

from iredapi.backends.protocols.mailing_lists import Untouched
from iredapi.domain import list_footers
from iredapi.domain.list_footers import own_headers
from iredapi.domain.lists import FLAGS, Control, Subscriber
from iredapi.errors import ApiError
from iredapi.observability import spans
from iredapi.observability.query_counter import LIST_SERVER, count_other

_TOKEN: Final = "X-MLMMJADMIN-API-AUTH-TOKEN"  # noqa: S105 (a header's name)
_REFUSED: Final = frozenset(
    {"NO_API_AUTH_TOKEN", "INVALID_MLMMJADMIN_API_AUTH_TOKEN", "NOT_AUTHORIZED_API_CLIENT"}
)
_ABSENT: Final = frozenset({"NO_SUCH_ACCOUNT", "ACCOUNT_NOT_EXIST"})
# Addresses that it accepts; it ignores others with success, or has no URL for them.
_ADDRESS: Final = re.compile(r"[\w#-][\w.+=/&#-]*@[\w-][\w.-]*\.[a-z0-9-]{2,15}", re.ASCII)
_CONNECTIONS: Final = 4
"""It has five processes, and iRedAPD uses it too."""
_CONNECT_SECONDS: Final = 2.0
_BULK: Final = 6
"""Factor of the time limit for calls with many subscribers."""
_PAUSE: Final = 0.1
"""Seconds before the first retry; doubled for each further one."""
_INVITATIONS: Final = 50
"""Addresses in one call: it starts a process for each, all at once."""
_FEW: Final = 5
"""Maximum number of subscribers that are read one by one; for more, the whole list is read."""
_MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes."""
_PROBE: Final = "probe@iredapi.invalid"
_log = structlog.get_logger(__name__)


class MlmmjAdmin:
    """See ``ListServer``."""

    def __init__(
        self, url: str, token: str, *, seconds: float = 10.0, verify_tls: bool = True
    ) -> None:
        self._url = url.rstrip("/")
        self._seconds = seconds
        self._client = httpx.AsyncClient(
            headers={_TOKEN: token},
            verify=verify_tls,
            trust_env=False,  # no proxy for loopback
            follow_redirects=False,
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0),
        )

    def accepts(self, mail: str) -> bool:
        return _ADDRESS.fullmatch(mail) is not None

    def can_drop(self, mail: str) -> bool:
        return self.accepts(mail)

    async def ping(self) -> None:
        await self.exists(_PROBE)

    async def exists(self, address: str) -> bool:
        # With every backend of mlmmjadmin this checks only the directory.
        return await self._data("GET", f"/{_segment(address)}/owners") is not None

    async def get(self, address: str) -> Control | None:
        found = await self._data("GET", f"/{_segment(address)}")
        return None if found is None else _control(address, found)

    async def create(self, address: str, control: Control) -> None:
        form = {name: _yes(name in control.flags) for name in FLAGS}
        form |= {name: value for name, value in _texts(control).items() if value}
        # Empty values too: without them mlmmjadmin sets the postmaster.
        form |= _owners_and_moderators(control) | {"name": control.name}
        form["max_message_size"] = str(control.max_message_size)
        form["enable_newsletter_subscription"] = _yes(control.newsletter)
        if control.extra_addresses:
            form["extra_addresses"] = ",".join(control.extra_addresses)
        submod = _moderation_forms(control)
        await self._call("POST", f"/{_segment(address)}", {**form, **submod[0]}, tries=1)
        for more in submod[1:]:
            await self._call("PUT", f"/{_segment(address)}", {**more, "name": control.name})

    async def save(self, address: str, before: Control, after: Control) -> None:
        form = {
            name: _yes(name in after.flags)
            for name in FLAGS
            if (name in before.flags) != (name in after.flags)
        }
        if (before.owners, before.moderators) != (after.owners, after.moderators):
            form |= _owners_and_moderators(after)  # both: its LDAP backend needs both
        old = _texts(before)
        form |= {name: value for name, value in _texts(after).items() if value != old[name]}
        if before.max_message_size != after.max_message_size:
            form["max_message_size"] = str(after.max_message_size)
        if before.newsletter != after.newsletter:
            form["enable_newsletter_subscription"] = _yes(after.newsletter)
        if before.extra_addresses != after.extra_addresses:
            # Empty would also remove the list's own address, and mlmmj would crash on every post.
            form["extra_addresses"] = ",".join(after.extra_addresses) or address
        new = _moderation_forms(after)
        submod = new if _moderation_forms(before) != new else [{}]
        for part in ({**form, **submod[0]}, *submod[1:]):
            if part or before.name != after.name:
                # Without the name its SQL and LDAP backends empty the stored one.
                await self._call("PUT", f"/{_segment(address)}", {**part, "name": after.name})

    async def remove(self, address: str, *, archive: bool) -> None:
        await self._call("DELETE", f"/{_segment(address)}?archive={_yes(archive)}", absent=True)

    async def subscribers(self, address: str) -> list[Subscriber]:
        path = f"/{_segment(address)}/subscribers"
        found = await self._data("GET", path, bulk=True) or []
        return sorted(
            {
                Subscriber(str(item["mail"]).strip().lower(), str(item["subscription"]))
                for item in found
                if str(item["mail"]).strip()
            },
            key=lambda item: (item.mail, item.version),
        )

    async def subscriptions(self, address: str, mails: Collection[str]) -> dict[str, str]:
        # No URL for a slash: its built-in server, unlike uWSGI, does not decode it.
        if len(mails) > _FEW or any("/" in mail or not self.accepts(mail) for mail in mails):
            wanted = set(mails)
            return {
                item.mail: item.version
                for item in await self.subscribers(address)
                if item.mail in wanted
            }
        found = {}
        for mail in mails:
            path = f"/{_segment(address)}/has_subscriber/{_segment(mail)}"
            if version := await self._data("GET", path):
                found[mail] = str(version)
        return found

    async def add(self, address: str, mails: Sequence[str], version: str) -> None:
        await self._call(
            "POST",
            f"/{_segment(address)}/subscribers",
            {"add_subscribers": ",".join(mails), "require_confirm": "no", "subscription": version},
            bulk=True,
        )

    async def drop(self, address: str, mails: Sequence[str]) -> None:
        await self._call(
            "POST",
            f"/{_segment(address)}/subscribers",
            {"remove_subscribers": ",".join(mails)},
            bulk=True,
        )

    async def invite(self, address: str, mails: Sequence[str], version: str) -> None:
        for start in range(0, len(mails), _INVITATIONS):
            some = ",".join(mails[start : start + _INVITATIONS])
            await self._call(
                "POST",
                f"/{_segment(address)}/subscribers",
                {"add_subscribers": some, "require_confirm": "yes", "subscription": version},
                bulk=True,
                tries=1,
            )

    async def lists_of(self, mail: str) -> dict[str, str]:
        path = f"/subscriber/{_segment(mail)}/subscribed?query_all_lists=yes"
        found = await self._data("GET", path) or []
        return {str(item["mail"]).lower(): str(item["subscription"]) for item in found}

    async def close(self) -> None:
        await self._client.aclose()

    # -- one call ----------------------------------------------------------------------------------

    async def _data(self, method: str, path: str, *, bulk: bool = False) -> Any:
        """Return ``_data`` of a response; None if the list or subscriber does not exist."""
        answer = await self._send(method, path, None, bulk=bulk, tries=3)
        if answer["_success"]:
            return answer.get("_data")
        if "_msg" not in answer or answer["_msg"] in _ABSENT:
            return None
        raise _failure(answer)

    async def _call(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        *,
        bulk: bool = False,
        tries: int = 2,
        absent: bool = False,
    ) -> None:
        """Send a change. With ``tries=1`` it is retried only if the server could not be reached."""
        answer = await self._send(method, path, form, bulk=bulk, tries=tries)
        if not answer["_success"] and not (absent and answer.get("_msg") in _ABSENT):
            raise _failure(answer)

    async def _send(
        self, method: str, path: str, form: Mapping[str, str] | None, *, bulk: bool, tries: int
    ) -> dict[str, Any]:
        pause = _PAUSE
        for left in range(max(tries, 2) - 1, -1, -1):
            try:
                return await self._once(method, path, form, bulk=bulk)
            except ApiError as error:
                # No retry after a time-out: the client is waiting.
                retry = isinstance(error, Untouched) and error.code == "MLMMJADMIN_UNREACHABLE"
                retry = retry or (tries > 1 and error.code == "MLMMJADMIN_BAD_RESPONSE")
                if not left or not retry:
                    raise
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, form: Mapping[str, str] | None, *, bulk: bool
    ) -> dict[str, Any]:
        if (tracer := spans.tracer) is None:
            return await self._asked(method, path, form, bulk=bulk, headers={})
        template = spans.path_without_accounts(path)
        attributes = {"http.request.method": method, "url.template": template}
        with tracer.span(f"{method} {template}", attributes, client=True):
            return await self._asked(method, path, form, bulk=bulk, headers=tracer.headers())

    async def _asked(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None,
        *,
        bulk: bool,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        seconds, begun = self._seconds * (_BULK if bulk else 1), time.perf_counter()
        try:
            # The outer limit also ends an answer that comes byte by byte.
            async with asyncio.timeout(seconds + _CONNECT_SECONDS):
                async with self._client.stream(
                    method,
                    self._url + path,
                    data=form,
                    headers=headers,
                    timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
                ) as response:
                    body = bytearray()
                    async for part in response.aiter_bytes():
                        body += part
                        if len(body) > _MAX_ANSWER:
                            raise _bad("too long")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Untouched("MLMMJADMIN_UNREACHABLE", retry_after=5) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise ApiError("MLMMJADMIN_TIMEOUT", retry_after=5) from error
        except httpx.HTTPError as error:
            raise _bad(type(error).__name__) from error
        finally:
            count_other(LIST_SERVER, begun)
        return await self._read(response.status_code, bytes(body))

    async def _read(self, status: int, body: bytes) -> dict[str, Any]:
        if status != 200:
            raise _bad(f"status {status}")
        try:
            # Parsing a long list of subscribers would block the event loop.
            parse = asyncio.to_thread(orjson.loads, body) if len(body) > 100_000 else None
            answer = orjson.loads(body) if parse is None else await parse
        except orjson.JSONDecodeError:
            raise _bad("not JSON") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("_success"), bool):
            raise _bad("no _success")
        if answer.get("_msg") in _REFUSED:
            _log.error("mlmmjadmin_refuses_us", reason=answer["_msg"])
            raise Untouched("MLMMJADMIN_AUTH_FAILED")
        return answer


def _bad(reason: str) -> ApiError:
    _log.error("mlmmjadmin_bad_response", reason=reason)
    return ApiError("MLMMJADMIN_BAD_RESPONSE", retry_after=5)


def _failure(answer: Mapping[str, Any]) -> ApiError:
    # The text may contain hosts and paths: only for the log.
    _log.error("mlmmjadmin_failed", message=str(answer.get("_msg", ""))[:500])
    return ApiError("MLMMJADMIN_ERROR")


def _segment(address: str) -> str:
    return quote(address, safe="@")


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _owners_and_moderators(control: Control) -> dict[str, str]:
    return {"owner": ",".join(control.owners), "moderators": ",".join(control.moderators)}


def _texts(control: Control) -> dict[str, str]:
    return {
        "subject_prefix": control.subject_prefix,
        "footer_text": control.footer_text,
        "footer_html": control.footer_html,
        "custom_headers": "\n".join(own_headers(control.custom_headers)),
        "remove_headers": ",".join(control.remove_headers),
    }


def _moderation_forms(control: Control) -> list[dict[str, str]]:
    """Return the forms of the calls that set moderation of subscriptions."""
    if not control.moderate_subscription:
        return [{"moderate_subscription": "no"}]
    if control.subscription_moderators:
        return [{"subscription_moderators": ",".join(control.subscription_moderators)}]
    # In one call it would keep the former moderators.
    return [{"subscription_moderators": ""}, {"moderate_subscription": "yes"}]


def _control(address: str, found: Mapping[str, Any]) -> Control:
    def text(name: str) -> str:
        return str(found.get(name) or "")

    def items(name: str) -> tuple[str, ...]:
        return tuple(filter(None, (str(item).strip() for item in found.get(name) or ())))

    def mails(name: str) -> tuple[str, ...]:
        return tuple(sorted({item.lower() for item in items(name)}))

    size = text("max_message_size")
    return Control(
        name=text("name"),
        flags=frozenset(name for name in FLAGS if found.get(name) == "yes"),
        owners=mails("owner"),
        moderators=mails("moderators"),
        moderate_subscription=found.get("moderate_subscription") == "yes",
        subscription_moderators=mails("subscription_moderators"),
        extra_addresses=tuple(item for item in mails("extra_addresses") if item != address),
        # Empty may mean no file, or a file with an empty line, with which mlmmj refuses all mail.
        max_message_size=list_footers.size_limit(size) if size else 0,
        subject_prefix=text("subject_prefix"),
        custom_headers=tuple(sorted(items("custom_headers"))),
        remove_headers=tuple(sorted(items("remove_headers"))),
        footer_text=text("footer_text").strip(),
        footer_html=text("footer_html").strip(),
        newsletter=found.get("enable_newsletter_subscription") == "yes",
    )
