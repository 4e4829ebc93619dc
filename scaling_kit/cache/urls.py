"""`path("cache/", include("scaling_kit.cache.urls"))`: the page, and the API that it uses under `api/`."""

from django.urls import path

from scaling_kit.cache import views

app_name = "scaling_kit_cache"
urlpatterns = [
    path("", views.CachePage.as_view(), name="page"),
    path("api/status/", views.StatusView.as_view(), name="status"),
    path("api/drop/", views.DropView.as_view(), name="drop"),
]
