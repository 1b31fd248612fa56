"""FLUX.1's transformer at its full width, seeded random weights, and what diffusers makes of it.

In: a folder to fill (about 5 GB on disk; 11 GB of memory). Out: transformer/ in the published layout, with 2 of the 19 double
and 4 of the 38 single blocks, and transformer.safetensors with inputs and outputs. Then

    DPG_BENCH_FULL_SIZE_FLUX=FOLDER cargo test --test suite full_size_flux -- --ignored --nocapture

holds the Rust network to them. No published weights are involved: this checks width, heads and axes that the tiny checkpoints
cannot.
"""

import sys
from pathlib import Path

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

sys.path.insert(0, str(Path(__file__).resolve().parent))
from full_size_parity import roughen, save, timed  # noqa: E402


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(28)
    generator = torch.Generator().manual_seed(29)
    tensors = {}
    with torch.no_grad():
        network = FluxTransformer2DModel(num_layers=2, num_single_layers=4, guidance_embeds=True).eval()
        roughen(network, generator)
        for name, (rows, columns), words, timestep, guidance in [
            ("small", (12, 8), 64, 759.5, 3.5),
            ("odd", (3, 7), 20, 21.0, 1.0),
        ]:
            latents = torch.randn((1, 16, 2 * rows, 2 * columns), generator=generator)
            states = torch.randn((1, words, 4096), generator=generator)
            pooled = torch.randn((1, 768), generator=generator)
            run = lambda: network(
                FluxPipeline._pack_latents(latents, 1, 16, 2 * rows, 2 * columns),
                encoder_hidden_states=states,
                pooled_projections=pooled,
                timestep=torch.tensor([timestep]) / 1000,
                img_ids=FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32),
                txt_ids=torch.zeros(words, 3),
                guidance=torch.tensor([guidance]),
                return_dict=False,
            )[0]
            output = timed(f"transformer {name}", run)
            tensors[f"{name}.output"] = FluxPipeline._unpack_latents(output, 16 * rows, 16 * columns, 8)
            tensors[f"{name}.latents"], tensors[f"{name}.states"] = latents, states
            tensors[f"{name}.pooled"] = pooled
            tensors[f"{name}.told"] = torch.tensor([timestep, guidance])
        # Outputs about as wide as the noise that they stand for.
        spread = tensors["small.output"].std()
        for name in ("small.output", "odd.output"):
            tensors[name] = tensors[name] / spread
        network.proj_out.weight /= spread
        network.proj_out.bias /= spread
        save(folder, "transformer", tensors)
        network.save_pretrained(folder / "transformer")


if __name__ == "__main__":
    main()
