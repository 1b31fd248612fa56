#!/usr/bin/env python3
"""Times the Python module: beside the command, at its border, and beside another evaluator's way to ask mPLUG.

    pip install dist/dpg_bench-*.whl numpy pillow             # a release build; the command comes with it
    python scripts/python_speed.py evaluate [--rounds 5]
    python scripts/python_speed.py border [--calls 200]        # with torch, where it is installed, its tensors too
    python scripts/python_speed.py mplug FOLDER [--threads 2] [--rounds 2] [--questions 14]

`evaluate`: `dpg_bench.evaluate` of the demo's 288 images as arrays, with the judge loaded anew each time, in turn with
`dpg-bench judge` and `dpg-bench score` of a run that holds the same images. `evaluate` stores the images besides, as `import`
does, which is timed too. The answers and tables must be the same bytes.

`border`: what a call of `Judge.answer` costs beside the judge's own work, for an image of 512 px: `scripted` answers no question.

`mplug`: mPLUG at full size (the made-up weights of mplug_speed.py, 2.4 GB in FOLDER, made where missing) on the processor, one
image and its questions. Needs torch, transformers and safetensors. The sides take turns, one process each:

- `one batch`: as `dpg_evaluator` asks: all questions in one batch padded to the longest, the image prepared and encoded once for
  each, five beams a question, the whole answers so far anew at every step; in f32, as on a processor nothing is rounded to f16.
- `one batch, image encoded once`: the same, but that the image's states are made once and repeated.
- `dpg_bench`: `Judge("mplug", weights=FOLDER/mplug).answer(image, questions)`.

The answers of all must be the same. P(yes), the probability of `yes` as the first token, is held against PyTorch in f64, one
question at a time; `off` is the largest relative difference. The first call of a side warms it up with one question.

Out: Markdown tables. Wall is what a user waits; processor is user and system time of all threads, which others on the machine
change less.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("dpg-bench")
# Of the vocabulary of BERT.
YES = 2748
# What dpg_evaluator keeps of a question.
LONGEST = 35


def processor_seconds(whose=resource.RUSAGE_SELF):
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def timed(work, whose=resource.RUSAGE_SELF):
    wall, before = time.monotonic(), processor_seconds(whose)
    work()
    return time.monotonic() - wall, processor_seconds(whose) - before


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    load = os.getloadavg()[0]
    print(f"{name}, {os.cpu_count()} cores, load {load:.1f} at the start, {time.strftime('%Y-%m-%d %H:%M')}\n", flush=True)


def command(*words):
    done = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def spread(times):
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def evaluate(options):
    import numpy
    import PIL.Image

    import dpg_bench

    with tempfile.TemporaryDirectory() as folder:
        made, imported, judged, own = (Path(folder) / name for name in ("made", "imported", "judged", "own"))
        command("generate", "--model", "demo-ella", "--benchmark", "demo", "--steps", options.steps, "--out", made)
        benchmark = dpg_bench.Benchmark.load("demo")
        images = {
            item.id: [numpy.asarray(PIL.Image.open(made / "images" / item.id / f"{number}.png")) for number in range(4)]
            for item in benchmark.items
        }
        by_import, by_command, by_module = [], [], []

        def bring():
            command("import", "--images", made / "images", "--benchmark", "demo", "-n", 4, "--out", imported)

        def judge_and_score():
            command("judge", judged, "--judge", "demo-judge")
            command("score", judged)

        def call():
            judge = dpg_bench.Judge("demo-judge")
            dpg_bench.evaluate(images, benchmark=benchmark, judge=judge, out=own)

        for number in range(options.rounds + 1):
            for run in (imported, judged, own):
                shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(made, judged)
            turn = [
                (by_import, bring, resource.RUSAGE_CHILDREN),
                (by_command, judge_and_score, resource.RUSAGE_CHILDREN),
                (by_module, call, resource.RUSAGE_SELF),
            ]
            for times, work, whose in turn[:: 1 if number % 2 else -1]:
                times.append(timed(work, whose))
            told = f"import {by_import[-1]}, judge and score {by_command[-1]}, module {by_module[-1]}"
            print(f"round {number}: {told}", file=sys.stderr, flush=True)
        for name in ["answers/demo-judge.jsonl", "summary/demo-judge.csv"]:
            same = (judged / name).read_bytes() == (own / name).read_bytes()
            print(f"{name}: {'the same bytes' if same else 'OTHER BYTES'}", file=sys.stderr)
            assert same
    print(f"{sum(map(len, images.values()))} images of {len(images)} items, {options.rounds} rounds after one to warm up\n")
    print("| | wall, s | processor, s |\n|---|---|---|")
    everything = [tuple(map(sum, zip(*parts))) for parts in zip(by_import, by_command)]
    sides = {"judge` and `score": by_command, "import`, `judge` and `score": everything}
    own = [statistics.median(times) for times in zip(*by_module[1:])]
    for name, times in [*((f"`dpg-bench {name}`", times) for name, times in sides.items()), ("`dpg_bench.evaluate`", by_module)]:
        print(f"| {name} | {' | '.join(spread(of) for of in zip(*times[1:]))} |")
    for name, times in sides.items():
        medians = [statistics.median(of) for of in zip(*times[1:])]
        ratios = [f"{mine / other:.3f}" for mine, other in zip(own, medians)]
        print(f"| `evaluate` / `{name}`, medians | {' | '.join(ratios)} |")


def forms(side):
    import numpy
    import PIL.Image

    pixels = numpy.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=numpy.uint8)
    planes = numpy.ascontiguousarray(pixels.transpose(2, 0, 1))
    yield "NumPy, uint8, HWC", pixels
    yield "NumPy, uint8, CHW", planes
    yield "NumPy, float32, HWC", (pixels / 255).astype(numpy.float32)
    yield "Pillow, RGB", PIL.Image.fromarray(pixels)
    try:
        import torch
    except ImportError:
        print("SKIPPED: torch is not installed", file=sys.stderr)
        return
    yield "PyTorch, uint8, CHW", torch.from_numpy(planes)
    yield "PyTorch, float32, CHW", torch.from_numpy(planes).float() / 255
    yield "PyTorch, float16, CHW", (torch.from_numpy(planes).float() / 255).half()


def border(options):
    import dpg_bench

    judge = dpg_bench.Judge("scripted", rule="yes")
    print(f"{options.side} x {options.side} pixels, {options.calls} calls each after 20 to warm up\n")
    print("| image | wall a call, ms: median (least to largest) | processor a call, ms |\n|---|---|---|")
    for name, image in forms(options.side):
        for _ in range(20):
            judge.answer(image, [])
        walls = []
        before = processor_seconds()
        for _ in range(options.calls):
            wall = time.perf_counter()
            judge.answer(image, [])
            walls.append(1000 * (time.perf_counter() - wall))
        cpu = 1000 * (processor_seconds() - before) / options.calls
        print(f"| {name} | {spread(walls)} | {cpu:.2f} |", flush=True)


def searched(network, states, mask):
    """All questions' beam searches in one batch, the answers so far anew at each step; and P(yes) of each."""
    import torch

    from mplug_torch import START, extend

    config, count = network.config, len(states)
    beams = config.beam_size
    sequences = [torch.full((beams, 1), START) for _ in range(count)]
    standing = [torch.tensor([0.0] + [float("-inf")] * (beams - 1)) for _ in range(count)]
    stored, alive, yes = [[] for _ in range(count)], list(range(count)), None
    for step in range(config.max_length):
        tokens = torch.cat([sequences[number] for number in alive])
        rows = [states[alive].repeat_interleave(beams, dim=0), mask[alive].repeat_interleave(beams, dim=0)]
        logits = network.text_decoder(tokens, *rows).unflatten(0, (len(alive), beams))
        if step == 0:
            yes = logits[:, 0].softmax(-1)[:, YES].tolist()
        still = []
        for place, number in enumerate(alive):
            sequences[number], standing[number], ended = extend(
                logits[place], sequences[number], standing[number], step, config, stored[number]
            )
            if not ended:
                still.append(number)
        alive = still
        if not alive:
            break
    best = [max(hypotheses, key=lambda hypothesis: hypothesis[0])[1] for hypotheses in stored]
    return best, yes


