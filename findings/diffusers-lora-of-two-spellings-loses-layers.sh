#!/usr/bin/env bash
# diffusers 0.42.1, `load_lora_adapter` (which `load_lora_weights` of all pipelines calls for the UNet or transformer): where one name
# of a file has `lora_A`, all names are taken for PEFT's, and layers that are spelled `to_q.lora.down` are passed over, in silence.
# `convert_state_dict_to_diffusers`, which training scripts call before they save, writes such files by itself as soon as an adapter
# has other layers than attention: it renames those of attention alone.
#
# Expected output: "8 layers in the file, 4 of them loaded", then "as found".
# dpg-bench adds all of them, and warns that diffusers does not (docs/generation.md, Adapters; tests/suite/addon_forms.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 peft==0.21.2
cat >"$work/finding.py" <<'PYTHON'
import peft
from diffusers import UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers


def unet():
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=12,
        attention_head_dim=4, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )


trained = unet()
layers = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
modules = [f"mid_block.attentions.0.{'transformer_blocks.0.' if 'proj_' not in name else ''}"
           f"{'attn1.' if name.startswith('to_') else ''}{name}" for name in layers]
adapted = peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=modules), trained)
state = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(adapted))
state = {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()}
loaded = unet()
loaded.load_lora_adapter(state, prefix=None)
found = [name for name, module in loaded.named_modules() if hasattr(module, "lora_A")]
print(f"{len(state) // 2} layers in the file, {len(found)} of them loaded")
assert (len(state), len(found)) == (16, 4), "this has changed"
assert not any("attn1" in name for name in found)
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" 2>/dev/null
