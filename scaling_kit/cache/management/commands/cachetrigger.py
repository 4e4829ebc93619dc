"""`manage.py cachetrigger`: the SQL by which PostgreSQL tells of what other programs write."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Model

from scaling_kit.cache import triggers


class Command(BaseCommand):
    help = "Print the SQL of triggers that have other programs' writes seen. Changes nothing itself"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("models", metavar="app.Model", nargs="+")
        parser.add_argument(
            "--except-application", metavar="NAME", default="", help="the application_name of Django's own connections"
        )
        parser.add_argument("--schema", default="public", help="where the table scaling_kit_cache_outbox is")
        parser.add_argument("--drop", action="store_true", help="print how to remove them")

    def handle(self, *, models: list[str], except_application: str, schema: str, drop: bool, **_: Any) -> None:
        found = [_model(name) for name in models]
        if drop:
            self.stdout.write(triggers.drop_sql(*found), ending="")
        else:
            self.stdout.write(triggers.sql(*found, except_application=except_application, schema=schema), ending="")


def _model(name: str) -> type[Model]:
    try:
        return apps.get_model(name)
    except (LookupError, ValueError) as error:
        raise CommandError(f"{name!r} is no model: {error}. Say for example library.Book.") from error
