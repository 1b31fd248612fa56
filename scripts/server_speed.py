"""Images a second from a server on loopback that answers after 20 ms: a bare loop of the same concurrency, and
`dpg-bench generate --model server`, which also decodes, checks, records and writes them. Both in turn, several rounds.

Needs NumPy and Pillow: python3 scripts/server_speed.py [--program target/release/dpg-bench] [--concurrency 4]
"""

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import statistics
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ITEMS, IMAGES = 72, 14
DELAY = 0.020
KINDS = 16


def pictures():
    """512 x 512 PNGs as smooth and as rough as photographs, some 300 KB each."""
    import numpy
    from PIL import Image

    replies = []
    for kind in range(KINDS):
        rng = numpy.random.default_rng(kind)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=numpy.uint8)).resize((512, 512), Image.BICUBIC)
        rough = numpy.asarray(coarse, dtype=numpy.int16) + rng.integers(-3, 4, (512, 512, 3))
        file = io.BytesIO()
        Image.fromarray(rough.clip(0, 255).astype(numpy.uint8)).save(file, "png")
        data = [{"b64_json": base64.b64encode(file.getvalue()).decode()}]
        replies.append(json.dumps({"created": 0, "data": data}).encode())
    return replies


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(json.dumps({"object": "list", "data": [{"id": "tiny", "owned_by": "vllm"}]}).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(DELAY)
        self.reply(self.server.replies[body["seed"] % KINDS])


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def serve(connection):
    server = Server(("127.0.0.1", 0), Handler)
    server.replies = pictures()
    connection.send((server.server_port, [len(reply) for reply in server.replies]))
    server.serve_forever()


def bare(port, count, concurrency):
    """Seconds for `count` requests; the replies are read and thrown away."""
    left = iter(range(count))
    lock = threading.Lock()

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            with lock:
                seed = next(left, None)
            if seed is None:
                return
            body = json.dumps({"prompt": "a kite", "n": 1, "seed": seed, "response_format": "b64_json"})
            connection.request("POST", "/v1/images/generations", body, {"Content-Type": "application/json"})
            assert connection.getresponse().read()

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def ours(program, port, concurrency):
    """Seconds for all images of a run, the program's start included."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        subprocess.run(
            [program, "generate", "--model", "server", "--server-url", f"http://127.0.0.1:{port}/v1", "--server-api",
             "vllm-omni", "--benchmark", "demo", "--images", str(IMAGES), "--out", f"{folder}/run",
             "--server-concurrency", str(concurrency)],
            check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - begun


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", default="target/release/dpg-bench")
    arguments.add_argument("--concurrency", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments = arguments.parse_args()
    receiver, sender = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(sender,), daemon=True)
    server.start()
    port, sizes = receiver.recv()
    count = ITEMS * IMAGES
    print(f"{count} images of 512 x 512, replies of {min(sizes) // 1024} to {max(sizes) // 1024} KiB after "
          f"{DELAY * 1000:.0f} ms, {arguments.concurrency} at a time")
    both = {"bare loop": [], "dpg-bench": []}
    for _ in range(arguments.rounds):
        both["bare loop"].append(count / bare(port, count, arguments.concurrency))
        both["dpg-bench"].append(count / ours(arguments.program, port, arguments.concurrency))
    for name, rates in both.items():
        print(f"{name}: {statistics.median(rates):.1f} images/s (" + ", ".join(f"{rate:.1f}" for rate in rates) + ")")
    print(f"ratio of the medians: {statistics.median(both['dpg-bench']) / statistics.median(both['bare loop']):.2f}")
    server.terminate()


if __name__ == "__main__":
    main()
