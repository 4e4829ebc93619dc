from django.urls import path

from scaling_kit.cluster.health_page import HealthView
from scaling_kit.cluster.views import MetricsView, OverviewView

app_name = "scaling_kit_cluster"
urlpatterns = [
    path("cluster/overview/", OverviewView.as_view(), name="overview"),
    path("health/", HealthView.as_view(), name="health"),
    path("metrics/", MetricsView.as_view(), name="metrics"),
]
