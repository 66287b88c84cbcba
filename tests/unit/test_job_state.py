"""Keys tell stale state, and a lock keeps a second process out."""

import subprocess
import sys
import time
from pathlib import Path

from petct.job_state import hold_lock, job_key

SRC = Path(__file__).parents[2] / "src"
HOLDER = """
import sys, time
from pathlib import Path
from petct.job_state import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_key_follows_code_settings_and_content_alone(tmp_path: Path) -> None:
    first, copy = tmp_path / "first.json", tmp_path / "copy.json"
    first.write_text("one")
    copy.write_text("one")
    key = job_key("code", {"a": 1, "b": 2}, first)
    assert key == job_key("code", {"b": 2, "a": 1}, copy)
    assert key != job_key("other", {"a": 1, "b": 2}, first)
    assert key != job_key("code", {"a": 2, "b": 1}, first)
    assert key != job_key("code", {"a": 1, "b": 2}, first, "digest")
    copy.write_text("two")
    assert key != job_key("code", {"a": 1, "b": 2}, copy)


def test_two_inputs_do_not_run_into_each_other(tmp_path: Path) -> None:
    assert job_key("code", {}, "ab", "c") != job_key("code", {}, "a", "bc")


def start_holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(seconds)],
        stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(SRC)},
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_second_process_waits_and_says_so(tmp_path: Path, capsys: object) -> None:
    holder = start_holder(tmp_path, 0.5)
    started = time.monotonic()
    with hold_lock(tmp_path):
        waited = time.monotonic() - started
    holder.wait()
    assert waited > 0.2
    assert "another process" in capsys.readouterr().out  # type: ignore[attr-defined]


def test_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    holder = start_holder(tmp_path, 60)
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with hold_lock(tmp_path):
        assert time.monotonic() - started < 5
