"""How the runner writes what its processes say."""

import io
import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from scaling_kit.cluster.output import JSON, TIMED, Output
from scaling_kit.cluster.rotating import KEPT_FILES, RotatingFile


def test_json__is_one_object_a_line_whatever_is_in_it() -> None:
    written = io.StringIO()
    output = Output(written, form=JSON)
    output.line("web", 'say "x" \x1b[1m')
    output.event("ready name=%s", "web")
    output.plain("\n  Serving http://localhost/\n")
    first, second, third = map(json.loads, written.getvalue().splitlines())
    assert first == {"number": 1, "at": first["at"], "name": "web", "text": 'say "x" \x1b[1m'}
    assert (second["name"], second["text"]) == ("runner", "ready name=web")
    assert third["text"] == "Serving http://localhost/"


def test_timed__begins_with_the_time() -> None:
    written = io.StringIO()
    Output(written, form=TIMED).line("web", "hello")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} web         \| hello\n", written.getvalue())


def test_log_file__is_rotated_and_old_ones_are_removed(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "cluster.log"
    with closing(RotatingFile(file, max_bytes=1000)) as stream:
        output = Output(stream)
        for number in range(500):
            output.line("web", f"line {number}")
    assert file.read_text().endswith("| line 499\n")
    assert len(list(file.parent.iterdir())) == KEPT_FILES + 1
    assert all(found.stat().st_size <= 1000 for found in file.parent.iterdir())


def test_log_file_that_cannot_be_written__is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        RotatingFile(tmp_path / "file" / "cluster.log")


def test_full_disk_under_a_log_file__loses_lines_and_nothing_else() -> None:
    with closing(RotatingFile(Path("/dev/full"))) as stream:
        output = Output(stream)
        output.line("web", "lost")
    assert [line.text for line in output.last_lines([], limit=1)] == ["lost"]
