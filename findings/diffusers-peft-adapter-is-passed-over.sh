#!/usr/bin/env bash
# diffusers 0.42.1 with peft 0.21.2: what PEFT's own `save_pretrained` writes (adapter_config.json and
# adapter_model.safetensors) is taken by `load_lora_weights` without an error, and changes nothing. The names begin with
# `base_model.model.`, which the loader knows for none of its networks; it says so in a log line and goes on, and the
# images are those of the bare model. Put on the network by PEFT itself, the same two files change them. So a results
# table may hold the base model under the adapter's name.
#
# Expected output: "through diffusers: 0.0 apart; through PEFT: ... apart", and the last line "as found".
# dpg-bench reads these files as PEFT does (docs/generation.md, Adapters; tests/suite/addon_forms.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 peft==0.21.2 accelerate
cat >"$work/finding.py" <<'PYTHON'
import sys

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import CLIPTextConfig, CLIPTextModel


def network():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))


def pipeline(unet):
    torch.manual_seed(1)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                        num_attention_heads=2, bos_token_id=97, eos_token_id=98))
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=None, unet=unet, safety_checker=None, feature_extractor=None,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), requires_safety_checker=False)


def image(pipe):
    pipe.set_progress_bar_config(disable=True)
    texts = torch.randn(1, 7, 16, generator=torch.manual_seed(2))
    return pipe(prompt_embeds=texts, negative_prompt_embeds=torch.zeros_like(texts), num_inference_steps=2,
                generator=torch.manual_seed(3), output_type="np").images


folder = sys.argv[1]
adapted = get_peft_model(network(), LoraConfig(r=2, lora_alpha=64, init_lora_weights=False,
                                               target_modules=["to_q", "to_v"]))
adapted.save_pretrained(folder)
plain = image(pipeline(network()))
through_peft = image(pipeline(PeftModel.from_pretrained(network(), folder).merge_and_unload()))
pipe = pipeline(network())
pipe.load_lora_weights(folder, weight_name="adapter_model.safetensors")
through_diffusers = image(pipe)
apart = [float(abs(other - plain).max()) for other in (through_diffusers, through_peft)]
print(f"through diffusers: {apart[0]} apart; through PEFT: {apart[1]:.3f} apart")
assert apart[0] == 0.0 and apart[1] > 0.01, "this has changed"
print("as found")
PYTHON
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/finding.py" "$work/adapter"
