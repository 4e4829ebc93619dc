"""Schedules in Django's admin: those declared in code are listed too, and may be changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join

from scaling_kit.redis import RedisError
from scaling_kit.scheduler import claim, outlook, status, stored, wording
from scaling_kit.scheduler.models import StoredSchedule
from scaling_kit.scheduler.rows import Row, UnfitError, understood
from scaling_kit.scheduler.run_now import run_now
from scaling_kit.scheduler.schedule import Schedule, discovered
from scaling_kit.scheduler.stored import BY_HAND, Found, Origin
from scaling_kit.scheduler.timetable import Cron

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[StoredSchedule]
    ModelForm = forms.ModelForm[StoredSchedule]
    Rows = QuerySet[StoredSchedule]
else:
    ModelAdmin, ModelForm, Rows = admin.ModelAdmin, forms.ModelForm, QuerySet

SHOWN_RUNS = 20
SHOWN = ["state", "in_words", "next_runs", "last_runs"]


class BlankJSONField(forms.JSONField):
    """Where nothing is given, nothing is shown; not `null`."""

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)


class ScheduleForm(ModelForm):
    """Refuses what could not run, at the field that is wrong."""

    class Meta:
        model = StoredSchedule
        fields = [
            "name",
            "task",
            "enabled",
            "note",
            "expression",
            "seconds",
            "tz",
            "args",
            "kwargs",
            "catch_up",
            "overlap",
            "grace_seconds",
            "jitter_seconds",
        ]
        field_classes = {"args": BlankJSONField, "kwargs": BlankJSONField}
        widgets = {name: forms.Textarea(attrs={"rows": 3, "cols": 60}) for name in ("note", "args", "kwargs")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:  # one of its own, of which nothing is declared
            self.fields["task"].required = True
            self._offer_yes_and_no()

    def clean(self) -> None:
        super().clean()
        if self.errors:
            return
        row = Row(**{name: self.cleaned_data.get(name, getattr(self.instance, name)) for name in Row._fields})
        try:
            self._check(row)
        except UnfitError as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))

    def _check(self, row: Row) -> None:
        declared = {one.name: one for one in discovered()}
        schedule = understood(row, declared.get(row.name))
        if row.tz and not isinstance(schedule.timetable, Cron):
            raise UnfitError("tz: seconds are counted from the epoch, in whatever time zone", "tz")
        if row.name not in declared:
            self._check_name(schedule, declared)
        _check_queue(schedule)

    def _check_name(self, schedule: Schedule, declared: Iterable[str]) -> None:
        """Its job ids must be its own."""
        if schedule.slug.endswith(BY_HAND):
            raise UnfitError(f"name: {schedule.name!r} ends like the jobs that are run by hand", "name")
        others = StoredSchedule.objects.exclude(pk=self.instance.pk).exclude(name__in=declared)
        for name in [*declared, *others.values_list("name", flat=True)]:
            if Schedule(name=name, task=schedule.task, timetable=schedule.timetable).slug == schedule.slug:
                raise UnfitError(f"name: {schedule.name!r} differs from {name!r} only in punctuation", "name")

    def _offer_yes_and_no(self) -> None:
        field = cast(forms.TypedChoiceField, self.fields["enabled"])
        field.choices = [(True, "Yes"), (False, "No")]
        self.initial["enabled"] = self.instance.enabled is not False


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, *_: Any) -> list[tuple[str, str]]:
        return [("enabled", "Enabled"), ("disabled", "Disabled"), ("unfit", "Does not run")]

    def queryset(self, _request: HttpRequest, queryset: Rows) -> Rows:
        if not self.value():
            return queryset
        return queryset.filter(name__in=[one.name for one in stored.survey() if _state(one) == self.value()])


class OriginFilter(admin.SimpleListFilter):
    title = "origin"
    parameter_name = "origin"

    def lookups(self, *_: Any) -> list[tuple[str, str]]:
        return [(one.value, one.value.capitalize()) for one in Origin]

    def queryset(self, _request: HttpRequest, queryset: Rows) -> Rows:
        if not self.value():
            return queryset
        return queryset.filter(name__in=[one.name for one in stored.survey() if one.origin == self.value()])


class ScheduleList(ChangeList):
    """The rows of a page with what is known of each, asked for together."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found = {one.name: one for one in stored.survey()}
        shown = [found[row.name] for row in self.result_list if row.name in found]
        try:
            entries = {entry["name"]: entry for entry in status.fetch_entries(shown)}
        except RedisError as error:
            entries = {}
            messages.warning(request, f"Redis does not answer, so that no runs are shown: {error}")
        for row in self.result_list:
            known: dict[str, Any] = {"entry": entries.get(row.name, {})}
            vars(row).update(known | ({"found": found[row.name]} if row.name in found else {}))


