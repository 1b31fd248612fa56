"""Prepares a text encoder on text alone: reads a caption and tells the scene, field by field.

In: --which clip or t5, the vocabularies. Out: text-clip.pt or text-t5.pt in --work. CLIP's goes on to learn
with the UNet; T5's is frozen after this.

    python pretrain_text.py --work FOLDER --which t5
"""

import argparse
from pathlib import Path

import torch
from torch import nn

import captions
import world
from common import Trainer
from models import NounHead, SceneHead, clip_text, t5_text
from tokenizers_of_words import ClipTexts, T5Texts

# Of terse, short and dense captions.
SHARES = {"clip": (0.45, 0.2, 0.35), "t5": (0.1, 0.1, 0.8)}


def a_caption(scene, generator, shares):
    """A terse, short or dense caption, by those shares."""
    chance = generator.random()
    if chance < shares[0]:
        return captions.terse(scene)
    if chance < shares[0] + shares[1]:
        return captions.short(scene, generator)
    return captions.dense(scene, generator)


class Reader(nn.Module):
    def __init__(self, which, work):
        super().__init__()
        self.which = which
        self.tokenizer = ClipTexts(work) if which == "clip" else T5Texts(work)
        if which == "clip":
            self.encoder = clip_text(len(self.tokenizer.vocabulary), self.tokenizer.start, self.tokenizer.end)
        else:
            self.encoder = t5_text(self.tokenizer.pieces.vocab_size())
            self.nouns = NounHead()
            self.shapes = torch.full((self.tokenizer.pieces.vocab_size(),), -1)
            for number, (shape, plural) in enumerate(world.PLURALS.items()):
                for noun in (shape, plural):
                    self.shapes[self.tokenizer.pieces.piece_to_id("\u2581" + noun)] = number
        self.head = SceneHead()

    def loss(self, texts, rows):
        ids = torch.from_numpy(self.tokenizer(texts))
        if self.which == "clip":
            return self.head.loss(self.encoder(ids).last_hidden_state, rows)
        ids = ids[:, : int((ids > 0).sum(1).max())]
        there = ids > 0
        states = self.encoder(ids, attention_mask=there.long()).last_hidden_state
        loss, right = self.head.loss(states, rows, ~there)
        # A short caption, of one sentence, does not say everything.
        whole = torch.tensor([text.count(".") != 1 for text in texts])
        return loss + self.nouns(states, torch.where(whole[:, None], self.shapes[ids], -1), rows), right


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--which", choices=["clip", "t5"], required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.manual_seed(5)
    reader = Reader(options.which, options.work)
    print(f"{sum(p.numel() for p in reader.encoder.parameters())} parameters in the encoder", flush=True)
    steps = options.steps or {"clip": 3000, "t5": 6000}[options.which]
    trainer = Trainer(options.work / f"text-{options.which}.pt", {"reader": reader}, steps, 1.5e-3, 5, averaged=0.998)
    while trainer.running():
        rows = world.training_rows(trainer.generator, options.batch)
        texts = [a_caption(world.describe(row), trainer.generator, SHARES[options.which]) for row in rows]
        # Dense captions are long; bf16 halves the time. CLIP's text encoder was prepared in f32.
        with torch.autocast("cpu", torch.bfloat16, enabled=options.which == "t5"):
            loss, right = reader.loss(texts, torch.from_numpy(rows))
        trainer.update(loss, right=right)
    measure(trainer, options.which)


@torch.no_grad()
def measure(trainer, which):
    """Shares of quadrants told entirely right from held-out scenes' captions."""
    reader = trainer.average["reader"].eval()
    for name, shares in (("terse", (1, 0, 0)), ("dense", (0, 0, 1))):
        rows = world.held_out_rows(trainer.generator, 500)
        texts = [a_caption(world.describe(row), trainer.generator, shares) for row in rows]
        print("held out", which, name, float(reader.loss(texts, torch.from_numpy(rows))[1]), flush=True)


if __name__ == "__main__":
    main()
