"""Chromium without a window, and without any network but loopback."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = """
--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --disable-dev-shm-usage
--window-size=1280,1600 --no-proxy-server
"""
# No name can be looked up, and no address but our own be reached by name.
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def missing() -> str | None:
    """Why there can be no browser here, or None."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def start(profile: Path) -> webdriver.Chrome:
    """Start a browser that logs its requests and messages; ``quit()`` ends it."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS.split(), NO_NETWORK, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(60)
    return driver


def wait(browser: webdriver.Chrome, condition: Any, seconds: float = 30) -> Any:
    """Return the first true value of a condition."""
    return WebDriverWait(browser, seconds).until(condition)