@admin.register(StoredSchedule)
class StoredScheduleAdmin(ModelAdmin):
    form = ScheduleForm
    list_display = ["name", "is_enabled", "origin", "task_path", "when", "next_run", "last_run"]
    list_filter = [StateFilter, OriginFilter]
    search_fields = ["name", "task", "note"]
    actions = ["enable", "disable", "run_now"]

    def get_fieldsets(self, _request: HttpRequest, obj: StoredSchedule | None = None) -> Any:
        task = "task_path" if _is_of_the_code(obj) else "task"
        fields = [
            (None, {"fields": ["name", task, "enabled", "note"]}),
            ("When", {"fields": ["expression", "seconds", "tz"]}),
            ("Arguments", {"fields": ["args", "kwargs"]}),
            ("Options", {"fields": ["catch_up", "overlap", "grace_seconds", "jitter_seconds"]}),
        ]
        return [*fields, ("Runs", {"fields": SHOWN})] if obj else fields

    def get_readonly_fields(self, _request: HttpRequest, obj: StoredSchedule | None = None) -> list[str]:
        return [*SHOWN, "name", "task_path"] if _is_of_the_code(obj) else SHOWN

    def get_changelist(self, *_: Any, **__: Any) -> type[ChangeList]:
        return ScheduleList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        stored.sync()
        return super().changelist_view(request, {"subtitle": _leader(), **(extra_context or {})})

    # --- what is shown of a schedule

    @admin.display(description="task", ordering="task")
    def task_path(self, row: StoredSchedule) -> str:
        schedule = _schedule(row)
        return row.task or (wording.task(schedule) if schedule else "-")

    @admin.display(description="when")
    def when(self, row: StoredSchedule) -> str:
        schedule = _schedule(row)
        if schedule:
            return str(schedule.timetable)
        return row.expression or ("-" if row.seconds is None else f"every {row.seconds} s")

    @admin.display(description="enabled", boolean=True)
    def is_enabled(self, row: StoredSchedule) -> bool:
        schedule = _schedule(row)
        return bool(schedule and schedule.enabled)

    @admin.display(description="next run")
    def next_run(self, row: StoredSchedule) -> str:
        at = _entry(row).get("next_run_at")
        return _unbroken(wording.utc(at)) if at else "-"

    @admin.display(description="last run")
    def last_run(self, row: StoredSchedule) -> str:
        entry = _entry(row)
        if not entry.get("last_run_at"):
            return "-"
        link = _job_link(entry["last_job_id"], _unbroken(wording.utc(entry["last_run_at"])))
        return format_html("{} {}", link, entry["last_job_status"] or "")

    @admin.display(description="origin")
    def origin(self, row: StoredSchedule) -> str:
        found = _found(row)
        if not found.reason:
            return found.origin
        return format_html('{}, <span title="{}">does not run</span>', found.origin, found.reason)

    @admin.display(description="state")
    def state(self, row: StoredSchedule) -> str:
        found = _found(row)
        words = {
            Origin.DECLARED: "as declared in the code",
            Origin.CHANGED: "declared in the code, changed here",
            Origin.STORED: "made here",
            Origin.GONE: "not declared in the code any more",
        }[found.origin]
        return f"{words}. Does not run: {found.reason}" if found.reason else words

    @admin.display(description="in words")
    def in_words(self, row: StoredSchedule) -> str:
        schedule = _schedule(row)
        if not schedule:
            return "-"
        lines = [wording.when(schedule), wording.options(schedule), *_declaration(row.name)]
        lines += [f"clock changes: {one}" for one in wording.clock_changes(schedule, time.time())]
        return format_html_join("", "<div>{}</div>", ((line,) for line in lines))

    @admin.display(description="next runs")
    def next_runs(self, row: StoredSchedule) -> str:
        schedule = _schedule(row)
        if not schedule or not schedule.enabled:
            return "-"
        zone, delay = outlook.zone(schedule), schedule.delay_seconds
        ticks = outlook.next_ticks(schedule, after=time.time() - delay)
        return _table((wording.local(tick + delay, zone), wording.utc(tick + delay)) for tick in ticks)

    @admin.display(description="last runs")
    def last_runs(self, row: StoredSchedule) -> str:
        schedule = _schedule(row)
        try:
            runs = status.fetch_runs(row.name, limit=SHOWN_RUNS)
            statuses = status.fetch_job_statuses(schedule, runs) if schedule else [None] * len(runs)
        except RedisError as error:
            return f"Redis does not answer: {error}"
        return _table(
            (wording.utc(run.tick), _job_link(run.job_id, run.job_id), job or "", "by hand" if run.is_by_hand else "")
            for run, job in zip(runs, statuses, strict=True)
        )

    # --- what can be done to it

    @admin.action(description="Enable selected schedules", permissions=["change"])
    def enable(self, request: HttpRequest, rows: Rows) -> None:
        self._switch(request, rows, on=True)

    @admin.action(description="Disable selected schedules", permissions=["change"])
    def disable(self, request: HttpRequest, rows: Rows) -> None:
        self._switch(request, rows, on=False)

    @admin.action(description="Run selected schedules now", permissions=["change"])
    def run_now(self, request: HttpRequest, rows: Rows) -> None:
        for row in rows:
            try:
                job_id = run_now(row.name)
            except Exception as error:  # one that cannot run, Redis away, whatever the task's own enqueue raises
                messages.error(request, f"Not enqueued: {row.name}. {error}")
            else:
                self.log_change(request, row, f"Run by hand: {job_id}")
                messages.success(request, format_html("Enqueued: {} as {}", row.name, _job_link(job_id, job_id)))

    def _switch(self, request: HttpRequest, rows: Rows, *, on: bool) -> None:
        for row in rows:
            row.enabled = on
            row.save(update_fields=["enabled", "updated_at"])
            self.log_change(request, row, "Enabled." if on else "Disabled.")
        messages.success(request, f"{len(rows)} {'enabled' if on else 'disabled'}.")


