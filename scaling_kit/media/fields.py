"""Absolute URLs of user files in the database: canonical, unsigned, checked, and signed when they are shown."""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote, unquote

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ValidationError
from django.core.files.storage import storages
from django.db import models
from django.db.models.query_utils import DeferredAttribute
from django.utils.http import content_disposition_header

from scaling_kit.media.conf import settings
from scaling_kit.media.formats import SHOWN_INLINE


class MediaURL(str):
    """The absolute URL of an object, without signature: SCALING_KIT_MEDIA_BASE_URL and the quoted key."""

    __slots__ = ()

    @classmethod
    def from_key(cls, key: str) -> MediaURL:
        return cls(_base_url() + quote(key, safe="/~"))

    @property
    def key(self) -> str:
        """Raises `ValueError` for a URL that is not canonical, or is not ours."""
        base = _base_url()
        key = unquote(self.removeprefix(base))
        if not key or not self.startswith(base) or not _is_canonical(key) or MediaURL.from_key(key) != self:
            raise ValueError(f"{str(self)!r} is not the URL of an object below {base!r}")
        return key

    def signed_url(self, *, expires: int | None = None, filename: str = "", inline: bool = True) -> str:
        """A URL a browser can GET for `expires` seconds (default: the storage's `querystring_expire`).

        `filename` is the name it is saved under. `inline=False` makes it a download; whatever a browser could run
        (SVG, HTML) always is one. Raises `ValueError` as `key` does.
        """
        key = self.key
        attachment = not inline or mimetypes.guess_type(key)[0] not in SHOWN_INLINE
        printable = "".join(character for character in filename if character.isprintable())
        disposition = content_disposition_header(attachment, printable)
        parameters = {"ResponseContentDisposition": disposition} if disposition else {}
        return str(storages[settings.STORAGE].url(key, parameters=parameters, expire=expires))  # type: ignore[call-arg]


class MediaURLAttribute(DeferredAttribute):
    """Makes what is assigned to the attribute a `MediaURL`."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.to_python(value)


class MediaURLField(models.CharField):  # type: ignore[type-arg]  # not generic at run time
    """Holds a `MediaURL`. Refuses, on validation and on save, any URL that is not below SCALING_KIT_MEDIA_BASE_URL.

    `prefix` says what keys must begin with, with attributes of the row in braces: `prefix="photos/{owner_id}/"` lets
    no row point to another owner's file.
    """

    description = "URL of an object in the media storage"
    descriptor_class = MediaURLAttribute

    def __init__(self, *args: Any, prefix: str = "", **kwargs: Any) -> None:
        self.prefix = prefix
        kwargs.setdefault("max_length", 1024)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "prefix": self.prefix} if self.prefix else kwargs

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        return [*super().check(**kwargs), *self._check_base_url()]

    def to_python(self, value: Any) -> Any:
        return MediaURL(value) if isinstance(value, str) else value

    def from_db_value(self, value: str | None, *_: Any) -> MediaURL | None:
        return None if value is None else MediaURL(value)

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        super().validate(value, model_instance)
        if value and model_instance is not None:
            self._validate_place(MediaURL(value), model_instance)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        if value and isinstance(value, str):
            self._validate_place(MediaURL(value), model_instance)
        return value

    def _validate_place(self, url: MediaURL, instance: models.Model) -> None:
        try:
            key = url.key
        except ValueError as error:
            raise ValidationError(str(error), code="foreign_url") from error
        prefix = self.prefix.format_map(_Attributes(instance))
        if not key.startswith(prefix):
            raise ValidationError(f"{key!r} does not begin with {prefix!r}", code="foreign_key")

    def _check_base_url(self) -> list[CheckMessage]:
        if settings.BASE_URL.startswith(("https://", "http://")):
            return []
        return [
            Error(
                f"SCALING_KIT_MEDIA_BASE_URL is {settings.BASE_URL!r}; {self} needs an absolute URL.",
                hint="Set it to what the URLs of your files begin with, such as 'https://media.example.com/'.",
                obj=self,
                id="scaling_kit_media.E004",
            )
        ]


class _Attributes(dict[str, Any]):
    """The attributes of a model instance, for `str.format_map`."""

    def __init__(self, instance: models.Model) -> None:
        super().__init__()
        self._instance = instance

    def __missing__(self, name: str) -> Any:
        return getattr(self._instance, name)


def _base_url() -> str:
    return str(settings.BASE_URL).rstrip("/") + "/"


def _is_canonical(key: str) -> bool:
    return not {"", ".", ".."} & set(key.split("/"))
