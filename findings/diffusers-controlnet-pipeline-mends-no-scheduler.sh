#!/usr/bin/env bash
# diffusers 0.42.1: `StableDiffusionPipeline` sets `steps_offset` to 1 and `clip_sample` to false where a checkpoint's scheduler file
# has them otherwise. `StableDiffusionControlNetPipeline` over the same files does not. So a ControlNet at scale 0, or outside of its
# share of the steps, does not give the picture without a ControlNet: over such a folder all timesteps are one lower.
#
# Expected output: "without a ControlNet 1, timesteps 901 ... 1", "with one 0, timesteps 900 ... 0", and the last line "as found".
# dpg-bench follows both (docs/controlnet.md; tests/suite/controlnet.rs, the case `outdated`).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0
cat >"$work/finding.py" <<'PYTHON'
import sys

from diffusers import (
    AutoencoderKL, ControlNetModel, PNDMScheduler, StableDiffusionControlNetPipeline, StableDiffusionPipeline,
    UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModel

unet = UNet2DConditionModel(
    sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, cross_attention_dim=16,
    attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
parts = dict(
    vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4), unet=unet, tokenizer=None,
    text_encoder=CLIPTextModel(CLIPTextConfig(
        vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, bos_token_id=97,
        eos_token_id=98)),
    safety_checker=None, feature_extractor=None, requires_safety_checker=False)
control = {"controlnet": ControlNetModel.from_unet(unet)}
found = []
for name, kind, more in (("without a ControlNet", StableDiffusionPipeline, {}),
                         ("with one", StableDiffusionControlNetPipeline, control)):
    scheduler = kind(scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=0), **parts, **more).scheduler
    scheduler.set_timesteps(10)
    timesteps = scheduler.timesteps.tolist()
    print(f"{name} {scheduler.config.steps_offset}, timesteps {timesteps[0]} ... {timesteps[-1]}")
    found.append((scheduler.config.steps_offset, timesteps[0], timesteps[-1]))
if found != [(1, 901, 1), (0, 900, 0)]:
    sys.exit(f"changed: {found}")
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" 2>/dev/null
