from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Value
from django.test import override_settings
from django.test.utils import isolate_apps

from scaling_kit.media.fields import MediaURL, MediaURLField
from scaling_kit.media.storage import SharedClientS3Storage
from tests.library.models import Author

BASE = "https://media.example.com/files/"


@pytest.fixture(autouse=True)
def base_url() -> Any:
    with override_settings(SCALING_KIT_MEDIA_BASE_URL=BASE):
        yield


@isolate_apps("tests.library")
def make_photo(**values: Any) -> Any:
    class Photo(models.Model):
        owner_id = models.IntegerField()
        image = MediaURLField(prefix="photos/{owner_id}/")
        thumbnail = MediaURLField(blank=True)

        class Meta:
            app_label = "library"

        def __str__(self) -> str:
            return str(self.image)

    return Photo(owner_id=7, **values)


def test_key__there_and_back() -> None:
    url = MediaURL.from_key("photos/7/sp ace ü~+%25(1).jpg")
    assert url == BASE + "photos/7/sp%20ace%20%C3%BC~%2B%2525%281%29.jpg"
    assert url.key == "photos/7/sp ace ü~+%25(1).jpg"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photos/7/a.jpg",
        BASE,
        BASE + "photos/../a.jpg",
        BASE + "photos//a.jpg",
        BASE + "photos/7/a.jpg?X-Amz-Signature=1",
        BASE + "photos/7/a.jpg#there",
        BASE + "photos/7/%61.jpg",
        "http://media.example.com/files/photos/7/a.jpg",
        "https://media.example.com.evil.example/files/photos/7/a.jpg",
        "https://media.example.com/files.evil/a.jpg",
        "javascript:alert(1)",
    ],
)
def test_foreign_or_not_canonical__refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of an object"):
        _ = MediaURL(url).key
    photo = make_photo(image=url)
    with pytest.raises(ValidationError):
        photo.full_clean()


def test_own_prefix__accepted_by_validation_and_save() -> None:
    photo = make_photo(image=MediaURL.from_key("photos/7/a.jpg"))
    photo.full_clean()
    assert photo._meta.get_field("image").pre_save(photo, add=True) == BASE + "photos/7/a.jpg"


def test_prefix_of_another_owner__refused_by_validation_and_save() -> None:
    photo = make_photo(image=MediaURL.from_key("photos/70/a.jpg"))
    with pytest.raises(ValidationError, match="does not begin with"):
        photo.full_clean()
    with pytest.raises(ValidationError, match="does not begin with"):
        photo._meta.get_field("image").pre_save(photo, add=True)


def test_plain_string_assigned__becomes_a_media_url() -> None:
    photo = make_photo(image=BASE + "photos/7/a.jpg")
    photo.thumbnail = BASE + "b.jpg"
    assert (photo.image.key, photo.thumbnail.key) == ("photos/7/a.jpg", "b.jpg")


@pytest.mark.django_db
def test_out_of_the_database__is_a_media_url() -> None:
    Author.objects.create(name="a")
    url = Value(BASE + "b.jpg", output_field=MediaURLField())
    assert Author.objects.annotate(url=url).get().url.key == "b.jpg"  # type: ignore[attr-defined]


def test_deconstructed__keeps_what_was_given() -> None:
    assert MediaURLField(prefix="a/").deconstruct()[3] == {"max_length": 1024, "prefix": "a/"}
    assert MediaURLField(max_length=300).deconstruct()[3] == {"max_length": 300}


@override_settings(SCALING_KIT_MEDIA_BASE_URL="")
def test_no_base_url__check_says_so() -> None:
    photo = make_photo()
    assert {error.id for error in photo._meta.get_field("image").check()} == {"scaling_kit_media.E004"}


def disposition(url: str) -> str:
    return parse_qs(urlsplit(url).query).get("response-content-disposition", [""])[0]


def test_signed__fetches_under_the_name_given(storage: SharedClientS3Storage, folder: str) -> None:
    storage.write(f"{folder}/a.jpg", b"jpeg", content_type="image/jpeg")
    response = httpx.get(MediaURL.from_key(f"{folder}/a.jpg").signed_url(inline=False, filename="Bild\r\n ü.jpg"))
    assert response.text == "jpeg"
    assert response.headers["content-disposition"] == "attachment; filename*=utf-8''Bild%20%C3%BC.jpg"


def test_image__may_be_shown_inline() -> None:
    assert disposition(MediaURL.from_key("a.jpg").signed_url()) == ""


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a.htm", "a.xml", "a", "a.js"])
def test_what_a_browser_could_run__only_as_a_download(name: str) -> None:
    assert disposition(MediaURL.from_key(name).signed_url(inline=True)).startswith("attachment")
