"""Trains demo-ella's connector (TSC); UNet, autoencoder and both text encoders stay as they are.

In: all other networks, trained. Out: tsc.pt in --work. Two parts, one after the other:

1. the connector's 24 tokens for a dense caption are drawn near the hidden states that CLIP's encoder makes of the
   terse caption of the same scene (which fits its window), put in an order that is the same for every scene: to
   the UNet's attention their order is nothing. Beside it the first block is told where to look: those tokens
   that stand for a quarter, at the nouns of what is there;
2. the noise loss of the paper on dense captions, and beside it the squared difference from what the
   frozen UNet predicts when CLIP reads the terse caption.

    python train_tsc.py --work FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import captions
import checker
import train_vae
import world
from common import Trainer, save_compared, trained
from models import TSC_TOKENS, Connector, clip_text, schedule, unet
from pretrain_text import Reader, a_caption
from sampling import sample
from tokenizers_of_words import ClipTexts, T5Texts
from train_unet import NO_TEXT, noise_loss, scenes

ALIGNING = 0.55
LOOKING_WEIGHT = 0.05
# Terse, short and dense captions.
SHARES = (0.05, 0.05, 0.9)
TEACHER_WEIGHT = 1.0


class Frozen:
    """The networks that do not learn, and what they make of texts."""

    def __init__(self, work):
        self.clip_ids, self.t5_ids = ClipTexts(work), T5Texts(work)
        clip = clip_text(len(self.clip_ids.vocabulary), self.clip_ids.start, self.clip_ids.end)
        self.clip = trained(work / "unet.pt", "text", clip)
        self.unet = trained(work / "unet.pt", "unet", unet())
        reader = trained(work / "text-t5.pt", "reader", Reader("t5", work))
        self.t5, self.shapes = reader.encoder, reader.shapes
        self.vae = train_vae.load(work)

    @torch.no_grad()
    def told_clip(self, texts):
        return self.clip(torch.from_numpy(self.clip_ids(texts))).last_hidden_state

    def aims(self, states, scenes, silent):
        """What the connector's tokens are drawn near: `states` in the order of `captions.terse_slots`."""
        last = states.shape[1] - 1
        places = [
            range(TSC_TOKENS) if quiet else [0, *(1 + place for place in captions.terse_slots(scene)), last]
            for quiet, scene in zip(silent, scenes)
        ]
        places = torch.tensor([list(row) for row in places])
        return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))

    @torch.no_grad()
    def told_t5(self, texts):
        ids = torch.from_numpy(self.t5_ids(texts))
        return self.t5(ids, attention_mask=(ids > 0).long()).last_hidden_state

    def looking_loss(self, weights, texts, rows, same):
        """How little of the attention of the tokens for an occupied quarter goes to that thing's nouns."""
        shapes = self.shapes[torch.from_numpy(self.t5_ids(texts))]
        there = torch.from_numpy(rows[:, 2::4].astype(np.int64))
        nouns = (shapes[:, None, :] == there[:, :, None]) & (there >= 0)[:, :, None] & same[:, None, None]
        # The first three tokens are for the start, the background and the frame, the last for the end.
        seen = weights[:, 3:-1, TSC_TOKENS:].float().unflatten(1, (4, 5))
        share = (seen * nouns[:, :, None]).sum(-1)[nouns.any(-1)]
        return -share.clamp(min=1e-4).log().mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=48)
    options = parser.parse_args()
    rows, latents = scenes(options.work)
    frozen = Frozen(options.work)
    torch.manual_seed(9)
    connector = Connector()
    print(f"{sum(p.numel() for p in connector.parameters())} parameters", flush=True)
    trainer = Trainer(options.work / "tsc.pt", {"tsc": connector}, options.steps, 1e-3, 9, averaged=0.998)
    alphas = schedule().alphas_cumprod
    first = connector.connector.perceiver_blocks[0]
    while trainer.running():
        aligning = trainer.step < ALIGNING * options.steps
        first.watched = aligning
        chosen = trainer.generator.integers(len(rows), size=options.batch)
        truth = [world.describe(rows[k]) for k in chosen]
        silent = trainer.generator.random(options.batch) < NO_TEXT
        dense = ["" if s else a_caption(scene, trainer.generator, SHARES) for s, scene in zip(silent, truth)]
        terse = ["" if s else captions.terse(scene) for s, scene in zip(silent, truth)]
        clean = latents[torch.from_numpy(chosen)].float()
        times, noise = torch.randint(0, 1000, (options.batch,)), torch.randn(clean.shape)
        # A short caption does not say what the terse one says.
        same = torch.tensor([s or len(text.split()) > 22 or "." not in text for s, text in zip(silent, dense)])
        with torch.autocast("cpu", torch.bfloat16):
            wanted = frozen.told_clip(terse)
            states = connector(frozen.told_t5(dense), times)
            aims = frozen.aims(wanted, truth, silent)
            off = F.mse_loss(states.float(), aims.float(), reduction="none").mean((1, 2))
            aligned = (off * same).sum() / same.sum()
            if aligning:
                plain, looking = torch.zeros(()), frozen.looking_loss(first.weights, dense, rows[chosen], same)
                loss = aligned + LOOKING_WEIGHT * looking
            else:
                share = alphas[times]
                noisy = share.sqrt()[:, None, None, None] * clean + (1 - share).sqrt()[:, None, None, None] * noise
                with torch.no_grad():
                    taught = frozen.unet(noisy, times, wanted).sample.float()
                made = frozen.unet(noisy, times, states).sample.float()
                loss, plain = noise_loss(lambda *_: Made(made), clean, states, noise, times, alphas)
                apart = F.mse_loss(made, taught, reduction="none").mean((1, 2, 3))
                loss = loss + TEACHER_WEIGHT * (apart * same).sum() / same.sum()
        trainer.update(loss, plain=plain, aligned=aligned, looking=looking if aligning else torch.zeros(()))
        if trainer.step % 1000 == 0:
            trainer.save()
            look(trainer.average["tsc"].eval(), frozen, options.work)


class Made:
    """A prediction that is there already, in the form in which a UNet returns one."""

    def __init__(self, sample):
        self.sample = sample


@torch.no_grad()
def look(connector, frozen, work, count=48):
    """Held-out scenes, pictures by CLIP and by the connector from dense captions, and how much is right."""
    generator = np.random.default_rng(10)
    rows = world.held_out_rows(generator, count)
    texts = [captions.dense(world.describe(row), generator) for row in rows]
    told, nothing = frozen.told_clip(texts), frozen.told_clip([""])
    read, silence = frozen.told_t5(texts), frozen.told_t5([""])
    shown = [world.render(rows)]
    for name, conditional, unconditional in (
        ("clip", lambda time: told, lambda time: nothing),
        ("ella", lambda time: connector(read, time), lambda time: connector(silence, time)),
    ):
        made = sample(frozen.unet, frozen.vae, conditional, unconditional)
        shares = checker.shares(checker.read(made), rows)
        print(name, " ".join(f"{k} {v:.3f}" for k, v in shares.items()), flush=True)
        shown.append(made)
    save_compared(shown, 12, 3, work / "tsc.png")


if __name__ == "__main__":
    main()
