from rest_framework.routers import SimpleRouter

from scaling_kit.media.views import UploadViewSet

app_name = "scaling_kit_media"

router = SimpleRouter()
router.register("uploads", UploadViewSet, basename="upload")
urlpatterns = router.urls
