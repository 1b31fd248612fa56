"""What transformers makes of many texts with a real CLIP vocabulary, which the project does not ship.

In: the tokenizer/ folder of a published checkpoint, and text files or folders of them (one text a
file, or, for .csv, one text a cell). Out: goldens.json in that folder. Then

    DPG_BENCH_CLIP_TOKENIZER=FOLDER cargo test --test suite real_vocabulary -- --ignored --nocapture

holds the Rust tokenizer to it.
"""

import csv
import json
import sys
from pathlib import Path

from transformers import CLIPTokenizer


def texts(path):
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            yield from texts(entry)
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                yield from row
    elif path.suffix == ".txt":
        yield path.read_text(encoding="utf-8")


def main():
    folder, *sources = map(Path, sys.argv[1:])
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    length = tokenizer.model_max_length
    rows = []
    for text in dict.fromkeys(text for source in sources for text in texts(source)):
        whole = tokenizer(text).input_ids
        ids = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
        rows.append({"text": text, "ids": ids, "full_length": len(whole)})
    (folder / "goldens.json").write_text(json.dumps(rows))
    long = sum(row["full_length"] > length for row in rows)
    print(f"{len(rows)} different texts, {long} of more than {length} tokens")


if __name__ == "__main__":
    main()
