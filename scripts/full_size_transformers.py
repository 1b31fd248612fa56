"""Transformers and UNets of the newer models at their published dimensions, seeded random weights: what scripts/cpu_speed.py
times and compares beside ours.

Each entry of NETWORKS has the class of diffusers, its configuration as published, and the inputs of one call on a small picture.
`layers` of the published number are kept where 24 GiB do not hold both sides.
"""

SD2 = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
LCM = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, "time_cond_proj_dim": 256}
PIXART = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "num_layers": 28,
    "cross_attention_dim": 1152,
    "caption_channels": 4096,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 128,
}
SD3 = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "pos_embed_max_size": 192,
    "sample_size": 128,
}
SD35 = {**SD3, "qk_norm": "rms_norm", "pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13))}
# Of 19 double and 38 single blocks.
FLUX = {"num_layers": 2, "num_single_layers": 4, "guidance_embeds": True}
# Latents, text rows and the text's width of one call.
NETWORKS = {
    "sd2": ("UNet2DConditionModel", SD2, (2, 4, 32, 32), (2, 77, 1024)),
    "lcm": ("UNet2DConditionModel", LCM, (1, 4, 32, 32), (1, 77, 768)),
    "pixart": ("PixArtTransformer2DModel", {**PIXART, "interpolation_scale": 2}, (2, 4, 32, 32), (2, 120, 4096)),
    "sd3": ("SD3Transformer2DModel", SD3, (1, 16, 32, 32), (1, 333, 4096)),
    "sd35": ("SD3Transformer2DModel", SD35, (1, 16, 32, 32), (1, 333, 4096)),
    "flux": ("FluxTransformer2DModel", FLUX, (1, 16, 32, 32), (1, 512, 4096)),
}
TIMESTEP = 481.0
GUIDANCE = 7.5


def make(name, folder):
    """The network of `name` in `folder`, where it is not there yet, and the inputs of a call beside it."""
    import diffusers
    import torch
    from safetensors.torch import save_file

    kind, config, latents, text = NETWORKS[name]
    generator = torch.Generator().manual_seed(33)
    if not (folder / name).exists():
        torch.manual_seed(33)
        network = getattr(diffusers, kind)(**config).eval()
        for key, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # Of norms the vectors alone: the matrices beside them make gates, and large ones chaos.
            if "norm" in key and key.endswith("weight") and parameter.ndim == 1:
                parameter.data = 1 + 0.2 * noise
            elif key.endswith("bias"):
                parameter.data = 0.1 * noise
        network.save_pretrained(folder / name)
    inputs = {
        "latents": torch.randn(latents, generator=generator),
        "context": torch.randn(text, generator=generator),
        "pooled": torch.randn((text[0], 768 if name == "flux" else 2048), generator=generator),
    }
    save_file(inputs, folder / f"{name}.inputs.safetensors")


def torch_call(name, folder, inputs):
    """One call of diffusers' network."""
    import diffusers
    import torch

    kind = NETWORKS[name][0]
    network = getattr(diffusers, kind).from_pretrained(folder / name).eval()
    latents, context, pooled = (inputs[key] for key in ("latents", "context", "pooled"))
    time = torch.tensor([TIMESTEP] * len(latents))
    if name == "sd2":
        return lambda: network(latents, TIMESTEP, context).sample
    if name == "lcm":
        from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
            LatentConsistencyModelPipeline as Pipeline,
        )

        told = Pipeline.get_guidance_scale_embedding(None, torch.tensor([GUIDANCE - 1]), embedding_dim=256)
        return lambda: network(latents, TIMESTEP, context, timestep_cond=told).sample
    if name == "pixart":
        size = torch.tensor([[256.0, 256.0]] * len(latents))
        ratio = torch.tensor([[1.0]] * len(latents))
        told = {"resolution": size, "aspect_ratio": ratio}
        run = lambda: network(latents, context, timestep=time, added_cond_kwargs=told).sample
        return lambda: run().chunk(2, 1)[0]
    if name == "flux":
        from diffusers import FluxPipeline as Pipeline

        _, channels, height, width = latents.shape
        places = Pipeline._prepare_latent_image_ids(1, height // 2, width // 2, "cpu", torch.float32)
        told = {
            "pooled_projections": pooled,
            "timestep": time / 1000,
            "guidance": torch.tensor([GUIDANCE]),
            "img_ids": places,
            "txt_ids": torch.zeros(context.shape[1], 3),
        }
        tokens = Pipeline._pack_latents(latents, 1, channels, height, width)
        run = lambda: network(tokens, context, **told).sample
        return lambda: Pipeline._unpack_latents(run(), 8 * height, 8 * width, 8)
    return lambda: network(latents, context, pooled, time).sample
