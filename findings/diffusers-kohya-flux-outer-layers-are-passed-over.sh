#!/usr/bin/env bash
# diffusers 0.42.1, `FluxPipeline.load_lora_weights` of a file of kohya's sd-scripts or ComfyUI: layers outside the blocks
# (img_in, txt_in, time_in, vector_in, guidance_in, final_layer) are converted, but to names without `transformer.` in front, which
# the loader then passes over. No warning names them as long as the file has layers of blocks too: the picture is that of the rest.
# So is the alpha of kohya's factors behind diffusers' own names (`transformer.....lora_down.weight`).
#
# Expected output: the layers that are loaded and the three that are lost, "alpha 8 of rank 2 counts 1.0 times", then "as found".
# dpg-bench adds all of them, and warns that diffusers does not (docs/generation.md, Adapters of FLUX.1;
# tests/suite/addons_flux_names.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 peft==0.21.2
cat >"$work/finding.py" <<'PYTHON'
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin


def transformer():
    return FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=12, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(2, 4, 6),
    )


def adapted(tensors):
    """The transformer's modules that got factors, as the pipeline loads them."""
    network = transformer()
    state, alphas, metadata = FluxPipeline.lora_state_dict(tensors, return_alphas=True, return_lora_metadata=True)
    FluxLoraLoaderMixin.load_lora_into_transformer(state, alphas, network, adapter_name="one", metadata=metadata)
    return {name: module for name, module in network.named_modules() if hasattr(module, "lora_A")}


def factors(name, rows, columns):
    return {f"{name}.lora_down.weight": torch.ones(2, columns), f"{name}.lora_up.weight": torch.ones(rows, 2)}


kohya = factors("lora_unet_double_blocks_0_img_attn_proj", 24, 24) | factors("lora_unet_img_in", 24, 16)
kohya |= factors("lora_unet_txt_in", 24, 32) | factors("lora_unet_final_layer_adaLN_modulation_1", 48, 24)
found = list(adapted(kohya))
lost = {"x_embedder", "context_embedder", "norm_out.linear"} - set(found)
print("loaded:", *found, "lost:", *sorted(lost))

layer = "transformer_blocks.0.attn.to_k"
own = factors(f"transformer.{layer}", 24, 24) | {f"transformer.{layer}.alpha": torch.tensor(8.0)}
scale = adapted(own)[layer].scaling["one"]
print(f"alpha 8 of rank 2 counts {scale} times")
assert found == ["transformer_blocks.0.attn.to_out.0"] and len(lost) == 3 and scale == 1.0, "this has changed"
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" 2>/dev/null
