"""Writes the demo benchmark: dense prompts, their questions, and true pictures.

In: held-out scenes. Out: in the folder above, dpg_bench.csv, true/<item>/0.png, and told.csv: for every
question the number of the prompt's tokens (words and signs) before the sentence that settles it. Where
that is 22 or more, nothing of the sentence is in the window of demo-sd.

    python make_benchmark.py
"""

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import captions
import questions
import world
from tokenizers_of_words import WINDOW

ITEMS = 72
SEED = 20


def chosen():
    """Scenes with prompts of three to six sentences: (row, scene, prompt, questions)."""
    generator = np.random.default_rng(SEED)
    seen, items = set(), []
    while len(items) < ITEMS:
        row = world.held_out_rows(generator, 1)[0]
        scene = world.describe(row)
        prompt, told = captions.dense_and_told(scene, generator)
        sentences = prompt.count(".")
        asked = questions.questions(scene, told, generator)
        # One in six of two things, the others of three and four.
        wanted = (2, 3, 4, 3, 4, 4)[len(items) % 6]
        name = "_and_".join(thing.noun for thing in scene.things)
        if len(scene.things) != wanted or not 3 <= sentences <= 6 or not 10 <= len(asked) <= 16 or name in seen:
            continue
        seen.add(name)
        items.append((name, row, prompt, asked))
    return items


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    items = chosen()
    columns = "item_id text keywords proposition_id dependency category_broad category_detailed tuple question_natural_language"
    with open(options.out / "dpg_bench.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.split())
        for name, _, prompt, asked in items:
            for number, question in enumerate(asked, 1):
                parents = ",".join(map(str, question.parents)) or "0"
                writer.writerow(
                    [name, prompt, "", number, parents, question.category, question.detail, question.tuple, question.text]
                )
    with open(options.out / "told.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["item_id", "proposition_id", "tokens_before"])
        for name, _, prompt, asked in items:
            sentences = prompt.replace(". ", ".\n").split("\n")
            before = [sum(len(captions.tokens(text)) for text in sentences[:k]) for k in range(len(sentences))]
            writer.writerows([name, number, before[question.sentence]] for number, question in enumerate(asked, 1))
    true = options.out / "true"
    shutil.rmtree(true, ignore_errors=True)
    for (name, _, _, _), picture in zip(items, world.render([row for _, row, _, _ in items])):
        (true / name).mkdir(parents=True)
        Image.fromarray(picture).save(true / name / "0.png", optimize=True)
    longer = sum(len(captions.tokens(prompt)) > WINDOW - 2 for _, _, prompt, _ in items)
    print(f"{len(items)} items, {sum(len(asked) for *_, asked in items)} questions, {longer} longer than the window")


if __name__ == "__main__":
    main()
