"""The JavaScript client against a real server, in Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import scaling_kit.realtime
from scaling_kit.testing import die_with_parent
from tests import settings
from tests.realtime.servers import gunicorn, publish_elsewhere

MODULE = Path(scaling_kit.realtime.__file__).parent / "static" / "scaling_kit" / "realtime.js"
TEST = Path(__file__).parent.parent / "realtime" / "client_test.mjs"
NODE = shutil.which("node") or ""


@pytest.mark.skipif(not NODE, reason="needs Node 20 or newer")
def test_token_expires_again_and_again__every_event_once_and_in_order(keys_of_one_test: str) -> None:
    with gunicorn(settings.REDIS_URL, keys_of_one_test) as url:
        command = [NODE, "--experimental-websocket", "--no-warnings", TEST, MODULE, f"{url}?user=ann&expires_in=0.4"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as node:
            assert node.stdout
            assert node.stdout.readline() == "joined\n"
            publisher = publish_elsewhere(settings.REDIS_URL, keys_of_one_test, "wall", range(60))
            heard = json.loads([line for line in node.stdout if line != "joined\n"][-1])
            assert publisher.wait() == 0
    assert heard["events"] == list(range(60))
    assert heard["gaps"] == 0
    assert heard["errors"] == ["forbidden"]
    assert heard["joined"] == [False] + [True] * (len(heard["joined"]) - 1)
    assert True in heard["tokens"]
    assert heard["statuses"][-1] == "closed"
