"""BLIP-VQA at its published dimensions, seeded random weights, and what transformers makes of it.

In: a folder to fill (1.5 GB on disk; 4 GB of memory). Out: a checkpoint in the layout of Salesforce/blip-vqa-base,
and golden.safetensors and golden.json beside it: a picture's states, and the first scores and answers to four
questions, asked one at a time. Then

    DPG_BENCH_FULL_SIZE_BLIP=FOLDER cargo test --test suite full_size_blip -- --ignored --nocapture

holds the Rust network to them. No published weights are involved: this checks the dimensions and head counts that
the tiny checkpoint cannot.
"""

import resource
import sys
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/fixtures"))
from make_blip_vqa import LETTERS, WORDS, generate  # noqa: E402
from make_sd15 import write_json  # noqa: E402

SEED = 384
PIECES = 30522
THINGS = ["cat", "person"]
QUESTIONS = [f"Is there a {thing}?" for thing in THINGS]
QUESTIONS += [f"Is the {thing} on the left of the dark green sign, or in the window?" for thing in THINGS]


def make_network(folder):
    pieces = ["[PAD]", *[f"[unused{number}]" for number in range(99)], "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [*"!\"'(),-./:;?", *LETTERS, *[f"##{letter}" for letter in LETTERS], *WORDS]
    pieces = list(dict.fromkeys(pieces))
    pieces += [f"filler{number}" for number in range(PIECES - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    config = BlipConfig(text_config={"num_attention_heads": 12}, vision_config={})
    network = BlipForQuestionAnswering(config).eval()
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "embedding" in name and parameter.ndim > 1:
            parameter.data = 0.05 * noise
        elif name.endswith("bias"):
            parameter.data = 0.05 * noise
        elif parameter.ndim == 1:
            parameter.data = 1 + 0.2 * noise
        else:
            parameter.data = noise / parameter.shape[-1] ** 0.5
    network.save_pretrained(folder)
    return network, BertTokenizer(vocab=str(folder / "vocab.txt"))


@torch.no_grad()
def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    network, tokenizer = make_network(folder)
    processor = BlipImageProcessorPil()
    settings = {name: value for name, value in processor.to_dict().items() if value is not None}
    write_json(folder / "preprocessor_config.json", settings)
    draws = numpy.random.default_rng(SEED)
    picture = Image.fromarray(draws.integers(0, 256, (64, 64, 3), dtype=numpy.uint8)).resize((512, 512))
    pixels = processor([picture], return_tensors="pt").pixel_values
    start = time.perf_counter()
    answers = []
    for question in QUESTIONS:
        ids = tokenizer(question, return_tensors="pt").input_ids
        sequence, logits = generate(network, ids, pixels)
        top = logits[:, 0].topk(2).values
        answers.append(
            {
                "question": question,
                "sequence": sequence[0].tolist(),
                "gap": float((top[:, 0] - top[:, 1]).min()),
                "logits": logits[0, 0],
            }
        )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"transformers, one question at a time: {seconds:.1f} s for {len(QUESTIONS)} questions, peak {peak:.1f} GiB")
    padded = tokenizer(QUESTIONS, return_tensors="pt", padding=True)
    tensors = {
        "pixels": pixels,
        "ids": padded.input_ids,
        "mask": padded.attention_mask,
        "vision": network.vision_model(pixels)[0],
        "logits": torch.stack([answer.pop("logits") for answer in answers]),
    }
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "golden.json", {"answers": answers})
    print("threads", torch.get_num_threads(), "smallest gap", min(answer["gap"] for answer in answers))


if __name__ == "__main__":
    main()
