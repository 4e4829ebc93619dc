"""The dashboard and the demo's cluster page, in a real browser, over real processes."""

# ruff: noqa: F811  (fixtures of other files)

from __future__ import annotations

import json
import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.acceptance.demo import Demo
from tests.acceptance.test_browser import PHONE, browser, shots  # noqa: F401  (a fixture)

pytestmark = pytest.mark.xdist_group("demo")

DESKTOP = {"width": 1360, "height": 900}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
LOOKER = """
from django.contrib.auth.models import User
User.objects.filter(username="looker").delete()
User.objects.create_user("looker", password="demo", is_staff=True)
"""
ANSWER_MS = 15_000


@pytest.fixture
def faults() -> Iterator[list[str]]:
    """What went wrong in any page of the test; must be empty at its end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture(scope="module")
def ada(demo: Demo, browser: Browser) -> Iterator[BrowserContext]:
    """A browser in which a superuser has signed in."""
    yield from signed_in(demo, browser, "ada")


@pytest.fixture(scope="module")
def looker(demo: Demo, browser: Browser) -> Iterator[BrowserContext]:
    demo.run_python(LOOKER)
    yield from signed_in(demo, browser, "looker")


def signed_in(demo: Demo, browser: Browser, name: str) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(f"{demo.url}dashboard/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#live")).to_have_attribute("data-status", "open")  # not closed in the middle of signing in
    page.close()
    yield context
    context.close()


def opened(context: BrowserContext, url: str, faults: list[str]) -> Page:
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.route(re.compile("/dashboard/$"), with_policy)
    page.goto(url)
    return page


def with_policy(route: Route) -> None:
    """The page must do without inline scripts and styles."""
    response = route.fetch()
    route.fulfill(response=response, headers={**response.headers, "content-security-policy": POLICY})


def far_too_many(route: Route) -> None:
    """The page itself asks for one more; changing its button would race with its next look."""
    route.continue_(post_data=json.dumps({**route.request.post_data_json, "names": {"web": "+999"}}))


@contextmanager
def load(url: str) -> Iterator[None]:
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.02):
            urllib.request.urlopen(f"{url}api/feed/", timeout=20).read()

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        stopped.set()
        sending.join()


@contextmanager
def paused(demo: Demo, name: str) -> Iterator[None]:
    pid = json.loads((demo.folder / "state.json").read_text())["processes"][name]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def pids(page: Page, group: str) -> set[str]:
    return {row.get_attribute("data-pid") or "" for row in rows(page, group).all()}


def rows(page: Page, group: str) -> Locator:
    return page.locator(f'tbody[data-key="{group}"] tr[data-pid]')


def lately(page: Page, text: str) -> Locator:
    return page.locator("#lately li.done", has_text=text)


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_numbers__change_without_a_reload_and_a_worker_is_added_and_taken_away(
    demo: Demo, ada: BrowserContext, faults: list[str]
) -> None:
    page = opened(ada, f"{demo.url}dashboard/", faults)
    expect(page.locator("#live")).to_have_attribute("data-status", "open")
    page.evaluate("window.sameDocument = true")
    requests = page.locator('[data-key="requests"] .value b')
    total = page.locator('.totals [data-key="Requests"] b')
    before, drawn = total.inner_text(), page.locator('[data-key="requests"] .line').get_attribute("d")
    expect(rows(page, "web")).to_have_count(2)
    with load(demo.url):
        more = page.get_by_role("button", name="One web process more", exact=True)
        more.focus()
        page.keyboard.press("Enter")
        expect(lately(page, "scaled from 2 to 3")).to_be_visible(timeout=ANSWER_MS)
        expect(rows(page, "web")).to_have_count(3, timeout=ANSWER_MS)
        expect(more).to_be_focused()  # looking again does not take the focus away
        expect(requests).to_have_text(re.compile(r"^[1-9]"), timeout=ANSWER_MS)
        expect(total).not_to_have_text(before)
        shots(page, "cluster-dashboard")
        page.get_by_role("button", name="One web process less", exact=True).click()
        expect(rows(page, "web")).to_have_count(2, timeout=ANSWER_MS)
    expect(page.locator('[data-key="requests"] .line')).not_to_have_attribute("d", drawn or "", timeout=ANSWER_MS)
    assert page.evaluate("window.sameDocument")
    page.close()


def test_reload_and_stop__are_told_when_they_are_done(demo: Demo, ada: BrowserContext, faults: list[str]) -> None:
    page = opened(ada, f"{demo.url}dashboard/", faults)
    page.emulate_media(color_scheme="dark")
    expect(rows(page, "web")).to_have_count(2)
    old = pids(page, "web")
    page.get_by_role("button", name="Reload web", exact=True).click()
    page.get_by_role("button", name="Stop scheduler", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("It stays stopped until somebody starts it again.")
    page.get_by_role("button", name="Stop scheduler", exact=True).last.click()
    expect(lately(page, "stop scheduler")).to_be_visible(timeout=ANSWER_MS)
    page.get_by_role("button", name="Start scheduler", exact=True).click()
    expect(lately(page, "start scheduler")).to_be_visible(timeout=ANSWER_MS)
    expect(lately(page, "reloaded, 2 new workers")).to_be_visible(timeout=30_000)
    for pid in old:
        expect(page.locator(f'tr[data-pid="{pid}"]')).to_have_count(0, timeout=ANSWER_MS)
    expect(rows(page, "web")).to_have_count(2, timeout=ANSWER_MS)
    shots(page, "cluster-dashboard-dark")
    page.close()


def test_order_that_is_refused__is_told_in_words(demo: Demo, ada: BrowserContext, faults: list[str]) -> None:
    page = opened(ada, f"{demo.url}dashboard/", faults)
    page.route(re.compile("/orders/$"), far_too_many)
    page.get_by_role("button", name="One web process more", exact=True).click()
    expect(page.locator("#lately li.failed")).to_contain_text("it must be 1 to 256", timeout=ANSWER_MS)
    assert [fault for fault in faults if "400" not in fault] == []
    faults.clear()
    page.close()


def test_who_may_only_look__has_no_buttons_and_is_refused(
    demo: Demo, looker: BrowserContext, faults: list[str]
) -> None:
    page = opened(looker, f"{demo.url}dashboard/", faults)
    expect(page.locator("#live")).to_have_attribute("data-status", "open")
    expect(rows(page, "web").first).to_be_visible()
    expect(page.locator("button[data-verb]")).to_have_count(0)
    expect(page.locator(".who")).to_contain_text("may only look")
    host = page.locator(".host h2").inner_text()
    refused = page.evaluate(
        """host => fetch("/cluster/orders/", {
           method: "POST", body: JSON.stringify({host, verb: "stop", names: ["web"]}),
           headers: {"Content-Type": "application/json", "X-CSRFToken": document.body.dataset.csrfToken}})
           .then(async answer => [answer.status, (await answer.json()).code])""",
        host,
    )
    assert refused == [403, "permission_denied"]
    faults.clear()
    page.close()


def test_phone_and_redis_away__fits_and_recovers_alone(demo: Demo, ada: BrowserContext, faults: list[str]) -> None:
    page = opened(ada, f"{demo.url}dashboard/", faults)
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    expect(rows(page, "web").first).to_be_visible()
    assert fits(page), "no sideways scrolling"
    shots(page, "cluster-dashboard-phone")
    with paused(demo, "valkey"):
        expect(page.locator("#live")).to_have_attribute("data-status", "lost", timeout=ANSWER_MS)
        expect(page.locator("#problem")).to_contain_text("Redis does not answer", timeout=30_000)
        expect(rows(page, "web").first).to_be_visible()
        shots(page, "cluster-dashboard-phone-away")
    expect(page.locator("#problem")).to_be_hidden(timeout=ANSWER_MS)
    expect(page.locator("#live")).to_have_attribute("data-status", "open")
    assert [fault for fault in faults if "503" not in fault] == []
    faults.clear()
    page.close()


def test_demo__visitors_see_who_answers_and_its_staff_kills_a_process_that_comes_back(
    demo: Demo, browser: Browser, faults: list[str]
) -> None:
    context = browser.new_context(viewport=DESKTOP)
    page = opened(context, f"{demo.url}cluster/", faults)
    expect(rows(page, "web")).to_have_count(2, timeout=ANSWER_MS)
    expect(page.locator("button[data-verb]")).to_have_count(0)
    page.get_by_role("button", name="Send 100 requests").click()
    expect(page.locator("#lost")).to_have_text("0 of 100 requests lost", timeout=30_000)
    expect(page.locator("#who li").first).to_be_visible()

    page.get_by_role("button", name="Sign in").click()
    page.locator("#sign-in-form").get_by_role("button", name="Sign in").click()
    victim = rows(page, "workers").last
    pid = victim.get_attribute("data-pid")
    victim.get_by_role("button", name=f"Kill {pid}").click(timeout=ANSWER_MS)
    page.get_by_role("button", name="Kill it").click()
    expect(page.locator("#lately li", has_text=re.compile(rf"^.*workers.*{pid}.*went"))).to_be_visible(timeout=20_000)
    expect(rows(page, "workers")).to_have_count(3, timeout=20_000)
    assert pid not in pids(page, "workers")
    shots(page, "cluster-demo")
    page.set_viewport_size(PHONE)
    assert fits(page), "no sideways scrolling"
    shots(page, "cluster-demo-phone")
    context.close()


def test_setting_changed_on_the_page__kept_with_who_did_it(
    demo: Demo, ada: BrowserContext, looker: BrowserContext, faults: list[str]
) -> None:
    page = opened(ada, f"{demo.url}dashboard/", faults)
    settings = page.get_by_role("region", name="Settings")
    limit = settings.get_by_label("UPLOAD_MAX_MB")
    expect(limit).to_have_value("20")
    limit.fill("many")
    limit.press("Enter")
    expect(page.get_by_text("UPLOAD_MAX_MB: Enter a whole number.")).to_be_visible()
    assert "400" in faults.pop(), "the browser says so in its console"
    limit.fill("7")
    settings.get_by_role("button", name="Save").click()
    expect(page.get_by_text("20 → 7, by ada")).to_be_visible()
    page.reload()
    expect(limit).to_have_value("7")
    limit.scroll_into_view_if_needed()
    shots(page, "cluster-settings")
    limit.fill("20")
    limit.press("Enter")
    expect(page.get_by_text("7 → 20, by ada")).to_be_visible()
    page.close()
    other = opened(looker, f"{demo.url}dashboard/", faults)
    expect(other.get_by_role("heading", name="demo", exact=True).or_(other.locator(".host h2").first)).to_be_visible()
    expect(other.get_by_role("region", name="Settings")).to_have_count(0)
    other.close()
