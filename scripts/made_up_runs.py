#!/usr/bin/env python3
"""Writes made-up runs of any size, to see and time `dpg-bench report` without a model.

    python scripts/made_up_runs.py OUT [--items 1065] [--runs 2] [--side 512] [--hostile]

OUT/dpg_bench.csv is the question file (13 or 14 questions an item), OUT/run1, OUT/run2 .. the runs with four
pictures an item. The pictures are smooth shapes with noise, so that they are as hard to unpack as
photographs; there are 48 different ones, linked to their places. With --hostile, prompts, item ids and answers
try to leave their place in a page, every fifth image is missing and some answers failed. Everything is
the same each time. Needs nothing but Python.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import struct
import zlib
from pathlib import Path

IMAGES = 4
CATEGORIES = ["global - (photo)", "entity - whole (thing)", "entity - part (thing)", "attribute - color (thing, red)",
              "attribute - texture (thing, rough)", "relation - spatial (thing, thing, on)",
              "relation - non-spatial (thing, thing, with)", "other - count (thing, ==2)", "other - text (thing, \"a\")"]
WORDS = ("a small wooden boat drifts under heavy clouds while two red lanterns hang from its mast and their light "
         "falls on dark water beside an old stone pier with iron rings").split()
HOSTILE_PROMPTS = [
    '</script><script>window.hostile = 1</script><img src=x onerror="window.hostile = 2">',
    "\"quotes\" 'apostrophes' `backticks` & &lt;entities&gt; &#x3c;b&#x3e; --> ]]> <!--",
    "\u202eright to left override\u202c and \u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 in one line",
    "emoji \U0001f9d1\u200d\U0001f680 \U0001f1fa\U0001f1f3 and combining a\u0301\u0323\u0308 \u2028 separators \u2029 {{data}} {{script}}",
    "javascript:window.hostile=3 <a href=\"javascript:window.hostile=4\">link</a> ${window.hostile=5} " + "long" * 60,
]
HOSTILE_IDS = ["a&b 'c'", "100% #1;x", "\u0645\u0631\u062d\u0628\u0627", "\U0001f9d1\u200d\U0001f680", "=1+1"]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(side, number):
    """A PNG, and the digest of its pixels as runs record it."""
    rng = random.Random(number)
    noise = bytes(rng.getrandbits(8) & 7 for _ in range(4096 + side * 3))
    base = [[rng.randrange(40, 200) for _ in range(3)] for _ in range(4)]
    rows = []
    for y in range(side):
        row = bytearray(side * 3)
        down = y / side
        for channel in range(3):
            left = base[0][channel] * (1 - down) + base[1][channel] * down
            right = base[2][channel] * (1 - down) + base[3][channel] * down
            step = (right - left) / side
            row[channel::3] = bytes(int(left + step * x) for x in range(side))
        start = rng.randrange(4096)
        rows.append(bytes(a + b for a, b in zip(row, noise[start:start + side * 3])))
    # Filter `up`, as encoders choose it for such rows.
    before = bytes(side * 3)
    data = bytearray()
    for row in rows:
        data.append(2)
        data += bytes((a - b) & 255 for a, b in zip(row, before))
        before = row
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(data), 6)) + chunk(b"IEND", b"")
    return png, hashlib.sha256(struct.pack("<II", side, side) + b"".join(rows)).hexdigest()


def make_items(count, hostile):
    rng = random.Random(7)
    items = []
    for number in range(count):
        prompt = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(30, 110)))
        item_id = f"item{number:04}"
        if hostile:
            prompt = HOSTILE_PROMPTS[number % len(HOSTILE_PROMPTS)] + " " + prompt
            if number < len(HOSTILE_IDS):
                item_id = HOSTILE_IDS[number]
        questions = []
        for place in range(1, 14 + (number % 2)):
            parents = "0" if place < 4 else str(rng.randrange(1, place))
            if place > 6 and rng.random() < 0.3:
                parents += f",{rng.randrange(1, place)}"
            parents = ",".join(dict.fromkeys(parents.split(",")))
            text = f"Is {' '.join(rng.choice(WORDS) for _ in range(rng.randrange(3, 12)))} there?"
            if hostile and place == 2:
                text = HOSTILE_PROMPTS[number % len(HOSTILE_PROMPTS)]
            questions.append((place, parents, CATEGORIES[(place - 1) % len(CATEGORIES)], text))
        items.append((item_id, prompt, questions))
    return items


def digest(items):
    hasher = hashlib.sha256()

    def put(text):
        data = text.encode()
        hasher.update(str(len(data)).encode() + b":" + data + b",")

    put("dpg-bench benchmark 1")
    for item_id, prompt, questions in items:
        for text in ("item", item_id, prompt):
            put(text)
        for number, parents, category, text in questions:
            for part in ("question", str(number), parents, category, text):
                put(part)
    return hasher.hexdigest()


def write_run(out, number, items, sources, hostile):
    rng = random.Random(100 + number)
    (out / "answers").mkdir(parents=True)
    images = [json.dumps({"format_version": "1.0", "kind": "images"})]
    answers = [json.dumps({"format_version": "1.0", "kind": "answers"})]
    for place, (item_id, _, questions) in enumerate(items):
        folder = out / "images" / item_id
        folder.mkdir(parents=True)
        hardness = rng.gauss(0, 0.12)
        for image in range(IMAGES):
            if hostile and (place * IMAGES + image) % 5 == 3:
                images.append(json.dumps({"item": item_id, "image": image, "outcome": {"state": "failed", "reason": "<b>out of memory</b>"}}))
                continue
            source, pixels = sources[(place * IMAGES + image + number) % len(sources)]
            os.link(source, folder / f"{image}.png")
            images.append(json.dumps({"item": item_id, "image": image, "outcome": {
                "state": "done", "pixels_sha256": pixels, "width": 1, "height": 1, "seed": image, "prompt_tokens": None,
                "truncated": None, "source": None}}))
            given = []
            for question, *_ in questions:
                p = min(max(rng.gauss(0.72 + 0.07 * number + hardness, 0.2), 0.001), 0.999)
                outcome = {"state": "answered", "text": "yes" if p > 0.5 else "no", "yes_probability": round(p, 4)}
                if hostile and rng.random() < 0.1:
                    outcome = {"state": "answered", "text": "<img src=x onerror=window.hostile=6>",
                               "raw": "</script><svg onload=window.hostile=7>"}
                elif hostile and rng.random() < 0.05:
                    outcome = {"state": "failed", "reason": "time-out <script>window.hostile=8</script>"}
                given.append({"question": question, "outcome": outcome})
            answers.append(json.dumps({"item": item_id, "image": image, "pixels_sha256": pixels, "answers": given}))
    (out / "images.jsonl").write_text("\n".join(images) + "\n")
    (out / "answers" / "made-up.jsonl").write_text("\n".join(answers) + "\n")
    manifest = {
        "format_version": "1.0", "tool": "made_up_runs.py", "git_commit": None, "created": "2026-01-01T00:00:00Z",
        "benchmark": {"path": str((out.parent / "dpg_bench.csv").resolve()), "digest": digest(items), "official": False,
                      "items": len(items), "questions": sum(len(item[2]) for item in items), "lenient": False},
        "selection": {}, "images_per_item": IMAGES,
        "generation": {"settings": {"name": "made-up", "steps": 20 + 5 * number, "guidance": 7.5}, "sittings": []},
        "judges": {"made-up": {"settings": {"rule": "made up"}, "sittings": []}},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def make(out, count=1065, runs=2, side=512, hostile=False):
    """Writes the question file, the pictures and the runs; returns the size of a picture in bytes."""
    (out / "pictures").mkdir(parents=True)
    sources = []
    for number in range(48 if count > 48 else 8):
        png, pixels = picture(side, number)
        sources.append((out / "pictures" / f"{number}.png", pixels))
        sources[-1][0].write_bytes(png)
    items = make_items(count, hostile)
    with open(out / "dpg_bench.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed",
                         "tuple", "question_natural_language"])
        for item_id, prompt, questions in items:
            for number, parents, category, text in questions:
                writer.writerow([item_id, prompt, "", number, parents, "", "", category, text])
    for number in range(runs):
        name = f"run{number + 1}"
        if hostile and number == 1:
            name = "run2 <img src=x onerror=window.hostile=9>"
        write_run(out / name, number, items, sources, hostile)
    return sum(source.stat().st_size for source, _ in sources) / len(sources)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=1065)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--hostile", action="store_true")
    arguments = parser.parse_args()
    size = make(arguments.out, arguments.items, arguments.runs, arguments.side, arguments.hostile)
    print(f"{arguments.runs} runs of {arguments.items} items; a picture has {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
