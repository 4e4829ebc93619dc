import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scaling_kit.cluster import nginx

PROGRAM = nginx.binary()


@pytest.fixture
def front(tmp_path: Path) -> nginx.Front:
    return nginx.Front(listen="127.0.0.1:8000", folder=tmp_path, web=("127.0.0.1:8001",))


@pytest.mark.skipif(PROGRAM is None, reason="no nginx")
@pytest.mark.parametrize("s3_endpoint", ["", "http://127.0.0.1:9000", "https://localhost"])
@pytest.mark.parametrize("websocket", [(), ("127.0.0.1:8002", "127.0.0.1:8003")])
def test_configuration__is_accepted_by_nginx(front: nginx.Front, s3_endpoint: str, websocket: tuple[str, ...]) -> None:
    assert PROGRAM
    configuration = front.folder / "nginx.conf"
    version = nginx.version(PROGRAM)
    configuration.write_text(
        nginx.render(replace(front, s3_endpoint=s3_endpoint, websocket=websocket, version=version))
    )
    done = subprocess.run([*nginx.command(PROGRAM, configuration), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_directive_of_a_newer_nginx__is_left_out(front: nginx.Front) -> None:
    assert "keepalive_min_timeout" not in nginx.render(replace(front, version=(1, 22, 1)))
    assert "keepalive_min_timeout" in nginx.render(replace(front, version=(1, 31, 3)))


def test_several_servers__a_failed_one_is_left_alone_for_a_second(front: nginx.Front) -> None:
    assert nginx.render(replace(front, web=("a:1", "b:1"))).count("max_fails=1 fail_timeout=1s") == 2
