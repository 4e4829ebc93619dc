"""`path("jobs/", include("scaling_kit.jobs.urls"))`: the page, and the API that it uses under `api/`."""

from django.urls import path, re_path

from scaling_kit.jobs import views

app_name = "scaling_kit_jobs"
urlpatterns = [
    path("", views.JobsPage.as_view(), name="page"),
    path("api/queues/", views.QueuesView.as_view(), name="queues"),
    re_path(
        r"^api/queues/(?P<queue>[^/]+)/(?P<action>pause|resume|empty|retry-failed|remove)/$",
        views.QueueActionView.as_view(),
        name="queue-action",
    ),
    path("api/jobs/", views.JobsListView.as_view(), name="jobs"),
    path("api/jobs/<str:job_id>/", views.JobView.as_view(), name="job"),
    path("api/jobs/<str:job_id>/log/", views.JobLogView.as_view(), name="job-log"),
    re_path(
        r"^api/jobs/(?P<job_id>[^/]+)/(?P<action>cancel|retry|run-now)/$",
        views.JobActionView.as_view(),
        name="job-action",
    ),
]
