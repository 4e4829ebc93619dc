"""The page to look at jobs, in a real browser, with real workers."""

# ruff: noqa: F811  (fixtures of other files)

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django_rq import get_queue
from playwright.sync_api import Browser, Page, expect

from scaling_kit.embedded import free_port
from scaling_kit.jobs import control, inspection
from scaling_kit.jobs import queues as places
from scaling_kit.testing import die_with_parent, wait_until
from tests.acceptance.demo import Demo
from tests.acceptance.test_browser import PHONE, browser, shots  # noqa: F401  (a fixture)
from tests.jobs import tasks
from tests.jobs.conftest import Queues, fleet, queues  # noqa: F401  (fixtures)
from tests.jobs.fleet import Fleet

PEOPLE = """
import django; django.setup()
from django.core.management import call_command
from django.contrib.auth.models import Permission, User
call_command("migrate", verbosity=0)
User.objects.create_superuser("root", password="secret")
looker = User.objects.create_user("looker", password="secret", is_staff=True)
looker.user_permissions.add(Permission.objects.get(codename="view_job"))
User.objects.create_user("nobody", password="secret", is_staff=True)
"""
EVIL = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>"


@pytest.fixture
def site(fleet: Fleet, tmp_path: Path) -> Iterator[str]:
    """The address of a server with the page."""
    port = free_port()
    environment = {
        **fleet.environment,
        "DJANGO_SETTINGS_MODULE": "tests.jobs.page_settings",
        "PAGE_DATABASE": str(tmp_path / "page.sqlite3"),
    }
    subprocess.run([sys.executable, "-c", PEOPLE], env=environment, check=True, timeout=60)
    command = [sys.executable, "-m", "django", "runserver", "--noreload", "--insecure", f"127.0.0.1:{port}"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        wait_until(lambda: answers(port), timeout_seconds=30, what="the site answers")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def faults() -> Iterator[list[str]]:
    """What went wrong in any page of the test; must be empty at its end."""
    found: list[str] = []
    yield found
    assert found == []


def opened(browser: Browser, site: str, name: str, faults: list[str], at: str = "jobs/", **context: object) -> Page:
    page = browser.new_context(**context).new_page()  # type: ignore[arg-type]
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console", lambda message: message.type == "error" and "404" not in message.text and faults.append(message.text)
    )
    page.on("response", lambda response: response.status >= 500 and faults.append(f"{response.status} {response.url}"))
    page.goto(f"{site}{at}")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    return page


def row(page: Page, text: str) -> object:
    return page.locator("#jobs tbody tr", has_text=text)


