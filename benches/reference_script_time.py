"""Times the reference script's rules in Python beside `dpg-bench score`, on the same 57,492 answers.

    cargo build --release
    python benches/reference_script_time.py target/release/dpg-bench

1,065 items, 4 images each, 14,373 questions. Both sides read the question
file and the answers from disk and end with all figures:

* Python: tests/fixtures/scoring/make_reference_scores.py (our implementation of the rules of ELLA's
  compute_dpg_bench.py: pandas for the file, dictionaries for the rule, numpy for the means), answers
  from a JSON Lines file. Timed inside the process, imports not counted; a second figure adds the
  detail file, which the script opens and closes once per answer.
* dpg-bench: the whole process, start-up, Parquet table, exported tables and chart included.

Prints medians in milliseconds and their ratio. Needs pandas and numpy.
"""

import csv
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/fixtures/scoring"))
import make_reference_scores as rules  # noqa: E402

ITEMS, QUESTIONS, IMAGES, ROUNDS, SIDE = 1065, 14373, 4, 7, 512
TUPLES = ["entity - whole (thing)", "attribute - color (thing, red)",
          "relation - spatial (thing, thing, on)", "global - (photo)", "other - count (thing, ==2)"]
HEADER = ("item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
          "question_natural_language")
BOXES = [(0, 0, SIDE, SIDE), (SIDE, 0, 2 * SIDE, SIDE),
         (0, SIDE, SIDE, 2 * SIDE), (SIDE, SIDE, 2 * SIDE, 2 * SIDE)]


def answer(item, image, question):
    digest = hashlib.sha256(f"bench|{item}|{image}|{question}".encode()).digest()
    return "yes" if digest[0] < 205 else "no"


def write_data(folder):
    """The question file, the answers as JSON Lines, and the detail file that import-log reads."""
    with open(folder / "questions.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER.split(","))
        # The reference loses the first row: an extra item of one question takes that place.
        table.writerow(["lost", "A prompt.", "", 1, "0", "", "", TUPLES[0], "Is it lost?"])
        for index in range(ITEMS):
            count = QUESTIONS // ITEMS + (index < QUESTIONS % ITEMS)
            for number in range(1, count + 1):
                # Some cells hold two parents; pandas would read a column of plain integers as such,
                # and the script splits text.
                parents = f"{number // 2},1" if number > 3 else str(number // 2)
                table.writerow([f"item{index:04}", "A prompt.", "", number, parents, "", "",
                                TUPLES[(number - 1) % 5], f"Is thing {number} of item {index} there?"])
    items = rules.read_questions(folder / "questions.csv")
    with open(folder / "answers.jsonl", "w") as journal, open(folder / "detail.txt", "w") as detail:
        for item, questions in items.items():
            for image in range(IMAGES):
                given = {number: answer(item, image, number) for number in questions}
                journal.write(json.dumps({"item": item, "image": image, "answers": given}) + "\n")
                for number, (_, _, text) in questions.items():
                    detail.write(f"grids/{item}.png, {BOXES[image]}, {text}, {given[number]}\n")


def score_in_python(folder, with_detail_file):
    start = time.perf_counter()
    items = rules.read_questions(folder / "questions.csv")
    answers = {}
    with open(folder / "answers.jsonl") as journal:
        for line in journal:
            record = json.loads(line)
            given = {int(number): text for number, text in record["answers"].items()}
            answers[record["item"], record["image"]] = given

    def write_line(item, image, text, said, *_):
        if image is not None:
            with open(folder / "written_detail.txt", "a") as file:
                file.write(f"grids/{item}.png, {BOXES[image]}, {text}, {said}\n")

    rules.answer_of = lambda _, item, image, number: answers[item, image][number]
    result = rules.run(items, "", IMAGES, list(items), write_line if with_detail_file else None)
    return (time.perf_counter() - start) * 1000, result["overall"]


def main():
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        run = folder / "run"
        subprocess.run([program, "import-log", folder / "detail.txt", "--benchmark",
                        folder / "questions.csv", "--prefix", "item", "--out", run],
                       check=True, stdout=subprocess.DEVNULL)
        times = {"python rules": [], "python rules and detail file": [], "dpg-bench score": []}
        for _ in range(ROUNDS):  # side by side, so that a slow moment hits all
            spent, theirs = score_in_python(folder, False)
            times["python rules"].append(spent)
            times["python rules and detail file"].append(score_in_python(folder, True)[0])
            start = time.perf_counter()
            done = subprocess.run([program, "score", run, "--json"], check=True, stdout=subprocess.PIPE)
            times["dpg-bench score"].append((time.perf_counter() - start) * 1000)
            ours = json.loads(done.stdout)["reference"]["overall"]["mean"]
            assert ours == theirs, (ours, theirs)
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, median in medians.items():
            ratio = median / medians["dpg-bench score"]
            print(f"{name:30} {median:9.1f} ms  {ratio:6.1f} x   (of {ROUNDS} rounds: "
                  f"{min(times[name]):.1f} to {max(times[name]):.1f})")
        print(f"the same benchmark score on both sides: {ours!r}")


if __name__ == "__main__":
    main()
