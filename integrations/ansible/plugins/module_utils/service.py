"""Requests to iredapi. Nothing is used but Python's own library and Ansible's."""

from __future__ import annotations

import json
import ssl
import time
import uuid
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit

from ansible.module_utils.basic import env_fallback
from ansible.module_utils.urls import open_url

ARGUMENTS = {
    "url": {"type": "str", "fallback": (env_fallback, ["ANSIBLE_IREDAPI_URL"])},
    "token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["ANSIBLE_IREDAPI_TOKEN"])},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "use_proxy": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
    "retries": {"type": "int", "default": 3},
}
"""Documented in ``doc_fragments/connection.py``. The names of the variables do not begin with
``IREDAPI_``: the service refuses such names when it does not know them."""

NOT_THERE = frozenset({"NO_SUCH_ACCOUNT", "NO_SUCH_DOMAIN"})
_AGAIN = frozenset({"IDEMPOTENCY_KEY_IN_USE", "CHANGED_MEANWHILE"})
_AGAIN_STATUS = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE = 30
"""Seconds."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Refused(Exception):
    """The service has refused a request; ``answer`` is its answer."""

    def __init__(self, request, status, answer):
        super().__init__(answer.get("_msg"))
        self.request = request
        self.status = status
        self.answer = answer
        self.code = answer.get("_msg") or "NO_CODE"

    def result(self, names):
        """Return what ``fail_json`` gets; ``names``: the service's parameters → the options."""
        lines = [f"{self.request}: {self.code} (status {self.status})"]
        errors = self.answer.get("_errors") or []
        for error in errors:
            name = error.get("param", "")
            said = ", ".join(filter(None, (error.get("code"), error.get("detail"))))
            lines.append(f"{names.get(name, name)}: {said}")
        if self.answer.get("_detail"):
            lines.append(str(self.answer["_detail"]))
        return {
            "msg": ". ".join(line.rstrip(". ") for line in lines) + ".",
            "code": self.code,
            "status": self.status,
            "options": list(
                dict.fromkeys(names.get(e.get("param"), e.get("param")) for e in errors)
            ),
            "errors": errors,
            "request_id": self.answer.get("_request_id"),
        }


class Unreachable(Exception):
    """There is no answer, or none of iredapi; the message says what happened."""


class Service:
    """The service that the options of a module name."""

    def __init__(self, module):
        params = module.params
        for name, variable in (("url", "ANSIBLE_IREDAPI_URL"), ("token", "ANSIBLE_IREDAPI_TOKEN")):
            if not params[name]:
                module.fail_json(msg=f"{name}: missing. Give the option, or set {variable}.")
        parts = urlsplit(params["url"])
        if parts.scheme not in ("http", "https") or not parts.hostname:
            module.fail_json(msg="url: not an address such as https://mail.example.com")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            module.warn("url: the token and all passwords are sent unencrypted; use https.")
        base = params["url"].rstrip("/")
        self._base = base if base.endswith("/api") else f"{base}/api"
        self._token = params["token"]
        self._retries = params["retries"]
        self._options = {
            name: params[name]
            for name in (
                "validate_certs", "ca_path", "client_cert", "client_key", "use_proxy", "timeout",
            )
        }  # fmt: skip

    def read(self, path, **query):
        """Return the canonical profile of an account, or None if there is none for this token."""
        try:
            answer = self._ask("GET", path, {"view": "canonical", **query})
        except Refused as error:
            # An admin who is not global is told that a domain is not his, also when there is none.
            if error.code in NOT_THERE or error.code == "PERMISSION_DENIED":
                return None
            raise
        return answer.get("_data")

    def write(self, method, path, parameters, *, dry_run=False):
        """Change something once, or tell what would be changed; return the answer."""
        sent = {**parameters, "strict": "yes"}
        key = None
        if dry_run:
            sent["dry_run"] = "yes"
        else:
            key = str(uuid.uuid4())
        # Some proxies drop the body of a DELETE.
        if method == "DELETE":
            return self._ask(method, path, sent, key=key)
        return self._ask(method, path, body=sent, key=key)

    def _ask(self, method, path, query=None, body=None, key=None):
        request = f"{method} /api/{path}"
        url = f"{self._base}/{quote(path, safe='/@')}"
        if query:
            url += f"?{urlencode(query)}"
        for left in range(self._retries, -1, -1):
            try:
                status, headers, text = self._send(method, url, body, key)
                answer = _parse(request, status, text)
            except Unreachable as error:
                if left == 0 or getattr(error, "final", False):
                    raise
                headers = {}
            else:
                if answer["_success"]:
                    return answer
                code = answer.get("_msg")
                if left == 0 or (status not in _AGAIN_STATUS and code not in _AGAIN):
                    raise Refused(request, status, answer)
            time.sleep(_pause(headers, self._retries - left))
        raise AssertionError("not reached")

    def _send(self, method, url, body, key):
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            response = open_url(
                url,
                method=method,
                data=data,
                headers=headers,
                # The token goes to this address only, and nothing of ~/.netrc instead of it.
                follow_redirects="none",
                use_netrc=False,
                http_agent="iredapi-ansible",
                **self._options,
            )
            return response.status, response.headers, response.read()
        except HTTPError as error:
            return error.code, error.headers, error.read()
        except (URLError, OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            found = Unreachable(f"{method} {url.partition('?')[0]}: {reason}")
            found.final = isinstance(reason, (ssl.SSLCertVerificationError, ValueError))
            raise found from error


def _parse(request, status, text):
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or "_success" not in answer:
        error = Unreachable(f"{request}: status {status}, and the answer is not one of iredapi")
        error.final = status not in _AGAIN_STATUS
        raise error
    return answer


def _pause(headers, tried):
    """Return how many seconds to wait: as the service says, or 1, 2, 4 …"""
    try:
        seconds = int(headers.get("Retry-After", ""))
    except ValueError:
        seconds = 2**tried
    return min(max(seconds, 0), _LONGEST_PAUSE)
