"""The pictures that demo-judge learns from: true renderings, worn ones, and pictures of nothing.

In: scenes and a generator. Out: uint8 [n, 64, 64, 3], and which of them show nothing. A drawing model draws smears, noise and bent shapes; whoever judges its pictures must
have seen such, with the same answers.
"""

import numpy as np
import torch
import torch.nn.functional as F

import world

SHARES = {"worn": 0.65, "nothing": 0.05}


def pictures(generator, rows):
    """Pictures of `rows`, some worn; of some, a picture of nothing instead: (uint8 [n, 64, 64, 3], bool [n])."""
    drawn = torch.from_numpy(world.render(rows)).permute(0, 3, 1, 2).float()
    worn = torch.from_numpy(generator.random(len(rows)) < SHARES["worn"])
    if worn.any():
        drawn[worn] = wear(generator, drawn[worn])
    nothing = generator.random(len(rows)) < SHARES["nothing"]
    for at in np.flatnonzero(nothing):
        drawn[at] = picture_of_nothing(generator, drawn)
    return drawn.round().clamp(0, 255).byte().permute(0, 2, 3, 1), torch.from_numpy(nothing)


def wear(generator, x):
    """Each picture of `x` [n, 3, 64, 64], 0..=255, worn in some of these ways."""
    n = len(x)

    def chosen(share):
        return torch.from_numpy(generator.random(n) < share)[:, None, None, None]

    def drawn(low, high, *shape):
        return torch.from_numpy(generator.uniform(low, high, (n, *shape)).astype(np.float32))

    # Bent a little: a smooth field of displacements of about a pixel.
    field = F.interpolate(drawn(-1, 1, 2, 6, 6), (64, 64), mode="bicubic", align_corners=True)
    axis = (torch.arange(64) + 0.5) / 32 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[None]
    bent = grid + drawn(0, 1.4, 1, 1, 1) / 32 * field.permute(0, 2, 3, 1)
    x = torch.where(chosen(0.35), F.grid_sample(x, bent, padding_mode="border", align_corners=False), x)
    # Blurred, by a Gaussian of its own for each picture.
    sigma = drawn(0.3, 1.1)
    taps = torch.exp(-((torch.arange(-3, 4)[None] / sigma[:, None]) ** 2) / 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(x.reshape(1, -1, 64, 64), (3, 3, 3, 3), mode="replicate")
    flat = F.conv2d(flat, taps[:, None, None, :], groups=3 * n)
    flat = F.conv2d(flat, taps[:, None, :, None], groups=3 * n)
    x = torch.where(chosen(0.35), flat.reshape(x.shape), x)
    # Other colours, blotches, noise.
    x = torch.where(chosen(0.35), x * drawn(0.9, 1.08, 3, 1, 1) + drawn(-10, 10, 3, 1, 1), x)
    blotches = F.interpolate(drawn(-1, 1, 3, 8, 8), (64, 64), mode="bilinear")
    x = torch.where(chosen(0.3), x + drawn(4, 28, 1, 1, 1) * blotches, x)
    noise = torch.from_numpy(generator.standard_normal(x.shape, np.float32))
    x = torch.where(chosen(0.35), x + drawn(1, 16, 1, 1, 1) * noise, x)
    return x.clamp(0, 255)


def picture_of_nothing(generator, others):
    """One colour, noise, a smooth field, or others' pictures run into each other, [3, 64, 64]."""
    kind = generator.integers(5)
    if kind <= 1:
        known = np.array(list(world.BACKGROUNDS.values()) + list(world.COLOURS.values()), np.float32)
        colour = known[generator.integers(len(known))] if kind == 0 else generator.uniform(0, 255, 3)
        picture = np.broadcast_to(np.asarray(colour, np.float32)[:, None, None], (3, 64, 64))
        return torch.from_numpy(picture + generator.normal(0, generator.uniform(0, 6), (3, 64, 64)).astype(np.float32))
    if kind == 2:
        noise = generator.normal(generator.uniform(60, 200), generator.uniform(15, 90), (3, 64, 64))
        return torch.from_numpy(noise.astype(np.float32))
    if kind == 3:
        side = int(generator.integers(2, 7))
        coarse = torch.from_numpy(generator.uniform(0, 255, (1, 3, side, side)).astype(np.float32))
        return F.interpolate(coarse, (64, 64), mode="bilinear", align_corners=True)[0]
    mixed = others[generator.integers(len(others), size=6)].mean(0, keepdim=True)
    small = F.interpolate(mixed, (8, 8), mode="area")
    return F.interpolate(small, (64, 64), mode="bicubic", align_corners=False)[0]
