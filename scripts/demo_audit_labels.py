#!/usr/bin/env python3
"""Labels an audit of a run of the demo in people's place, by what each image shows pixel by pixel.

    dpg-bench run
    dpg-bench audit results/demo-ella --labels-wanted 200
    python scripts/demo_audit_labels.py results/demo-ella
    dpg-bench audit results/demo-ella --labels

In: RUN/audits/NAME/sample.json and the run's images. Out: RUN/audits/NAME/labels/checker.jsonl. `benchmark/demo/training/checker.py`
reads the scene off an image by comparing each quarter with everything that could stand there; the questions are answered from
that scene. It never sees what the judge said. Needs numpy and Pillow.
"""

import argparse
import csv
import datetime
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmark/demo/training"))
import checker  # noqa: E402
import world  # noqa: E402


def tuples():
    """Of each item and question number: the tuple that says what is asked."""
    with open(ROOT / "benchmark/demo/dpg_bench.csv", newline="") as file:
        return {(row["item_id"], int(row["proposition_id"])): row["tuple"] for row in csv.DictReader(file)}


def shows(scene, asked):
    """Whether the scene holds what the tuple names."""
    kind, body = asked[: asked.index("(")].strip(" -"), asked[asked.index("(") + 1 : -1]
    parts = [part.strip() for part in body.split(",")]
    named = lambda noun: [thing for thing in scene.things if thing.noun == noun]
    if kind == "global":
        return scene.frame if body == "brown frame" else scene.background == body.removesuffix(" background")
    things = named(parts[0])
    if kind == "entity - whole":
        return bool(things)
    if kind == "attribute - color":
        return any(thing.colour == parts[1] for thing in things)
    if kind == "attribute - size":
        return any(thing.count == 1 and thing.size == parts[1] for thing in things)
    if kind == "attribute - texture":
        return any(thing.count == 1 and thing.pattern == parts[1] for thing in things)
    if kind == "other - count":
        return sum(thing.count for thing in things) == int(parts[1].removeprefix("=="))
    if kind == "relation - spatial":
        if parts[1] == "picture":
            return any(world.QUADRANTS[thing.quadrant] == parts[2] for thing in things)
        how = {
            "above": lambda a, b: a.row < b.row,
            "below": lambda a, b: a.row > b.row,
            "to the left of": lambda a, b: a.column < b.column,
            "to the right of": lambda a, b: a.column > b.column,
        }[parts[2]]
        return any(how(thing, other) for thing in things for other in named(parts[1]))
    raise SystemExit(f"nothing answers `{asked}`: this is no question of the demo")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="audit")
    options = parser.parse_args()
    folder = options.run / "audits" / options.name
    bytes_of_sample = (folder / "sample.json").read_bytes()
    sample = json.loads(bytes_of_sample)
    asked_of = tuples()
    images = sorted({(asked["item"], asked["image"]) for asked in sample["questions"]})
    pixels = [np.asarray(Image.open(options.run / "images" / item / f"{k}.png").convert("RGB")) for item, k in images]
    scenes = dict(zip(images, map(world.describe, checker.read(np.stack(pixels)))))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = [{"format_version": sample["format_version"], "kind": "audit labels", "sample": hashlib.sha256(bytes_of_sample).hexdigest()}]
    for asked in sample["questions"]:
        scene = scenes[asked["item"], asked["image"]]
        label = "yes" if shows(scene, asked_of[asked["item"], asked["question"]]) else "no"
        same = {key: asked[key] for key in ("item", "image", "question", "text", "pixels_sha256")}
        lines.append({**same, "annotator": "checker", "time": now, "label": label})
    (folder / "labels").mkdir(exist_ok=True)
    path = folder / "labels" / "checker.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines) - 1} labels: {path}")


if __name__ == "__main__":
    main()
