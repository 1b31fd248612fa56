"""The two vocabularies: CLIP's byte pairs and T5's SentencePiece pieces, learned from captions.

In: the world's captions. Out: in --work, tokenizer/ (vocab.json, merges.txt and two small files, as CLIP's
tokenizer is published) and spiece.model.

    python tokenizers_of_words.py --work FOLDER
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import sentencepiece
from transformers import CLIPTokenizer

import captions
import world
from common import write_json

WINDOW = 24
T5_LENGTH = 128


def byte_alphabet():
    """The printable stand-in for each byte, in the order of CLIP's vocabulary."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + index) for index in range(len(moved))]


def learn_merges(words):
    """Byte-pair merges, most frequent first, until every word is one piece."""
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges = []
    while any(len(parts) > 1 for parts in pieces.values()):
        pairs = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, parts in pieces.items():
            joined, index = [], 0
            while index < len(parts):
                width = 2 if tuple(parts[index : index + 2]) == best else 1
                joined.append("".join(parts[index : index + width]))
                index += width
            pieces[word] = joined
    return merges


def make_clip(folder, texts):
    words = Counter(word for text in texts for word in re.findall(r"[a-z]+|[^\sa-z]+", text.lower()))
    merges = learn_merges(words)
    alphabet = byte_alphabet()
    entries = alphabet + [letter + "</w>" for letter in alphabet]
    for left, right in merges:
        if left + right not in entries:
            entries.append(left + right)
    start, end = "<|startoftext|>", "<|endoftext|>"
    entries += [start, end]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({entry: k for k, entry in enumerate(entries)}) + "\n")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    write_json(folder / "special_tokens_map.json", names)
    write_json(
        folder / "tokenizer_config.json",
        {**names, "do_lower_case": True, "errors": "replace", "model_max_length": WINDOW, "tokenizer_class": "CLIPTokenizer"},
    )


def make_t5(path, texts):
    # Captions alone make pieces of their commonest phrases and split the rarer words; so each word counts the same.
    words = sorted({word for text in texts for word in re.findall(r"[A-Za-z]+|[^\sA-Za-z]+", text)})
    texts = words * 300 + texts[:300]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(path.with_suffix("")),
        model_type="unigram",
        vocab_size=320,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
        required_chars="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-",
    )
    path.with_suffix(".vocab").unlink()
    path.with_suffix(".model").rename(path)


class ClipTexts:
    """Texts to CLIP's ids [n, 24]; every word is one id, so a table of words does it quickly."""

    def __init__(self, work):
        folder = Path(work) / "tokenizer"
        self.vocabulary = json.loads((folder / "vocab.json").read_text())
        self.start, self.end = self.vocabulary["<|startoftext|>"], self.vocabulary["<|endoftext|>"]

    def __call__(self, texts):
        ids = np.full((len(texts), WINDOW), self.end, np.int64)
        ids[:, 0] = self.start
        for row, text in zip(ids, texts):
            words = re.findall(r"[a-z]+|[^\sa-z]+", text.lower())[: WINDOW - 2]
            row[1 : 1 + len(words)] = [self.vocabulary[word + "</w>"] for word in words]
        return ids


class T5Texts:
    """Texts to T5's ids [n, 128], padded with 0, the end token included."""

    def __init__(self, work):
        self.pieces = sentencepiece.SentencePieceProcessor(str(Path(work) / "spiece.model"))

    def __call__(self, texts, length=T5_LENGTH):
        ids = np.zeros((len(texts), length), np.int64)
        for row, found in zip(ids, self.pieces.encode(list(texts))):
            found = found[: length - 1] + [1]
            row[: len(found)] = found
        return ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    generator = np.random.default_rng(4)
    texts = []
    for row in world.training_rows(generator, 6000):
        scene = world.describe(row)
        texts += [captions.dense(scene, generator), captions.short(scene, generator), captions.terse(scene)]
    make_clip(options.work / "tokenizer", texts)
    make_t5(options.work / "spiece.model", texts)
    quick, real = ClipTexts(options.work), CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    for text in texts[:300] + [""]:
        wanted = real(text, padding="max_length", truncation=True, max_length=WINDOW).input_ids
        assert quick([text])[0].tolist() == wanted, (text, quick([text])[0].tolist(), wanted)
    pieces = T5Texts(options.work)
    lengths = [int((pieces([text], 400)[0] > 0).sum()) for text in texts[0::3]]
    print(f"CLIP {len(quick.vocabulary)} ids; T5 {pieces.pieces.vocab_size()} pieces, dense captions", np.percentile(lengths, [0, 10, 50, 90, 100]))


if __name__ == "__main__":
    main()
