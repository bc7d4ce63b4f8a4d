"""Each operation of the documentation page is run as it is filled in, in a real browser.

The browser has no network but loopback, and goes through nginx with the snippet of ``deploy/``.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from selenium.webdriver.common.by import By

from iredapi.app import create_app
from iredapi.config.settings import Settings
from tests.clients import PASSWORD, ROOT
from tests.servers import chromium
from tests.servers.api import add_root, running_on
from tests.servers.nginx import Nginx
from tests.servers.store import Store

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.needs("chromium", "nginx", "mlmmj")]

# Opens an operation, presses Execute, and returns what the page then shows.
RUN = """
const [name, done] = arguments;
const block = document.querySelector(`.opblock[id$="-${name}"]`);
const find = selector => block.querySelector(selector);
const end = Date.now() + 20000;
const when = (look, then) => {
    const found = look();
    if (found) then(found);
    else if (Date.now() > end) done({ problem: block.textContent });
    else setTimeout(() => when(look, then), 5);
};
find(".opblock-summary-control").click();
when(() => find("button.execute"), () => setTimeout(() => {
    find("button.execute").click();
    when(() => find(".live-responses-table .response .response-col_status"), status => {
        const shown = { status: status.textContent, url: find(".request-url pre").textContent };
        const body = ".live-responses-table .response .response-col_description pre";
        shown.text = find(body).textContent;
        find(".opblock-summary-control").click();
        done(shown);
    });
}, 30));
"""
LOG_IN = """
const [username, password, done] = arguments;
const body = JSON.stringify({ username, password });
const headers = { "Content-Type": "application/json" };
fetch("login", { method: "POST", headers, body }).then(answer => done(answer.status));
"""
# Opening one operation takes a second of CPU in the browser: `make try-it-out` runs all of them.
SAMPLE = (
    "login", "token_create", "events_read", "webhooks_list", "domain_create", "admin_create",
    "user_create", "alias_create", "ml_create", "maillist_read", "deleted_mailboxes_list",
    "usage_list", "log_read", "search_read", "spampolicy_update_domain", "throttle_update",
    "wblist_add", "greylisting_update", "ldif_user", "accounts_import",
)  # fmt: skip
LINES = "can't parse JSON.  Raw result:"
EVERY = bool(os.environ.get("TRY_EVERY_OPERATION"))
# Everything else ends in success.
REFUSED = {
    "login": "401 INVALID_CREDENTIALS",
    "token_read": "404 NO_SUCH_TOKEN",
    "token_revoke": "404 NO_SUCH_TOKEN",
    "token_rotate": "404 NO_SUCH_TOKEN",
    "session_end": "404 NO_SUCH_SESSION",
    "deleted_mailbox_update": "404 NO_SUCH_MAILBOX",
}
OFF = re.compile("webhook|events_")
"""What the settings would have to switch on."""
ONLY_ON_LDAP = re.compile("ldif_|maillist")
MADE = (
    "domain/example.com", "admin/boss@example.net", "user/alice@example.com",
    "alias/sales@example.com", "ml/news@example.com",
)  # fmt: skip
RENAMED = ("user/alice.new@example.com", "alias/sales.new@example.com")
CREATIONS = ("domain_create", "user_create", "admin_create", "alias_create", "ml_create")
LAST = ("sessions_end", "logout")


def in_turn(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each operation by its id: creations first, removals at the end, the session's end last."""
    found = {
        operation["operationId"]: operation
        for verbs in document["paths"].values()
        for operation in verbs.values()
    }
    tags = {operation["tags"][0] for operation in found.values()}
    assert {found[name]["tags"][0] for name in SAMPLE} == tags, "the sample has one of each tag"

    def rank(name: str) -> int:
        if name in CREATIONS:
            return CREATIONS.index(name)
        if name in LAST:
            return 30 + LAST.index(name)
        return 20 if is_breaking(name) else 10

    names = sorted(found if EVERY else SAMPLE, key=rank)
    return [(name, found[name]) for name in names]


def is_breaking(name: str) -> bool:
    """Whether an account has another name afterwards, or is gone."""
    return re.match("(domain|user|admin|alias|ml)_(delete|rename)", name) is not None


def restore(api: httpx.Client) -> None:
    """Make again what an operation has removed or renamed."""
    for path in RENAMED:
        api.delete(path)
    for path in MADE:
        answer = api.post(path, data={"password": PASSWORD}).json()
        assert answer["_success"] or answer["_msg"] == "ALREADY_EXISTS", answer


async def test_operations_as_they_are_filled_in(store: Store, tmp_path: Path) -> None:
    await add_root(store)
    (tmp_path / "mlmmj").mkdir(mode=0o700)
    settings = {
        "IREDAPI_MLMMJ_SPOOL": f"{tmp_path}/mlmmj",
        "IREDAPI_MLMMJ_SMTP_PORT": "1",  # nobody listens there: mail stays in the queue
        "IREDAPI_TRUSTED_PROXIES": "127.0.0.1",
    }
    operations = in_turn(create_app(Settings(_env_file=None)).openapi())
    outcomes = {}
    with ExitStack() as stack:
        process = stack.enter_context(running_on(store, **settings))
        nginx = Nginx([urlsplit(process.address).port or 0])
        stack.callback(nginx.stop)
        browser = chromium.start(tmp_path / "profile")
        stack.callback(browser.quit)
        api = stack.enter_context(httpx.Client(base_url=f"{process.address}/api/", trust_env=False))
        form = {"username": ROOT, "password": PASSWORD}
        assert api.post("login", data=form).status_code == 200
        browser.set_script_timeout(60)
        browser.get(f"{nginx.address}/api/docs")
        chromium.wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".opblock-summary"))
        assert browser.execute_async_script(LOG_IN, ROOT, PASSWORD) == 200
        for name, operation in operations:
            if is_breaking(name):
                restore(api)
            shown = browser.execute_async_script(RUN, name)
            assert "problem" not in shown, (name, shown)
            assert shown["url"].startswith(f"{nginx.address}/api/"), name
            # Of an answer in lines the last one; the page says that they are no JSON document.
            text = (
                shown["text"].strip().rpartition("\n")[2]
                if LINES in shown["text"]
                else shown["text"]
            )
            answer, status = json.loads(text), shown["status"].split()[0]
            if name == "accounts_import":
                assert answer["summary"]["done"] == 1, shown["text"]
            outcomes[name] = " ".join([status, *([] if answer["_success"] else [answer["_msg"]])])
            if not answer["_success"]:
                assert f"`{answer['_msg']}`" in operation["responses"][status]["description"]

    def expected(name: str) -> str:
        no_ldap = "501 NOT_SUPPORTED_BY_BACKEND" if ONLY_ON_LDAP.match(name) else "200"
        if OFF.match(name):
            return "501 EVENTS_NOT_KEPT"
        return REFUSED.get(name, no_ldap)

    wanted = {name: expected(name) for name, _ in operations}
    assert {name: got for name, got in outcomes.items() if got != wanted[name]} == {}
    assert outcomes.keys() == wanted.keys()
