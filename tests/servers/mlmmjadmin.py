"""A stand-in for mlmmjadmin 3.6.3 (mode ``bk_none``) on its own server, over real mlmmj.

What the real one was seen to do, and this one does:

* only urlencoded bodies are parsed, anything else (JSON) is ignored and answers success; query
  and body are merged, the last duplicate wins; DELETE reads the query only; a chunked body is
  dropped; answers have no Content-Length and end with the connection; addresses in paths must match
  its pattern, else 404 HTML.
* every answer of the application is HTTP 200, failed logins too; ``has_subscriber`` fails
  without a text; unknown paths are 404 and wrong methods 405 HTML.
* the endpoints, the missing-list answers, ``require_confirm`` defaults of each endpoint,
  additions before removals, archive by default.
* yes/no exactly; exclusive poster flags, moderator wins; real defaults on creation;
  ``submod``; six fixed headers, which cannot be overridden; ``remove_headers`` colons, and a line
  ``:`` for a blank item; sizes; ``owner`` is sorted, with its duplicates and letters. GET has all
  43 keys, with sorted lists; for an address in mixed case it finds the list, and shows empty
  values.
* Its own server (unlike uWSGI) does not decode ``%2F``: an address with ``/`` in a path is a 404.
* an empty ``extra_addresses`` removes ``listaddress``. POST over an existing directory is
  not refused: it truncates ``index``, resets settings and keeps subscribers. PUT on a missing
  list succeeds when there is nothing to write. addresses that it does not like are dropped,
  with success. an addition without confirmation leaves other versions alone. nothing is
  locked; subscriber files are read, changed and written whole.
* confirmed additions start one ``mlmmj-sub`` each, all at once, and their failures are silent.

Not reproduced: ``bk_iredmail_sql`` and ``bk_iredmail_ldap``; writing other booleans than
``BOOLEANS``; limits of header sizes; multipart.

``fail`` makes the next matching calls go wrong: see ``Failure``.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.servers.process import find_program

TOKEN = "a-token-of-the-tests"
_ADDRESS = re.compile(r"[\w#-][\w.+=/&#-]*@[\w-][\w.-]*\.[A-Za-z0-9-]{2,15}", re.ASCII)
BOOLEANS = {
    "close_list": "closedlist",
    "only_moderator_can_post": "modonlypost",
    "only_subscriber_can_post": "subonlypost",
    "disable_subscription": "closedlistsub",
    "disable_subscription_confirm": "nosubconfirm",
    "disable_digest_subscription": "nodigestsub",
    "disable_digest_text": "nodigesttext",
    "disable_nomail_subscription": "nonomailsub",
    "moderated": "moderated",
    "moderate_non_subscriber_post": "modnonsubposts",
    "disable_retrieving_old_posts": "noget",
    "only_subscriber_can_get_old_posts": "subonlyget",
    "disable_retrieving_subscribers": "nolistsubsemail",
    "disable_send_copy_to_sender": "notmetoo",
    "notify_owner_when_sub_unsub": "notifysub",
    "notify_sender_when_moderated": "notifymod",
    "disable_archive": "noarchive",
    "enable_newsletter_subscription": "enable_newsletter_subscription",
}
_OTHER_BOOLEANS = {
    "tocc": "tocc",
    "if_mod_send_only_mod_moderate": "ifmodsendonlymodmoderate",
    "disable_notify_subscription_moderated": "nosubmodmails",
    "disable_notify_when_missing_listaddress": "notoccdenymails",
    "disable_notify_when_access_denied": "noaccessdenymails",
    "disable_notify_when_subscriber_only": "nosubonlydenymails",
    "disable_notify_when_moderator_only": "nomodonlydenymails",
    "disable_notify_when_exceeding_max_mail_size": "nomaxmailsizedenymails",
    "reply_to_sender": "replyto",
}
"""Shown, but not for anybody to set through the API."""
_VERSIONS = {"normal": "subscribers.d", "nomail": "nomailsubs.d", "digest": "digesters.d"}
_DIRECTORIES = (
    "incoming queue queue/discarded archive text subconf unsubconf bounce control moderation"
    " subscribers.d digesters.d requeue nomailsubs.d".split()
)


def missing() -> str | None:
    return None if find_program("mlmmj-sub") else "mlmmj is not installed"


@dataclass
class Failure:
    """How a call goes wrong.

    ``how`` is ``close`` (the connection ends without an answer), ``hang`` (bytes never come),
    ``error`` (a Python exception in ``_msg``), ``html`` (500), ``token``, or ``lost`` (success, and
    another writer has overwritten it); ``after``: once the work is done, else before it is begun.
    """

    method: str
    path: str
    how: str
    after: bool = False
    times: int = 1


@dataclass(frozen=True)
class Request:
    """What a client sent, as it came: ``target`` and ``body`` are not decoded."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    size: int
    """Bytes of request line and headers."""


