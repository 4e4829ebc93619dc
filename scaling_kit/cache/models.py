"""No table: entries are in Redis. Here are the permissions to see and drop them, to be given in the admin."""

from django.db import models


class Entry(models.Model):
    id = models.CharField(primary_key=True, max_length=64)

    class Meta:
        managed = False
        default_permissions = ("view", "change")
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return self.id
