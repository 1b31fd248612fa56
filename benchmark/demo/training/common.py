"""What the training scripts share: checkpoints that survive an interruption, pictures as tensors, and sheets of
pictures to look at.

In: a --work folder. Out: there, one .pt file for each network, written whole or not at all, with
weights, averaged weights, optimizer, step and random state; running a script again goes on from it.
"""

import copy
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import world


class Trainer:
    """Adam with warm-up and cosine decay, averaged weights and checkpoints.

    `networks` maps names to modules; `seed` begins the random numbers. `generator` (numpy) and
    torch's own generator are part of the checkpoint.
    """

    def __init__(self, path, networks, steps, rate, seed, averaged=0.999, warm_up=200, decay=0.0, clip=1.0):
        self.path, self.networks, self.steps, self.rate = Path(path), networks, steps, rate
        self.averaged, self.warm_up, self.clip = averaged, warm_up, clip
        self.parameters = [p for n in networks.values() for p in n.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, betas=(0.9, 0.99), weight_decay=decay)
        self.generator = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.average = {name: copy.deepcopy(n).requires_grad_(False) for name, n in networks.items()}
        self.step, self.saved, self.seconds, self.history = 0, time.time(), 0.0, []
        if self.path.exists():
            state = torch.load(self.path, weights_only=False)
            for name, network in networks.items():
                network.load_state_dict(state["networks"][name])
                self.average[name].load_state_dict(state["average"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.bit_generator.state = state["generator"]
            torch.set_rng_state(state["torch"])
            self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.began = time.time() - self.seconds

    def running(self):
        return self.step < self.steps

    def update(self, loss, **notes):
        """One step down `loss`; prints and saves now and then."""
        progress = self.step / self.steps
        rate = self.rate * min(1, (self.step + 1) / self.warm_up) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.step += 1
        share = min(self.averaged, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, network in self.networks.items():
                for old, new in zip(self.average[name].parameters(), network.parameters()):
                    old.lerp_(new, 1 - share)
        self.history.append([self.step, float(loss.detach())] + [float(torch.as_tensor(v).detach()) for v in notes.values()])
        if self.step % 100 == 0:
            recent = np.mean([h[1:] for h in self.history[-100:]], 0)
            words = " ".join(f"{k} {v:.4f}" for k, v in zip(["loss", *notes], recent))
            print(f"{time.strftime('%H:%M:%S')} step {self.step} {words} seconds {time.time() - self.began:.0f}", flush=True)
        if time.time() - self.saved > 120 or self.step == self.steps:
            self.save()

    def save(self):
        self.history = self.history[-100:] if len(self.history) > 100 else self.history
        state = {
            "networks": {name: n.state_dict() for name, n in self.networks.items()},
            "average": {name: n.state_dict() for name, n in self.average.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.bit_generator.state,
            "torch": torch.get_rng_state(),
            "step": self.step,
            "seconds": time.time() - self.began,
            "history": self.history,
        }
        torch.save(state, self.path.with_suffix(".new"))
        os.replace(self.path.with_suffix(".new"), self.path)
        self.saved = time.time()


def trained(path, name, network):
    """Puts the averaged weights of `name` in the checkpoint `path` into `network`, frozen."""
    state = torch.load(path, weights_only=False)
    network.load_state_dict(state["average"][name])
    return network.eval().requires_grad_(False)


def write_json(path, value):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, indent=2) + "\n")


def save_compared(kinds, columns, lines, path):
    """Writes a sheet of pictures uint8 [n, 64, 64, 3] of several kinds, each line of a kind under that of the kind before.

    Of each kind as many are shown as fit into so many columns and lines.
    """
    side = kinds[0].shape[1:]
    both = np.stack([part[: columns * lines].reshape(lines, columns, *side) for part in kinds], 1)
    Image.fromarray(world.sheet(both.reshape(-1, *side), columns)).save(path)


def to_pixels(pictures):
    """uint8 [n, 64, 64, 3] to f32 [n, 3, 64, 64] in -1..=1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def to_pictures(pixels):
    """f32 [n, 3, 64, 64] in -1..=1 to uint8 [n, 64, 64, 3]."""
    return pixels.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
