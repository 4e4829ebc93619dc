"""`manage.py jobs`."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from scaling_kit import embedded, recipes
from tests.jobs import tasks
from tests.jobs.conftest import Queues


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("jobs", *arguments, stdout=out)
    return out.getvalue()


def test_status__has_a_line_for_each_queue(queues: Queues) -> None:
    tasks.append.using(queue_name=queues.low).enqueue("ran")
    run("pause", queues.low)
    head, *lines = run("status").splitlines()
    assert head.split()[:3] == ["queue", "waiting", "scheduled"]
    assert [line.split()[0] for line in lines] == queues.names
    assert lines[2].split()[1] == "1"
    assert lines[2].endswith("True")
    assert json.loads(run("status", "--json"))[2]["waiting"] == 1


def test_job__is_canceled_shown_retried_and_removed(queues: Queues) -> None:
    job_id = tasks.append.using(queue_name=queues.low).enqueue("ran").id
    assert run("cancel", job_id) == f"{job_id} canceled\n"
    assert json.loads(run("show", job_id))["state"] == "canceled"
    assert run("retry", job_id) == f"{job_id} queued\n"
    assert run("remove", job_id) == f"{job_id} removed\n"
    with pytest.raises(CommandError, match="no job"):
        run("show", job_id)


def test_what_cannot_be_done__is_one_line(queues: Queues) -> None:
    with pytest.raises(CommandError, match=queues.low):
        run("pause", "nowhere")
    gone = recipes.rq_queues(f"redis://127.0.0.1:{embedded.free_port()}/0", queues=queues.names)
    with override_settings(RQ_QUEUES=gone), pytest.raises(CommandError, match="Connection refused"):
        run("status")
