"""Writes demo-sd and demo-ella as fp16, in the layouts in which such models are published.

In: the checkpoints in --work. Out: in --out, demo-sd/ (a diffusers folder) and demo-ella/ (ella.safetensors
and text_encoder/). With --untrained, networks of the same sizes with random weights, to try the layout.

    python export.py --work FOLDER
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

import captions
import train_vae
import world
from common import trained, write_json
from models import SCHEDULE, Connector, clip_text, schedule, t5_text, unet
from pretrain_text import Reader
from tokenizers_of_words import ClipTexts, T5Texts

DIFFUSERS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


def networks(work, untrained):
    """The five networks by name."""
    clip_ids, t5_ids = ClipTexts(work), T5Texts(work)
    clip = clip_text(len(clip_ids.vocabulary), clip_ids.start, clip_ids.end)
    if untrained:
        torch.manual_seed(0)
        t5 = t5_text(t5_ids.pieces.vocab_size())
        found = {"vae": train_vae.network(), "unet": unet(), "clip": clip, "t5": t5, "tsc": Connector()}
        return {name: network.eval().requires_grad_(False) for name, network in found.items()}
    return {
        "vae": train_vae.load(work),
        "unet": trained(work / "unet.pt", "unet", unet()),
        "clip": trained(work / "unet.pt", "text", clip),
        "t5": trained(work / "text-t5.pt", "reader", Reader("t5", work)).encoder,
        "tsc": trained(work / "tsc.pt", "tsc", Connector()),
    }


def save_halves(network, path, prefix=""):
    """Every tensor of `network` in half precision; shared ones once."""
    tensors, seen = {}, set()
    for name, value in network.state_dict().items():
        if value.data_ptr() in seen or not value.is_floating_point():
            continue
        seen.add(value.data_ptr())
        tensors[prefix + name.removeprefix(prefix)] = value.half().contiguous().clone()
    assert all(value.isfinite().all() for value in tensors.values()), path
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt"})
    return sum(value.numel() for value in tensors.values())


def save_config(network, path):
    config = json.loads(network.to_json_string())
    write_json(path, {key: value for key, value in config.items() if key != "_name_or_path"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "models")
    parser.add_argument("--untrained", action="store_true")
    options = parser.parse_args()
    made = networks(options.work, options.untrained)
    sd, ella = options.out / "demo-sd", options.out / "demo-ella"
    for folder in (sd, ella):
        shutil.rmtree(folder, ignore_errors=True)
    sizes = {}
    for name in ("unet", "vae"):
        sizes[name] = save_halves(made[name], sd / name / "diffusion_pytorch_model.safetensors")
        save_config(made[name], sd / name / "config.json")
    # Published checkpoints have this prefix; newer transformers leave it out.
    sizes["clip"] = save_halves(made["clip"], sd / "text_encoder" / "model.safetensors", "text_model.")
    clip = json.loads(made["clip"].config.to_json_string(use_diff=False))
    keys = "attention_dropout bos_token_id eos_token_id hidden_act hidden_size initializer_factor initializer_range"
    keys += " intermediate_size layer_norm_eps max_position_embeddings model_type num_attention_heads num_hidden_layers"
    keys += " pad_token_id projection_dim vocab_size"
    write_json(sd / "text_encoder" / "config.json", {"architectures": ["CLIPTextModel"]} | {k: clip[k] for k in keys.split()})
    shutil.copytree(options.work / "tokenizer", sd / "tokenizer")
    write_json(sd / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler", "_diffusers_version": "0.42.0", **SCHEDULE})
    parts = {
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        **{name: ["diffusers", kind] for name, kind in DIFFUSERS.items()},
    }
    absent = {name: [None, None] for name in ("feature_extractor", "safety_checker")}
    write_json(
        sd / "model_index.json",
        {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.0", **absent, "requires_safety_checker": False, **parts},
    )
    sizes["t5"] = save_halves(made["t5"], ella / "text_encoder" / "model.safetensors")
    t5 = json.loads(made["t5"].config.to_json_string(use_diff=False))
    keys = "d_ff d_kv d_model dense_act_fn dropout_rate eos_token_id feed_forward_proj initializer_factor is_decoder"
    keys += " is_encoder_decoder is_gated_act layer_norm_epsilon model_type num_heads num_layers pad_token_id"
    keys += " relative_attention_max_distance relative_attention_num_buckets tie_word_embeddings use_cache vocab_size"
    write_json(ella / "text_encoder" / "config.json", {"architectures": ["T5EncoderModel"]} | {k: t5[k] for k in keys.split()})
    shutil.copy(options.work / "spiece.model", ella / "text_encoder" / "spiece.model")
    sizes["tsc"] = save_halves(made["tsc"], ella / "ella.safetensors")
    print(sizes, "altogether", sum(sizes.values()), "parameters,", 2 * sum(sizes.values()), "bytes")
    compare(sd, made)


@torch.no_grad()
def compare(folder, made):
    """Pictures by diffusers from the folder as it was written, beside those of the networks in f32."""
    generator = np.random.default_rng(12)
    texts = [captions.terse(world.describe(row)) for row in world.held_out_rows(generator, 4)]
    written = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    written.set_progress_bar_config(disable=True)
    exact = StableDiffusionPipeline(
        vae=made["vae"], text_encoder=made["clip"], tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=made["unet"], scheduler=schedule(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    exact.set_progress_bar_config(disable=True)
    pictures = [
        pipe(
            texts, num_inference_steps=20, guidance_scale=3.0, output_type="np",
            generator=[torch.Generator().manual_seed(k) for k in range(len(texts))],
        ).images
        for pipe in (exact, written)
    ]
    off = np.abs(pictures[0] - pictures[1]) * 255
    print(f"fp16 weights beside f32: mean difference {off.mean():.3f} levels, largest {off.max():.1f}")


if __name__ == "__main__":
    main()
