"""Full-size networks on the processor: ours and PyTorch's, call by call in turn, in f32.

In: a folder (4.3 GB of seeded random weights from full_size_parity.py, made where missing, 1.3 GB of a
T5-large and 4.9 of a T5-XL; of the newer models 2 to 10 GB each). Out: a Markdown table on standard output, and the calls as they come on standard error.

    python scripts/cpu_speed.py FOLDER [--threads 1 2] [--rounds 5] [--stages unet vae text_encoder t5 sd2 ...]

For each network and number of threads, one process of ours (cargo bench --bench networks) and one of
PyTorch take turns at the same inputs: one call each to warm up, then ROUNDS each, whose medians are
given, with the lowest processor time. On a shared machine the wall clock tells of the neighbours too;
the processor time (user and system, all threads) is the sounder number. The peak memory is that of the
whole process, weights and loading included.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from full_size_transformers import NETWORKS, make, torch_call  # noqa: E402

OLDER = ["unet", "vae", "text_encoder", "t5"]
# Width, width inside and heads of the encoders of T5.
T5 = {"t5": (1024, 2816, 16), "t5-xl": (2048, 5120, 32)}
STAGES = [*OLDER, "t5-xl", *NETWORKS]


def make_t5(stage, folder):
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(21)
    width, inner, heads = T5[stage]
    config = T5Config(
        d_model=width, d_ff=inner, num_layers=24, num_heads=heads, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).eval().save_pretrained(folder / stage)


def make_inputs(folder):
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(20)
    latents = torch.randn((2, 4, 64, 64), generator=generator)
    context = torch.randn((2, 77, 768), generator=generator)
    tokens = torch.randint(0, 49408, (2, 77), generator=generator)
    pieces = torch.randint(0, 32128, (1, 128), generator=generator)
    save_file({"latents": latents, "context": context}, folder / "unet.inputs.safetensors")
    save_file({"latents": 5 * latents[:1].clone()}, folder / "vae.inputs.safetensors")
    save_file({"ids": tokens}, folder / "text_encoder.inputs.safetensors")
    for stage in T5:
        save_file({"ids": pieces}, folder / f"{stage}.inputs.safetensors")


def torch_network(stage, folder):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file
    from transformers import CLIPTextModel, T5EncoderModel

    inputs = load_file(folder / f"{stage}.inputs.safetensors")
    if stage in NETWORKS:
        return torch_call(stage, folder, inputs)
    if stage == "unet":
        network = UNet2DConditionModel.from_pretrained(folder / stage).eval()
        return lambda: network(inputs["latents"], 981.0, inputs["context"]).sample
    if stage == "vae":
        network = AutoencoderKL.from_pretrained(folder / stage).eval()
        return lambda: network.decode(inputs["latents"]).sample
    text = T5EncoderModel if stage in T5 else CLIPTextModel
    network = text.from_pretrained(folder / stage).eval()
    return lambda: network(inputs["ids"]).last_hidden_state


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mebibytes():
    # Not getrusage's: that one starts from the parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))


def serve_torch(stage, folder, threads):
    """PyTorch's side: one call for every line on standard input, as benches/networks.rs."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    network = torch_network(stage, folder)
    with torch.no_grad():
        for _ in sys.stdin:
            wall, before = time.monotonic(), processor_seconds()
            output = network()
            wall, cpu = time.monotonic() - wall, processor_seconds() - before
            call = {"wall": wall, "cpu": cpu, "peak_mib": peak_mebibytes()}
            print(json.dumps(call), flush=True)
    save_file({"output": output.contiguous()}, folder / f"{stage}.torch.safetensors")


def build():
    command = ["cargo", "bench", "--bench", "networks", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True)
    for message in map(json.loads, built.stdout.splitlines()):
        # Cargo names the program too, in any order.
        target = message.get("target", {})
        if message.get("executable") and (target["kind"], target["name"]) == (["bench"], "networks"):
            return message["executable"]
    raise SystemExit("cargo names no benchmark of the networks")


class Side:
    """A process that makes a call whenever it is sent a line."""

    def __init__(self, command, threads):
        count = str(threads)
        environment = os.environ | {"RAYON_NUM_THREADS": count, "OMP_NUM_THREADS": count}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.calls = []

    def call(self):
        print(file=self.process.stdin, flush=True)
        self.calls.append(json.loads(self.process.stdout.readline()))

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        if self.process.returncode != 0:
            raise SystemExit(f"{self.process.args[0]} failed")

    def median(self, key):
        return statistics.median(call[key] for call in self.calls[1:])

    def least(self, key):
        return min(call[key] for call in self.calls[1:])


def error(stage, folder):
    """Largest difference, and root mean square of the differences over that of PyTorch's result."""
    from safetensors.torch import load_file

    ours, torchs = (
        load_file(folder / f"{stage}.{side}.safetensors")["output"].double()
        for side in ("ours", "torch")
    )
    difference = ours - torchs
    return difference.abs().max().item(), (difference.norm() / torchs.norm()).item()


def compare(stage, folder, threads, rounds, binary):
    ours = Side([binary, stage, str(folder)], threads)
    torchs = Side(
        [sys.executable, __file__, str(folder), "--serve", stage, "--threads", str(threads)], threads
    )
    for number in range(rounds + 1):
        ours.call()
        torchs.call()
        print(f"{stage}, {threads} threads: {ours.calls[-1]} {torchs.calls[-1]}", file=sys.stderr)
    ours.close()
    torchs.close()
    largest, relative = error(stage, folder)
    cells = [stage, str(threads)]
    for pick, key in [("median", "wall"), ("median", "cpu"), ("least", "cpu")]:
        a, b = getattr(ours, pick)(key), getattr(torchs, pick)(key)
        cells.append(f"{a:.2f} / {b:.2f} = {a / b:.2f}")
    peak = f"{ours.calls[-1]['peak_mib']} / {torchs.calls[-1]['peak_mib']}"
    cells += [peak, f"{largest:.1e}, {relative:.1e}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=OLDER)
    parser.add_argument("--binary", help="a networks benchmark that is built already")
    parser.add_argument("--serve", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve_torch(options.serve, options.folder, options.threads[0])
    folder = options.folder
    if {*options.stages} & {*OLDER[:3]} and not (folder / "unet").exists():
        subprocess.run([sys.executable, HERE / "full_size_parity.py", folder], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    for stage in options.stages:
        if stage in T5 and not (folder / stage).exists():
            make_t5(stage, folder)
    make_inputs(folder)
    for stage in options.stages:
        if stage in NETWORKS:
            make(stage, folder)
    binary = options.binary or build()
    print(
        "| network | threads | wall, s, median | processor, s, median | processor, s, least "
        "| peak, MiB | error: max, relative |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for stage in options.stages:
        for threads in options.threads:
            compare(stage, folder, threads, options.rounds, binary)


if __name__ == "__main__":
    main()
