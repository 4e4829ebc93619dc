"""Async views around a cached function, and a job that uses and changes what it is made of."""

from asgiref.sync import sync_to_async
from django.http import HttpRequest, JsonResponse

from scaling_kit.cache import cached
from tests.library.models import Book

computed: list[int] = []


@cached()
def titles() -> list[str]:
    computed.append(1)
    return list(Book.objects.order_by("id").values_list("title", flat=True))


async def fetch_titles(request: HttpRequest) -> JsonResponse:
    before = len(computed)
    found = await sync_to_async(titles)()
    return JsonResponse({"titles": found, "computed": len(computed) - before})


async def rename(request: HttpRequest, title: str) -> JsonResponse:
    await Book.objects.aupdate(title=title)
    return JsonResponse({"titles": await sync_to_async(titles)()})


def rename_in_a_job(title: str) -> list[list[str]]:
    """What the job was served before and after its own write."""
    before = titles()
    Book.objects.update(title=title)
    return [before, titles()]
