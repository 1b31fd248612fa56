"""Makes pictures during training, as the pipelines do: DDIM with guidance.

In: networks and hidden states of texts. Out: pictures, uint8 [n, 64, 64, 3].
"""

import torch

from common import to_pictures
from models import LATENT_SIZE, schedule
from train_vae import CHANNELS


@torch.no_grad()
def sample(unet, vae, conditional, unconditional, steps=20, guidance=3.0, seed=0):
    """`conditional` and `unconditional` are functions of a timestep that give hidden states [n, tokens, width]."""
    scheduler = schedule()
    scheduler.set_timesteps(steps)
    count = len(conditional(torch.tensor([0])))
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, CHANNELS, LATENT_SIZE, LATENT_SIZE, generator=generator)
    for step in scheduler.timesteps:
        time = step.expand(2 * count)
        states = torch.cat([unconditional(step[None]).expand(count, -1, -1), conditional(step[None])])
        blank, told = unet(torch.cat([latents, latents]), time, states).sample.chunk(2)
        latents = scheduler.step(blank + guidance * (told - blank), step, latents).prev_sample
    return to_pictures(vae.decode(latents / vae.config.scaling_factor).sample)
