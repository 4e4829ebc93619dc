"""What workers report to their master, and the master to whoever asked for a reload."""

import json
import os
import stat
from pathlib import Path

import pytest

from scaling_kit.cluster import memory, outcome, reports
from scaling_kit.cluster.outcome import Outcome


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_slots", None)
    reports.share()


def in_child(work: object) -> None:
    pid = os.fork()
    if pid == 0:
        work()  # type: ignore[operator]
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_child_reports__parent_reads_it() -> None:
    in_child(lambda: (reports.report_served(7, 41), reports.report_failure(7, ValueError("no\nsuch"))))
    assert (reports.served(7), reports.failure(7)) == (41, "ValueError: no")
    assert (reports.served(8), reports.failure(8)) == (0, "")


def test_slot_used_again__empty() -> None:
    reports.report_served(7, 41)
    reports.clear(7 + reports.SLOTS)
    assert reports.served(7 + reports.SLOTS) == 0


def test_long_failure__cut_to_its_slot() -> None:
    reports.report_failure(7, ValueError("ä" * reports.SLOT_BYTES))
    assert reports.failure(7).startswith("ValueError: ää")
    assert (reports.served(8), reports.failure(8)) == (0, "")


def test_not_shared__nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_slots", None)
    reports.report_served(7, 41)
    assert (reports.served(7), reports.failure(7), reports.are_read()) == (0, "", False)


def test_exit_in_a_handler__named_after_what_it_handled() -> None:
    handled, end = ValueError("why"), SystemExit(3)
    end.__context__ = handled
    assert reports.in_one_line(end) == "ValueError: why"
    assert reports.in_one_line(SystemExit("by itself")) == "SystemExit: by itself"


def test_outcome__replaced_as_a_whole_and_private(tmp_path: Path) -> None:
    file = outcome.path(str(tmp_path / "master.ctl"))
    for number in (1, 2):
        outcome.write(file, Outcome(number=number, state="aborted", reason="timeout: why"))
    told = json.loads(file.read_text())
    assert told.pop("at") > 1e9
    assert told == {"number": 2, "state": "aborted", "reason": "timeout: why"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["master.ctl.reload"]


def test_memory__of_this_process_and_of_none() -> None:
    assert 5 < memory.resident_mb(os.getpid()) < 5000
    assert memory.resident_mb(2**30) == 0
