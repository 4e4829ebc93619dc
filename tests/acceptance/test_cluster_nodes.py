"""Two nodes behind nginx, restarted one after another and both at once, under 100 requests/s of 50 ms."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scaling_kit.cluster.nginx import Front
from scaling_kit.embedded import accepts, free_port
from scaling_kit.testing import wait_until
from tests.acceptance.front import needs_nginx, served
from tests.acceptance.gunicorns import APPLICATION, Gunicorn, gunicorn
from tests.acceptance.load import OpenLoad, open_load

pytestmark = needs_nginx


@contextmanager
def two_nodes(folder: Path, prefix: str) -> Iterator[tuple[list[Gunicorn], OpenLoad]]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(node(folder / name, prefix)) for name in ("one", "two")]
        for each in nodes:
            wait_until_it_serves(each)
        addresses = tuple(f"127.0.0.1:{each.port}" for each in nodes)
        front = Front(listen=f"127.0.0.1:{free_port()}", folder=folder, web=addresses)
        stack.enter_context(served(front))
        with open_load(int(front.listen.rpartition(":")[2]), "/pid?0.05") as load:
            load.wait_for(50)
            yield nodes, load
            load.wait_for(50)


@contextmanager
def node(folder: Path, prefix: str) -> Iterator[Gunicorn]:
    folder.mkdir()
    application = APPLICATION.format(boot_seconds=0)
    settings = {"SCALING_KIT_CLUSTER_WORKERS": 1, "SCALING_KIT_CLUSTER_THREADS": 8}
    with gunicorn(folder, prefix, application=application, settings=settings) as server:
        yield server


def wait_until_it_serves(server: Gunicorn) -> None:
    wait_until(lambda: accepts(server.port) and server.get("/pid")[0] == 200, timeout_seconds=20, what="a node serves")


def stop(server: Gunicorn) -> None:
    server.process.terminate()
    server.process.wait(10)


def test_nodes_restarted_one_after_another__no_request_lost(tmp_path: Path, keys_of_one_test: str) -> None:
    with two_nodes(tmp_path, keys_of_one_test) as (nodes, load):
        for each in nodes:
            stop(each)
            load.wait_for(100)  # the other one has all
            each.start()
            wait_until_it_serves(each)
            load.wait_for(150)  # for longer than the second for which nginx leaves a node alone that refused
    print(f"\nrolling restart of two nodes: {len(load.requests)} requests, {len(load.lost)} lost")
    assert load.lost == []
    assert {request.is_post for request in load.requests} == {False, True}


def test_both_nodes_restarted_at_once__out_for_no_longer_than_they_are(tmp_path: Path, keys_of_one_test: str) -> None:
    with two_nodes(tmp_path, keys_of_one_test) as (nodes, load):
        for each in nodes:
            stop(each)
        for each in nodes:
            each.start()
        for each in nodes:
            wait_until_it_serves(each)
        back_at = time.monotonic()
        load.wait_for(250)
    late = [request for request in load.lost if request.sent_at > back_at + 1.2]  # nginx leaves them alone for 1 s
    print(f"\nboth at once: {len(load.requests)} requests, {len(load.lost)} lost")
    assert load.lost
    assert late == []
