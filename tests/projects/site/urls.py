import os
import time

from django.http import HttpRequest, HttpResponse
from django.urls import path


def who(request: HttpRequest) -> HttpResponse:
    time.sleep(float(request.GET.get("seconds", 0)))
    return HttpResponse(f"{os.getpid()} {request.method} {len(request.body)}")


urlpatterns = [path("", who)]
