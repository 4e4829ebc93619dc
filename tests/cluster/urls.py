from django.urls import include, path

urlpatterns = [path("", include("scaling_kit.cluster.urls"))]
