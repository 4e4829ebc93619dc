"""The admin, and the page of the jobs that it links to."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("jobs/", include("scaling_kit.jobs.urls")),
    path("admin/", admin.site.urls),
]
