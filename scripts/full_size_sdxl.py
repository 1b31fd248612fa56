"""Stable Diffusion XL's own networks at full dimensions, seeded random weights, and what diffusers and
transformers make of them.

In: a folder to fill (about 16 GB; the UNet takes 10 GB of memory) and, where not all is wanted, the parts
to make: text_encoder_2, shallow_unet, unet. Out: those folders in the published layout, and
clip_text_2.safetensors, shallow_unet.safetensors and unet.safetensors with inputs and outputs. Then

    DPG_BENCH_FULL_SIZE_SDXL=FOLDER cargo test --test suite full_size_sdxl -- --ignored --nocapture

holds the Rust networks to those that are there. No published weights are involved: this checks the
dimensions, head counts and block order that the tiny checkpoint cannot. The first text encoder is SD1.5's
at other layers, the autoencoder SD1.5's at another scale: full_size_parity.py has both.
"""

import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from full_size_parity import save, timed
from make_sd15 import roughen  # on the path since full_size_parity


def make_text_encoder_2(folder, generator):
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
    network.save_pretrained(folder / "text_encoder_2", max_shard_size="20GB")
    ids = torch.randint(1, config.vocab_size - 2, (2, 77), generator=generator)
    ids[:, 9], ids[:, 10:] = config.vocab_size - 1, 0
    states = timed("clip_text_2", lambda: network(ids, output_hidden_states=True))
    tensors = {"ids": ids, "penultimate": states.hidden_states[-2]}
    save(folder, "clip_text_2", tensors | {"pooled": states.text_embeds})


def make_unet(folder, generator, name="unet", **shallower):
    network = UNet2DConditionModel(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        **{"transformer_layers_per_block": (1, 2, 10), **shallower},
    ).eval()
    roughen(network, generator)
    network.save_pretrained(folder / name, max_shard_size="20GB")
    latents = torch.randn((2, 4, 12, 20), generator=generator)
    context = torch.randn((2, 77, 2048), generator=generator)
    pooled = torch.randn((2, 1280), generator=generator)
    time_ids = torch.tensor([768.0, 1280.0, 0.0, 16.0, 768.0, 1280.0])
    added = {"text_embeds": pooled, "time_ids": time_ids.repeat(2, 1)}
    output = timed(
        name, lambda: network(latents, 981.0, context, added_cond_kwargs=added).sample
    )
    tensors = {"wide.latents": latents, "wide.context": context, "wide.pooled": pooled}
    tensors |= {"wide.time_ids": time_ids, "wide.timestep": torch.tensor([981.0])}
    save(folder, name, tensors | {"wide.output": output})


def make_shallow_unet(folder, generator):
    """All widths and heads, fewer layers: a quarter of the memory."""
    shallower = {"layers_per_block": 1, "transformer_layers_per_block": (1, 1, 2)}
    make_unet(folder, generator, "shallow_unet", **shallower)


PARTS = {
    "text_encoder_2": make_text_encoder_2,
    "shallow_unet": make_shallow_unet,
    "unet": make_unet,
}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(26)
    for part in sys.argv[2:] or PARTS:
        with torch.no_grad():
            PARTS[part](folder, torch.Generator().manual_seed(27))


if __name__ == "__main__":
    main()
