"""What CONSTANCE_CONFIG declares: names, defaults and types, and how what somebody typed becomes a value."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.forms import BooleanField, Field
from django.utils.dateparse import parse_datetime
from django.utils.timezone import make_aware

APP = "constance"
TEXT_MAX_BYTES = 64 * 1024
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    default: Any
    help: str
    type: type | str
    """A type of Python's, or the name of a field in CONSTANCE_ADDITIONAL_FIELDS."""

    @property
    def type_name(self) -> str:
        return self.type if isinstance(self.type, str) else self.type.__name__

    def fits(self, value: Any) -> bool:
        if isinstance(self.type, str):
            return True
        if isinstance(value, bool):
            return self.type is bool
        return isinstance(value, (int, float) if self.type is float else self.type)


def is_on() -> bool:
    return apps.is_installed(APP)


def entries() -> dict[str, Entry]:
    """By name. Raises `ImproperlyConfigured` if run-time settings are off."""
    if not is_on():
        raise ImproperlyConfigured(
            "Run-time settings are off: pip install 'scaling-kit[live]' and add \"constance\" to INSTALLED_APPS."
        )
    declared: dict[str, Any] = getattr(django_settings, "CONSTANCE_CONFIG", {})
    return {name: _entry(name, options) for name, options in declared.items()}


def _entry(name: str, options: Any) -> Entry:
    default, help_text, *rest = options
    return Entry(name=name, default=default, help=str(help_text), type=rest[0] if rest else type(default))


def insist(name: str, value: Any) -> Entry:
    """Raises `AttributeError` or `TypeError` if there is no such setting, or the value is not of its type."""
    entry = entries().get(name)
    if entry is None:
        raise unknown(name)
    if not entry.fits(value):
        raise TypeError(f"{name} is of type {entry.type_name}, and {value!r} is not.")
    return entry


def unknown(name: str) -> AttributeError:
    nearest = difflib.get_close_matches(name, entries(), n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    return AttributeError(f"{name} is not in CONSTANCE_CONFIG.{hint}", name=name)


def parse(entry: Entry, given: Any) -> Any:
    """The value that was typed or sent, as constance's form would take it. Raises `ValidationError`."""
    if given is None:
        raise ValidationError("This may not be null.")
    if isinstance(given, str) and not _is_storable(given):
        raise ValidationError(f"At most {TEXT_MAX_BYTES} bytes of valid Unicode are allowed.")
    if isinstance(given, list | dict) and not isinstance(entry.type, str):
        raise ValidationError(f"Must be of type {entry.type_name}.")
    field = _field(entry.name)
    if isinstance(field, BooleanField):
        return _yes_or_no(given)
    try:
        value = _moment(given) if entry.type is datetime else field.clean(given)
    except (TypeError, ValueError, ArithmeticError) as error:  # for what no form sends, Django's fields have no words
        raise ValidationError(f"Must be of type {entry.type_name}.") from error
    if not entry.fits(value):
        raise ValidationError(f"Must be of type {entry.type_name}.")
    return value


def _field(name: str) -> Field:
    from constance.forms import ConstanceForm

    field: Field = ConstanceForm(initial={}).fields[name]
    return field


def _is_storable(text: str) -> bool:
    try:
        return len(text.encode()) <= TEXT_MAX_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _moment(given: Any) -> datetime:
    """Without an offset it is a time of TIME_ZONE."""
    try:
        moment = parse_datetime(str(given))
    except ValueError:  # the 31st of February
        moment = None
    if moment is None:
        raise ValidationError("Must be a moment such as 2030-01-31T12:00:00+00:00.")
    if django_settings.USE_TZ and moment.tzinfo is None:
        return make_aware(moment)
    return moment


def _yes_or_no(given: Any) -> bool:
    word = str(given).lower()
    if word not in (*YES, *NO):
        raise ValidationError("Must be true or false.")
    return word in YES


def problems(reserved: list[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with CONSTANCE_CONFIG, and what to do."""
    declared = getattr(django_settings, "CONSTANCE_CONFIG", {})
    if not isinstance(declared, dict):
        yield f"is {declared!r}.", 'CONSTANCE_CONFIG = {"BANNER": ("", "Shown on every page"), ...}'
        return
    for name, options in declared.items():
        problem = _problem(name, options, reserved)
        if problem:
            yield f"[{name!r}] {problem[0]}", problem[1]


def _problem(name: Any, options: Any, reserved: list[str]) -> tuple[str, str] | None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or name in reserved:
        return "cannot be read as live.<name>.", "Use a name in capitals, such as UPLOAD_MAX_MB."
    if not isinstance(options, list | tuple) or len(options) not in (2, 3):
        return f"is {options!r}.", 'Give (default, help), or (default, help, type): (20, "Megabytes", int).'
    entry = _entry(name, options)
    if not isinstance(entry.type, type | str):
        return f"is of type {entry.type!r}.", "Give a type such as int, or a name in CONSTANCE_ADDITIONAL_FIELDS."
    known = _known_types()
    if entry.type not in known:
        names = ", ".join(sorted(each if isinstance(each, str) else each.__name__ for each in known))
        return f"is of type {entry.type_name}.", f"The types are {names}; CONSTANCE_ADDITIONAL_FIELDS adds others."
    if not entry.fits(entry.default):
        return f"has the default {entry.default!r}, and is of type {entry.type_name}.", "Change one of the two."
    return None


def _known_types() -> set[Any]:
    from constance.forms import FIELDS

    return {*FIELDS, *getattr(django_settings, "CONSTANCE_ADDITIONAL_FIELDS", {})}
