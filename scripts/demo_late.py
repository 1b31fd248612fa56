"""How far the demo's models follow what a prompt says early and what it says late.

In: the folder of `dpg-bench demo`, and benchmark/demo/told.csv. Out, on stdout: a Markdown table of the share of
questions answered yes by the judge, by kind of question and by whether the sentence that settles it lies within
demo-sd's window of 24 tokens, with the difference of the two models and its 95 % interval (10,000 draws of whole
items). The dependency rule is not applied: a question is counted as it was answered.

    python scripts/demo_late.py results/demo

Needs NumPy.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

DEMO = Path(__file__).resolve().parents[1] / "benchmark/demo"
WINDOW, DRAWS, SEED = 22, 10_000, 1
MODELS = ("demo-sd", "demo-ella")


def answers(run):
    """Counts of yes and of answers, by item and question."""
    counts = defaultdict(lambda: [0, 0])
    for line in (run / "answers/demo-judge.jsonl").read_text().splitlines()[1:]:
        record = json.loads(line)
        for answer in record["answers"]:
            count = counts[record["item"], answer["question"]]
            count[0] += answer["outcome"].get("text") == "yes"
            count[1] += 1
    return counts


def main():
    folder = Path(sys.argv[1])
    with open(DEMO / "told.csv", newline="") as file:
        late = {(row["item_id"], int(row["proposition_id"])): int(row["tokens_before"]) >= WINDOW for row in csv.DictReader(file)}
    with open(DEMO / "dpg_bench.csv", newline="") as file:
        kinds = {(row["item_id"], int(row["proposition_id"])): row["category_broad"] for row in csv.DictReader(file)}
    found = [answers(folder / name) for name in MODELS]
    items = sorted({item for item, _ in kinds})
    draws = np.random.default_rng(SEED).integers(len(items), size=(DRAWS, len(items)))
    print("| questions | settled | count | " + " | ".join(MODELS) + " | difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in ["all", *dict.fromkeys(kinds.values())]:
        for when in (False, True):
            chosen = [key for key in kinds if late[key] == when and kind in ("all", kinds[key])]
            if not chosen:
                continue
            # [model, item, (yes, all)]
            sums = np.zeros((2, len(items), 2))
            for item, question in chosen:
                for model in range(2):
                    sums[model, items.index(item)] += found[model][item, question]
            drawn = sums[:, draws].sum(2)
            shares = 100 * sums.sum(1)[:, 0] / sums.sum(1)[:, 1]
            with np.errstate(invalid="ignore"):
                differences = 100 * np.diff(drawn[..., 0] / drawn[..., 1], axis=0)[0]
            low, high = np.nanquantile(differences, [0.025, 0.975])
            row = [kind, "late" if when else "early", str(len(chosen)), *(f"{share:.1f}" for share in shares)]
            print("| " + " | ".join(row) + f" | {shares[1] - shares[0]:+.1f} ({low:+.1f} to {high:+.1f}) |")


if __name__ == "__main__":
    main()
