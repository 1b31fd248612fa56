"""Qwen3-VL at the 2B size on the processor: `--judge qwen3-vl` and transformers, one question at a time.

In: a folder (4.3 GB of seeded random weights in the published layout are made there where missing) and the
built program. Out: a Markdown table on standard output, and whether the answers are the same.

    python scripts/qwen3_vl_speed.py FOLDER --program target/release/dpg-bench [--questions 14]
        [--side 512] [--threads 2] [--asked 14]

Ours is run on one picture and on two: the difference is the time of one picture with all its questions,
without loading. transformers is given the same picture and questions one by one, as its examples do: the
picture is prepared and seen anew for every question. Both in f32 over bf16 weights with THREADS threads.
Rows of the embeddings that the tiny tokenizer has no text for are zero, so that replies have a text.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TINY = HERE.parent / "tests/fixtures/qwen3-vl-tied"
PIECES = 350
TEXT = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 262144,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
}
VISION = {
    "depth": 24,
    "hidden_size": 1024,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 4096,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
    "out_hidden_size": 2048,
}
ROPE = {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}
PICTURE = {
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def make_checkpoint(folder):
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    special = json.loads((TINY / "config.json").read_text())
    ids = {k: special[k] for k in special if k.endswith("_token_id")}
    text = {**TEXT, "rope_parameters": {**ROPE, "rope_theta": 5e6}}
    config = Qwen3VLConfig(text_config=text, vision_config=VISION, tie_word_embeddings=True, **ids)
    with torch.device("meta"):
        shapes = dict(Qwen3VLForConditionalGeneration(config).named_parameters())
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(27)
    part, index, number = {}, {}, 0
    for name, shape in shapes.items():
        value = torch.randn(tuple(shape.shape), generator=generator)
        if value.dim() == 1:
            value = (1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.1 * value
        elif "embed_tokens" in name:
            value *= 0.1
            value[PIECES:] = 0
        else:
            value *= 1.5 * value[0].numel() ** -0.5
        part[name] = value.bfloat16()
        if sum(t.numel() for t in part.values()) > 5e8 or name == list(shapes)[-1]:
            number += 1
            file = f"model-{number:05}.safetensors"
            save_file(part, folder / file)
            index.update({name: file for name in part})
            part = {}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    written = {
        **ids,
        "model_type": "qwen3_vl",
        "tie_word_embeddings": True,
        "text_config": {**TEXT, "model_type": "qwen3_vl_text", "rope_theta": 5e6, "rope_scaling": ROPE},
        "vision_config": {**VISION, "model_type": "qwen3_vl"},
    }
    (folder / "config.json").write_text(json.dumps(written, indent=1))
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURE, indent=1))
    for name in ["tokenizer.json", "generation_config.json"]:
        shutil.copy(TINY / name, folder / name)


def questions(count):
    return [f"Is there a truck on the left of dog number {number}?" for number in range(count)]


def make_run(program, folder, pictures, count, side):
    """A run of `pictures` pictures with `count` questions each; every picture is the same."""
    import numpy
    from PIL import Image

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    rows, columns = numpy.mgrid[0:side, 0:side]
    waves = [numpy.sin(rows / 31 + columns / 17), numpy.cos(rows / 9), numpy.sin(columns / 23)]
    noise = numpy.random.default_rng(3).integers(-30, 31, (side, side, 3))
    pixels = (numpy.stack(waves, axis=-1) * 80 + 128 + noise).clip(0, 255).astype(numpy.uint8)
    header = ["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad",
              "category_detailed", "tuple", "question_natural_language"]
    with open(folder / "questions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for item in range(pictures):
            Image.fromarray(pixels).save(folder / f"images/item{item}.png")
            for number, question in enumerate(questions(count), start=1):
                writer.writerow([f"item{item}", "A truck", "", number, 0, "entity", "whole",
                                 "entity - whole (truck)", question])
    subprocess.run(
        [program, "import", "--benchmark", folder / "questions.csv", "--images", folder / "images",
         "--images-per-item", "1", "--resolution", str(side), "--out", folder / "run"],
        check=True, stdout=sys.stderr, stderr=sys.stderr,
    )
    return folder / "run", pixels


def ours(program, run, weights, threads, dtype):
    """Wall seconds, processor seconds, peak MiB, and the answers about the first picture."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [program, "judge", run, "--judge", "qwen3-vl", "--judge-weights", weights,
         "--judge-dtype", dtype, "--judge-max-tokens", "4", "--judge-name", dtype],
        env=environment, stdout=sys.stderr, stderr=sys.stderr,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status != 0:
        sys.exit("the judge failed")
    lines = (run / f"answers/{dtype}.jsonl").read_text().splitlines()
    first = next(line for line in map(json.loads, lines) if "answers" in line)
    outcomes = [answer["outcome"] for answer in first["answers"]]
    texts = [outcome.get("raw") or outcome["text"] for outcome in outcomes]
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, texts