def torch_side(side, folder):
    """What answers questions, as a function of them: texts and P(yes)."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from transformers import BertTokenizer

    from make_mplug import pixels
    from mplug_torch import START, Config, Mplug, padded

    with torch.no_grad():
        network = Mplug(Config()).eval()
        network.load_state_dict(load_file(folder / "mplug/model.safetensors"), strict=False)
    # Layers that are not run need not be held.
    for number in range(6):
        network.fusion_encoder.encoder.layer[number] = torch.nn.Identity()
    tokenizer = BertTokenizer(str(folder / "mplug/vocab.txt"))
    picture = Image.open(folder / "picture.png").convert("RGB")
    size = network.config.image_res

    def asked(questions):
        ids = [tokenizer(text.lower(), truncation=True, max_length=LONGEST)["input_ids"] for text in questions]
        lengths = [len(row) for row in ids]
        return padded(ids, max(lengths)), lengths

    def one_batch(questions):
        ids, lengths = asked(questions)
        if side == "encoded-once":
            image = network.image_states(pixels(picture, size)[None]).repeat(len(ids), 1, 1)
        else:
            image = network.image_states(torch.stack([pixels(picture, size) for _ in questions]))
        best, yes = searched(network, *network.question_states(image, ids, lengths))
        return [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in best], yes

    def exact(questions):
        image = network.image_states(pixels(picture, size).double()[None])
        yes = []
        for text in questions:
            ids, lengths = asked([text])
            states, mask = network.question_states(image, ids, lengths)
            logits = network.text_decoder(torch.tensor([[START]]), states, mask)
            assert logits.dtype == torch.float64
            yes.append(logits.softmax(-1)[0, YES].item())
        return None, yes

    if side == "exact":
        network.double()
        return exact
    return one_batch


def own_side(folder):
    import numpy
    from PIL import Image

    import dpg_bench

    judge = dpg_bench.Judge("mplug", weights=folder / "mplug", device="cpu")
    image = numpy.asarray(Image.open(folder / "picture.png").convert("RGB"))

    def ask(questions):
        answers = judge.answer(image, questions)
        return [answer.text for answer in answers], [answer.yes_probability for answer in answers]

    return ask


def serve(side, folder, questions, threads):
    """Makes a call for every line on standard input; see cpu_speed.Side."""
    from cpu_speed import peak_mebibytes

    if side == "dpg_bench":
        ask = own_side(folder)
    else:
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        ask = torch_side(side, folder)
    for number, _ in enumerate(sys.stdin):
        told = []
        # The first call warms up.
        wall, cpu = timed(lambda: told.append(ask(questions if number or side == "exact" else questions[:1])))
        texts, yes = told[0]
        print(json.dumps({"wall": wall, "cpu": cpu, "peak_mib": peak_mebibytes(), "texts": texts, "yes": yes}), flush=True)


def mplug(options):
    sys.path += [str(HERE), str(HERE.parent / "tests/fixtures")]
    from cpu_speed import Side
    from mplug_speed import QUESTIONS, make

    folder, questions = options.folder, QUESTIONS[: options.questions]
    if options.serve:
        return serve(options.serve, folder, questions, options.threads)
    if not (folder / "mplug/questions.json").exists():
        make(folder)

    def side(name):
        words = [sys.executable, __file__, "mplug", folder, "--serve", name]
        words += ["--threads", options.threads, "--questions", options.questions]
        return Side([str(word) for word in words], options.threads)

    exact = side("exact")
    exact.call()
    exact.close()
    truth = exact.calls[0]["yes"]
    names = {"one-batch": "one batch", "encoded-once": "one batch, image encoded once", "dpg_bench": "`dpg_bench`"}
    sides = {name: side(name) for name in names if name in {*options.sides, "dpg_bench"}}
    for number in range(options.rounds + 1):
        for name, one in sides.items():
            one.call()
            call = {key: one.calls[-1][key] for key in ("wall", "cpu", "peak_mib")}
            print(f"round {number}, {name}: {call}", file=sys.stderr, flush=True)
    for one in sides.values():
        one.close()
    own = sides["dpg_bench"]
    print(f"one image, {len(questions)} questions, {options.threads} threads, {options.rounds} rounds after one to warm up\n")
    head = ["side", "wall, s", "processor, s", "wall / `dpg_bench`", "processor / `dpg_bench`", "peak, MiB"]
    print(f"| {' | '.join([*head, 'other answers', 'P(yes) off'])} |\n|{'---|' * 8}")
    others = 0
    for name, one in sides.items():
        last = one.calls[-1]
        different = sum(text != of_own for text, of_own in zip(last["texts"], own.calls[-1]["texts"]))
        others += different
        off = max(abs(yes - exactly) / exactly for yes, exactly in zip(last["yes"], truth))
        ratios = [f"{one.median(key) / own.median(key):.2f} x" for key in ("wall", "cpu")]
        times = [spread([call[key] for call in one.calls[1:]]) for key in ("wall", "cpu")]
        cells = [names[name], *times, *ratios, str(last["peak_mib"]), str(different), f"{off:.1e}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nanswers: {sorted(set(own.calls[-1]['texts']))}")
    sys.exit(1 if others else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("evaluate")
    part.add_argument("--rounds", type=int, default=5)
    part.add_argument("--steps", type=int, default=4, help="of the images' generation, which is not timed")
    part = parts.add_parser("border")
    part.add_argument("--calls", type=int, default=200)
    part.add_argument("--side", type=int, default=512)
    part = parts.add_parser("mplug")
    part.add_argument("folder", type=Path)
    part.add_argument("--threads", type=int, default=os.cpu_count())
    part.add_argument("--rounds", type=int, default=2)
    part.add_argument("--questions", type=int, default=14)
    part.add_argument("--sides", nargs="+", default=["one-batch", "encoded-once", "dpg_bench"])
    part.add_argument("--serve", choices=["one-batch", "encoded-once", "dpg_bench", "exact"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not getattr(options, "serve", None):
        machine()
    {"evaluate": evaluate, "border": border, "mplug": mplug}[options.part](options)


if __name__ == "__main__":
    main()
