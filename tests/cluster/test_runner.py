import io
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from scaling_kit.cluster import listening, run_folder
from scaling_kit.cluster.output import Output
from scaling_kit.cluster.runner import Process, RunnerError, run
from scaling_kit.testing import wait_until


def run_until_ready(*processes: Process) -> str:
    """Run them, stop when all are ready; return what was written."""
    written = io.StringIO()
    run(processes, output=Output(written), on_ready=lambda: os.kill(os.getpid(), signal.SIGTERM))
    return written.getvalue()


def shell(name: str, script: str, **options: object) -> Process:
    return Process(name=name, command=["sh", "-c", script], **options)  # type: ignore[arg-type]


def test_processes__start_after_what_they_need_and_stop_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        f"echo +$0 >> {log}; trap 'echo -$0 >> {log}; exit' TERM; touch {tmp_path}/$0; while :; do sleep 0.02; done"
    )
    first = Process(name="first", command=["sh", "-c", script, "first"], is_ready=(tmp_path / "first").exists)
    second = Process(
        name="second", command=["sh", "-c", script, "second"], is_ready=(tmp_path / "second").exists, after=["first"]
    )
    run_until_ready(second, first)
    assert log.read_text().split() == ["+first", "+second", "-second", "-first"]


def test_output__is_prefixed_by_the_name() -> None:
    written = run_until_ready(shell("talker", "echo out; echo err >&2; printf unfinished", once=True))
    for text in ("out", "err", "unfinished"):
        assert f"talker      | {text}\n" in written


def test_long_line__does_not_stop_the_relay() -> None:
    written = run_until_ready(shell("talker", "head -c 200000 /dev/zero | tr '\\0' x; echo; echo after", once=True))
    assert written.count("x") > 199_000
    assert "talker      | after\n" in written


def test_crash_loop_of_a_required_process__stops_the_others_and_says_why(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    good = shell("good", f"echo $$ > {pid_file}; exec sleep 1000", is_ready=pid_file.exists)
    with pytest.raises(RunnerError, match=r"bad: ended 5 times in a row soon after its start, at last with status 7"):
        run([good, shell("bad", "exit 7", after=["good"])], output=Output(io.StringIO()))
    assert not exists(int(pid_file.read_text()))


def test_failure_of_a_step__stops_before_what_needs_it(tmp_path: Path) -> None:
    later = shell("later", f"touch {tmp_path}/later", after=["step"])
    with pytest.raises(RunnerError, match="step: ended with status 3"):
        run([shell("step", "exit 3", once=True), later], output=Output(io.StringIO()))
    assert not (tmp_path / "later").exists()


def test_optional_step_that_fails__lets_the_others_run() -> None:
    assert "failed name=step" in run_until_ready(shell("step", "exit 3", once=True, required=False))


def test_optional_process_that_cannot_be_started__lets_the_others_run(tmp_path: Path) -> None:
    nowhere = shell("nowhere", "true", folder=tmp_path / "gone", required=False, is_ready=lambda: True)
    written = io.StringIO()
    stopping = shell("stopping", f"sleep 0.5; kill {os.getpid()}; exec sleep 1000")
    run([nowhere, stopping], output=Output(written))
    assert written.getvalue().count('restarting name=nowhere pid=None status="no start: [Errno 2]') >= 2


def test_process_that_never_gets_ready__is_named() -> None:
    never = shell("never", "exec sleep 1000", is_ready=lambda: False, ready_within_seconds=0.2)
    with pytest.raises(RunnerError, match="never: not ready within"):
        run([never], output=Output(io.StringIO()))


def test_optional_process_that_is_ready_too_late__is_ready_all_the_same(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    late = shell(
        "late",
        f"sleep 0.3; touch {ready}; exec sleep 1000",
        is_ready=ready.exists,
        ready_within_seconds=0.1,
        required=False,
    )
    written = run_until_ready(late)
    assert written.index("unready name=late") < written.index(" ready name=late")


def test_full_disk_under_the_output__stops_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        run(
            [shell("talker", "echo out; exec sleep 1000")],
            output=Output(full),
            on_ready=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
        with suppress(OSError):
            full.close()


def test_process_that_ignores_the_signal__is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $$ $! > {pids}; wait"
    run_until_ready(shell("stubborn", script, is_ready=lambda: filled(pids), stop_within_seconds=0.1))
    wait_until(lambda: not any(exists(int(pid)) for pid in pids.read_text().split()))


def test_held_socket__is_handed_on_as_systemd_does() -> None:
    listener = listening.listen("127.0.0.1", 0)
    code = "import os, socket; print(os.environ['LISTEN_FDS'], int(os.environ['LISTEN_PID']) == os.getpid(), "
    code += "socket.socket(fileno=3).getsockname()[1])"
    written = run_until_ready(Process(name="heir", command=["python3", "-c", code], sockets=[listener], once=True))
    assert f"1 True {listener.getsockname()[1]}" in written
    listener.close()


def test_taken_port__is_named_and_another_used() -> None:
    written = io.StringIO()
    with listening.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with listening.listen_at_or_after("127.0.0.1", port, Output(written)) as other:
            assert other.getsockname()[1] != port
    assert f"port {port} is taken, using" in written.getvalue()


def test_taken_port_that_was_asked_for__fails_with_its_name() -> None:
    with (
        listening.listen("127.0.0.1", 0) as taken,
        pytest.raises(OSError, match=f"cannot listen on .*{taken.getsockname()[1]}"),
    ):
        listening.listen("127.0.0.1", taken.getsockname()[1])


def test_run_folder__has_one_runner(tmp_path: Path) -> None:
    with run_folder.held(tmp_path):
        second = run_folder.held(tmp_path)
        with pytest.raises(run_folder.InUseError, match=f"pid {os.getpid()}"):
            second.__enter__()
    with run_folder.held(tmp_path):
        pass


def test_state_of_a_runner_that_was_killed__is_not_believed(tmp_path: Path) -> None:
    """Even if another process has its pid meanwhile, as is likely after a boot."""
    with run_folder.held(tmp_path):
        run_folder.write_state(tmp_path, {"runner": os.getpid()})
        assert run_folder.read_state(tmp_path) == {"runner": os.getpid()}
    run_folder.write_state(tmp_path, {"runner": os.getpid()})
    assert run_folder.read_state(tmp_path) is None


def test_run_folder_that_others_look_into__can_be_held(tmp_path: Path) -> None:
    run_folder.write_state(tmp_path, {"runner": 1})
    (tmp_path / "lock").touch()
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            run_folder.read_state(tmp_path)

    onlookers = [threading.Thread(target=look) for _ in range(3)]
    for onlooker in onlookers:
        onlooker.start()
    try:
        for _ in range(100):
            with run_folder.held(tmp_path):
                run_folder.write_state(tmp_path, {"runner": 1})
    finally:
        looking.set()
        for onlooker in onlookers:
            onlooker.join()


def filled(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
