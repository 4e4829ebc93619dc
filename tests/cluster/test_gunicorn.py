"""The configuration, and what of gunicorn 27 the arbiter rests on beyond its API."""

import inspect
import subprocess
import sys
from pathlib import Path

import gunicorn.app.base
import gunicorn.arbiter
import gunicorn.workers.base
import pytest
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.workertmp import WorkerTmp

from scaling_kit.cluster import aside
from scaling_kit.cluster.cores import usable_cores

REPOSITORY = Path(__file__).parents[2]
IMPORTS = (
    "import sys, scaling_kit.cluster.serve, scaling_kit.cluster.gunicorn_websocket, scaling_kit.cluster.worker,"
    "scaling_kit.cluster.thread_worker;"
    "print([name for name in sys.modules if name.startswith(('django', 'redis', 'tests'))])"
)


def test_master__imports_nothing_that_a_reload_must_renew() -> None:
    found = subprocess.run([sys.executable, "-c", IMPORTS], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_settings_read_aside__all_of_the_room() -> None:
    found = aside.settings()
    assert found["THREADS"] == 4
    assert found["READY_REQUIRES"] == ["database", "migrations"]


def test_settings_module_unknown__says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "no_such_settings")
    with pytest.raises(aside.SettingsUnavailableError, match="no_such_settings cannot be imported"):
        aside.settings()


def test_no_settings_module__says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    with pytest.raises(aside.SettingsUnavailableError, match="is not set"):
        aside.settings()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_container_limited__cores_of_its_quota(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize("quota", ["max 100000", "1000000000 100000", "nonsense"])
def test_container_not_limited__cores_of_the_machine(tmp_path: Path, quota: str) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path) == usable_cores(tmp_path / "none") >= 1


def source(function: object) -> str:
    return inspect.getsource(function)  # type: ignore[arg-type]


def test_contract__version() -> None:
    assert gunicorn.version_info[0] == 27


def test_contract__main_loop_takes_signals_then_manages_workers() -> None:
    run = source(gunicorn.arbiter.Arbiter.run)
    assert run.index("self.wait_for_signals(timeout=") < run.index("self.manage_workers()", run.index("while True"))
    assert "except (StopIteration, KeyboardInterrupt)" in run


def test_contract__reload_reads_spawns_then_manages() -> None:
    reload = source(gunicorn.arbiter.Arbiter.reload)
    assert (
        reload.index("self.app.reload()") < reload.index("self.spawn_worker()") < reload.index("self.manage_workers()")
    )
    assert "if not self.WORKERS:" in reload


def test_contract__failed_boot_is_reaped_before_it_halts() -> None:
    reap = source(gunicorn.arbiter.Arbiter.reap_workers)
    assert reap.index("self.WORKERS.pop(wpid") < reap.index("raise HaltServer")


def test_contract__heartbeat_is_monotonic_time_in_the_future_until_the_first() -> None:
    assert "time.monotonic()" in source(WorkerTmp.notify)
    assert "st_mtime" in source(WorkerTmp.last_update)


def test_contract__worker_has_its_limit_in_the_master_and_counts_in_the_worker() -> None:
    assert "self.max_requests = cfg.max_requests + jitter" in source(gunicorn.workers.base.Worker.__init__)
    handle = source(ThreadWorker.handle_request)
    assert handle.index("self.nr += 1") < handle.index("self.cfg.post_request(self, req")
    assert "self.cfg.post_worker_init(self)" in source(gunicorn.workers.base.Worker.init_process)


def test_contract__worker_that_fails_leaves_spawn_by_system_exit() -> None:
    spawn = source(gunicorn.arbiter.Arbiter.spawn_worker)
    assert "self.worker_age += 1" in spawn
    assert spawn.index("except Exception as e:") < spawn.index("sys.exit(self.WORKER_BOOT_ERROR)")


def test_contract__worker_that_stops_accepts_no_more_then_waits_for_its_connections() -> None:
    run = source(ThreadWorker.run)
    stops = run.index("self.set_accept_enabled(False)", run.index("while self.alive"))
    assert stops < run.index("while self.nr_conns > 0")
    assert "for listener in self.sockets" in source(ThreadWorker.set_accept_enabled)
    stop = source(gunicorn.arbiter.Arbiter.stop)
    assert stop.index("close_sockets(self.LISTENERS") < stop.index("self.kill_workers(sig)")


def test_contract__connection_without_a_request_may_wait_in_the_poller() -> None:
    assert "self.enqueue_req(conn)" in source(ThreadWorker.accept)
    readable = source(ThreadWorker.on_pending_socket_readable)
    assert readable.index("conn.data_ready = True") < readable.index("self.enqueue_req(conn)")
    assert "conn.timeout - now" in source(ThreadWorker.murder_pending)
    assert "self.method_queue.defer(self.finish_request" in source(ThreadWorker.enqueue_req)
    run = source(ThreadWorker.run)
    assert run.index("self.set_accept_enabled(False)") < run.index("self._cap_keepalive(")
    assert "self.wait_for_and_dispatch_events(" in run


def test_contract__application_runs_its_arbiter_through_super() -> None:
    assert "super().run()" in source(gunicorn.app.base.Application.run)
    assert "Arbiter(self).run()" in source(gunicorn.app.base.BaseApplication.run)
