from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("scaling_kit.cluster.urls")),
    path("", include("tests.tokens.urls")),
]
