from django.urls import include, path
from rest_framework.routers import SimpleRouter

from demo_project.wall import views

router = SimpleRouter()
router.register("uploads", views.PhotoUploadViewSet, basename="upload")
router.register("photos", views.PhotoViewSet, basename="photo")

urlpatterns = [
    path("feed/", views.FeedView.as_view(), name="feed"),
    path("me/", views.MeView.as_view(), name="me"),
    path("photo-of-the-minute/", views.PhotoOfTheMinuteView.as_view(), name="photo-of-the-minute"),
    path("", include(router.urls)),
]