def theirs(weights, pixels, asked, threads):
    import torch
    from PIL import Image
    from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.set_num_threads(threads)
    model = Qwen3VLForConditionalGeneration.from_pretrained(weights, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(weights / "tokenizer.json"))
    processor = Qwen2VLImageProcessorPil(**PICTURE)
    texts = []
    begin, cpu = time.perf_counter(), time.process_time()
    for question in asked:
        image = processor(Image.fromarray(pixels), return_tensors="pt")
        pads = "<|image_pad|>" * (image["image_grid_thw"].prod().item() // 4)
        prompt = (
            f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{question}\n"
            "Answer with one word, yes or no.<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            whole = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False,
                mm_token_type_ids=(ids == model.config.image_token_id).int(), **image,
            )
        texts.append(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True))
        print(f"{len(texts)} of {len(asked)}", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.perf_counter() - begin, time.process_time() - cpu, peak, texts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--program", default="target/release/dpg-bench")
    parser.add_argument("--questions", type=int, default=14)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--asked", type=int, help="questions that transformers is given [all]")
    arguments = parser.parse_args()
    weights = arguments.folder / "qwen3-vl-2b-random"
    if not (weights / "generation_config.json").is_file():
        shutil.rmtree(weights, ignore_errors=True)
        make_checkpoint(weights)
    count, threads = arguments.questions, arguments.threads
    program = str(Path(arguments.program).resolve())
    measured = {}
    for pictures in [1, 2]:
        folder = arguments.folder / f"pictures-{pictures}"
        run, pixels = make_run(program, folder, pictures, count, arguments.side)
        measured[pictures] = ours(program, run, weights, threads, "bf16")
        print(f"{pictures}: {measured[pictures][:3]}", file=sys.stderr)
    one, two = measured[1], measured[2]
    print(f"load average {os.getloadavg()}", file=sys.stderr)
    asked = questions(count)[: arguments.asked]
    *times, peak, texts = theirs(weights, pixels, asked, threads)
    other = [time * count / len(asked) for time in times]
    wall, cpu = two[0] - one[0], two[1] - one[1]
    print(f"{count} questions about one picture of {arguments.side} x {arguments.side}, {threads} threads:")
    print("| | wall, s | processor, s | peak, MiB |\n|---|---|---|---|")
    print(f"| ours, bf16 weights | {wall:.1f} | {cpu:.1f} | {two[2]:.0f} |")
    print(f"| transformers, one by one | {other[0]:.1f} | {other[1]:.1f} | {peak:.0f} |")
    print(f"| ratio | {wall / other[0]:.3f} | {cpu / other[1]:.3f} | |")
    same = sum(a == b for a, b in zip(one[3], texts))
    print(f"\ntransformers was given {len(asked)} questions; its times are scaled to {count}.")
    print(f"The same replies: {same} of {len(asked)}. Ours with loading: {one[0]:.1f} s for one picture.")


if __name__ == "__main__":
    main()
