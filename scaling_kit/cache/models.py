from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from scaling_kit.cache.outbox import TABLE


class PendingBump(models.Model):
    """A row of the outbox: tags, one a line, that Redis has to hear of.

    Written in the transaction that changed what they stand for.
    """

    tags = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = TABLE

    def __str__(self) -> str:
        return ", ".join(self.tags.splitlines())


class Entry(models.Model):
    """No table: entries are in Redis. Has the permissions to see and drop them, to be given in the admin."""

    id = models.CharField(primary_key=True, max_length=64)

    class Meta:
        managed = False
        default_permissions = ("view", "change")
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return self.id