def _is_of_the_code(row: StoredSchedule | None) -> bool:
    """Then its name and task are not to be changed here."""
    return row is not None and not row.task


def _unbroken(text: str) -> str:
    """Not wrapped within a column."""
    return format_html('<span class="nowrap">{}</span>', text)


def _found(row: StoredSchedule) -> Found:
    """On the page of one schedule it is looked for, once; in the list it is there."""
    known = vars(row)
    if "found" not in known:
        gone = Found(name=row.name, origin=Origin.GONE, schedule=None, reason="the table could not be read")
        known["found"] = next((one for one in stored.survey() if one.name == row.name), gone)
    found: Found = known["found"]
    return found


def _schedule(row: StoredSchedule) -> Schedule | None:
    return _found(row).schedule


def _entry(row: StoredSchedule) -> dict[str, Any]:
    entry: dict[str, Any] = vars(row).get("entry", {})
    return entry


def _state(found: Found) -> str:
    if not found.schedule:
        return "unfit"
    return "enabled" if found.schedule.enabled else "disabled"


def _declaration(name: str) -> list[str]:
    declared = next((one for one in discovered() if one.name == name), None)
    return [f"declared: {declared.timetable}; {wording.options(declared)}"] if declared else []


def _leader() -> str:
    try:
        holder = status.fetch_leader()
    except RedisError:
        return "Redis does not answer: who leads is unknown, and nothing is enqueued"
    return f"{holder.member} leads" if holder else "Nobody leads: no runscheduler process is up"


def _job_link(job_id: str, text: str) -> str:
    """To the page of the jobs, if the project has it."""
    try:
        page = reverse("scaling_kit_jobs:page")
    except NoReverseMatch:
        return text
    return format_html('<a href="{}#{}">{}</a>', page, urlencode({"job": job_id}), text)


def _table(rows: Iterable[Sequence[str]]) -> str:
    cells = [(format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows]
    return format_html("<table>{}</table>", format_html_join("", "<tr>{}</tr>", cells)) if cells else "-"


def _check_queue(schedule: Schedule) -> None:
    """Raises `UnfitError` for what the task's queue would refuse. A Redis that is away is no mistake of the form."""
    try:
        claim.prepared(schedule, schedule.job_id(0))
    except RedisError:
        return
    except Exception as error:  # whatever the task's backend finds wrong
        raise UnfitError(f"cannot be enqueued: {error}") from error
