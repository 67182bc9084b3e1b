"""One controller with a past, one Airflow and one browser for all of the page's tests; tests only look."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.page.world import Airflow, Served, World

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 120_000
SIZE = ViewportSize(width=1360, height=1000)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a controller whose endpoint has a past; it goes on only when a test lets it."""
    made = World(tmp_path_factory.mktemp("world"))
    made.play()
    yield made
    made.close()


@pytest.fixture(scope="session")
def served(world: World) -> Iterator[Served]:
    controller = Served(world)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture(scope="session")
def airflow(
    served: Served, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    api_server = Airflow(tmp_path_factory.mktemp("airflow"), served)
    api_server.start()
    yield api_server
    api_server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return this machine's own Chromium; a developer without one skips, CI must have it.

    Not for the session: while playwright is open its event loop runs in this thread, and no other test could run one.
    """
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        message = "no Chromium here; install your system's chromium package"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    # Chromium's sandbox refuses to run as root, as which containers and CI run.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments, timeout=PATIENCE_MS)
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser, airflow: Airflow) -> Iterator[BrowserContext]:
    """Return a browser in which a viewer is logged in, and in which only this machine answers."""
    opened = browser.new_context(viewport=SIZE, timezone_id="UTC", locale="en-GB", base_url=airflow.url)
    opened.add_cookies([{"name": "_token", "value": airflow.token("ben"), "url": airflow.url}])
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, airflow: Airflow) -> Iterator[Page]:
    """Return a tab; at the end nothing may have gone wrong in it, and it may have asked nobody but Airflow."""
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    troubles: list[str] = []
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("console", lambda said: troubles.append(said.text) if is_trouble(said.text, said.type) else None)
    tab.on("request", lambda asked: troubles.append(asked.url) if not is_ours(asked.url, airflow) else None)
    yield tab
    assert not troubles


def is_ours(url: str, airflow: Airflow) -> bool:
    """Tell what was asked of Airflow, or made by its own scripts, from what was asked of anybody else."""
    return url.removeprefix("blob:").startswith(f"{airflow.url}/") or url.startswith("data:")


def is_trouble(text: str, kind: str) -> bool:
    """Tell an error of the page from the browser's own note that an answer was not 200, which a test wants to see."""
    return kind == "error" and not text.startswith("Failed to load resource")