@dataclass
class MlmmjAdminServer:
    """The service on a free port of loopback, keeping ``spool``."""

    spool: Path
    archive: Path
    smtp_port: int
    failures: list[Failure] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of everything that was asked."""
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    _released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def start(self) -> None:
        """Listen, on the same port as before when it was stopped."""
        owner = self

        class Handler(_Handler):
            service = owner

        self._released.clear()
        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop: connections are refused from now on."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def fail(
        self, method: str, path: str, how: str, *, after: bool = False, times: int = 1
    ) -> None:
        """Let the next ``times`` calls whose path matches go wrong."""
        self.failures.append(Failure(method, path, how, after, times))

    def clear(self) -> None:
        """Forget failures and calls, and let go of what hangs."""
        self.failures.clear()
        self.calls.clear()
        self.requests.clear()
        self._released.set()
        self._released = threading.Event()

    def failure(self, method: str, path: str, *, after: bool) -> Failure | None:
        for item in self.failures:
            if (
                item.times > 0
                and item.after == after
                and item.method == method
                and re.search(item.path, path)
            ):
                item.times -= 1
                return item
        return None

    def hang(self) -> None:
        self._released.wait(60)


class _Refusal(Exception):
    """A failed answer; empty: without a text."""


class _Lost(Exception):
    """A successful answer, and nothing is there."""


class _Html(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


class _Cut(Exception):
    """The connection ends."""


class _Handler(BaseHTTPRequestHandler):
    service: MlmmjAdminServer
    protocol_version = "HTTP/1.0"  # no keep-alive, no Content-Length

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 (names of http.server)

    def _serve(self) -> None:
        split = urlsplit(self.path)
        # Kept apart from the slashes that divide the path: nothing matches it.
        path = unquote(re.sub("%2f", "%252F", split.path, flags=re.IGNORECASE))
        form = dict(parse_qsl(split.query, keep_blank_values=True))
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else b""
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        if self.command != "DELETE" and kind == "application/x-www-form-urlencoded":
            form |= dict(parse_qsl(body.decode(), keep_blank_values=True))
        self.service.calls.append((self.command, path))
        headers = {name.lower(): value for name, value in self.headers.items()}
        size = len(self.requestline) + 2 + len(bytes(self.headers))
        self.service.requests.append(Request(self.command, self.path, headers, body, size))
        try:
            self._break(path, after=False)
            try:
                answer = self._answer(path, form)
            finally:
                self._break(path, after=True)
        except _Html as error:
            self._write(error.status, "text/html", error.text.encode())
            return
        except _Lost:
            answer = {"_success": True}
        except _Refusal as error:
            answer = {"_success": False} | ({"_msg": str(error)} if str(error) else {})
        except _Cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._write(200, "application/json", json.dumps(answer).encode())

    def _write(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def _break(self, path: str, *, after: bool) -> None:
        failure = self.service.failure(self.command, path, after=after)
        if failure is None:
            return
        if failure.how == "hang":
            self.service.hang()
            raise _Cut
        if failure.how == "close":
            raise _Cut
        if failure.how == "html":
            raise _Html(500, "internal server error")
        if failure.how == "lost":
            raise _Lost
        if failure.how == "token":
            raise _Refusal("INVALID_MLMMJADMIN_API_AUTH_TOKEN")
        raise _Refusal("PermissionError(1, 'Operation not permitted: /var/vmail/secret')")

    def _answer(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        token = self.headers.get("X-MLMMJADMIN-API-AUTH-TOKEN")
        if token is None:
            raise _Refusal("NO_API_AUTH_TOKEN")
        if token != TOKEN:
            raise _Refusal("INVALID_MLMMJADMIN_API_AUTH_TOKEN")
        found = self._route(path)
        if found is None:
            raise _Html(404, "not found")
        handlers, arguments = found
        if self.command not in handlers:
            raise _Html(405, "method not allowed")
        try:
            data = handlers[self.command](*arguments, form)
        except OSError as error:
            raise _Refusal(repr(error)) from None
        return {"_success": True} | ({} if data is None else {"_data": data})

    def _route(self, path: str) -> tuple[dict[str, Callable[..., Any]], tuple[str, ...]] | None:
        address = rf"({_ADDRESS.pattern})"
        routes: list[tuple[str, dict[str, Callable[..., Any]]]] = [
            (rf"/api/subscriber/{address}/subscribed", {"GET": self._subscribed}),
            (rf"/api/{address}/owners", {"GET": self._owners}),
            (
                rf"/api/{address}/subscribers",
                {"GET": self._subscribers, "POST": self._change_subscribers},
            ),
            (rf"/api/{address}/has_subscriber/{address}", {"GET": self._has_subscriber}),
            (
                rf"/api/{address}",
                {
                    "GET": self._profile,
                    "POST": self._create,
                    "PUT": self._update,
                    "DELETE": self._delete,
                },
            ),
        ]
        for pattern, handlers in routes:
            if match := re.fullmatch(pattern, path, re.ASCII):
                return handlers, match.groups()
        return None

    # -- lists -------------------------------------------------------------------------------------

    def _directory(self, address: str) -> Path:
        name, _, domain = address.rpartition("@")
        return self.service.spool / domain / name

    def _owners(self, address: str, form: dict[str, str]) -> list[str]:
        directory = self._directory(address)
        if not directory.is_dir():
            raise _Refusal("NO_SUCH_ACCOUNT")
        return sorted(item.lower() for item in _lines(directory / "control" / "owner"))

    def _profile(self, address: str, form: dict[str, str]) -> dict[str, Any]:
        if not self._directory(address.lower()).is_dir():
            raise _Refusal("NO_SUCH_ACCOUNT")
        control = self._directory(address) / "control"
        booleans = BOOLEANS | _OTHER_BOOLEANS
        data: dict[str, Any] = {
            name: "yes" if (control / file).exists() else "no" for name, file in booleans.items()
        }
        for name, file in (
            ("max_message_size", "maxmailsize"),
            ("name", "name"),
            ("subject_prefix", "prefix"),
            ("relay_host", "relayhost"),
            ("smtp_helo", "smtphelo"),
            ("smtp_port", "smtpport"),
        ):
            data[name] = _first(control / file)
        for name in ("footer_text", "footer_html"):
            data[name] = _text(control / name).strip()
        for name, file in (
            ("owner", "owner"),
            ("owners", "owner"),
            ("moderators", "moderators"),
            ("subscription_moderators", "submod"),
            ("custom_headers", "customheaders"),
            ("remove_headers", "delheaders"),
        ):
            data[name] = sorted(_lines(control / file))
        data["moderate_subscription"] = "yes" if (control / "submod").exists() else "no"
        data["extra_addresses"] = sorted(
            item for item in _lines(control / "listaddress") if item != address
        )
        assert len(data) == 43
        asked = [name for name in form.get("params", "").split(",") if name in data]
        return {name: data[name] for name in asked} if asked else data

    def _create(self, address: str, form: dict[str, str]) -> None:
        address = address.lower()
        directory = self._directory(address)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in _DIRECTORIES:
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        (directory / "index").write_text("")
        texts = Path("/usr/share/mlmmj/text.skel/en")
        for text in texts.iterdir():
            shutil.copyfile(text, directory / "text" / text.name)
        control = directory / "control"
        for file in control.iterdir():
            file.unlink()
        postmaster = f"postmaster@{address.rpartition('@')[2]}"
        defaults = {
            "owner": postmaster,
            "moderators": postmaster,
            "custom_headers": "",
            "disable_retrieving_old_posts": "yes",
            "only_subscriber_can_get_old_posts": "yes",
        }
        if form.get("only_moderator_can_post") != "yes":
            defaults["only_subscriber_can_post"] = "yes"
        for name in ("tocc", "ifmodsendonlymodmoderate"):
            (control / name).write_text("")
        if self.service.smtp_port:
            (control / "smtpport").write_text(f"{self.service.smtp_port}\n")
        (control / "listaddress").write_text(f"{address}\n")
        self._apply(address, defaults | form)

    def _update(self, address: str, form: dict[str, str]) -> None:
        self._apply(address, form)

    def _delete(self, address: str, form: dict[str, str]) -> str | None:
        directory = self._directory(address.lower())
        if not directory.is_dir():
            return None
        if form.get("archive") == "no":
            shutil.rmtree(directory)
            return None
        name, _, domain = address.lower().rpartition("@")
        stamp = datetime.now(UTC).strftime("-%Y%m%d%H%M%S")
        place = self.service.archive / domain / f"{name}{stamp}"
        if place.exists():
            place = place.with_name(f"{place.name}{stamp}")
        place.mkdir(mode=0o700, parents=True)
        shutil.move(directory, place)
        return str(place)

    def _apply(self, address: str, form: dict[str, str]) -> None:
        control = self._directory(address) / "control"
        if form.get("only_moderator_can_post") == "yes":
            form = {**form, "only_subscriber_can_post": "no"}
        elif form.get("only_subscriber_can_post") == "yes":
            form = {**form, "only_moderator_can_post": "no"}
        for name, value in form.items():
            if name in BOOLEANS and value in ("yes", "no"):
                _put(control / BOOLEANS[name], "" if value == "yes" else None)
        self._apply_texts(control, form)
        if "owner" in form:
            _put(control / "owner", _joined(sorted(_items(form["owner"]))))
        if "moderators" in form:
            _put(control / "moderators", _joined(_valid(form["moderators"])))
        if "max_message_size" in form:
            text = form["max_message_size"]
            number = int(text) if re.fullmatch(r"-?[0-9_]+", text) else 0
            _put(control / "maxmailsize", f"{number}\n" if number else None)
        if "extra_addresses" in form:
            extra = [item for item in _items(form["extra_addresses"]) if item != address]
            given = bool(form["extra_addresses"])
            _put(control / "listaddress", _joined([address, *sorted(extra)]) if given else None)
        self._apply_headers(address, control, form)
        self._apply_gate(control, form)

    def _apply_headers(self, address: str, control: Path, form: dict[str, str]) -> None:
        if "custom_headers" in form:
            _put(control / "customheaders", _joined(_headers(address, form["custom_headers"])))
        if "remove_headers" in form:
            named = [item for item in form["remove_headers"].split(",") if item]
            names = {f"{item.strip().rstrip(':')}:" for item in named}
            _put(control / "delheaders", _joined(sorted(names)))

    def _apply_texts(self, control: Path, form: dict[str, str]) -> None:
        for name, file in (("name", "name"), ("subject_prefix", "prefix")):
            if name in form:
                _put(control / file, f"{form[name]}\n" if form[name] else None)
        for name in ("footer_text", "footer_html"):
            if name in form:
                value = form[name].strip()
                _put(control / name, f"{value}\n" if value else None)
        if form.get("footer_html", "").strip() and not (control / "footer_text").exists():
            (control / "footer_text").write_text("\n")

    def _apply_gate(self, control: Path, form: dict[str, str]) -> None:
        file = control / "submod"
        if "moderate_subscription" in form and form["moderate_subscription"] != "yes":
            _put(file, None)
        elif form.get("subscription_moderators"):
            _put(file, _joined(_valid(form["subscription_moderators"])))
        elif form.get("moderate_subscription") == "yes":
            file.touch()
        elif "subscription_moderators" in form:
            _put(file, None)

    # -- subscribers -------------------------------------------------------------------------------

    def _subscribers(self, address: str, form: dict[str, str]) -> list[Any]:
        found = [
            {"mail": mail, "subscription": version}
            for version, name in _VERSIONS.items()
            for mail in _records(self._directory(address) / name)
        ]
        return [item["mail"] for item in found] if "email_only" in form else found

    def _has_subscriber(self, address: str, mail: str, form: dict[str, str]) -> str:
        for version, name in _VERSIONS.items():
            if mail.lower() in _records(self._directory(address.lower()) / name):
                return version
        raise _Refusal

    def _change_subscribers(self, address: str, form: dict[str, str]) -> None:
        directory = self._directory(address)
        version = form.get("subscription", "normal")
        version = version if version in _VERSIONS else "normal"
        if "add_subscribers" in form:
            mails = _valid(form["add_subscribers"])
            if form.get("require_confirm") == "yes":
                self._ask(directory, mails, version)
            else:
                _rewrite(directory / _VERSIONS[version], add=mails, remove=[])
        if gone := form.get("remove_subscribers"):
            for name in _VERSIONS.values():
                place = directory / name
                mails = _records(place) if gone == "ALL" else _valid(gone)
                if gone == "ALL" and not place.is_dir():
                    raise FileNotFoundError(2, "No such file or directory")
                _rewrite(place, add=[], remove=mails)

    def _ask(self, directory: Path, mails: list[str], version: str) -> None:
        options = {"normal": [], "digest": ["-d"], "nomail": ["-n"]}[version]
        program = find_program("mlmmj-sub")
        assert program is not None
        running = [
            subprocess.Popen(
                [program, "-L", str(directory), "-a", mail, "-C", *options],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for mail in mails
        ]
        # The real one leaves zombies; a test process should not.
        threading.Thread(target=lambda: [item.wait() for item in running], daemon=True).start()

    def _subscribed(self, mail: str, form: dict[str, str]) -> list[Any]:
        found: list[Any] = []
        domains = (
            sorted(self.service.spool.iterdir())
            if form.get("query_all_lists") == "yes"
            else [self.service.spool / mail.rpartition("@")[2]]
        )
        for domain in domains:
            for directory in sorted(domain.iterdir()) if domain.is_dir() else ():
                for version, name in _VERSIONS.items():
                    if mail.lower() in _records(directory / name):
                        address = f"{directory.name}@{domain.name}"
                        found.append({"subscription": version, "mail": address})
                        break
        return [item["mail"] for item in found] if form.get("email_only") == "yes" else found


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _valid(text: str) -> list[str]:
    return [item.lower() for item in _items(text) if _ADDRESS.fullmatch(item)]


def _joined(items: list[str]) -> str | None:
    return "".join(f"{item}\n" for item in items) or None


def _put(path: Path, content: str | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(content)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _first(path: Path) -> str:
    return _text(path).partition("\n")[0]


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def _headers(address: str, text: str) -> list[str]:
    name, _, domain = address.rpartition("@")
    fixed = [
        "Precedence: bulk",
        f"List-Id: <{address}>",
        f"Reply-To: {address}",
        f"List-Post: <mailto:{address}>",
        f"List-Subscribe: <mailto:{name}+subscribe@{domain}?subject=Subscribe>",
        f"List-Unsubscribe: <mailto:{name}+unsubscribe@{domain}?subject=Unsubscribe>",
    ]
    taken = {line.partition(":")[0].lower() for line in fixed}
    own = [line.strip() for line in text.split("\n") if ":" in line]
    return [*sorted(line for line in own if line.partition(":")[0].lower() not in taken), *fixed]


def _records(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return [
        line
        for file in sorted(directory.iterdir())
        if not file.name.startswith(".") and not file.name.endswith(".new")
        for line in _lines(file)
    ]


def _rewrite(directory: Path, *, add: list[str], remove: list[str]) -> None:
    for letter in {mail[0] for mail in [*add, *remove]}:
        file = directory / letter
        before = set(_lines(file))
        after = (before | {mail for mail in add if mail[0] == letter}) - set(remove)
        if before == after:
            continue
        # Nothing is locked: who reads meanwhile writes without these.
        time.sleep(0.002)
        if not directory.is_dir():
            raise FileNotFoundError(2, "No such file or directory")
        _put(file, _joined(sorted(after)))
