"""`manage.py invalidate library.Book weather`: for what changed where Django did not see it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from scaling_kit.cache import drops, tags
from scaling_kit.cache.conf import settings
from scaling_kit.redis import UnreachableError, ensure_reachable


class Command(BaseCommand):
    help = "Forget cached responses that depend on a model, or on a name of depends_on. Exits with 1 if it could not."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="*", metavar="app.Model|name", help="with a dot it is a model, else a name")
        parser.add_argument("--name", action="append", default=[], help="a name that looks like a model, or is one's")
        parser.add_argument("--all", action="store_true", help="forget every response")

    def handle(self, *, what: list[str], name: list[str], all: bool, **_: Any) -> None:  # noqa: A002
        if bool(what or name) == all:
            raise CommandError("Say what to forget: models, names, or --all.")
        wanted = {"everything": {tags.EPOCH}} if all else {each: tags.of(_dependency(each)) for each in what}
        wanted |= {each: tags.of(each) for each in name}
        try:
            ensure_reachable(settings.REDIS_URL)
        except UnreachableError as error:
            raise CommandError(f"Nothing was forgotten. {error}") from error
        if not drops.drop(set().union(*wanted.values())):
            raise CommandError("Nothing was forgotten: Redis answers, and refuses to write. Is it full, or a replica?")
        for each, dropped in wanted.items():
            self.stdout.write(f"{each} forgotten: {' '.join(sorted(dropped))}")


def _dependency(text: str) -> tags.Dependency:
    """A model, or a name; what is nearly a model is a mistake, which would forget nothing and not say so."""
    if "." in text:
        try:
            return drops.model(text)
        except drops.UnknownModelError as error:
            raise CommandError(f"{error} A name with a dot: --name {text}") from error
    if called := drops.models_called(text):
        raise CommandError(f"{text!r} is the name of a model: {' or '.join(called)}? A name of your own: --name {text}")
    return text
