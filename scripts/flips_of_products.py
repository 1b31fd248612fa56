"""How many answers of a judge `--products bf16x3` and `bf16` turn over: BLIP-VQA at its published dimensions, seeded weights.

In: a file to fill, a line of JSON a picture (a run that was stopped goes on there), and how many pictures. Out: for each way to
multiply, against f32: flips of "yes" over "no", of the first word, and the margins of both. The products are those of the
program in PyTorch: factors of linear layers, convolutions and attention are rounded, to one bf16 or to two with three products;
all else is f32. Only the order of sums is PyTorch's.

    python scripts/flips_of_products.py flips.jsonl --pictures 200      # torch, transformers; 3 GB, some 15 s a picture and core

Weights are made up: yes and no are two of 30,522 words like any others, and margins are those of such a network.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from full_size_blip_vqa import QUESTIONS, make_network  # noqa: E402

PRODUCTS = ["f32", "bf16x3", "bf16"]
FACTORS = {torch.nn.functional.linear, torch.nn.functional.conv2d, torch.conv2d, torch.matmul, torch.Tensor.matmul}


class Rounded(TorchFunctionMode):
    """Rounds the first two arguments of every product."""

    def __init__(self, products):
        super().__init__()
        self.products = products
        self.calls = 0

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = named or {}
        if function not in FACTORS or self.products == "f32":
            assert "attention" not in getattr(function, "__name__", ""), "attention must go through matmul"
            return function(*arguments, **named)
        self.calls += 1
        left, right, *others = arguments
        high = left.bfloat16().float()
        near = right.bfloat16().float()
        if self.products == "bf16":
            return function(high, near, *others, **named)
        # High times both parts is exact in f32, so one call makes two of the three products.
        both = near + (right - near).bfloat16().float()
        rest = (left - high).bfloat16().float()
        strides = {name: value for name, value in named.items() if name != "bias"}
        without_bias = [None, *others[1:]] if others else []
        return function(high, both, *others, **named) + function(rest, near, *without_bias, **strides)


def picture(number):
    """A seeded picture: blocks of random colours in one of four sizes."""
    draws = numpy.random.default_rng([384, number])
    side = [4, 8, 16, 64][number % 4]
    return Image.fromarray(draws.integers(0, 256, (side, side, 3), dtype=numpy.uint8)).resize((512, 512))


def scores(network, pixels, ids, mask):
    """First scores of every question, [questions, words]."""
    image = network.vision_model(pixels)[0].expand(len(ids), -1, -1)
    seen = torch.ones(image.shape[:2], dtype=torch.long)
    states = network.text_encoder(ids, attention_mask=mask, encoder_hidden_states=image, encoder_attention_mask=seen)[0]
    start = torch.full((len(ids), 1), network.decoder_start_token_id)
    return network.text_decoder(start, encoder_hidden_states=states, encoder_attention_mask=mask).logits[:, 0]


def table(lines):
    rows = [(line["f32"][question], line, question) for line in lines for question in range(len(QUESTIONS))]
    margins = [abs(due["yes"] - due["no"]) for due, _, _ in rows]
    print(f"{len(lines)} pictures, {len(rows)} answers; |yes - no| in f32: median {statistics.median(margins):.3f}")
    print("| products | yes against no turned | first word differs | largest margin turned | error of yes - no, rms |")
    print("|---|---|---|---|---|")
    for products in PRODUCTS[1:]:
        turned, words, errors = [], [], []
        for due, line, question in rows:
            ours = line[products][question]
            before, after = due["yes"] - due["no"], ours["yes"] - ours["no"]
            errors.append((after - before) ** 2)
            if (before > 0) != (after > 0):
                turned.append(abs(before))
            if ours["word"] != due["word"]:
                words.append(due["gap"])
        largest = f"{max(turned, default=0):.1e}; of words {max(words, default=0):.1e}"
        print(f"| {products} | {len(turned)} | {len(words)} | {largest} | {statistics.mean(errors) ** 0.5:.1e} |")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--pictures", type=int, default=200)
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.file.read_text().splitlines()] if arguments.file.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        network, tokenizer = make_network(Path(folder))
    processor = BlipImageProcessorPil()
    yes, no = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("yes", "no"))
    asked = tokenizer(QUESTIONS, return_tensors="pt", padding=True)
    for number in range(len(lines), arguments.pictures):
        pixels = processor([picture(number)], return_tensors="pt").pixel_values
        line = {"picture": number}
        for products in PRODUCTS:
            with Rounded(products) as mode:
                logits = scores(network, pixels, asked.input_ids, asked.attention_mask)
            assert products == "f32" or mode.calls > 250, mode.calls
            top = logits.topk(2)
            line[products] = [
                {"yes": row[yes].item(), "no": row[no].item(), "word": word[0].item(), "gap": (two[0] - two[1]).item()}
                for row, word, two in zip(logits, top.indices, top.values)
            ]
        lines.append(line)
        with arguments.file.open("a") as out:
            out.write(json.dumps(line) + "\n")
    table(lines[: arguments.pictures])


if __name__ == "__main__":
    main()
