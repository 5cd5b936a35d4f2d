"""A headless Chromium and what it shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.ray.running import until

BINARIES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,860", "--disable-dev-shm-usage")
ROWS = "return [...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText))"


class Browser:
    """Opens one page at construction."""

    def __init__(self, address: str, out: Path) -> None:
        options = Options()
        options.binary_location = _found(*BINARIES)
        for switch in SWITCHES:
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(_found("chromedriver")))
        self._address = address
        self._out = out
        self._driver.get(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.picture("failure")
        self._driver.quit()

    # What it shows.

    def text(self) -> str:
        """Give all text of the page."""
        return str(self._driver.find_element(By.TAG_NAME, "body").text)

    def number_in(self, before: str) -> int:
        """Give the updates a second that the head line states."""
        found = re.search(rf"{before}\S+ (\d+) updates/s", self.text())
        return int(found[1]) if found else 0

    def tabs(self) -> list[str]:
        """Give the names of the tabs."""
        return [tab.text for tab in self._driver.find_elements(By.CSS_SELECTOR, ".q-tab")]

    def rows(self) -> list[list[str]]:
        """Give the cells of all tables that are shown."""
        rows: list[list[str]] = self._driver.execute_script(ROWS)
        return [row for row in rows if len(row) > 1]

    def first_rates(self) -> list[str]:
        """Give the rates of the streams."""
        return [row[2] for row in self.rows() if ":" in row[0]]

    def drawn(self) -> int:
        """Give how many charts have something in them."""
        return sum(
            self.points(at) > 0
            for at in range(len(self._driver.find_elements(By.CSS_SELECTOR, "[_echarts_instance_]")))
        )

    def points(self, at: int) -> int:
        """Give how many points a chart shows."""
        return sum(len(one.get("data", [])) for one in self._options(at).get("series", []))

    def chart_title(self, at: int) -> str:
        """Give the title of a chart."""
        titles = self._options(at).get("title", [])
        return str(titles[0]["text"]) if titles else ""

    def _options(self, at: int) -> dict[str, Any]:
        try:
            return dict(self._driver.execute_script(_CHART_SCRIPT, at) or {})
        except WebDriverException:
            return {}

    def foreign_addresses(self) -> list[str]:
        """Give everything that was loaded from elsewhere than the page's own server."""
        names = self._driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        return [name for name in names if not name.startswith((self._address, "data:", "blob:"))]

    def problems(self) -> list[str]:
        """Give the errors of the page's own code."""
        return [entry["message"] for entry in _log_of(self._driver) if entry["level"] == "SEVERE"]

    def picture(self, name: str) -> None:
        """Keep a screenshot."""
        self._driver.save_screenshot(str(self._out / f"{name}.png"))

    # What is done with it. The page changes while it is looked at: what fails for that is tried again.

    def click_tab(self, name: str) -> None:
        """Click on a tab."""
        self._attempt(lambda: self._one(".q-tab", name).click(), f"the tab {name} is clicked")

    def click(self, text: str) -> None:
        """Click on a button."""
        self._attempt(lambda: self._one(".q-btn", text).click(), f"the button {text} is clicked")

    def options(self) -> list[str]:
        """Open the list, give what can be chosen, and close it."""
        names: list[str] = []

        def look() -> None:
            names[:] = [item.text for item in self._opened()]
            self._close()

        self._attempt(look, "the list is read")
        return names

    def choose(self, option: str) -> None:
        """Open the list and click on one."""

        def act() -> None:
            next(item for item in self._opened() if item.text == option).click()

        self._attempt(act, f"{option} is chosen")

    def _one(self, selector: str, text: str) -> Any:
        return next(one for one in self._driver.find_elements(By.CSS_SELECTOR, selector) if one.text == text)

    def _items(self) -> list[Any]:
        return list(self._driver.find_elements(By.CSS_SELECTOR, ".q-menu .q-item"))

    def _opened(self) -> list[Any]:
        """Open the list of the tab that is shown."""
        self._close()
        self._driver.find_element(By.CSS_SELECTOR, ".q-select").click()
        until(lambda: self._items() and all(item.text for item in self._items()), "the list opens", timeout_s=5)
        return self._items()

    def _close(self) -> None:
        if self._items():
            self._driver.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
            until(lambda: not self._items(), "the list closes", timeout_s=5)

    def _attempt(self, act: Callable[[], None], what: str) -> None:
        problems: list[str] = []

        def attempt() -> bool:
            try:
                act()
            except (WebDriverException, StopIteration, AssertionError) as problem:
                problems.append(f"{type(problem).__name__}: {problem}".partition("Stacktrace")[0])
                return False
            return True

        until(attempt, what, explain=lambda: problems[-1])


def _found(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    assert found is not None, f"needs Debian's packages chromium and chromium-driver: no {names[0]} on the path"
    return found


def _log_of(driver: Any) -> list[dict[str, str]]:
    return list(driver.get_log("browser"))


_CHART_SCRIPT = """
const shown = [...document.querySelectorAll('[_echarts_instance_]')];
const vue = shown[arguments[0]];
if (!vue) return null;
const id = vue.id.slice(1);
const chart = getElement(Number(id)).chart;
const options = chart.getOption();
return {title: options.title, series: (options.series || []).map(s => ({data: s.data || []}))};
"""
