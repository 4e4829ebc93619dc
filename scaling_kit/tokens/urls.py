from django.urls import path

from scaling_kit.tokens import views

app_name = "scaling_kit_tokens"

urlpatterns = [
    path("token/", views.LoginView.as_view(), name="login"),
    path("token/refresh/", views.RefreshView.as_view(), name="refresh"),
    path("token/logout/", views.LogoutView.as_view(), name="logout"),
    path("token/logout-all/", views.LogoutAllView.as_view(), name="logout-all"),
]
