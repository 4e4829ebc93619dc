"""The demo's run-time settings, changed while it runs."""

import json
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urljoin

import httpx
import pytest

from scaling_kit.testing import wait_until
from tests.acceptance.demo import Demo
from tests.acceptance.wall import Person

pytestmark = pytest.mark.xdist_group("demo")  # one running demo for all of them
DEFAULTS = {"BANNER": "", "UPLOAD_MAX_MB": 20, "COMMENTS_OPEN": True}


def change(demo: Demo, **values: object) -> None:
    lines = [f"live.change({name!r}, {value!r}, by='the test')" for name, value in values.items()]
    demo.run_python("\n".join(["from scaling_kit.cluster.live import live", *lines]))


@pytest.fixture
def ada(demo: Demo) -> Iterator[Person]:
    with closing(Person(demo.url, "ada")) as person:
        yield person
    change(demo, **DEFAULTS)


def test_settings_changed__page_and_api_obey(demo: Demo, ada: Person) -> None:
    photo = ada.http.get("/api/feed/").json()["results"][0]["id"]
    change(demo, BANNER="Back at <noon>", UPLOAD_MAX_MB=1, COMMENTS_OPEN=False)
    wait_until(lambda: "Back at &lt;noon&gt;" in httpx.get(demo.url).text, timeout_seconds=1.0)
    page = httpx.get(demo.url).text
    assert "Comments are closed for now." in page
    large = ada.http.post("/api/uploads/", json={"name": "a.jpg", "size": 2**20 + 1, "type": "image/jpeg"})
    assert (large.status_code, large.json()["code"]) == (400, "too_large")
    comment = ada.http.post(f"/api/photos/{photo}/comments/", json={"text": "hello"})
    assert (comment.status_code, comment.json()["code"]) == (403, "comments_closed")


def test_staff__sees_and_changes_them_by_rest(demo: Demo, ada: Person) -> None:
    answer = ada.http.patch("/cluster/settings/", json={"UPLOAD_MAX_MB": 2})
    assert answer.status_code == 200, answer.text
    newest = answer.json()["history"][0]
    assert (newest["name"], newest["new"], newest["by"]) == ("UPLOAD_MAX_MB", 2, "ada")
    assert newest["origin"].startswith("web ")
    with closing(Person(demo.url, "grace")) as grace:
        assert grace.http.get("/cluster/settings/").status_code == 403
    assert httpx.get(urljoin(demo.url, "cluster/settings/")).status_code == 401
    assert json.loads(demo.run_python("from scaling_kit.cluster.live import live; print(live.UPLOAD_MAX_MB)")) == 2
