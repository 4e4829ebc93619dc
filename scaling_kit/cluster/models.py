from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class LiveChange(models.Model):
    """A change of a run-time setting. Written in the transaction that made it."""

    TEXT_MAX = 254

    name = models.CharField(max_length=255, db_index=True)
    old = models.TextField()
    new = models.TextField()
    by = models.CharField(max_length=TEXT_MAX, blank=True)
    origin = models.CharField(max_length=TEXT_MAX, help_text="The process that made it: what it is, host and pid.")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        verbose_name = "change of a run-time setting"
        verbose_name_plural = "changes of run-time settings"

    def __str__(self) -> str:
        return f"{self.name}: {self.old} → {self.new}"


class Process(models.Model):
    """No table: processes are in Redis. Here is the permission to act on them, to be given in the admin."""

    id = models.CharField(primary_key=True, max_length=255)

    class Meta:
        managed = False
        default_permissions = ("change",)
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return self.id
