#!/usr/bin/env bash
# mlflow 3.17.2, its server over the REST API. A metric with a number that MLflow's messages cannot hold, such as step 1.5 or a bare
# NaN, is answered with 200. What stands behind that number in the JSON is lost: the other fields of the metric take their
# defaults (0, at time 0), and every metric after it in the same `runs/log-batch` is not stored at all. With `"value"` first and
# `"step": 1.5` last the metric keeps its value at step 0; with the step first the value is 0.
#
# The handler catches the ParseError, goes on with the message as far as it was filled, and relies on checks of the JSON, which
# for metrics ask only whether key, value and timestamp are there.
#
# In the same way `runs/update` with a status that is none, as FINISHD, is answered with 200, and the run goes on RUNNING.
# dpg-bench sends whole steps and finite numbers alone, and looks at the status in the reply (src/exports/mlflow/sending.rs).
# Exit 0: it is still so. Exit 1: it changed. Some 4 minutes, most of them installation.
set -euo pipefail
work="$(mktemp -d)"
trap 'if [ -n "${server:-}" ]; then kill -KILL -- "-$server" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet install mlflow==3.17.2
port="$("$work/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid "$work/venv/bin/mlflow" server --host 127.0.0.1 --port "$port" --workers 1 --backend-store-uri "sqlite:///$work/m.db" \
    --artifacts-destination "$work/a" >"$work/log" 2>&1 &
server=$!
"$work/venv/bin/python" - "http://127.0.0.1:$port" <<'PYTHON'
import sys
import time

import requests

api = sys.argv[1] + "/api/2.0/mlflow/"
for _ in range(600):
    time.sleep(0.5)
    try:
        requests.get(sys.argv[1] + "/health", timeout=2)
        break
    except requests.RequestException:
        pass


def post(call, text):
    reply = requests.post(api + call, data=text, headers={"Content-Type": "application/json"}, timeout=60)
    return reply.status_code, reply.json()


def stored(run, key):
    reply = requests.get(api + "metrics/get-history", params={"run_id": run, "metric_key": key}, timeout=60).json()
    return [(point["value"], point["timestamp"], point["step"]) for point in reply.get("metrics", [])]


found = []
run = post("runs/create", '{"experiment_id": "0"}')[1]["run"]["info"]["run_id"]
after = '{"key": "%s after", "value": 0.25, "timestamp": 1000, "step": 9}'
for name, fields in [
    ("whole", '"value": 0.5, "timestamp": 1000, "step": 3'),
    ("step last", '"value": 0.5, "timestamp": 1000, "step": 1.5'),
    ("step first", '"step": 1.5, "value": 0.5, "timestamp": 1000'),
    ("nan", '"value": NaN, "timestamp": 1000, "step": 3'),
]:
    body = '{"run_id": "%s", "metrics": [{"key": "%s", %s}, %s]}' % (run, name, fields, after % name)
    status, _ = post("runs/log-batch", body)
    found.append((status, stored(run, name), stored(run, name + " after")))
    print(f"{name}: {found[-1]}")
status, reply = post("runs/update", '{"run_id": "%s", "status": "FINISHD"}' % run)
found.append((status, reply["run_info"]["status"]))
print(f"FINISHD: {found[-1]}")
expected = [
    (200, [(0.5, 1000, 3)], [(0.25, 1000, 9)]),
    (200, [(0.5, 1000, 0)], []),
    (200, [(0.0, 0, 0)], []),
    (200, [(0.0, 0, 0)], []),
    (200, "RUNNING"),
]
print("as found" if found == expected else "changed")
sys.exit(found != expected)
PYTHON
