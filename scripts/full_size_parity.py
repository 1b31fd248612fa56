"""Stable Diffusion 1.5 at its full dimensions, seeded random weights, and what diffusers makes of it.

In: a folder to fill (about 4.3 GB). Out: unet/, vae/ and text_encoder/ in the published layout, and
unet.safetensors, vae.safetensors and clip_text.safetensors with inputs and outputs, as
tests/fixtures/make_sd15.py writes them for the tiny checkpoint. Then

    DPG_BENCH_FULL_SIZE=FOLDER cargo test --test suite full_size -- --ignored --nocapture

holds the Rust networks to them. No published weights are involved: this checks the dimensions,
head counts and block order that the tiny checkpoint cannot.
"""

import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "fixtures"))
from make_sd15 import roughen  # noqa: E402


def save(folder, name, tensors):
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    save_file(tensors, folder / f"{name}.safetensors")


def timed(name, function):
    start = time.monotonic()
    result = function()
    print(f"{name}: {time.monotonic() - start:.1f} s in PyTorch, {torch.get_num_threads()} threads")
    return result


def make_unet(folder, generator):
    network = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8
    ).eval()
    roughen(network, generator)
    network.save_pretrained(folder / "unet")
    tensors = {}
    for name, shape, tokens, timestep in [
        ("small", (2, 4, 20, 28), 77, 981.0),
        ("odd", (1, 4, 19, 13), 141, 21.0),
    ]:
        latents = torch.randn(shape, generator=generator)
        context = torch.randn((shape[0], tokens, 768), generator=generator)
        output = timed(f"unet {name}", lambda: network(latents, timestep, context).sample)
        tensors[f"{name}.latents"], tensors[f"{name}.context"] = latents, context
        tensors[f"{name}.timestep"] = torch.tensor([timestep])
        tensors[f"{name}.output"] = output
    save(folder, "unet", tensors)


def make_vae(folder, generator):
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    ).eval()
    roughen(network, generator)
    network.save_pretrained(folder / "vae")
    latents = 5.0 * torch.randn((2, 4, 12, 9), generator=generator)
    output = timed("vae small", lambda: network.decode(latents).sample)
    save(folder, "vae", {"small.latents": latents, "small.output": output})


def make_text_encoder(folder, generator):
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    network = CLIPTextModel(config).eval()
    roughen(network, generator)
    network.save_pretrained(folder / "text_encoder")
    ids = torch.randint(0, config.vocab_size, (3, 77), generator=generator)
    short = ids[:2, :9].contiguous()
    hidden = timed("clip_text", lambda: network(ids).last_hidden_state)
    tensors = {"ids": ids, "hidden": hidden, "short_ids": short}
    save(folder, "clip_text", tensors | {"short_hidden": network(short).last_hidden_state})


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(15)
    generator = torch.Generator().manual_seed(16)
    with torch.no_grad():
        make_text_encoder(folder, generator)
        make_vae(folder, generator)
        make_unet(folder, generator)


if __name__ == "__main__":
    main()
