from django.urls import path

from scaling_kit.cluster import views
from scaling_kit.cluster.health_page import HealthView
from scaling_kit.cluster.live_views import SettingsView

app_name = "scaling_kit_cluster"
urlpatterns = [
    path("cluster/", views.ClusterPage.as_view(), name="page"),
    path("cluster/live/", views.LiveView.as_view(), name="live"),
    path("cluster/overview/", views.OverviewView.as_view(), name="overview"),
    path("cluster/history/", views.HistoryView.as_view(), name="history"),
    path("cluster/hosts/", views.HostsView.as_view(), name="hosts"),
    path("cluster/orders/", views.OrdersView.as_view(), name="orders"),
    path("cluster/orders/<slug:order_id>/", views.OrderView.as_view(), name="order"),
    path("cluster/settings/", SettingsView.as_view(), name="settings"),
    path("health/", HealthView.as_view(), name="health"),
    path("metrics/", views.MetricsView.as_view(), name="metrics"),
]
