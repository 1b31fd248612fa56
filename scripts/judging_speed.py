#!/usr/bin/env python3
"""Times `run` on the demo with the judge beside the model and after it, in turn.

    python scripts/judging_speed.py PROGRAM [--rounds 3] [--per-image 0.3] [--concurrency 2] [--run-flag ...]

Two judges: a server on this machine that does nothing but wait, so that an image takes it --per-image seconds, and
`demo-judge`, which computes on the processor as the model does. PROGRAM is a release build of `dpg-bench`. Says the
seconds of each run and the medians; ends with status 1 where the files of two runs differ. Needs Python alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

QUESTIONS_OF_AN_IMAGE = 1048 / 72


def serve(wait):
    message = {"role": "assistant", "content": "Yes."}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(wait)
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    # Head and body leave in one packet, or the client waits for the second one.
    Answer.wbufsize = -1
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def files(folder):
    names = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in names}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-image", type=float, default=0.3)
    parser.add_argument("--concurrency", type=int, default=2)
    options, more = parser.parse_known_args()
    url = serve(options.per_image / QUESTIONS_OF_AN_IMAGE)
    endpoint = ["--judge", "endpoint", "--judge-url", url, "--judge-model", "m"]
    endpoint += ["--judge-concurrency", str(options.concurrency)]
    judges = {"endpoint": endpoint, "demo-judge": ["--judge", "demo-judge"]}
    seconds, seen, same = {}, {}, True
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for judge, flags in judges.items():
                for when in ["off", "on"]:
                    out = Path(folder) / f"{judge}-{when}-{number}"
                    line = [options.program.resolve(), "run", "--out", out, *flags, *more]
                    began = time.monotonic()
                    done = subprocess.run([*line, "--judge-while-generating", when], capture_output=True, text=True)
                    took = time.monotonic() - began
                    if done.returncode != 0:
                        sys.exit(done.stderr)
                    seconds.setdefault((judge, when), []).append(took)
                    same &= seen.setdefault(judge, files(out)) == files(out)
                    print(f"{judge} {when}: {took:.1f} s", flush=True)
    print("\n| judge | off | on |\n| --- | --- | --- |")
    for judge in judges:
        cells = []
        for when in ["off", "on"]:
            each = ", ".join(f"{took:.1f}" for took in seconds[judge, when])
            cells.append(f"{statistics.median(seconds[judge, when]):.1f} s ({each})")
        print(f"| {judge} | {' | '.join(cells)} |")
    print(f"\nfiles: {'the same' if same else 'DIFFERENT'}")
    sys.exit(0 if same else 1)


main()
