from django.urls import path

from scaling_kit.cluster.live_views import SettingsView
from scaling_kit.cluster.views import MetricsView, OverviewView

app_name = "scaling_kit_cluster"
urlpatterns = [
    path("cluster/overview/", OverviewView.as_view(), name="overview"),
    path("cluster/settings/", SettingsView.as_view(), name="settings"),
    path("metrics/", MetricsView.as_view(), name="metrics"),
]
