"""Stable Diffusion XL at its full dimensions, seeded random weights, and what diffusers makes of it.

In: a folder to fill (about 13 GB on disk; 12 GB of memory). Out: unet/ and text_encoder_2/ in the
published layout, and unet.safetensors and text_encoder_2.safetensors with inputs and outputs. Then

    DPG_BENCH_FULL_SIZE_SDXL=FOLDER cargo test --test suite full_size_sdxl -- --ignored --nocapture

holds the Rust networks to them. No published weights are involved: this checks the dimensions, head
counts and block order that the tiny checkpoint cannot. The first text encoder and the autoencoder have
Stable Diffusion 1.5's dimensions; scripts/full_size_parity.py checks those.
"""

import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

sys.path.insert(0, str(Path(__file__).resolve().parent))
from full_size_parity import roughen, save, timed  # noqa: E402


def make_text_encoder(folder, generator):
    config = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    network = CLIPTextModelWithProjection(config).eval()
    roughen(network, generator)
    network.save_pretrained(folder / "text_encoder_2")
    ids = torch.randint(1, config.vocab_size, (2, 77), generator=generator)
    output = timed("text_encoder_2", lambda: network(ids, output_hidden_states=True))
    penultimate = output.hidden_states[-2]
    tensors = {"ids": ids, "penultimate": penultimate, "pooled": output.text_embeds}
    save(folder, "text_encoder_2", tensors)


def make_unet(folder, generator):
    network = UNet2DConditionModel(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    ).eval()
    roughen(network, generator)
    tensors = {}
    for name, shape, timestep, size in [
        ("small", (2, 4, 16, 24), 981.0, (1024, 1024, 0, 0, 1024, 1024)),
        ("odd", (1, 4, 13, 9), 21.0, (512, 768, 16, 8, 640, 1024)),
    ]:
        latents = torch.randn(shape, generator=generator)
        context = torch.randn((shape[0], 77, 2048), generator=generator)
        pooled = torch.randn((shape[0], 1280), generator=generator)
        sizes = torch.tensor([size] * shape[0], dtype=torch.float32)
        added = {"text_embeds": pooled, "time_ids": sizes}
        run = lambda: network(latents, timestep, context, added_cond_kwargs=added).sample
        tensors[f"{name}.output"] = timed(f"unet {name}", run)
        tensors[f"{name}.latents"], tensors[f"{name}.context"] = latents, context
        tensors[f"{name}.timestep"] = torch.tensor([timestep])
        tensors[f"{name}.pooled"], tensors[f"{name}.time_ids"] = pooled, sizes[0]
    save(folder, "unet", tensors)
    network.save_pretrained(folder / "unet")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(26)
    generator = torch.Generator().manual_seed(27)
    with torch.no_grad():
        make_text_encoder(folder, generator)
        make_unet(folder, generator)


if __name__ == "__main__":
    main()
