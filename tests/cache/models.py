"""Rows that the database deletes by itself: DB_CASCADE where Django has it, a migration's own clause before that."""

from django.db import models

from tests.library.models import Author

BY_DATABASE = getattr(models, "DB_CASCADE", models.DO_NOTHING)


class Biography(models.Model):
    author = models.ForeignKey(Author, on_delete=BY_DATABASE)

    class Meta:
        app_label = "cache_tests"

    def __str__(self) -> str:
        return str(self.pk)


class Chapter(models.Model):
    biography = models.ForeignKey(Biography, on_delete=BY_DATABASE)

    class Meta:
        app_label = "cache_tests"

    def __str__(self) -> str:
        return str(self.pk)


class Reply(models.Model):
    author = models.ForeignKey(Author, on_delete=BY_DATABASE)
    answers = models.ForeignKey("self", null=True, on_delete=BY_DATABASE)

    class Meta:
        app_label = "cache_tests"

    def __str__(self) -> str:
        return str(self.pk)
