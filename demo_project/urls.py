from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

from demo_project.wall.views import ClusterView

PAGE = {"websocket_url": settings.WEBSOCKET_URL}

urlpatterns = [
    path("", TemplateView.as_view(template_name="wall/wall.html", extra_context=PAGE), name="wall"),
    path("cluster/", TemplateView.as_view(template_name="wall/cluster.html", extra_context=PAGE), name="cluster"),
    path("api/", include("scaling_kit.tokens.urls")),
    path("api/", include("demo_project.wall.urls")),
    path("jobs/", include("scaling_kit.jobs.urls")),
    path("cache/", include("scaling_kit.cache.urls")),
    path("api/cluster/", ClusterView.as_view(), name="api-cluster"),
    path("", include("scaling_kit.cluster.urls")),  # metrics/, for staff
    path("admin/", admin.site.urls),
]
