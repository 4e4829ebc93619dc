"""The wall and the cluster page in a real browser (Debian's chromium)."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.acceptance.demo import Demo
from tests.acceptance.wall import picture

pytestmark = pytest.mark.xdist_group("demo")  # one running demo for all of them


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without these, chromium looks for its maker's hosts at every start.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("There is no chromium, and CI must have one.")
        warnings.warn("NO CHROMIUM: the pages are not tested in a browser.", stacklevel=1)
        pytest.skip("no chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def faults(browser: Browser) -> Iterator[list[str]]:
    """What went wrong in any page of the test; must be empty at its end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def ada(demo: Demo, browser: Browser, faults: list[str]) -> Iterator[Page]:
    yield from signed_in(browser.new_context(), demo, "ada", faults)


@pytest.fixture
def grace(demo: Demo, browser: Browser, faults: list[str]) -> Iterator[Page]:
    yield from signed_in(browser.new_context(viewport=PHONE, has_touch=True), demo, "grace", faults)


def signed_in(context: BrowserContext, demo: Demo, name: str, faults: list[str]) -> Iterator[Page]:
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda response: response.status >= 500 and faults.append(f"{response.status} {response.url}"))
    page.goto(demo.url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill("demo")
    page.locator("#sign-in-form").get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_have_attribute("data-status", "open")
    yield page
    context.close()


def test_photo_put_up_in_one_browser__appears_in_the_other(ada: Page, grace: Page, tmp_path: Path) -> None:
    file = tmp_path / "Seen at once.jpg"
    file.write_bytes(picture())
    ada.locator("#files").set_input_files(file)
    for page in (ada, grace):
        expect(page.locator(".card", has_text="Seen at once").first).to_be_visible(timeout=15_000)
    expect(ada.locator("#uploads li")).to_have_count(0)
    card = grace.locator(".card", has_text="Seen at once").first
    card.locator(".like").tap()
    expect(card.locator(".like")).to_have_attribute("aria-pressed", "true")
    expect(ada.locator(".card", has_text="Seen at once").first.locator(".like span")).to_have_text("1")
    shots(ada, "wall")
    shots(grace, "wall-phone")


def test_comment__shows_at_the_other_side(ada: Page, grace: Page) -> None:
    for page in (ada, grace):
        page.locator(".card", has_text="Chelsea the cat").first.locator(".open").click()
    ada.get_by_label("Comment").fill("What a face")
    ada.get_by_role("button", name="Send").click()
    for page in (ada, grace):
        expect(page.locator("#comments li", has_text="What a face").first).to_be_visible()
    shots(ada, "photo")


def test_wrong_file__is_refused_with_words(ada: Page, tmp_path: Path) -> None:
    file = tmp_path / "notes.jpg"
    file.write_bytes(b"these are not the bytes of a picture")
    ada.locator("#files").set_input_files(file)
    expect(ada.locator("#uploads li.bad small")).to_be_visible()


def test_cluster_page__shows_every_role(ada: Page, demo: Demo) -> None:
    ada.goto(demo.url + "cluster/")
    for role in ("web", "websocket", "workers", "scheduler"):
        expect(ada.locator(f"#hosts .group .name:text-is('{role}')")).to_be_visible()
    expect(ada.locator("#schedules")).to_contain_text("photo-of-the-minute")
    expect(ada.locator("#queues")).to_contain_text("default")
    shots(ada, "cluster")
    ada.set_viewport_size(PHONE)
    assert ada.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling on a phone"
    shots(ada, "cluster-phone")


def shots(page: Page, name: str) -> None:
    """Keep a screenshot where SCREENSHOTS says, for people to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
