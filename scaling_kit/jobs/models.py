"""No table: jobs are in Redis. Here are the permissions to see and change them, to be given in the admin."""

from django.db import models


class Job(models.Model):
    id = models.CharField(primary_key=True, max_length=64)

    class Meta:
        managed = False
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return self.id
