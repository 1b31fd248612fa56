#!/usr/bin/env python3
"""Times `dpg-bench report` on runs that keep thumbnails and on the same runs without them, in turn.

    python scripts/report_speed.py PROGRAM [--items 1065] [--side 512] [--rounds 5] [--folder DIR]

The two runs are those of made_up_runs.py: four pictures an item. Their thumbnails are made here, out of a first report and after
the description in docs/reports.md; the program has no part in that. Checked: all reports are the same bytes; a thumbnail of
another picture with the mark of this one is shown; one whose mark is wrong by a bit is not. Needs nothing but Python, and 1 GB.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import made_up_runs

RUNS = 2


def timed(program, runs, out):
    """Seconds by the clock and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([program, "report", *runs, "--out", out], capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


def to_keep(jpeg, png, wrong=0):
    """The file that a run keeps: the JPEG, its checksum, and the PNG's length and last checksums."""
    length, end = len(png), int.from_bytes(png[-20:-12], "big") ^ wrong
    return jpeg + f"\ndpg-bench thumbnail 1.0: CRC {zlib.crc32(jpeg):08x}, of the PNG of {length:012} bytes, {end:016x}\n".encode()


def keep_thumbnails(runs, report, folder):
    """Gives each picture its thumbnail of the report; pictures that are one file get one file."""
    folder.mkdir()
    made = {}
    for number, run in enumerate(runs, 1):
        for png in sorted(run.glob("images/*/*.png")):
            file = png.stat().st_ino
            if file not in made:
                made[file] = folder / f"{len(made)}.jpg"
                made[file].write_bytes(to_keep(shown(report, number, png).read_bytes(), png.read_bytes()))
            thumbnail = kept(png)
            thumbnail.parent.mkdir(parents=True, exist_ok=True)
            os.link(made[file], thumbnail)


def kept(png):
    return png.parents[2] / "thumbnails" / png.parent.name / f"{png.stem}.jpg"


def shown(report, number, png):
    return report / "images" / str(number) / png.parent.name / f"{png.stem}.jpg"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_use(program, runs, whole, folder):
    """Whether the mark decides what is shown."""
    png, other = (runs[0] / "images" / "item0000" / f"{number}.png" for number in range(2))
    jpeg = shown(whole, 1, other).read_bytes()
    assert jpeg != shown(whole, 1, png).read_bytes()
    right = kept(png).read_bytes()
    for wrong in [0, 1]:
        kept(png).unlink()
        kept(png).write_bytes(to_keep(jpeg, png.read_bytes(), wrong))
        timed(program, runs, folder / f"use{wrong}")
        expected = shown(whole, 1, png).read_bytes() if wrong else jpeg
        assert shown(folder / f"use{wrong}", 1, png).read_bytes() == expected, wrong
    kept(png).write_bytes(right)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--items", type=int, default=1065)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="an empty one for the runs and reports; else a temporary one")
    options = parser.parse_args()
    program = options.program.resolve()
    folder = options.folder or Path(tempfile.mkdtemp())
    made = folder / "made"
    size = made_up_runs.make(made, options.items, RUNS, options.side)
    runs = [made / f"run{number + 1}" for number in range(RUNS)]

    first = folder / "first"
    timed(program, runs, first)
    keep_thumbnails(runs, first, made / "thumbnails")
    check_use(program, runs, first, folder)
    expected = contents(first)

    times = {"kept": [], "made anew": []}
    for number in range(options.rounds):
        for side in list(times)[:: 1 if number % 2 else -1]:
            away = side == "made anew"
            for run in runs if away else []:
                (run / "thumbnails").rename(run / "thumbnails.away")
            # Reports stay until the end: ext4 is slow where files were deleted a moment ago.
            out = folder / f"{side.split()[0]}{number}"
            times[side].append(timed(program, runs, out))
            for run in runs if away else []:
                (run / "thumbnails.away").rename(run / "thumbnails")
            assert contents(out) == expected, out
        print(f"round {number}: " + ", ".join(f"{side} {of[-1][0]:.2f} s" for side, of in times.items()), flush=True)

    pictures = options.items * made_up_runs.IMAGES * RUNS
    print(f"\n{pictures} pictures of {options.side} x {options.side} pixels and {size / 1e3:.0f} kB, {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f} at the end; all {2 * options.rounds + 1} reports are the same bytes\n")
    print("| thumbnails | by the clock, s: median (least to most) | computing, s | in the system, s |\n|---|---|---|---|")
    for side, of in times.items():
        wall, computing, system = zip(*of)
        print(f"| {side} | {statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) | "
              f"{statistics.median(computing):.2f} | {statistics.median(system):.2f} |")
    if not options.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
