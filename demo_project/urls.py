from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

from demo_project.wall import views
from scaling_kit.cluster.views import ClusterPage, OrdersView, OrderView

PAGE = {"websocket_url": settings.WEBSOCKET_URL}

urlpatterns = [
    path("", TemplateView.as_view(template_name="wall/wall.html", extra_context=PAGE), name="wall"),
    path("cluster/", TemplateView.as_view(template_name="wall/cluster.html", extra_context=PAGE), name="cluster"),
    path("api/", include("scaling_kit.tokens.urls")),
    path("api/", include("demo_project.wall.urls")),
    path("jobs/", include("scaling_kit.jobs.urls")),
    path("cache/", include("scaling_kit.cache.urls")),
    path("api/cluster/", views.ClusterView.as_view(), name="api-cluster"),
    path("api/cluster/live/", views.ClusterLiveView.as_view()),
    path("api/cluster/orders/", OrdersView.as_view()),
    path("api/cluster/orders/<slug:order_id>/", OrderView.as_view()),
    path("api/cluster/kill/", views.KillView.as_view()),
    path("dashboard/", ClusterPage.as_view(), name="dashboard"),  # at cluster/ is the demo's own page, for everyone
    path("", include("scaling_kit.cluster.urls")),  # metrics/, and the API of the dashboard
    path("admin/", admin.site.urls),
]
