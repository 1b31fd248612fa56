"""Images of `--model program` over examples/program_diffusers.py against those of `--model sd15`, on the same checkpoint, prompts,
seeds and settings: the largest difference of a pixel, in levels of 255.

Needs diffusers, transformers, NumPy and Pillow: python3 scripts/program_against_sd15.py [--program target/release/dpg-bench]
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAME = "--limit 3 --images 2 --seed 11 --steps 6 --guidance 5 --width 64 --height 64 --benchmark demo".split()


def images(program, folder, model):
    subprocess.run([program, "generate", *model, *SAME, "--out", folder], check=True)
    journal = (pathlib.Path(folder) / "images.jsonl").read_text().splitlines()[1:]
    records = [json.loads(line) for line in journal]
    found = {}
    for record in records:
        file = pathlib.Path(folder) / "images" / record["item"] / f"{record['image']}.png"
        image = Image.open(file)
        found[record["item"], record["image"]] = (image.text["seed"], numpy.asarray(image, dtype=numpy.int16))
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", default="target/release/dpg-bench")
    arguments.add_argument("--checkpoint", default=str(ROOT / "tests/fixtures/sd15-tiny"))
    arguments = arguments.parse_args()
    script = shlex.join([sys.executable, str(ROOT / "examples/program_diffusers.py"), arguments.checkpoint])
    with tempfile.TemporaryDirectory() as folder:
        ours = images(arguments.program, f"{folder}/sd15", ["--model", "sd15", "--weights", arguments.checkpoint])
        theirs = images(arguments.program, f"{folder}/program", ["--model", "program", "--program", script])
    assert ours.keys() == theirs.keys() and len(ours) == 6
    largest = 0
    for name, (seed, pixels) in ours.items():
        other_seed, other = theirs[name]
        assert seed == other_seed and pixels.shape == other.shape
        assert pixels.std() > 1, "an image of one color would prove nothing"
        difference = int(abs(pixels - other).max())
        print(f"{name[0]}, image {name[1]}, seed {seed}: {difference} of 255")
        largest = max(largest, difference)
    if largest > 1:
        sys.exit(f"they differ by {largest} levels")
    print("within 1 level")


if __name__ == "__main__":
    main()