def test_jobs_of_every_state__are_seen_and_acted_on(
    site: str,
    browser: Browser,
    fleet: Fleet,
    queues: Queues,
    faults: list[str],
) -> None:
    fill(queues, fleet)
    page = opened(browser, site, "root", faults, viewport={"width": 1360, "height": 900})
    expect(page.locator("#live")).to_have_attribute("data-status", "open")

    page.get_by_role("tab", name="Running").click()
    bar = page.locator("#jobs progress").first
    expect(bar).to_have_attribute("value", "120")
    progress(queues, 300)
    expect(bar).to_have_attribute("value", "300")
    shots(page, "jobs-running")

    row(page, "work_for").get_by_role("button", name=re.compile("^Stop")).click()
    page.get_by_role("button", name="Stop it").click()
    expect(page.locator("#empty")).to_have_text("Nothing runs.")

    page.get_by_role("tab", name="Failed").click()
    expect(row(page, "work_for")).to_be_visible()
    expect(row(page, "plain_failing")).to_contain_text("ValueError: plain")
    shots(page, "jobs-failed")
    row(page, "tests.jobs.tasks").filter(has_text="no luck").first.get_by_role("link").click()
    drawer = page.get_by_role("dialog")
    expect(drawer.locator("pre.traceback").first).to_contain_text("raise ValueError(message)")
    expect(drawer.locator("#job-body .call pre")).to_contain_text("tests.jobs.tasks.fail(")
    shots(page, "jobs-detail")
    drawer.get_by_role("button", name="Retry").click()
    expect(page.locator(".toast", has_text="Back in its queue")).to_be_visible()
    shots(page, "jobs-toast")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()

    page.get_by_role("tab", name="Waiting").click()
    waits = row(page, "add").first
    waits.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.get_by_role("tab", name="Canceled")).to_contain_text("2")
    row(page, "append").first.get_by_role("link").click()
    page.get_by_label("Priority, -100 to 100").fill("77")
    page.get_by_role("button", name="Set").click()
    expect(page.locator(".facts dd", has_text="77")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Remove")).click()
    page.get_by_role("button", name="Remove", exact=True).last.click()
    expect(page.get_by_text("There is no job of this id")).to_be_visible()
    page.get_by_role("button", name="Close").click()

    page.get_by_role("tab", name="Scheduled").click()
    row(page, "append").first.get_by_role("button", name=re.compile("^Run now")).click()
    expect(page.get_by_role("tab", name="Scheduled")).to_contain_text("0")


def test_queue__is_paused_resumed_and_its_failed_jobs_retried_and_removed(
    site: str,
    browser: Browser,
    fleet: Fleet,
    queues: Queues,
    faults: list[str],
) -> None:
    for _ in range(3):
        get_queue(queues.low).enqueue(tasks.plain_failing)
    work_off(fleet)
    page = opened(browser, site, "root", faults)
    page.get_by_role("button", name=f"Pause {queues.low}").click()
    expect(page.get_by_role("button", name=f"Resume {queues.low}")).to_be_visible()
    assert inspection.fetch_counts([queues.low])[0].paused
    page.get_by_role("tab", name="Failed").click()
    page.get_by_role("button", name="Retry all").click()
    expect(page.locator(".toast", has_text="Retried: 3.")).to_be_visible()
    page.get_by_role("tab", name="Waiting").click()
    page.get_by_role("button", name="Empty").click()
    page.get_by_role("button", name="Empty", exact=True).last.click()
    expect(page.locator("#empty")).to_have_text("Nothing waits.")
    page.get_by_role("button", name=f"Resume {queues.low}").click()
    expect(page.get_by_role("button", name=f"Pause {queues.low}")).to_be_visible()


def test_evil_job__is_shown_as_text(
    site: str,
    browser: Browser,
    fleet: Fleet,
    queues: Queues,
    faults: list[str],
) -> None:
    job_id = tasks.fail.using(queue_name=queues.low).enqueue(EVIL).id
    work_off(fleet)
    redis = places.connection(queues.low)
    redis.xadd(places.log_key(job_id), {"message": EVIL})
    redis.hset(
        places.record_key(job_id), "progress", json.dumps({"done": EVIL, "total": EVIL, "message": EVIL, "at": 0})
    )
    redis.hset(places.job_key(job_id), "worker_name", EVIL)
    page = opened(browser, site, "root", faults)
    expect(page.locator("#live")).to_have_attribute("data-status", "open")
    page.get_by_role("tab", name="Failed").click()
    page.locator("#jobs a.task").first.click()
    expect(page.locator(".traceback").first).to_contain_text("<script>")
    expect(page.locator(".lines")).to_contain_text("<script>")
    assert (page.title(), page.locator("main img, dialog img, body script").count()) == ("Jobs", 0)


def test_who_may_only_look__sees_no_button_that_acts(
    site: str,
    browser: Browser,
    fleet: Fleet,
    queues: Queues,
    faults: list[str],
) -> None:
    tasks.append.using(queue_name=queues.low).enqueue("ran")
    page = opened(browser, site, "looker", faults)
    page.locator("#jobs a.task").first.click()
    expect(page.locator("#job-title")).to_have_text("append")
    names = [button.inner_text() for button in page.get_by_role("button", include_hidden=True).all()]
    assert not [name for name in names if re.match("Pause|Cancel|Remove|Retry|Empty|Set", name)]


def test_who_may_not__is_refused(site: str, browser: Browser, faults: list[str]) -> None:
    page = opened(browser, site, "nobody", faults)
    assert "403" in page.content()
    faults.clear()


def test_on_a_phone_and_by_keyboard(
    site: str,
    browser: Browser,
    fleet: Fleet,
    queues: Queues,
    faults: list[str],
) -> None:
    fill(queues, fleet)
    page = opened(browser, site, "root", faults, viewport=PHONE, has_touch=True, color_scheme="dark")
    expect(page.locator("#jobs tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    shots(page, "jobs-phone")
    page.get_by_role("tab", name="Waiting").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Failed")).to_be_focused()
    expect(page.get_by_role("tab", name="Failed")).to_have_attribute("aria-selected", "true")
    expect(row(page, "plain_failing")).to_be_visible()
    shots(page, "jobs-phone-failed")
    link = row(page, "no luck").first.get_by_role("link")
    link.focus()
    page.wait_for_timeout(2000)
    expect(link).to_be_focused()  # looking again does not take the focus away
    page.keyboard.press("Enter")
    expect(page.locator("pre.traceback").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling"
    shots(page, "jobs-phone-detail")


@pytest.mark.xdist_group("demo")
def test_demo__shows_its_jobs_to_its_staff(demo: Demo, browser: Browser, faults: list[str]) -> None:
    demo.run_python("from demo_project.wall.tasks import process_photo as job; job.enqueue('no photo')")
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{demo.url}cluster/")
    page.get_by_role("link", name="jobs", exact=True).click()
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("tab", name=re.compile("^Failed [1-9]")).click()
    expect(row(page, "process_photo").first).to_contain_text("ValueError")
    shots(page, "jobs-demo-failed")
    page.get_by_role("tab", name="Finished").click()
    expect(row(page, "pick_photo_of_the_minute").first).to_be_visible()
    shots(page, "jobs-demo")
    page.get_by_role("link", name="django-rq").click()
    expect(page.locator("#content")).to_contain_text("default")


def work_off(fleet: Fleet) -> None:
    """Run what waits in a worker that ends."""
    assert fleet.start("--burst", "--processes", "1", wait=False).wait(timeout=30) == 0


def fill(queues: Queues, fleet: Fleet) -> None:
    """Jobs of every state: some failed and finished, one runs in a real worker, the others wait or are delayed."""
    low = get_queue(queues.low)
    for number in range(3):
        tasks.add.using(queue_name=queues.default).enqueue(number, 2)
    tasks.return_a_set.using(queue_name=queues.high).enqueue()
    low.enqueue(tasks.plain_failing)
    low.enqueue(tasks.plain, "ran", "value")
    failing = tasks.fail.using(queue_name=queues.default, priority=10).enqueue("no luck with these 42 photos").id
    work_off(fleet)
    assert inspection.fetch_job(failing).state == "failed"
    control.cancel(tasks.append.using(queue_name=queues.low).enqueue("ran").id)
    running = tasks.work_for.using(queue_name=queues.high).enqueue("ran", 60).id
    fleet.start("--processes", "1")
    wait_until(lambda: inspection.fetch_job(running).state == "running")
    progress(queues, 120)
    control.pause(queues.default)
    for number in range(12):
        tasks.append.using(queue_name=queues.default, priority=number % 3 * 20).enqueue("ran", number)
    tasks.add.using(queue_name=queues.default, priority=50).enqueue(1, 2)
    tasks.append.using(queue_name=queues.low, run_after=timedelta(minutes=20)).enqueue("ran")


def progress(queues: Queues, done: int) -> None:
    [running] = inspection.fetch_jobs("running", queue_name=queues.high).jobs
    redis, said = places.connection(queues.high), {"done": done, "total": 480, "message": "resizing", "at": 0}
    redis.hset(places.record_key(running.id), "progress", json.dumps(said))
    redis.xadd(places.log_key(running.id), {"message": f"{done} photos are done"})
