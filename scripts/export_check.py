#!/usr/bin/env python3
"""Exports a run for MLflow, inspect_ai and lm_eval, reads it back with these packages' own code, and fails where a number differs.

    python -m venv venv && venv/bin/pip install mlflow==3.17.2 inspect-ai==0.3.285 pandas pyarrow pytablewriter
    venv/bin/pip install --no-deps lm-eval==0.4.13
    venv/bin/python scripts/export_check.py target/release/dpg-bench RUN

A server of MLflow is started on loopback with a database in a temporary folder, and stopped afterwards. The run must be complete.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PROTOCOLS = {"reference": "raw", "corrected": "conditional"}


def run(program, *words, **more):
    done = subprocess.run([program, *words], capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def same(name, found, percent, scale=100.0):
    assert abs(found * scale - percent) < 1e-9 * max(1.0, abs(percent)), f"{name}: {found} beside {percent}"


def estimates(summary, protocol):
    own = summary[protocol]
    yield "overall", own["overall"]
    for category in own["l1"] + own["l2"]:
        if category[PROTOCOLS[protocol]]:
            yield category["name"], category[PROTOCOLS[protocol]]


def server(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", f"{folder}/a"]
    log = open(folder / "server.log", "w")
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In a group of its own: the server starts others.
    process = subprocess.Popen([sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, start_new_session=True, env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        time.sleep(0.5)
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            urllib.request.urlopen(url + "/health", timeout=2).close()
            return process, url
        except OSError:
            pass
    raise AssertionError("the server of MLflow does not start")


def of_mlflow(program, folder, summary, url):
    """Every metric, parameter and tag, by MLflow's client."""
    from mlflow import MlflowClient

    client = MlflowClient(url)
    words = ["export", folder, "--to", "mlflow", "--step", "2000", "--experiment", "dpg (1/2)"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": url}
    run_id = run(program, *words, env=environment).strip()
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED", found.info
    assert client.get_experiment(found.info.experiment_id).name == "dpg (1/2)"
    metrics = dict(found.data.metrics)
    checked = set()
    for protocol in PROTOCOLS:
        for name, estimate in estimates(summary, protocol):
            for word, field in [("", "mean"), (" low", "low"), (" high", "high"), (" standard error", "standard_error")]:
                key = f"dpg_bench_{protocol}/{name}{word}"
                assert (key in metrics) == (estimate[field] is not None), key
                if key in metrics:
                    same(key, metrics[key], estimate[field], 1.0)
                    [point] = client.get_metric_history(run_id, key)
                    assert (point.step, point.value) == (2000, estimate[field]), point
                    checked.add(key)
        key = f"dpg_bench_{protocol}/items scored"
        assert metrics[key] == summary[protocol]["items_scored"]
        checked.add(key)
    for field, value in summary["coverage"].items():
        key = f"dpg_bench_coverage/{field.replace('_', ' ')}"
        if key in metrics:
            assert metrics[key] == value, key
            checked.add(key)
    # Those that stand in the summary where they are not 0.
    rest = set(metrics) - checked
    assert rest <= {"dpg_bench_coverage/images filtered"} and all(metrics[key] == 0 for key in rest), rest
    params = found.data.params
    assert params["judge"] == summary["judge"]["name"]
    assert params["benchmark.digest"] == summary["run"]["benchmark"]["digest"]
    for name, value in (summary["run"]["generation"] or {}).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert float(params[f"generation.{name}"]) == value, name
    print(f"mlflow: {len(metrics)} metrics, {len(params)} parameters and {len(found.data.tags)} tags read back")
    assert run(program, *words, env=environment).strip() == run_id
    again = run(program, *words, "--again", env=environment).strip()
    assert again != run_id
    assert len(client.search_runs([found.info.experiment_id])) == 2
    print("mlflow: nothing was sent twice unasked")


def of_inspect(program, folder, summary, out):
    """The log as a whole, its head alone, the list of a folder, and the data frames."""
    from inspect_ai.analysis import evals_df, samples_df
    from inspect_ai.log import list_eval_logs, read_eval_log, write_eval_log

    run(program, "export", folder, "--to", "inspect", "--out", out)
    [listed] = list_eval_logs(str(out))
    assert listed.task == "dpg-bench", listed
    log, head = read_eval_log(listed), read_eval_log(listed, header_only=True)
    assert head.samples is None and head.results == log.results and head.eval == log.eval
    assert log.status == "success" and len(log.samples) == summary["coverage"]["images_expected"]
    scores = {score.name: score for score in log.results.scores}
    frame = samples_df(str(out))
    for protocol in PROTOCOLS:
        metrics = scores[protocol].metrics
        for name, estimate in estimates(summary, protocol):
            key = "mean" if name == "overall" else f"{name} mean"
            same(key, metrics[key].value, estimate["mean"])
        column = f"score_{protocol}"
        of_items = frame.dropna(subset=[column]).groupby("id")[column].agg(lambda values: values.astype(float).mean())
        same(column, of_items.mean(), summary[protocol]["overall"]["mean"])
        same(column, of_items.sem(), summary[protocol]["overall"]["standard_error"])
        same("stderr", metrics["stderr"].value, summary[protocol]["overall"]["standard_error"])
    frame_of_logs = evals_df(str(out))
    same("evals_df", float(frame_of_logs["score_corrected_mean"].iloc[0]), summary["corrected"]["overall"]["mean"])
    same("headline", float(frame_of_logs["score_headline_value"].iloc[0]), summary["corrected"]["overall"]["mean"])
    copy = Path(out).parent / "copy" / Path(listed.name).name
    copy.parent.mkdir()
    write_eval_log(log, str(copy))
    again = read_eval_log(str(copy))
    assert again.samples == log.samples and again.results == log.results and again.eval == log.eval
    print(f"inspect_ai: {len(log.samples)} samples; the data frames' means and errors are the run's")


def of_lm_eval(program, folder, summary, out):
    """The table of results, what the Hub's uploader makes of the names, and the samples with their digests."""
    from lm_eval.utils import (
        get_file_datetime,
        get_file_task_name,
        get_results_filenames,
        get_sample_results_filenames,
        handle_non_serializable,
        hash_string,
        make_table,
        sanitize_model_name,
    )

    run(program, "export", folder, "--to", "lm-eval", "--out", out)
    names = [str(path) for path in Path(out).glob("*/*")]
    [results_name], [samples_name] = get_results_filenames(names), get_sample_results_filenames(names)
    assert get_file_task_name(Path(samples_name).name) == "dpg_bench"
    results = json.loads(Path(results_name).read_text(), parse_constant=lambda word: sys.exit(f"{word} in the results"))
    assert Path(results_name).parent.name == sanitize_model_name(results["model_name"]) == results["model_name_sanitized"]
    assert get_file_datetime(Path(samples_name).name) + ".json" == get_file_datetime(Path(results_name).name)
    table = make_table(results)
    rows, task = {}, ""
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        task = cells[0] or task
        rows[(task, cells[2], cells[4])] = float(cells[6])
    for protocol in PROTOCOLS:
        score = results["groups"]["dpg_bench"][f"score,{protocol}"]
        same(protocol, score, summary[protocol]["overall"]["mean"])
        assert abs(rows[("dpg_bench", protocol, "score")] - score) < 1e-4, table
    print(table)
    print(make_table(results, "groups"))
    hashes, scores = [], {}
    for line in Path(samples_name).read_text().splitlines():
        sample = json.loads(line, parse_constant=lambda word: sys.exit(f"{word} in the samples"))
        doc = json.dumps(sample["doc"], indent=2, default=handle_non_serializable, ensure_ascii=False)
        assert sample["doc_hash"] == hash_string(doc), sample["doc_id"]
        assert sample["prompt_hash"] == hash_string(sample["arguments"]["gen_args_0"]["arg_0"])
        assert sample["target_hash"] == hash_string(str(sample["target"]))
        hashes.append(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"])
        scores.setdefault((sample["filter"], sample["doc"]["item"]), []).append(sample["score"])
    assert results["task_hashes"]["dpg_bench"] == hash_string("".join(hashes))
    for protocol in PROTOCOLS:
        items = [sum(values) / len(values) for (name, _), values in scores.items() if name == protocol]
        same(protocol, sum(items) / len(items), summary[protocol]["overall"]["mean"])
    print(f"lm_eval: {len(hashes)} samples with lm_eval's own digests; their means are the run's")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=os.path.abspath)
    parser.add_argument("run")
    arguments = parser.parse_args()
    summary = json.loads(run(arguments.program, "score", arguments.run, "--json"))
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        of_inspect(arguments.program, arguments.run, summary, place / "inspect")
        of_lm_eval(arguments.program, arguments.run, summary, place / "lm-eval")
        process, url = server(place)
        try:
            of_mlflow(arguments.program, arguments.run, summary, url)
        finally:
            # Some of those outlive a SIGTERM.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()
