from django.urls import path

from scaling_kit.cluster.views import OverviewView

app_name = "scaling_kit_cluster"
urlpatterns = [path("cluster/overview/", OverviewView.as_view(), name="overview")]
