#!/usr/bin/env bash
# diffusers 0.42.1 with transformers 5.24.0: `from_single_file` of Stable Diffusion 3 or FLUX.1 leaves T5 as for training, while the
# CLIP encoders and the transformer are for use. T5's dropout (0.1 in the published configuration) is then at work in every call: the
# same prompt twice gives other hidden states, and a seed no longer decides a picture. `from_pretrained` of the same weights, or
# `pipeline.text_encoder_3.eval()`, gives the states of the folder. Nothing is printed about it.
# Besides, a file that has T5's table under one of its two names alone (`shared.weight`) leaves the other without numbers.
#
# Expected output: which parts are in training, how far two calls are apart before and after `eval()`, and the last line "as found".
# dpg-bench reads such files (docs/models.md, "FLUX.1 and Stable Diffusion 3"); tests/suite/transformer_files.rs holds its pictures to
# those of diffusers after `eval()`.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0 safetensors==0.8.0
cat >"$work/finding.py" <<'PYTHON'
import sys
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import create_diffusers_t5_model_from_checkpoint
from transformers import T5Config, T5EncoderModel

folder = Path(sys.argv[1]) / "text_encoder_3"
torch.manual_seed(0)
# The published encoder in small: T5 v1.1, dropout_rate 0.1 as there.
shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4, "vocab_size": 200}
T5EncoderModel(T5Config(**shape, feed_forward_proj="gated-gelu", dropout_rate=0.1)).save_pretrained(folder)
kept = T5EncoderModel.from_pretrained(folder)
start = "text_encoders.t5xxl.transformer."
weights = {start + name: tensor.clone() for name, tensor in kept.state_dict().items()}
make = lambda held: create_diffusers_t5_model_from_checkpoint(
    T5EncoderModel, held, subfolder="text_encoder_3", config=str(folder.parent), local_files_only=True
)
ids = torch.tensor([[5, 17, 120, 44, 1]])
with torch.no_grad():
    due = kept(ids).last_hidden_state
    read = make(dict(weights))
    print("in training: from_pretrained", kept.training, "from_single_file", read.training)
    assert (kept.training, read.training) == (False, True), "this has changed"
    twice = [read(ids).last_hidden_state for _ in range(2)]
    apart = ((twice[0] - twice[1]).norm() / due.norm()).item()
    print(f"two calls with one prompt are apart by {apart:.2f} of their size")
    after = (read.eval()(ids).last_hidden_state - due).abs().max().item()
    print("after eval() the largest difference from the folder's:", after)
    del weights[start + "encoder.embed_tokens.weight"]
    one_name = make(dict(weights))
    devices = {name: tensor.device.type for name, tensor in one_name.state_dict().items() if tensor.device.type != "cpu"}
    print("under one name alone:", devices)
assert apart > 0.05 and after == 0.0, "this has changed"
assert devices == {"encoder.embed_tokens.weight": "meta"}, "this has changed"
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work"
echo "as found"
