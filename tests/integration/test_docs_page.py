"""The documentation page in a real browser that has no network but loopback."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.clients import PASSWORD, ROOT
from tests.servers import chromium
from tests.servers.api import ApiProcess
from tests.servers.chromium import wait
from tests.servers.store import Store

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.needs("chromium")]

GROUPS = {"Login": 2, "Domain": 6, "Domain Admin": 5, "Mail User": 9, "Mail Alias": 7}
"""The tags, and how many operations of the specification (and of ours) each has at least."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = chromium.start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def _log(browser: webdriver.Chrome, name: str) -> list[dict[str, Any]]:
    """What was logged since the last time."""
    entries: list[dict[str, Any]] = browser.get_log(name)  # type: ignore[no-untyped-call]
    return entries


def requests_of(browser: webdriver.Chrome) -> dict[str, int]:
    """Every address that the page asked for, with the status; 0: it failed."""
    found: dict[str, int] = {}
    ids: dict[str, str] = {}
    for entry in _log(browser, "performance"):
        message = json.loads(entry["message"])["message"]
        params = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            ids[params["requestId"]] = params["request"]["url"]
        elif message["method"] == "Network.responseReceived":
            found[params["response"]["url"]] = params["response"]["status"]
        elif message["method"] == "Network.loadingFailed":
            found[ids.get(params["requestId"], "?")] = 0
    for url in ids.values():
        found.setdefault(url, 0)
    return found


def colours(png: bytes) -> int:
    """How many different pixels a screenshot has (8 bits, RGB or RGBA, as Chromium writes it)."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) in {(8, 2), (8, 6)}
    size = 3 if kind == 2 else 4
    data, place = b"", 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    raw = zlib.decompress(data)
    rows = [raw[n * (width * size + 1) + 1 : (n + 1) * (width * size + 1)] for n in range(height)]
    # Filtered rows are enough to tell a picture from a blank page.
    return len({row[n : n + size] for row in rows for n in range(0, len(row), size)})


async def test_page(
    store: Store, api: ApiProcess, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    # Not what the browser's own first page asked for.
    browser.get("about:blank")
    _log(browser, "performance")
    browser.get(f"{api.address}/")
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".opblock-summary"))
    assert browser.current_url.rstrip("/") == f"{api.address}/docs"
    assert browser.title == "iredapi"
    text = browser.find_element(By.TAG_NAME, "body").text

    async with httpx.AsyncClient(trust_env=False) as client:
        document = (await client.get(f"{api.address}/openapi.json")).json()
    count = 0
    for path, verbs in document["paths"].items():
        for method, operation in verbs.items():
            count += 1
            assert operation["summary"] in text, (method, path)
            assert path in text.replace("\u200b", ""), path
    assert len(browser.find_elements(By.CSS_SELECTOR, ".opblock-summary")) == count

    assert browser.find_elements(By.CSS_SELECTOR, ".auth-wrapper button.authorize")
    assert "First steps" in text
    assert "archive@example.com" not in text
    filters = browser.find_element(By.CSS_SELECTOR, "input.operation-filter-input")
    filters.send_keys("Mail Alias")
    wait(browser, lambda b: len(b.find_elements(By.CSS_SELECTOR, ".opblock-tag-section")) == 1)
    filters.send_keys(Keys.CONTROL, "a")
    filters.send_keys(Keys.BACKSPACE)
    wait(browser, lambda b: len(b.find_elements(By.CSS_SELECTOR, ".opblock-tag-section")) > 1)

    sections = {}
    for section in browser.find_elements(By.CSS_SELECTOR, ".opblock-tag-section"):
        name = section.find_element(By.CSS_SELECTOR, ".opblock-tag").get_attribute("data-tag")
        sections[name] = len(section.find_elements(By.CSS_SELECTOR, ".opblock-summary"))
    for name, least in GROUPS.items():
        assert sections[name] >= least, sections
    assert "default" not in sections

    asked = requests_of(browser)
    assert {url for url, status in asked.items() if not 200 <= status < 400} == set()
    assert all(url.startswith((api.address, "data:")) for url in asked), asked
    severe = [entry for entry in _log(browser, "browser") if entry["level"] == "SEVERE"]
    assert severe == []

    picture = tmp_path / "docs.png"
    assert browser.save_screenshot(str(picture))
    assert colours(picture.read_bytes()) > 100


async def test_execute_login(
    store: Store, api: ApiProcess, browser: webdriver.Chrome, tmp_path: Path
) -> None:
    browser.get(f"{api.address}/docs")
    summary = wait(
        browser,
        lambda b: b.find_elements(
            By.CSS_SELECTOR, "#operations-Login-login .opblock-summary-control"
        ),
    )[0]
    browser.execute_script("arguments[0].scrollIntoView()", summary)
    summary.click()
    block = browser.find_element(By.ID, "operations-Login-login")
    wait(browser, lambda _: block.find_elements(By.CSS_SELECTOR, "button.execute"))
    body = block.find_element(By.CSS_SELECTOR, "textarea.body-param__text")
    assert json.loads(str(body.get_attribute("value"))).keys() == {"username", "password"}
    body.send_keys(Keys.CONTROL, "a")
    body.send_keys(json.dumps({"username": ROOT, "password": PASSWORD}))
    execute = block.find_element(By.CSS_SELECTOR, "button.execute")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", execute)
    execute.click()
    live = wait(browser, lambda _: block.find_elements(By.CSS_SELECTOR, ".live-responses-table"))[0]
    wait(browser, lambda _: "_success" in live.text)
    assert browser.save_screenshot(str(tmp_path / "login.png"))
    assert "200" in live.text
    assert '"_success": true' in live.text

    # The cookie of that login opens the rest of the page's operations.
    answer = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('/api/domains').then(r => r.json()).then(done, e => done(String(e)))"
    )
    assert answer == {"_success": True, "_data": []}
    # Scripts of the page cannot read it.
    assert browser.execute_script("return document.cookie") == ""
