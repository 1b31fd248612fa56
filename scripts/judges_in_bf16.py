"""How far PyTorch in bf16 is from PyTorch in f32, for the three judges' tiny checkpoints in tests/fixtures.

In: the checkpoints, and what the networks gave in f32 (mplug-golden, blip-vqa-golden, qwen3-vl-golden). Out: for each judge the
largest relative error (root mean square of the differences over that of the result) among the states of images, those of
questions, and scores: those that `cargo test --lib rounded_products` measures for `--products`.

    python scripts/judges_in_bf16.py        # torch, transformers, safetensors
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import BlipForQuestionAnswering, Qwen3VLForConditionalGeneration

FIXTURES = Path(__file__).resolve().parents[1] / "tests/fixtures"
sys.path.insert(0, str(FIXTURES))
from mplug_torch import Config, Mplug, padded  # noqa: E402


def relative(ours, due):
    ours, due = ours.double(), due.double()
    assert ours.shape == due.shape, (ours.shape, due.shape)
    return ((ours - due).square().mean().sqrt() / due.square().mean().sqrt()).item()


def mplug(dtype):
    config = Config.read(FIXTURES / "mplug-tiny/large")
    network = Mplug(config).eval()
    network.load_state_dict(load_file(FIXTURES / "mplug-tiny/large/model.safetensors"), strict=False)
    network.to(dtype)
    hide = network.hide
    network.hide = lambda *sizes: hide(*sizes).to(dtype)
    golden = load_file(FIXTURES / "mplug-golden/large.safetensors")
    lines = json.loads((FIXTURES / "mplug-golden/large.json").read_text())
    images = network.image_states(golden["pixels"].to(dtype))
    states, logits, due = [], [], []
    for number, line in enumerate(lines):
        ids = line["ids"]
        x, mask = network.question_states(images[line["picture"]][None], padded([ids]), [len(ids)])
        states.append(x[0, : images.shape[1] + len(ids)])
        for step in range(2):
            sequence = golden["answers"][number][:1, : step + 1]
            logits.append(network.text_decoder(sequence, x, mask.to(dtype).clamp(min=-1e38))[0])
            due.append(golden[f"logits.{number}"][0, step])
    logits, due = (torch.stack(rows).unflatten(0, (-1, 2)).transpose(0, 1) for rows in (logits, due))
    return [
        relative(images, golden["images"]),
        relative(torch.cat(states), golden["states"]),
        *(relative(ours, theirs) for ours, theirs in zip(logits, due)),
    ]


def blip(dtype):
    network = BlipForQuestionAnswering.from_pretrained(FIXTURES / "blip-vqa-tiny", dtype=dtype).eval()
    golden = load_file(FIXTURES / "blip-vqa-golden/golden.safetensors")
    ids, mask = golden["ids"], golden["mask"]
    images = network.vision_model(golden["pixels"].to(dtype))[0]
    start = torch.full((1, 1), network.decoder_start_token_id)
    questions, due, logits = [], [], []
    for image, expected in zip(images, golden["questions"]):
        for row, seen, theirs in zip(ids, mask.bool(), expected):
            # One question at a time, without padding, as `generate` is asked.
            states = network.text_encoder(row[seen][None], encoder_hidden_states=image[None])[0]
            questions.append(states[0])
            due.append(theirs[seen])
            logits.append(network.text_decoder(start, encoder_hidden_states=states).logits[:, 0])
    return [
        relative(images, golden["vision"]),
        relative(torch.cat(questions), torch.cat(due)),
        relative(torch.cat(logits), golden["logits"]),
    ]


def qwen3_vl(dtype):
    folder = FIXTURES / "qwen3-vl-untied"
    network = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    golden = load_file(FIXTURES / "qwen3-vl-golden/untied.safetensors")
    cases = json.loads((FIXTURES / "qwen3-vl-golden/cases.json").read_text())
    cases = [case for case in cases if (case["checkpoint"], case["picture"]) == ("untied", "rounded")][:2]
    patches, grid = golden["rounded.patches"].to(dtype), torch.tensor([cases[0]["grid"]])
    vision = network.model.visual(patches, grid_thw=grid)
    errors = [
        relative(vision.pooler_output, golden["rounded.vision"]),
        relative(vision.deepstack_features[1], golden["rounded.deepstack.1"]),
    ]
    for number, case in enumerate(cases):
        ids = torch.tensor([case["ids"]])
        network.model.rope_deltas = None
        logits = network(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=patches, image_grid_thw=grid,
            mm_token_type_ids=(ids == network.config.image_token_id).int(),
        ).logits[0, -1]
        errors.append(relative(logits, golden[f"rounded.{number}.logits"][-1]))
    return errors


@torch.no_grad()
def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for judge in (mplug, blip, qwen3_vl):
        for dtype in (torch.float32, torch.bfloat16):
            torch.set_default_dtype(dtype)
            print(f"{judge.__name__:9} {str(dtype):15} {max(judge(dtype)):.1e}")


if __name__ == "__main__":
    main()
