#!/usr/bin/env python3
"""Runs a small job through faults of machine and disk, again and again, and compares what is left byte by byte.

    python scripts/fault_check.py PROGRAM [--runs 200] [--seed 1] [--only FAULT,..] [--markdown FILE]

PROGRAM is a `dpg-bench`; the job is a run of the shipped model. Every fault is followed by the same command
without it, until the job is done; then every file but manifest.json must equal those of an undisturbed run.

  kill        kill -9 at random moments, at least one in each of the runs
  signal      SIGINT or SIGTERM at a random moment; the exit status and the command that is printed
  fsync       each fsync in turn fails (a library that is loaded before libc; needs cc)
  disk        a tmpfs that is too small, then grown (needs the right to mount)
  read-only   a tmpfs that is remounted read-only in the middle (the same)
  clock       a clock that goes an hour back with each look (needs cc)

Needs Python alone; what cannot be done on a machine is said and left out. Ends with status 1 where a
comparison failed.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

JOB = ["run", "--limit", "3", "--images", "2", "--steps", "2", "--out"]

FSYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
static int count;
static int fails(void) {
    const char *at = getenv("FAIL_AT");
    return at && __sync_add_and_fetch(&count, 1) == atoi(at);
}
int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static long back;
int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec -= 3600 * __sync_add_and_fetch(&back, 1);
    return status;
}
"""


class Check:
    def __init__(self, program, folder, draw):
        self.program, self.folder, self.draw = program, folder, draw
        self.problems, self.rows = [], []
        began = time.time()
        done = self.run(folder / "whole")
        if done.returncode != 0:
            sys.exit(f"the undisturbed job fails: {done.stderr}")
        self.seconds = time.time() - began
        self.whole = files(folder / "whole")
        print(f"undisturbed: {self.seconds:.2f} s, {len(self.whole)} files", flush=True)

    def command(self, out):
        return [str(self.program), *JOB, str(out)]

    def run(self, out, **more):
        return subprocess.run(self.command(out), capture_output=True, text=True, **more)

    def compare(self, out, what):
        """Whether the finished job is the undisturbed one's; the folder is then removed."""
        found = files(out)
        for name in sorted(set(found) | set(self.whole)):
            if found.get(name) != self.whole.get(name):
                self.problems.append(f"{what}: {name} differs")
                print(f"WRONG {self.problems[-1]}", flush=True)
                return
        shutil.rmtree(out)

    def finish(self, out, what):
        done = self.run(out)
        if done.returncode != 0:
            self.problems.append(f"{what}: going on ended with {done.returncode}: {done.stderr.strip()}")
            print(f"WRONG {self.problems[-1]}", flush=True)
        else:
            self.compare(out, what)

    def row(self, fault, what, count):
        self.rows.append((fault, what, count))
        print(f"{fault}: {what}: {count}", flush=True)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"}


def phase(out):
    """How far a job is that was just ended."""
    def lines(name):
        path = out / name
        return path.read_bytes().count(b"\n") if path.exists() else 0

    if (out / "summary").exists():
        return "in the summary or after it"
    if (out / "answers").exists():
        return "while judging"
    if lines("images.jsonl") > 0:
        return "while generating"
    return "before the first image"


