"""ELLA's connector at its published dimensions, seeded random weights, and what torch makes of it.

In: a folder to fill (about 260 MB). Out: ella.safetensors (2048 -> 768, 64 tokens, 6 blocks, as
ella-sd1.5-tsc-t5xl has them) and golden.safetensors with inputs and outputs of the torch.nn connector of
tests/fixtures/ella_torch.py. Then

    DPG_BENCH_FULL_SIZE_ELLA=FOLDER cargo test --test suite the_connector_at -- --ignored --nocapture

holds the Rust connector to them. No published weights are involved.
"""

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "fixtures"))
from ella_torch import Connector, fill, save_network  # noqa: E402


def main():
    folder = Path(sys.argv[1])
    generator = torch.Generator().manual_seed(17)
    connector = fill(Connector(768, depth=6, tokens=64, text=2048), generator)
    save_network(connector, folder / "ella.safetensors")
    text = 0.2 * torch.randn(2, 128, 2048, generator=generator)
    tensors = {"full.text": text}
    with torch.no_grad():
        for timestep in (999.0, 20.0, 261.25):
            start = time.monotonic()
            tensors[f"full.at_{timestep:g}"] = connector(text, timestep)
            seconds = time.monotonic() - start
            print(f"at {timestep:g}: {seconds:.2f} s in PyTorch, {torch.get_num_threads()} threads")
    save_file(tensors, folder / "golden.safetensors")


if __name__ == "__main__":
    main()
