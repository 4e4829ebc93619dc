from django.urls import include, path

urlpatterns = [path("inner/", include([path("rq/", include("django_rq.urls"))]))]
