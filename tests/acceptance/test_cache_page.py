"""The page to look at the cache, in a real browser."""

# ruff: noqa: F811  (fixtures of other files)

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from scaling_kit.cache import invalidate, status, tags
from tests.acceptance.demo import Demo
from tests.acceptance.test_browser import PHONE, browser, shots  # noqa: F401  (a fixture)
from tests.acceptance.test_jobs_page import faults, opened, site  # noqa: F401  (fixtures)
from tests.cache import stock
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.library.models import Author, Book

ARTICLES = "shop.views.ArticleViewSet.list"
ARTICLE = "shop.views.ArticleViewSet.RetrieveModelMixin.retrieve"
WEATHER = "shop.weather.views.WrappedAPIView.weather"
EVIL = "shop.views.<img src=x onerror=\"document.title='evil'\">"


@pytest.fixture
def shop(site: str) -> str:
    """The address of a site where a shop has been open for a few hours."""
    tags.redis_client().connection_pool.disconnect()  # a new one learns which server this test's keys are on
    stock.begin_counting()
    stock.count(ARTICLES, hit=41_873, miss=1_204, bypass=97, reasons=["transaction"] * 3 + ["renderer"] * 2)
    stock.count(ARTICLE, hit=9_216, miss=2_630, bypass=12, reasons=["status"])
    stock.count(WEATHER, hit=310, miss=270)
    stock.count("shop.reports.totals", hit=88, miss=3)
    for number in range(12):
        stock.put(ARTICLES, Book, Author, digest=str(number), size=18_400)
    for number in range(40):
        stock.put(ARTICLE, Book, digest=str(number), size=2_950)
    stock.put(WEATHER, "weather", size=640)
    return site


def row(page: Page, text: str) -> Locator:
    return page.locator("#views tbody tr", has_text=text)


def current(page: Page, text: str) -> Locator:
    return row(page, text).locator("[data-unit=entries]")


def test_views__are_seen_and_forgotten(shop: str, browser: Browser, faults: list[str]) -> None:
    page = opened(browser, shop, "root", faults, "cache/", viewport={"width": 1360, "height": 1080})
    expect(row(page, "ArticleViewSet.list")).to_contain_text("97.2 %")
    expect(current(page, "ArticleViewSet.list")).to_have_text("12")
    stock.count(ARTICLES, hit=90, miss=10)
    expect(row(page, "ArticleViewSet.list")).to_contain_text("last minute 90.0 %")
    invalidate("prices")
    tags.redis_client().set(tags.keys_of(tags.of("stocktaking"))[0], "token:1")
    stock.put(WEATHER, "prices", "stocktaking", digest="2")
    expect(page.locator("#in-flight")).to_have_text("Being committed: stocktaking")
    shots(page, "cache")

    page.get_by_role("button", name="Forget weather").click()
    expect(page.locator(".toast", has_text="Forgotten: weather.")).to_be_visible()
    expect(current(page, "weather")).to_have_text("0")
    page.get_by_label("Model or name").fill("library.Authr")
    page.get_by_role("button", name="Forget", exact=True).last.click()
    expect(page.locator(".toast.bad", has_text="Did you mean library.Author?")).to_be_visible()
    page.get_by_label("Model or name").fill("library.Author")
    page.get_by_role("button", name="Forget", exact=True).last.click()
    expect(current(page, "ArticleViewSet.list")).to_have_text("0")
    expect(page.locator("#changes li").first).to_contain_text("library_author")
    expect(current(page, "ArticleViewSet.retrieve")).to_have_text("40")
    page.get_by_role("button", name="Forget everything").click()
    page.get_by_role("button", name="Forget everything").last.click()
    expect(current(page, "ArticleViewSet.retrieve")).to_have_text("0")
    assert status.snapshot(seconds=5)["current"] == 0


def test_redis_away__is_said_until_it_is_back(shop: str, browser: Browser, faults: list[str]) -> None:
    stock.count(EVIL, miss=1)
    page = opened(browser, shop, "root", faults, "cache/", viewport=PHONE, has_touch=True, color_scheme="dark")
    expect(row(page, "ArticleViewSet.list")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    shots(page, "cache-phone")
    tags.redis_client().client_pause(4000)
    expect(page.locator("#problem")).to_contain_text("does not answer")
    expect(page.locator("#live")).to_have_attribute("data-status", "lost")
    expect(row(page, "ArticleViewSet.list")).to_be_visible()
    shots(page, "cache-phone-away")
    expect(page.locator("#problem")).to_be_hidden(timeout=10_000)
    page.get_by_role("heading", name="Forget").scroll_into_view_if_needed()
    shots(page, "cache-phone-below")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    assert (page.title(), page.locator("main img").count()) == ("Cached responses", 0)
    assert {fault.split()[0] for fault in faults} <= {"503", "Failed"}
    faults.clear()


@pytest.mark.xdist_group("demo")
def test_demo__shows_its_cache_to_its_staff(demo: Demo, browser: Browser, faults: list[str]) -> None:
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(demo.url)  # the wall asks for its photos
    page.goto(f"{demo.url}cluster/")
    page.get_by_role("link", name="cached responses").click()
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#views tbody tr").first).to_be_visible()
    shots(page, "cache-demo")
