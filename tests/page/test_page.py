"""The pages in a real browser, inside a real Airflow, over a controller with a past."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.page.world import CLINIC, NASTY, PASSWORDS, Airflow, Served, World

pytestmark = [pytest.mark.slow, pytest.mark.browser]

DIGITS = "/taxiway/endpoints/digits"
PLACES = """() => [...document.querySelectorAll("h1, h2, svg.chart, th, .steps, .legend")].map((element) =>
    `${element.nodeName} ${element.matches("svg") ? "" : element.textContent.slice(0, 12)} ` +
    `${element.getBoundingClientRect().top}`)"""


@pytest.fixture
def away(served: Served) -> Iterator[None]:
    """Let the controller be away for a test."""
    served.stop()
    yield
    served.start()


def chart(page: Page) -> Locator:
    return page.get_by_role("group", name="Split over time")


def test_navigation_leads_from_airflow_to_an_endpoint(page: Page, airflow: Airflow) -> None:
    page.context.clear_cookies()
    page.goto("/")
    page.get_by_label("Username").fill("ben")
    page.get_by_role("textbox", name="Password").fill(PASSWORDS["ben"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Traffic").click()
    frame = page.frame_locator("iframe[title=Traffic]")
    frame.get_by_role("link", name="digits").click()
    expect(frame.get_by_role("heading", name="digits Progressing")).to_be_visible()
    expect(page).to_have_url(f"{airflow.url}/plugin/taxiway{DIGITS}")


def test_address_of_an_endpoint_can_be_sent_to_somebody(page: Page) -> None:
    page.goto(f"/plugin/taxiway{DIGITS}")
    frame = page.frame_locator("iframe[title=Traffic]")
    expect(frame.get_by_role("heading", name="digits Progressing")).to_be_visible()


def test_overview_tells_what_is_live_and_under_way(page: Page) -> None:
    page.goto("/taxiway/")
    expect(page.get_by_text("4 endpoints, 2 rollouts under way")).to_be_visible()
    row = page.get_by_role("row", name="digits")
    for text in ("Progressing", "version 2", "2: 95 %, 4: 5 %", "canary to version 4: step"):
        expect(row).to_contain_text(text)
    newcomer = page.get_by_role("row", name="newcomer")
    for text in ("nothing yet", "none so far"):
        expect(newcomer).to_contain_text(text)


def test_overview_shows_what_was_wanted_and_is_not_so(page: Page, world: World) -> None:
    router = world.plane.router
    router.is_reachable = False
    world.plane.tick()
    page.goto("/taxiway/")
    expect(page.get_by_role("row", name="digits")).to_contain_text("unknown: the gateway does not answer")
    router.is_reachable = True
    world.plane.tick()
    expect(page.get_by_role("row", name="digits")).to_contain_text("2: 95 %, 4: 5 %")


def test_endpoint_shows_split_verdicts_and_a_metric(page: Page) -> None:
    page.goto(DIGITS)
    page.get_by_role("combobox", name="Time").select_option("All")
    expect(chart(page).get_by_role("button")).to_have_count(3)
    names = [mark.get_attribute("aria-label") or "" for mark in chart(page).get_by_role("button").all()]
    assert [name.split(",")[0] for name in names] == [
        "promote of version 1",
        "promote of version 2",
        "roll back of version 3",
    ]
    assert "more errors than the control" in names[2]
    areas = chart(page).locator("path.area")
    drawn = [path.get_attribute("d") for path in areas.all()]
    assert len(drawn) == 4
    assert all(drawn)
    expect(page.get_by_role("heading", name="click per request")).to_be_visible()
    page.get_by_role("combobox", name="Metric").select_option("Failed requests")
    expect(page.get_by_role("heading", name="Failed requests")).to_be_visible()
    expect(page.locator("path.line")).to_have_count(4)


def test_chart_reads_like_the_ledger(page: Page, world: World) -> None:
    entries = world.plane.store.entries("digits", after=0, limit=10_000)
    (back,) = [
        e for e in entries if e.body.get("verdict") == "roll back" and e.body["split"] != e.body["observed"]
    ]
    page.goto(DIGITS)
    page.get_by_role("combobox", name="Time").select_option("All")
    mark = chart(page).get_by_role("button", name="roll back")
    mark.click()
    line = page.locator(f"#entry-{back.seq}")
    expect(line).to_be_focused()
    expect(line).to_contain_text(back.reason)
    expect(line.get_by_role("table")).to_be_visible()
    guard = line.get_by_role("row", name=re.compile("^error_ratio, version 3"))
    expect(guard).to_contain_text("proven")
    meter = guard.get_by_role("meter")
    assert float(meter.get_attribute("aria-valuenow") or 0) >= float(
        meter.get_attribute("aria-valuemax") or 1e9
    )


def test_evidence_is_held_against_its_threshold(page: Page) -> None:
    page.goto(DIGITS)
    row = page.get_by_role("row", name="budget_certificate, version 4").first
    expect(row).to_contain_text("allowing promotion")
    expect(row).to_contain_text("not proven")
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuemax", "3.6889")


def test_bandit_shows_its_arms_and_where_they_went(page: Page) -> None:
    page.goto("/taxiway/endpoints/shop")
    expect(page.get_by_role("heading", name="Rollout: bandit to version 2, 3")).to_be_visible()
    arms = page.locator("table.arms")
    expect(arms.get_by_role("row")).to_have_count(4)
    best = arms.get_by_role("row", name="version 3")
    weight_pct = float(best.get_by_role("cell").first.inner_text().removesuffix(" %"))
    assert weight_pct > 70
    expect(page.locator(".readout")).to_contain_text(f"version 3 {weight_pct:g} %")
    assert all(path.get_attribute("d") for path in chart(page).locator("path.area").all())
    expect(page.get_by_role("row", name="shift").first).to_contain_text("version 3 earns")


def test_abort_is_told_as_a_persons_and_not_as_a_verdict(page: Page) -> None:
    page.goto(f"/taxiway/endpoints/{CLINIC}")
    page.get_by_role("combobox", name="Time").select_option("All")
    marks = chart(page).get_by_role("button")
    expect(marks).to_have_count(2)
    names = [mark.get_attribute("aria-label") or "" for mark in marks.all()]
    assert [name.split(",")[0].split(" of")[0] for name in names] == ["promote", "abort"]
    assert "aborted by ann" in names[1]
    expect(marks.nth(1)).to_contain_text("✕")
    expect(page.get_by_role("cell", name="taken back").first).to_be_visible()
    expect(page.get_by_role("cell", name="roll back")).to_have_count(0)


def test_keyboard_walks_from_change_to_change(page: Page) -> None:
    page.goto(DIGITS)
    page.get_by_role("combobox", name="Time").select_option("All")
    readout = page.locator(".readout")
    chart(page).focus()
    page.keyboard.press("Home")
    expect(readout).to_contain_text("wanted version 1 100 %")
    page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("read back version 1 100 %")
    expect(chart(page)).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("wanted version 2 95 %, version 4 5 %")


def test_everything_can_be_reached_by_keyboard(page: Page) -> None:
    page.goto(DIGITS)
    expect(page.get_by_role("heading", name="Ledger")).to_be_visible()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.nodeName + ' ' + document.activeElement.textContent.slice(0, 13)"
            )
        )
    assert reached[0] == "A All endpoints"
    assert {"A CSV", "A JSON"} <= set(reached)
    assert {"SELECT", "svg"} <= {name.split()[0] for name in reached}


def test_refresh_moves_nothing_and_keeps_what_the_reader_did(page: Page, world: World) -> None:
    page.goto(DIGITS)
    details = page.locator("details").first
    details.locator("summary").click()
    page.get_by_role("combobox", name="Time").focus()
    for _ in range(2):
        before, places = page.locator("#status").inner_text(), page.evaluate(PLACES)
        world.tick(2)
        expect(page.locator("#status")).not_to_have_text(before)
        expect(page.get_by_text(f"{world.plane.state('to-4').exposed} units seen")).to_be_visible()
        assert page.evaluate(PLACES) == places
    expect(page.get_by_role("combobox", name="Time")).to_be_focused()
    expect(details).to_have_attribute("open", "")


def test_page_follows_the_theme_of_airflow(page: Page) -> None:
    page.goto(f"/plugin/taxiway{DIGITS}")
    frame = page.frame_locator("iframe[title=Traffic]")
    expect(frame.get_by_role("heading", name="Ledger")).to_be_visible()
    seen = {}
    for theme in ("light", "dark"):
        page.evaluate("(theme) => { document.documentElement.className = theme; }", theme)
        expect(frame.locator("html")).to_have_attribute("data-theme", theme)
        seen[theme] = contrast(frame.locator("h1"))
    assert min(seen.values()) > 7, seen


def test_page_alone_follows_the_readers_system(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(DIGITS)
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def contrast(text: Locator) -> float:
    """Return the contrast of a text with the page behind it, as WCAG 2 counts it."""
    shades = text.evaluate(
        """(element) => [getComputedStyle(element).color, getComputedStyle(document.body).backgroundColor]
            .map((colour) => colour.match(/\\d+/g).slice(0, 3).map(Number))"""
    )

    def luminance(shade: list[int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in shade]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(luminance(shade) for shade in shades)
    return (light + 0.05) / (dark + 0.05)


def test_text_of_others_is_shown_as_text(page: Page) -> None:
    page.goto("/taxiway/endpoints/newcomer")
    expect(page.get_by_role("cell", name=NASTY)).to_be_visible()
    assert page.evaluate("window.hurt") is None


def test_endpoint_without_traffic_says_what_comes_next(page: Page) -> None:
    page.goto("/taxiway/endpoints/newcomer")
    expect(page.get_by_role("heading", name="No rollout so far")).to_be_visible()
    expect(page.get_by_text("Deployed: version 1 is ready.")).to_be_visible()
    expect(page.get_by_text("no live traffic yet")).to_be_visible()
    expect(page.get_by_text("No request was measured in this time.")).to_be_visible()


def test_unknown_endpoint_leads_back(page: Page) -> None:
    page.goto("/taxiway/endpoints/nothing")
    expect(page.get_by_role("alert")).to_contain_text("no endpoint 'nothing'; deploy a model version")
    page.get_by_role("link", name="All endpoints").click()
    expect(page.get_by_role("heading", name="Live traffic")).to_be_visible()


def test_controller_without_endpoints_says_what_comes_next(
    page: Page, served: Served, tmp_path: Path
) -> None:
    empty = World(tmp_path)
    served.stop()
    served.start(empty)
    try:
        page.goto("/taxiway/")
        expect(page.get_by_role("heading", name="No endpoint yet")).to_be_visible()
        expect(page.get_by_text("run a DAG with a DeployOperator")).to_be_visible()
    finally:
        served.stop()
        served.start()
        empty.close()


@pytest.mark.usefixtures("away")
def test_controller_that_is_away_is_told_with_the_next_step(page: Page) -> None:
    page.goto(DIGITS)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("ConnectError")
    expect(alert).to_contain_text("Start the controller (taxiway-controller)")
    expect(alert).to_contain_text("Live traffic goes on")


def test_page_outlives_a_controller_that_goes_away(page: Page, served: Served) -> None:
    page.goto(DIGITS)
    expect(chart(page)).to_be_visible()
    served.stop()
    expect(page.get_by_role("status")).to_contain_text("Not up to date: what is shown was said at")
    expect(page.get_by_role("status")).to_contain_text("Start the controller")
    expect(chart(page)).to_be_visible()
    served.start()
    expect(page.get_by_role("status")).to_contain_text("As of")


def test_session_that_ended_is_told(page: Page, context: BrowserContext) -> None:
    page.goto(DIGITS)
    expect(chart(page)).to_be_visible()
    context.clear_cookies()
    expect(page.get_by_role("status")).to_contain_text("Reload Airflow and log in.")


def test_page_fits_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 420, "height": 800})
    page.goto(DIGITS)
    expect(page.get_by_role("heading", name="Ledger")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
