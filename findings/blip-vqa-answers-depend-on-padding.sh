#!/usr/bin/env bash
# transformers 5.24.0, BLIP for visual question answering: what it answers to a question depends on how much padding stands
# behind it, that is on the longest question of its batch, with the attention mask given. `generate` lets the decoder look at
# padded places (its mask for them is all ones), and the decoder drops the mask even where it is handed over: its cross-attention
# takes it under another name than the layer passes. So a judge that asks questions in batches gives other scores than one that
# asks them one by one, and other ones again with other company.
#
# Expected output: "one by one and in a batch: ... apart; the decoder with a mask and without: 0.0 apart", then "as found".
# dpg-bench pads nothing that is seen: its answers are those of questions asked one at a time (docs/judges.md, BLIP-VQA;
# tests/suite/blip_vqa.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 transformers==5.24.0
cat >"$work/finding.py" <<'PYTHON'
import torch
from transformers import BlipConfig, BlipForQuestionAnswering

sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, projection_dim=16)
text = dict(sizes, vocab_size=60, max_position_embeddings=32, bos_token_id=58, sep_token_id=57, pad_token_id=0)
vision = dict(sizes, image_size=32, patch_size=8)
torch.manual_seed(0)
network = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision)).eval()
for parameter in network.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.3)

pixels = torch.randn(1, 3, 32, 32)
short, long = torch.randint(1, 56, (1, 4)), torch.randint(1, 56, (1, 12))
padded = torch.cat([torch.nn.functional.pad(short, (0, 8)), long])
mask = (padded > 0).long()
ask = dict(max_new_tokens=1, output_logits=True, return_dict_in_generate=True)
with torch.no_grad():
    alone = network.generate(input_ids=short, pixel_values=pixels, attention_mask=torch.ones_like(short), **ask).logits[0]
    batch = network.generate(input_ids=padded, pixel_values=pixels.expand(2, -1, -1, -1), attention_mask=mask, **ask).logits[0]
    image = network.vision_model(pixels)[0].expand(2, -1, -1)
    states = network.text_encoder(padded, attention_mask=mask, encoder_hidden_states=image)[0]
    start = torch.full((2, 1), network.decoder_start_token_id)
    plain, masked = (
        network.text_decoder(start, encoder_hidden_states=states, encoder_attention_mask=given).logits
        for given in (None, mask)
    )
apart, by_mask = (alone[0] - batch[0]).abs().max().item(), (plain - masked).abs().max().item()
print(f"one by one and in a batch: {apart:.3f} apart; the decoder with a mask and without: {by_mask} apart")
assert apart > 1e-3 and by_mask == 0.0, "this has changed"
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" 2>/dev/null
