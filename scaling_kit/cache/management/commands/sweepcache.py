"""`manage.py sweepcache`: send what is in the outbox to Redis, for a scheduled job where nobody reads."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from scaling_kit.cache import outbox
from scaling_kit.redis import RedisError


class Command(BaseCommand):
    help = "Invalidate what the outbox of every database tells of, and empty it"
    requires_system_checks = []

    def handle(self, **_: Any) -> None:
        try:
            rows = outbox.sweep()
        except (Error, RedisError) as error:
            raise CommandError(f"the outbox could not be emptied, its rows are still there: {error}") from error
        self.stdout.write(f"rows={rows}")
