"""What the tests share: the demo's benchmark, small images, and the installed command."""

import pathlib
import subprocess
import sys

import numpy
import pytest

import dpg_bench


@pytest.fixture(scope="session")
def demo():
    return dpg_bench.Benchmark.load("demo")


@pytest.fixture(scope="session")
def scripted():
    """A judge that looks at nothing: quick."""
    return dpg_bench.Judge("scripted", rule="hash:0.7")


@pytest.fixture(scope="session")
def looking():
    """The demo's judge, which looks at the pixels."""
    return dpg_bench.Judge("demo-judge")


def image(number, side=64):
    """An image of 8-bit RGB, (side, side, 3), that is another one for each number."""
    return numpy.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=numpy.uint8)


def images_of(benchmark, count=2, side=64):
    """`count` images for each item."""
    return {
        item.id: [image(1000 * place + number, side) for number in range(count)]
        for place, item in enumerate(benchmark.items)
    }


PROGRAM = str(pathlib.Path(sys.executable).with_name("dpg-bench"))


def command(*words, status=0, **more):
    """Runs the installed command; what it printed."""
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == status, done.stderr
    return done


def contents(run):
    """The files of a run that hold results, by name: all but the manifest, which has times."""
    run = pathlib.Path(run)
    files = (path for path in run.rglob("*") if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.name != "manifest.json"}
