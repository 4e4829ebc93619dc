"""What an operator names to have it forgotten: a model, a name of `depends_on`, a view, everything."""

from __future__ import annotations

import difflib
from urllib.parse import unquote

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from scaling_kit.cache import observer, tags, unsent


class UnknownModelError(LookupError):
    """There is no such model."""


def model(label: str) -> type[Model]:
    """The model `app.Model`, in whatever case. Raises `UnknownModelError`, which says which one is nearest."""
    labels = {model._meta.label_lower: model for model in apps.get_models(include_auto_created=True)}
    if label.lower() in labels:
        return labels[label.lower()]
    nearest = difflib.get_close_matches(label.lower(), labels, n=1, cutoff=0.5)
    hint = f" Did you mean {labels[nearest[0]]._meta.label}?" if nearest else ""
    raise UnknownModelError(f"There is no model {label!r}.{hint}")


def models_called(name: str) -> list[str]:
    """Labels of the models of this name in any app: what somebody meant who left the app out."""
    return [model._meta.label for model in apps.get_models() if model._meta.model_name == name.lower()]


def labels() -> list[str]:
    return sorted(model._meta.label for model in apps.get_models() if model._meta.managed)


def drop(what: set[str]) -> bool:
    """Invalidate whatever has one of these tags. False if Redis did not take it: it is sent as soon as it does."""
    observer.changed(what, using=DEFAULT_DB_ALIAS)
    return not unsent.waiting()


def label(family: str) -> str:
    """`shop.views.ArticleViewSet.list` → `ArticleViewSet.list`; a function's own name."""
    parts = family.split(".")
    name = parts[-1]
    class_name = next((part for part in parts[:-1] if part[:1].isupper()), "")
    return name if class_name in ("", "WrappedAPIView") else f"{class_name}.{name}"


def describe(tag: str) -> str:
    """A tag in the words of whoever looks at a page: the table, or the name."""
    return "everything" if tag == tags.EPOCH else unquote(tag.partition(".")[2])
