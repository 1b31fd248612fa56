"""Trains the autoencoder of demo-sd: pictures 64 x 64 to latents 8 x 8 x 8 and back.

In: the world. Out: autoencoder.pt in --work, and autoencoder.json there with the standard deviation of
the latents, whose inverse is the scaling factor.

    python train_vae.py --work FOLDER
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

import world
from common import Trainer, save_compared, to_pictures, to_pixels, trained, write_json

CHANNELS = 8
# The weight of the pull to the normal distribution, beside a reconstruction loss of 0.01 to 0.1.
KL_WEIGHT = 1e-5


def network():
    widths = (8, 16, 48, 64)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=world.SIZE,
        force_upcast=False,
    )


def load(work):
    """The trained autoencoder, with its scaling factor."""
    vae = trained(Path(work) / "autoencoder.pt", "vae", network())
    vae.register_to_config(scaling_factor=json.loads((Path(work) / "autoencoder.json").read_text())["scaling_factor"])
    return vae


def loss_of(vae, pixels):
    """Absolute and squared differences of pixels and of neighbours' differences; the KL; the squares alone.

    Most of a picture is background; what differs from its commonest colour counts five times as much.
    """
    posterior = vae.encode(pixels).latent_dist
    off = vae.decode(posterior.sample()).sample.float() - pixels
    ground = pixels.flatten(2).median(-1).values[:, :, None, None]
    weight = 1 + 4 * ((pixels - ground).abs().amax(1, keepdim=True) > 0.05)
    edges = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    rebuilt = (weight * (off.abs() + off.square())).mean() + edges
    return rebuilt, posterior.kl().float().mean(), off.square().mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.manual_seed(1)
    vae = network()
    print(f"{sum(p.numel() for p in vae.parameters())} parameters", flush=True)
    trainer = Trainer(options.work / "autoencoder.pt", {"vae": vae}, options.steps, 2e-3, 1, averaged=0.995)
    while trainer.running():
        pixels = to_pixels(world.render(world.training_rows(trainer.generator, options.batch)))
        with torch.autocast("cpu", torch.bfloat16):
            rebuilt, kl, square = loss_of(vae, pixels)
        trainer.update(rebuilt + KL_WEIGHT * kl, square=square, kl=kl)
        if trainer.step % 1000 == 0:
            look(trainer.average["vae"], options.work / "autoencoder.png")
    vae = trained(options.work / "autoencoder.pt", "vae", network())
    rows = world.training_rows(np.random.default_rng(2), 512)
    with torch.no_grad():
        latents = vae.encode(to_pixels(world.render(rows))).latent_dist.sample()
    spread = float(latents.std())
    error = look(vae, options.work / "autoencoder.png")
    write_json(
        options.work / "autoencoder.json",
        {"scaling_factor": round(1 / spread, 5), "channels": latents.std((0, 2, 3)).tolist(), "squared_error": error},
    )
    print((options.work / "autoencoder.json").read_text())


@torch.no_grad()
def look(vae, path):
    """Held-out pictures above what becomes of them; returns the mean squared error in levels."""
    pictures = world.render(world.held_out_rows(np.random.default_rng(3), 20))
    vae.eval()
    made = to_pictures(vae.decode(vae.encode(to_pixels(pictures)).latent_dist.mode()).sample)
    save_compared([pictures, made], 10, 2, path)
    error = float(np.square(made.astype(float) - pictures).mean())
    print("held-out mean squared error in levels:", error, flush=True)
    return error


if __name__ == "__main__":
    main()
