"""django-cacheops, which patches the ORM."""

from cacheops.getset import cache_thing
from cacheops.tree import dnfs

from bench.caching.libraries.orm import ListView as ListView
from bench.caching.libraries.orm import ReplicaView as ReplicaView
from bench.caching.libraries.orm import ask as ask
from bench.caching.libraries.orm import rows as rows
from bench.caching.models import Article

SECONDS = 300


def hoard(count: int) -> None:
    conditions = dnfs(Article.objects.all())
    for number in range(count):
        cache_thing("", f"hoard:{number}", number, conditions, SECONDS, dbs=["default"])
