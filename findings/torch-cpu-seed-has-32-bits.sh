#!/usr/bin/env bash
# torch 2.15.0 and diffusers 0.42.1, processor only. `torch.Generator("cpu").manual_seed` takes seeds up to 2^64-1,
# and `initial_seed()` gives back what it took, but only the low 32 bits decide: seed 7 and seed 7 + 2^32 draw the same
# numbers. So a pipeline of diffusers makes the same image from both, and a server that puts its noise on the
# processor (ComfyUI does) knows 2^32 images a prompt, whatever it accepts. NumPy's Generator uses all bits, its old
# RandomState refuses what is larger.
# Exit 0: it is still so. Exit 1: it changed. Some 3 minutes, most of them installation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install torch==2.15.0 numpy==2.4.6 diffusers==0.42.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

LOW = 7
HIGH = LOW + (5 << 32)


def latents(seed):
    generator = torch.Generator("cpu").manual_seed(seed)
    assert generator.initial_seed() == seed, "the seed is kept whole"
    return randn_tensor((1, 4, 64, 64), generator=generator)


print("torch", torch.__version__)
same = torch.equal(latents(LOW), latents(HIGH))
other = torch.equal(latents(LOW), latents(LOW + 1))
print(f"latents of seeds {LOW} and {HIGH} are equal: {same}; of {LOW} and {LOW + 1}: {other}")
numpy_same = np.array_equal(np.random.default_rng(LOW).normal(size=9), np.random.default_rng(HIGH).normal(size=9))
print(f"NumPy's Generator gives the same for both: {numpy_same}")
try:
    np.random.RandomState(HIGH)
    refused = False
except ValueError as error:
    refused = True
    print("NumPy's RandomState:", error)
if not (same and not other and not numpy_same and refused):
    raise SystemExit("changed: see above")
print("as found")
PYTHON
