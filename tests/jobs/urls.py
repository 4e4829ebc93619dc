"""The page and its API, that of the cache, and the admin with django-rq's pages."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("jobs/", include("scaling_kit.jobs.urls")),
    path("cache/", include("scaling_kit.cache.urls")),
    path("admin/", admin.site.urls),
]
