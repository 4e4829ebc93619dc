"""The page to look at jobs, and the REST API under it. Every refusal is `{"code": ..., "detail": ...}`."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from scaling_kit import staff
from scaling_kit.jobs import control, inspection, permissions, queues, refusals
from scaling_kit.jobs.conf import settings
from scaling_kit.jobs.control import HIGHEST_PRIORITY, LOWEST_PRIORITY, Tally
from scaling_kit.jobs.listing import MAX_PER_PAGE, PER_PAGE
from scaling_kit.jobs.refusals import RefusedError
from scaling_kit.jobs.results import NotATaskError, find_task
from scaling_kit.jobs.tasks import InvalidTask
from scaling_kit.redis import Purpose
from scaling_kit.staff import reversed_or_empty, validated

# A request does so much of what concerns many jobs, and says what remains.
BULK_LIMIT = 5_000
LAST_PAGE = 1_000_000


class JobsPage(staff.StaffPage):
    permissions = permissions.JOBS
    template_name = "scaling_kit/jobs/page.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        django_rq_url = reversed_or_empty("admin:django_rq_dashboard_changelist")
        return super().get_context_data(states=inspection.STATES, django_rq_url=django_rq_url, **kwargs)


class JobsView(staff.StaffView):
    """What the views of this API have in common."""

    permissions = permissions.JOBS

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        for name in queues.names()[:1]:
            queues.connection(name, Purpose.REQUEST).ping()  # fails at once where the rest would wait for seconds

    def refusal_of(self, error: Exception) -> Exception:
        return refusals.refusal_of(error)


class Filter(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=inspection.STATES, default="waiting")
    queue = serializers.CharField(default="", allow_blank=True, max_length=200)
    task = serializers.CharField(default="", allow_blank=True, max_length=200)
    page = serializers.IntegerField(default=1, min_value=1, max_value=LAST_PAGE)
    per_page = serializers.IntegerField(default=PER_PAGE, min_value=1, max_value=MAX_PER_PAGE)
    order = serializers.ChoiceField(choices=["newest", "oldest"], required=False)


class NewJob(serializers.Serializer[Any]):
    task = serializers.CharField(max_length=500)
    args = serializers.ListField(default=list)
    kwargs = serializers.DictField(default=dict)
    queue = serializers.CharField(required=False, max_length=200)
    priority = serializers.IntegerField(required=False, min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY)
    run_after = serializers.DateTimeField(required=False)


class Priority(serializers.Serializer[Any]):
    priority = serializers.IntegerField(min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY)


class Removal(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=inspection.FINAL_STATES)


class After(serializers.Serializer[Any]):
    after = serializers.RegexField(r"^\d{1,15}-\d{1,18}$", default="", allow_blank=True)


class QueuesView(JobsView):
    def get(self, _request: Request) -> Response:
        return Response({"queues": [asdict(counts) for counts in inspection.fetch_counts()]})


class QueueActionView(JobsView):
    """`pause`, `resume`, `empty`, `retry-failed`, `remove`."""

    def post(self, request: Request, queue: str, action: str) -> Response:
        if action in ("pause", "resume"):
            (control.pause if action == "pause" else control.resume)(queue)
            return Response(asdict(inspection.fetch_counts([queue])[0]))
        return Response(asdict(self._act_on_many(request, queue, action)))

    def _act_on_many(self, request: Request, queue: str, action: str) -> Tally:
        if action == "empty":
            return control.empty(queue, limit=BULK_LIMIT)
        if action == "retry-failed":
            return control.retry_failed(queue, limit=BULK_LIMIT)
        return control.remove_all(validated(Removal, request.data)["state"], queue, limit=BULK_LIMIT)


class JobsListView(JobsView):
    def get(self, request: Request) -> Response:
        asked = validated(Filter, request.query_params)
        page = inspection.fetch_jobs(
            asked["state"],
            queue_name=asked["queue"],
            task=asked["task"],
            page=asked["page"],
            per_page=asked["per_page"],
            newest_first=asked["order"] == "newest" if "order" in asked else None,
        )
        return Response(asdict(page))

    def post(self, request: Request) -> Response:
        """Enqueue a task of SCALING_KIT_JOBS_API_TASKS."""
        result = _enqueue(**validated(NewJob, request.data))
        return Response({"id": result.id}, status=201, headers={"Location": f"{request.path}{result.id}/"})


class JobView(JobsView):
    def get(self, _request: Request, job_id: str) -> Response:
        return Response(asdict(inspection.fetch_job(job_id)))

    def patch(self, request: Request, job_id: str) -> Response:
        control.set_priority(job_id, validated(Priority, request.data)["priority"])
        return Response(asdict(inspection.fetch_job(job_id)))

    def delete(self, _request: Request, job_id: str) -> Response:
        control.remove(job_id)
        return Response(status=204)


class JobActionView(JobsView):
    """`cancel`, `retry`, `run-now`."""

    def post(self, _request: Request, job_id: str, action: str) -> Response:
        if action == "cancel":
            outcome = control.cancel(job_id)
            return Response({"id": job_id, "outcome": outcome}, status=202 if outcome == "stopping" else 200)
        (control.retry if action == "retry" else control.run_now)(job_id)
        return Response({"id": job_id, "outcome": "queued"})


class JobLogView(JobsView):
    def get(self, request: Request, job_id: str) -> Response:
        after = validated(After, request.query_params)["after"]
        return Response({"lines": [asdict(line) for line in inspection.fetch_log_lines(job_id, after=after)]})


def _enqueue(*, task: str, args: list[Any], kwargs: dict[str, Any], **using: Any) -> Any:
    if task not in settings.API_TASKS:
        raise RefusedError("task_forbidden")
    try:
        found = find_task(task)
    except NotATaskError as error:
        raise RefusedError("task_unknown", str(error)) from error
    _check_arguments(found, args, kwargs)
    names = {"queue": "queue_name"}
    try:
        changed = found.using(**{names.get(name, name): value for name, value in using.items()})
        return changed.enqueue(*args, **kwargs)
    except InvalidTask as error:
        raise RefusedError("request_invalid", str(error)) from error
    except (TypeError, RecursionError) as error:
        raise RefusedError("arguments_invalid", str(error)) from error


def _check_arguments(task: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    context = [None] if task.takes_context else []
    try:
        inspect.signature(task.func).bind(*context, *args, **kwargs)
    except TypeError as error:
        raise RefusedError("arguments_invalid", f"{task.module_path}: {error}") from error
