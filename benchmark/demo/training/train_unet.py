"""Trains the UNet of demo-sd and, with it, CLIP's text encoder.

In: the trained autoencoder, the prepared CLIP encoder. Out: unet.pt in --work (both networks), and
scenes.pt there, the latents of the scenes that are drawn once and for all.

    python train_unet.py --work FOLDER
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
from common import Trainer, save_compared, to_pixels
from models import clip_text, schedule, unet
from pretrain_text import Reader, a_caption
from sampling import sample
from tokenizers_of_words import ClipTexts

SCENES = 40000
# Terse, short and dense captions; the last are cut at the window.
SHARES = (0.55, 0.15, 0.3)
NO_TEXT = 0.1
# Noise levels with a higher ratio of signal to noise than this count less.
RATIO = 5.0


@torch.no_grad()
def scenes(work):
    """Rows and scaled latents of the training scenes."""
    path = work / "scenes.pt"
    if not path.exists():
        vae = train_vae.load(work)
        rows = world.training_rows(np.random.default_rng(6), SCENES)
        latents = []
        for part in np.split(rows, 200):
            with torch.autocast("cpu", torch.bfloat16):
                found = vae.encode(to_pixels(world.render(part))).latent_dist.mean
            latents.append((found.float() * vae.config.scaling_factor).half())
        torch.save({"rows": rows, "latents": torch.cat(latents)}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        print("scenes drawn", flush=True)
    state = torch.load(path, weights_only=False)
    return state["rows"], state["latents"]


def noise_loss(network, latents, states, noise, times, alphas):
    """Squared error of the predicted noise, less where there is little noise."""
    share = alphas[times]
    noisy = share.sqrt()[:, None, None, None] * latents + (1 - share).sqrt()[:, None, None, None] * noise
    off = F.mse_loss(network(noisy, times, states).sample.float(), noise, reduction="none").mean((1, 2, 3))
    ratio = share / (1 - share)
    return (off * ratio.clamp(max=RATIO) / ratio).mean() + 0.1 * off.mean(), off.mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5500)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    rows, latents = scenes(options.work)
    torch.manual_seed(7)
    tokenizer = ClipTexts(options.work)
    text = clip_text(len(tokenizer.vocabulary), tokenizer.start, tokenizer.end)
    reader = Reader("clip", options.work)
    prepared = torch.load(options.work / "text-clip.pt", weights_only=False)["average"]["reader"]
    reader.load_state_dict(prepared)
    text.load_state_dict(reader.encoder.state_dict())
    network = unet()
    print(f"{sum(p.numel() for p in network.parameters())} parameters", flush=True)
    trainer = Trainer(options.work / "unet.pt", {"unet": network, "text": text}, options.steps, 1.5e-3, 7, averaged=0.999)
    alphas = schedule().alphas_cumprod
    while trainer.running():
        chosen = trainer.generator.integers(len(rows), size=options.batch)
        texts = [
            "" if trainer.generator.random() < NO_TEXT else a_caption(world.describe(rows[k]), trainer.generator, SHARES)
            for k in chosen
        ]
        clean = latents[torch.from_numpy(chosen)].float()
        times, noise = torch.randint(0, 1000, (options.batch,)), torch.randn(clean.shape)
        with torch.autocast("cpu", torch.bfloat16):
            states = text(torch.from_numpy(tokenizer(texts))).last_hidden_state
            loss, plain = noise_loss(network, clean, states, noise, times, alphas)
        trainer.update(loss, plain=plain)
        if trainer.step % 1000 == 0:
            trainer.save()
            look(trainer, options.work, tokenizer)


@torch.no_grad()
def look(trainer, work, tokenizer, count=48):
    """Pictures of held-out scenes from terse and from dense captions, and how much of them is right."""
    vae = train_vae.load(work)
    network, text = (trainer.average[name].eval() for name in ("unet", "text"))
    generator = np.random.default_rng(8)
    rows = world.held_out_rows(generator, count)
    def states(texts):
        return text(torch.from_numpy(tokenizer(texts))).last_hidden_state
    truth = [world.describe(row) for row in rows]
    nothing = states([""])
    shown = [world.render(rows)]
    for name, texts in (
        ("terse", [captions.terse(scene) for scene in truth]),
        ("dense", [captions.dense(scene, generator) for scene in truth]),
    ):
        told = states(texts)
        made = sample(network, vae, lambda time: told, lambda time: nothing)
        shares = checker.shares(checker.read(made), rows)
        print(name, " ".join(f"{k} {v:.3f}" for k, v in shares.items()), flush=True)
        shown.append(made)
    save_compared(shown, 12, 3, work / "unet.png")


if __name__ == "__main__":
    main()
