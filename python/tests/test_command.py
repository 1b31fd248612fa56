"""The installed command is the program: its words, its status, its signals."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROGRAM, command

import dpg_bench


def test_the_version_is_that_of_the_module():
    shown = command("--version").stdout
    assert shown.startswith(f"dpg-bench {dpg_bench.__version__}\n") and "target: " in shown
    as_module = subprocess.run([sys.executable, "-m", "dpg_bench", "--version"], capture_output=True, text=True, check=True)
    assert as_module.stdout == shown


def test_a_refusal_has_the_programs_status_and_no_traceback():
    for program in ([PROGRAM], [sys.executable, "-m", "dpg_bench"]):
        refused = subprocess.run([*program, "jugde", "run"], capture_output=True, text=True)
        assert refused.returncode == 2
        assert "Usage: dpg-bench" in refused.stderr and "Traceback" not in refused.stderr


def test_a_reader_that_leaves_early_is_no_failure():
    shown = subprocess.run(f"set -o pipefail; {PROGRAM} completions bash | head -n 1", shell=True, executable="/bin/bash", capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_image_in_hand_be_finished(tmp_path, sent):
    run = tmp_path / "run"
    words = [PROGRAM, "generate", "--model", "demo-sd", "--benchmark", "demo", "--steps", "2", "--out", run]
    journal = run / "images.jsonl"
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    wait_for(process, lambda: journal.is_file() and lines(journal) > 1)
    process.send_signal(sent)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 3, said
    assert f"{sent.name}: the image in hand is finished first" in said
    assert f"to go on:\n  {PROGRAM} generate --model demo-sd" in said
    assert "Traceback" not in said and lines(journal) < 1 + 72 * 4


def lines(path: pathlib.Path) -> int:
    return path.read_bytes().count(b"\n")


def wait_for(process, is_so):
    end = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
