"""No table: processes are in Redis. Here is the permission to act on them, to be given in the admin."""

from django.db import models


class Process(models.Model):
    id = models.CharField(primary_key=True, max_length=255)

    class Meta:
        managed = False
        default_permissions = ("change",)
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return self.id
