#!/usr/bin/env bash
# diffusers 0.42.1: a Stable Diffusion pipeline sets `steps_offset` to 1 when its scheduler was made without one, and
# `pipe.scheduler.config.steps_offset` then says 1. But the key stays in the configuration's list `_use_default_values`, so the
# documented way to change schedulers, `Other.from_config(pipe.scheduler.config)`, drops the 1 and takes the class's default 0.
# With the key given as 0, which the pipeline mends as well, the other scheduler gets 1. So two folders that differ in nothing but
# whether the file spells out the default sample at different timesteps once the scheduler is changed.
#
# Expected output: "absent: the pipeline has 1, the other scheduler 0, timesteps 900 ... 0", "given as 0: ... 1, timesteps 901 ... 1",
# and the last line "as found".
# dpg-bench follows both (docs/generation.md, the table of what pipelines mend; tests/suite/loading.rs, offset_absent_swap_euler and
# offset_0_euler).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0
cat >"$work/finding.py" <<'PYTHON'
import sys

from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel


def swapped(**given):
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                        num_attention_heads=2, bos_token_id=97, eos_token_id=98))
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=None, unet=unet, safety_checker=None, feature_extractor=None,
        scheduler=PNDMScheduler(skip_prk_steps=True, **given), requires_safety_checker=False)
    other = DDIMScheduler.from_config(pipe.scheduler.config)
    other.set_timesteps(10)
    return pipe.scheduler.config.steps_offset, other.config.steps_offset, other.timesteps.tolist()


found = []
for name, given in (("absent", {}), ("given as 0", {"steps_offset": 0})):
    pipeline, other, timesteps = swapped(**given)
    print(f"{name}: the pipeline has {pipeline}, the other scheduler {other}, timesteps {timesteps[0]} ... {timesteps[-1]}")
    found.append((pipeline, other, timesteps[0], timesteps[-1]))
if found != [(1, 0, 900, 0), (1, 1, 901, 1)]:
    sys.exit(f"changed: {found}")
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" 2>/dev/null
