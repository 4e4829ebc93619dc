"""Articles with an author and tags, as in the list that is cached."""

from django.db import models

HAS_DB_CASCADE = hasattr(models, "DB_CASCADE")


class Author(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name


class Article(models.Model):
    title = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    views = models.IntegerField(default=0)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag)

    def __str__(self) -> str:
        return self.title


class Remark(models.Model):
    """Deleted by the database where Django (from 6.1 on) knows how to say so."""

    article = models.ForeignKey(Article, on_delete=getattr(models, "DB_CASCADE", models.CASCADE))

    def __str__(self) -> str:
        return str(self.pk)