def kills(check, runs):
    out, phases, total, left_overs = check.folder / "killed", Counter(), 0, 0
    for number in range(runs):
        hits = 0
        while True:
            child = subprocess.Popen(check.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Until the first kill hits, every moment of the job is as likely; later sittings are shorter.
            try:
                child.wait(check.draw.uniform(0, check.seconds if hits == 0 else 1.3 * check.seconds))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                hits += 1
                phases[phase(out)] += 1
                left_overs += sum(1 for path in out.rglob(".writing-*"))
                continue
            if child.returncode != 0:
                check.problems.append(f"kill, run {number}: a resumed job ended with {child.returncode}")
                break
            if hits:
                break
            shutil.rmtree(out)
        total += hits
        check.compare(out, f"kill, run {number}")
        if number % 20 == 19:
            print(f"  {number + 1} of {runs} runs, {total} kills", flush=True)
    check.row("kill -9", "runs, each resumed to the same bytes", runs)
    check.row("kill -9", "kills", total)
    for name, count in sorted(phases.items()):
        check.row("kill -9", f"of these {name}", count)
    check.row("kill -9", "files half written that were found and taken over", left_overs)


def signals(check, runs):
    out, ended = check.folder / "signalled", Counter()
    for number in range(runs):
        which = signal.SIGINT if number % 2 else signal.SIGTERM
        child = subprocess.Popen(check.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(check.draw.uniform(0, check.seconds))
        child.send_signal(which)
        said = child.communicate()[1]
        status = child.returncode
        ended[status] += 1
        # 3: at an image; 128 + n: with none in hand; -n: before the program listened; 0: done before it came.
        if status not in (0, 3, 128 + which, -which):
            check.problems.append(f"signal, run {number}: ended with {status}: {said}")
        if status in (3, 128 + which) and "nothing finished is lost; to go on:\n  " + str(check.program) not in said:
            check.problems.append(f"signal, run {number}: does not say how to go on: {said}")
        check.finish(out, f"signal, run {number}")
    check.row("SIGINT, SIGTERM", "runs, each resumed to the same bytes", runs)
    for status, count in sorted(ended.items()):
        check.row("SIGINT, SIGTERM", f"of these ended with status {status}", count)


def library(check, name, source):
    if not shutil.which("cc"):
        print(f"SKIPPED: {name}: there is no C compiler")
        return None
    text, built = check.folder / f"{name}.c", check.folder / f"{name}.so"
    text.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", built, text, "-ldl"], check=True)
    return built


def fsyncs(check):
    built = library(check, "fsync", FSYNC)
    if not built:
        return
    out, number, passed = check.folder / "unsynced", 0, 0
    while True:
        number += 1
        done = check.run(out, env={**os.environ, "LD_PRELOAD": str(built), "FAIL_AT": str(number)})
        if done.returncode == 0:
            check.compare(out, f"fsync {number}")
            break
        if done.returncode != 2 or "Input/output error" not in done.stderr or str(out) not in done.stderr:
            check.problems.append(f"fsync {number}: ended with {done.returncode}: {done.stderr}")
        passed += 1
        check.finish(out, f"fsync {number}")
    check.row("fsync fails", "places of the job, each named in a sentence and resumed to the same bytes", passed)


def clocks(check):
    built = library(check, "clock", CLOCK)
    if not built:
        return
    out = check.folder / "backwards"
    child = subprocess.Popen(check.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env={**os.environ, "LD_PRELOAD": str(built)})
    time.sleep(0.6 * check.seconds)
    child.kill()
    child.wait()
    done = check.run(out, env={**os.environ, "LD_PRELOAD": str(built)})
    if done.returncode != 0:
        check.problems.append(f"clock: ended with {done.returncode}: {done.stderr}")
    check.compare(out, "clock")
    check.row("clock backwards", "runs, killed and resumed to the same bytes", 1)


def mounted(check, size):
    place = check.folder / "disk"
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"SKIPPED: no file system can be mounted here ({done.stderr.strip()})")
        return None
    return place


def disks(check):
    whole = sum(len(data) for data in check.whole.values())
    stopped = Counter()
    for kilobytes in sorted({4 * step for step in range(1, max(3, whole // 4096 + 12))}):
        place = mounted(check, f"{kilobytes}k")
        if not place:
            return
        try:
            out = place / "run"
            done = check.run(out)
            if done.returncode != 0:
                stopped[kilobytes] = done.returncode
                if done.returncode != 2 or "No space left on device" not in done.stderr:
                    check.problems.append(f"disk of {kilobytes} kB: ended with {done.returncode}: {done.stderr}")
                again = check.run(out)
                if again.returncode != 2:
                    check.problems.append(f"disk of {kilobytes} kB, again: ended with {again.returncode}: {again.stderr}")
                subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
                check.finish(out, f"disk of {kilobytes} kB")
        finally:
            subprocess.run(["umount", place], check=True)
    check.row("full disk", "sizes, each named in a sentence, and resumed to the same bytes when it had grown", len(stopped))


def read_only(check, runs):
    refused = 0
    for number in range(runs):
        place = mounted(check, "64m")
        if not place:
            return
        try:
            out = place / "run"
            if number:
                child = subprocess.Popen(check.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                time.sleep(check.draw.uniform(0.2, 0.9) * check.seconds)
                # A file that is open for writing keeps the file system writable: freeze what is made until then.
                child.kill()
                child.wait()
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            done = check.run(out)
            if done.returncode == 2 and "Read-only file system" in done.stderr and str(out) in done.stderr:
                refused += 1
            else:
                check.problems.append(f"read-only, run {number}: ended with {done.returncode}: {done.stderr}")
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
            check.finish(out, f"read-only, run {number}")
        finally:
            subprocess.run(["umount", place], check=True)
    check.row("read-only disk", "runs refused in a sentence, and resumed to the same bytes when it was writable", refused)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="FAULT,..", help="of the list above")
    parser.add_argument("--markdown", type=Path, help="file for the table of counts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(arguments.program.resolve(), Path(folder), random.Random(arguments.seed))
        faults = {
            "fsync": lambda: fsyncs(check),
            "clock": lambda: clocks(check),
            "disk": lambda: disks(check),
            "read-only": lambda: read_only(check, 6),
            "signal": lambda: signals(check, max(4, arguments.runs // 5)),
            "kill": lambda: kills(check, arguments.runs),
        }
        only = arguments.only.split(",") if arguments.only else list(faults)
        unknown = sorted(set(only) - set(faults))
        if unknown:
            sys.exit(f"there is no fault {', '.join(unknown)}; there are {', '.join(faults)}")
        for name in only:
            faults[name]()
    if arguments.markdown:
        lines = ["| fault | what | count |", "| --- | --- | --- |"]
        lines += [f"| {fault} | {what} | {count} |" for fault, what, count in check.rows]
        arguments.markdown.write_text("\n".join(lines) + "\n")
    if check.problems:
        sys.exit(f"{len(check.problems)} things are wrong")
    print("all as it should be")


if __name__ == "__main__":
    main()
