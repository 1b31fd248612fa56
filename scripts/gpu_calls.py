#!/usr/bin/env python3
"""In: a program of scripts/build-cuda. Out: what it asks of a GPU for each step of denoising and for each picture, model by
model, counted on the stand-in for a GPU (scripts/stand-in-gpu) with networks of the published sizes, and the time that the
program's own side of it takes. No GPU is needed or used; nothing is computed.

    scripts/gpu_calls.py ~/.cache/dpg-bench-cuda/dpg-bench [--program OTHER ...] [--models sd15,ella-sd15,sdxl] [--batch 1]

A step is the difference between pictures of 30 and of 10 steps. The time is the median of ROUNDS pictures of each, all
programs in turn; it holds the stand-in's bookkeeping, but no driver's work.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FEW, MANY = 10, 30
KINDS = {
    "products": lambda name: name.startswith("cublas"),
    "convolutions": lambda name: name.startswith("cudnnConvolutionForward"),
    "kernels": lambda name: name.startswith("kernel "),
    "copies, fills": lambda name: name in ("copy on the device", "fill"),
    "from the host": lambda name: name == "copy to the device",
    "to the host": lambda name: name == "copy to the host",
    "waits": lambda name: name == "synchronize",
    "allocations": lambda name: name == "allocate",
}


def measured(program, model, batch, steps, repeats):
    """The stand-in's report, and seconds for each picture."""
    with tempfile.TemporaryDirectory() as folder:
        asked, record = pathlib.Path(folder) / "asked.json", pathlib.Path(folder) / "record.json"
        command = [ROOT / "scripts/stand-in-gpu", program, "measure", "--device", "cuda", "--part", "pictures"]
        command += ["--model", model, "--batch", str(batch), "--repeats", str(repeats), "--steps", str(steps), "--out", record]
        environment = os.environ | {"STAND_IN_COMPUTE": "0", "STAND_IN_REPORT": str(asked)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pictures = json.loads(record.read_text())["pictures"]
        return json.loads(asked.read_text()), pictures[0]["seconds"]


def by_kind(report):
    found = collections.Counter()
    for name, counted in report["calls"].items():
        for kind, matches in KINDS.items():
            if matches(name):
                found[kind] += counted["calls"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="+")
    parser.add_argument("--models", default="sd15,ella-sd15,sdxl")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    kinds = list(KINDS)
    print("| model | program | " + " | ".join(kinds) + " | ms of the host | peak, GiB |")
    print("| --- " * (len(kinds) + 4) + "|")
    for model in arguments.models.split(","):
        counts, times, peak = {}, collections.defaultdict(list), {}
        for _ in range(arguments.rounds):
            for number, program in enumerate(arguments.program):
                few, few_seconds = measured(program, model, arguments.batch, FEW, 1)
                many, many_seconds = measured(program, model, arguments.batch, MANY, 1)
                # One picture is made before the one that is timed.
                pictures = 2 * (MANY - FEW)
                before, after = by_kind(few), by_kind(many)
                counts[number] = {kind: (after[kind] - before[kind]) / pictures for kind in kinds}
                peak[number] = many["peak_bytes"] / 2**30
                times[number].append((many_seconds - few_seconds) / (MANY - FEW) * 1000)
        for number in counts:
            cells = [f"{counts[number][kind]:.1f}" for kind in kinds]
            print(f"| {model} | {number + 1} | {' | '.join(cells)} | {statistics.median(times[number]):.2f} | {peak[number]:.2f} |")


if __name__ == "__main__":
    main()
