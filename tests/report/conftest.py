"""A browser, to look at pages as a reader does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"),
    *("disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"),
)


# Files, pictures inside of them, and the browser's own pages.
OWN = ("file:", "data:", "chrome:", "chrome-untrusted:", "about:")

COLUMNS = "return new Set([...document.querySelectorAll('section')].map(s => s.offsetLeft)).size"


class Seen(NamedTuple):
    """What a browser finds of a page.

    Attributes:
        width: of the whole document, in pixels.
        titles: of its sections.
        columns: of sections side by side.
        paper: the background's colour.
        said: lines in the console.
        asked: addresses that were asked for on a network.
    """

    width: int
    titles: list[str]
    columns: int
    paper: str
    said: list[str]
    asked: list[str]


def _address(event: dict[str, Any]) -> str:
    """Of a request in the browser's log; its own of what is none."""
    asks = event["method"] == "Network.requestWillBeSent"
    return event["params"]["request"]["url"] if asks else "about:"


class Browser:
    """Chromium, of any width and in either scheme of colours."""

    def __init__(self, driver: Any):
        self._driver = driver

    def see(self, page: Path, width: int, scheme: str) -> Seen:
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        wish = {"name": "prefers-color-scheme", "value": scheme}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [wish]})
        self._driver.get(page.absolute().as_uri())
        events = [json.loads(line["message"])["message"] for line in self._driver.get_log("performance")]
        return Seen(
            self._driver.execute_script("return document.documentElement.scrollWidth"),
            self._driver.execute_script("return [...document.querySelectorAll('h2')].map(h => h.innerText)"),
            self._driver.execute_script(COLUMNS),
            self._driver.execute_script("return getComputedStyle(document.body).backgroundColor"),
            [line["message"] for line in self._driver.get_log("browser")],
            [url for url in map(_address, events) if not url.startswith(OWN)],
        )

    def picture(self, path: Path) -> None:
        """Saves the whole page as it was seen last."""
        import base64

        found = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(found["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService(chromedriver))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
