from django.urls import path

from bench.caching.field import library

urlpatterns = [
    path("articles/", library().ListView.as_view()),
    path("replica/", library().ReplicaView.as_view()),
]
