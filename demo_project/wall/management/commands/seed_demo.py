"""Put the demo's people and its first photographs on the wall, through the same door as everyone else."""

import json
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

PHOTOS = Path(settings.BASE_DIR) / "demo_project" / "photos"
PASSWORD = "demo"  # noqa: S105  (shown on the sign-in page)
PEOPLE = {"ada": True, "grace": False, "alan": False}  # name → staff
FIRST_PHOTOS = [
    ("hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "grace"),
    ("coffee.jpg", "A cup of coffee", "alan"),
    ("rocket.jpg", "Falcon 9 carrying DSCOVR", "ada"),
    ("grace_hopper.jpg", "Grace Hopper", "grace"),
    ("chelsea.jpg", "Chelsea the cat", "alan"),
    ("astronaut.jpg", "Eileen Collins", "ada"),
]


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", default="http://127.0.0.1:8000/", help="where the demo answers")
        parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for the workers")

    def handle(self, *, url: str, timeout: float, **_: Any) -> None:
        self._make_people()
        present = {photo["title"] for photo in _call(urljoin(url, "api/feed/"))["results"]}
        missing = [photo for photo in FIRST_PHOTOS if photo[1] not in present]
        for file, title, owner in missing:
            self._upload(url, PHOTOS / file, title, owner)
        self._wait_until_shown(url, {title for _, title, _ in missing}, time.monotonic() + timeout)

    def _make_people(self) -> None:
        for name, is_staff in PEOPLE.items():
            person, is_new = get_user_model().objects.get_or_create(
                username=name, defaults={"is_staff": is_staff, "is_superuser": is_staff}
            )
            if is_new:
                person.set_password(PASSWORD)
                person.save()

    def _upload(self, url: str, path: Path, title: str, owner: str) -> None:
        token = _call(urljoin(url, "api/token/"), {"username": owner, "password": PASSWORD})["access"]
        content = path.read_bytes()
        announced = {"name": path.name, "size": len(content), "type": "image/jpeg", "metadata": {"title": title}}
        intent = _call(urljoin(url, "api/uploads/"), announced, token=token)
        _put(urljoin(url, intent["url"]), content, intent["headers"])
        _call(urljoin(url, f"api/uploads/{intent['id']}/complete/"), {}, token=token)
        self.stdout.write(f"uploaded {path.name}")

    def _wait_until_shown(self, url: str, titles: set[str], deadline: float) -> None:
        while titles:
            titles -= {photo["title"] for photo in _call(urljoin(url, "api/feed/"))["results"]}
            if time.monotonic() > deadline:
                raise CommandError(f"The workers did not finish these photos in time: {', '.join(sorted(titles))}")
            time.sleep(0.1)
        self.stdout.write("the wall is ready")


def _call(url: str, body: dict[str, Any] | None = None, *, token: str = "") -> Any:
    """GET, or POST when there is a body. Raises `CommandError` with the API's own words."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    return json.loads(_send(urllib.request.Request(url, data=data, headers=headers)))  # noqa: S310


def _put(url: str, content: bytes, headers: dict[str, str]) -> None:
    _send(urllib.request.Request(url, data=content, headers=headers, method="PUT"))  # noqa: S310


def _send(request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  (the demo's own address)
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as error:
        raise CommandError(
            f"{request.method} {request.full_url}: {error.code} {error.read().decode()[:500]}"
        ) from error
    except urllib.error.URLError as error:
        raise CommandError(f"{request.full_url} does not answer: {error.reason}") from error
