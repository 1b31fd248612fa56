"""Work that takes long: memory stays flat, and Ctrl-C leaves a run that goes on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import contents, image, images_of

import dpg_bench

CALLS = """
import json, os, sys
import numpy, PIL.Image, dpg_bench

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

side = int(sys.argv[1])
part = dpg_bench.Benchmark.load("demo").select(limit=1)
judge = dpg_bench.Judge("scripted", rule="yes")
pixels = numpy.arange(side * side * 3, dtype=numpy.uint32).astype(numpy.uint8).reshape(side, side, 3)
floats = (pixels.transpose(2, 0, 1) / 255).astype(numpy.float32)
forms = [pixels, floats, PIL.Image.fromarray(pixels)]

def calls(count):
    for _ in range(count):
        dpg_bench.evaluate({part.items[0].id: forms}, benchmark=part, judge=judge).run.answers()
        for form in forms:
            judge.answer(form, part.items[0].questions)

told = []
for count in (10, 40):
    calls(count)
    told.append(resident())
# What the same calls would leave if each of them forgot one image.
kept = [pixels.copy() for _ in range(40)]
told.append(resident())
print(json.dumps(told))
"""


def test_memory_is_flat_over_50_calls():
    if not pathlib.Path("/proc/self/statm").is_file():
        pytest.skip("this system does not tell how much memory is in use")
    side = 480
    done = subprocess.run([sys.executable, "-c", CALLS, str(side)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    after_10, after_50, after_a_leak = json.loads(done.stdout)
    one_image = side * side * 3
    # One image forgotten in every second call is more.
    assert after_50 - after_10 < 20 * one_image, json.loads(done.stdout)
    assert after_a_leak - after_50 > 30 * one_image


def test_a_judge_is_not_loaded_again(demo, looking):
    part = demo.select(limit=1)
    images = images_of(part, 1, 64)

    def resident():
        pages = pathlib.Path("/proc/self/statm")
        if not pages.is_file():
            pytest.skip("this system does not tell how much memory is in use")
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def calls(count):
        for _ in range(count):
            dpg_bench.evaluate(images, benchmark=part, judge=looking)

    calls(3)
    before = resident()
    calls(6)
    # A judge that is loaded anew and not let go is more.
    assert resident() - before < 8e6


LONG = """
import signal, sys, numpy, dpg_bench
# Who starts the tests in the background of a shell has Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
part = dpg_bench.Benchmark.load("demo").select(limit=int(sys.argv[2]))
images = {item.id: numpy.full((64, 64, 3), place, numpy.uint8) for place, item in enumerate(part.items)}
dpg_bench.evaluate(images, benchmark=part, judge="demo-judge", out=sys.argv[1], model="m")
"""


def test_ctrl_c_stops_within_an_image_and_the_run_goes_on(tmp_path):
    out, count = tmp_path / "run", 24
    answers = out / "answers" / "demo-judge.jsonl"
    words = [sys.executable, "-c", LONG, out, str(count)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not answers.is_file() or answers.read_bytes().count(b"\n") < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT and said.rstrip().endswith("KeyboardInterrupt")
    # A header, and a line for each image.
    assert answers.read_bytes().count(b"\n") < 1 + count
    begun = answers.read_bytes()
    subprocess.run(words, check=True, timeout=300)
    assert answers.read_bytes().startswith(begun)
    words[3] = tmp_path / "at-once"
    subprocess.run(words, check=True, timeout=300)
    assert contents(out) == contents(tmp_path / "at-once")


@pytest.fixture
def heard():
    """Ctrl-C is heard, however the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_a_function_leaves_a_run_that_goes_on(tmp_path, demo, scripted, heard):
    part = demo.select(limit=3)
    made = []

    def model(prompt, seed):
        # As Python itself does it when Ctrl-C comes while the function runs.
        if len(made) == 5:
            made.append(None)
            signal.raise_signal(signal.SIGINT)
        made.append(seed)
        return image(seed % 1000)

    keywords = dict(benchmark=part, judge=scripted, images_per_item=4, model="m")
    with pytest.raises(KeyboardInterrupt):
        dpg_bench.evaluate(model, out=tmp_path / "run", **keywords)
    assert not list((tmp_path / "run").glob("answers/*"))
    dpg_bench.evaluate(model, out=tmp_path / "run", **keywords)
    dpg_bench.evaluate(model, out=tmp_path / "at-once", **keywords)
    assert contents(tmp_path / "run") == contents(tmp_path / "at-once")
