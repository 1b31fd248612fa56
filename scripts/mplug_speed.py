"""mPLUG at full size on the processor: all questions about one crop, as the original asks them, in PyTorch
with what can be shared shared, and by our judge.

In: a folder for 2.4 GB of seeded random weights (made where missing). Out: a Markdown table on standard output,
and the calls as they come on standard error.

    python scripts/mplug_speed.py FOLDER [--threads 1 2] [--rounds 3] [--sides original shared ours]

Every side reads the same picture and the same 14 questions; a call is everything from the picture to the
answers: resizing, tokenizing, networks, beam search. `original` takes one question at a time and computes picture,
question and answer so far anew at every step, as ModelScope's code does (fixtures/mplug_torch.py, which equals it).
`shared` encodes the picture once, makes the keys and values of its states once, asks all questions in one batch and
keeps what the answers have said so far. `ours` is the judge of `dpg-bench judge --judge mplug`. The sides' answers
must be equal, token for token, and their scores within 1e-3. One call each to warm up (of the original: one question),
then ROUNDS each in turn, whose medians are given; of the original one call with three of the questions, whose times
are given times 14/3. The end token's bias is set so that answers are one
word, as those of the trained network mostly are: two steps of the search.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "tests/fixtures")]

from cpu_speed import Side, build, peak_mebibytes, processor_seconds  # noqa: E402

QUESTIONS = [
    "Is there a dog?",
    "Is there a bench?",
    "Is the dog brown?",
    "Is the dog wearing a red scarf?",
    "Is the bench made of wood?",
    "Are there two people in the park?",
    "Is the man holding an umbrella?",
    "Is the umbrella blue and white?",
    "Is the woman standing to the left of the man?",
    "Is the dog sitting under the bench?",
    "Are there tall trees behind the people in the background?",
    "Is the sky cloudy?",
    "Is there a path covered with fallen leaves in front of the bench?",
    "Is the style of the picture that of a watercolor painting?",
]
SIDE = 504
# Those that the original is asked.
FEW = slice(0, None, 5)


def make(folder):
    """A folder as published, with the picture and the questions beside it."""
    import numpy
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    import make_mplug
    from mplug_torch import Config, Mplug

    own = folder / "mplug"
    own.mkdir(parents=True)
    words = sorted({word for text in QUESTIONS for word in text.lower().replace("?", " ?").split()})
    vocabulary = ["[PAD]"] + [f"[unused{n}]" for n in range(99)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [f"word{n}" for n in range(len(vocabulary), 30522 - len(words))] + words
    vocabulary[2748], vocabulary[2053] = "yes", "no"
    make_mplug.VOCABULARY, make_mplug.TINY = vocabulary, folder
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        network = Mplug(Config())
        make_mplug.fill(network, generator)
        bias = network.text_decoder.cls.predictions.bias
        bias[102] += 10.0
        bias[104:106] -= 4.0
        own.rmdir()
        make_mplug.save_checkpoint("mplug", Config(), network)
        tensors = {
            name: value.clone() for name, value in network.state_dict().items()
            if make_mplug.needed(name, network.config)
        }
        save_file(tensors, own / "model.safetensors", metadata={"format": "pt"})
        coarse = torch.rand(1, 3, 9, 9, generator=generator)
        picture = torch.nn.functional.interpolate(coarse, (512, 512), mode="bilinear")[0].permute(1, 2, 0)
    picture = (picture * 255).round().byte().contiguous()
    save_file({"picture": picture}, folder / "mplug.inputs.safetensors")
    Image.fromarray(picture.numpy()).save(folder / "picture.png")
    (own / "questions.json").write_text(json.dumps(QUESTIONS))


class Shared:
    """The same arithmetic with everything shared that can be."""

    def __init__(self, network):
        self.network, self.config = network, network.config

    def image_keys(self, attention, image):
        """Keys and values [heads, n, d] of one image's states."""
        own = attention.self
        return tuple(attention.split(layer(image))[0].contiguous() for layer in (own.key, own.value))

    def crossed(self, attention, x, image, texts=None, mask=None):
        """`x` [questions, rows, width] to shared image keys and, where given, to each question's own."""
        import torch

        query = attention.split(attention.self.query(x))
        questions, heads, rows, size = query.shape
        folded = query.transpose(0, 1).reshape(heads, questions * rows, size)
        scores = (folded @ image[0].transpose(1, 2)).unflatten(1, (questions, rows)).transpose(0, 1)
        patches = scores.shape[-1]
        if texts is not None:
            scores = torch.cat([scores, query @ texts[0].transpose(2, 3)], dim=-1)
        scores = scores * attention.scale
        if texts is not None:
            scores[..., patches:] += mask
        weights = scores.softmax(-1)
        seen = weights[..., :patches].transpose(0, 1).reshape(heads, questions * rows, patches)
        mixed = (seen @ image[1]).unflatten(1, (questions, rows)).transpose(0, 1)
        if texts is not None:
            mixed = mixed + weights[..., patches:] @ texts[1]
        return attention.finish(mixed, x)

    def answers(self, pixels, ids):
        import torch

        from mplug_torch import START, extend, padded

        network, config = self.network, self.config
        image = network.image_states(pixels[None])
        lengths = [len(row) for row in ids]
        mask = network.hide(lengths, max(lengths))
        text = network.text_encoder.embeddings(padded(ids, max(lengths)))
        for layer in network.text_encoder.encoder.layer:
            text = layer(text, mask)
        first = config.num_hidden_layers - config.fusion_layers
        for layer in network.fusion_encoder.encoder.layer[first:]:
            text = layer.attention(text, mask=mask)
            keys = self.image_keys(layer.crossattention, image)
            text = layer.feed(self.crossed(layer.crossattention, text, keys))
        layers = network.text_decoder.bert.encoder.layer
        image_keys = [self.image_keys(layer.crossattention, image) for layer in layers]
        text_keys = []
        for layer in layers:
            own = layer.crossattention.self
            text_keys.append([layer.crossattention.split(part(text)) for part in (own.key, own.value)])
        hidden = torch.where(mask < 0, torch.finfo(torch.float32).min, 0.0)
        beams = config.beam_size
        alive = list(range(len(ids)))
        sequences = [torch.full((beams, 1), START) for _ in ids]
        standing = [torch.tensor([0.0] + [float("-inf")] * (beams - 1)) for _ in ids]
        stored, past, rows = [[] for _ in ids], [None] * len(layers), 1
        for step in range(config.max_length):
            tokens = torch.stack([sequences[number][:rows, -1] for number in alive])
            x = network.text_decoder.bert.embeddings(tokens.reshape(-1, 1), first=step)
            for number, layer in enumerate(layers):
                own, split = layer.attention.self, layer.attention.split
                new = [split(part(x)) for part in (own.key, own.value)]
                if past[number] is not None:
                    new = [torch.cat(pair, dim=2) for pair in zip(past[number], new)]
                past[number] = new
                query = split(own.query(x)) * layer.attention.scale
                mixed = (query @ new[0].transpose(2, 3)).softmax(-1) @ new[1]
                x = layer.attention.finish(mixed, x).reshape(len(alive), rows, -1)
                texts = [part[alive] for part in text_keys[number]]
                x = self.crossed(layer.crossattention, x, image_keys[number], texts, hidden[alive])
                x = layer.feed(x).reshape(len(alive) * rows, 1, -1)
            logits = network.text_decoder.predict(x[:, -1]).unflatten(0, (len(alive), rows))
            parents, still = [], []
            for place, number in enumerate(alive):
                before = sequences[number]
                of_question = logits[place].expand(beams, -1) if rows == 1 else logits[place]
                # Numbers of the rows go through as the first token, so that parents can be read off.
                marked = torch.cat([torch.arange(beams)[:, None], before], dim=1)
                marked, standing[number], ended = extend(
                    of_question, marked, standing[number], step, config, stored[number]
                )
                sequences[number] = marked[:, 1:]
                if not ended:
                    still.append(number)
                    parents += (place * rows + (marked[:, 0] if rows > 1 else 0 * marked[:, 0])).tolist()
            alive, rows = still, beams
            if not alive:
                break
            past = [[part[parents] for part in pair] for pair in past]
        best = [max(hypotheses, key=lambda hypothesis: hypothesis[0]) for hypotheses in stored]
        return [(score, sequence[1:]) for score, sequence in best], step + 1


def serve(side, folder, threads):
    """PyTorch's sides: a call for every line on standard input, as benches/networks.rs."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from transformers import BertTokenizer

    from make_mplug import pixels
    from mplug_torch import Config, Mplug, padded

    torch.set_num_threads(threads)
    with torch.no_grad():
        network = Mplug(Config()).eval()
        missing = network.load_state_dict(load_file(folder / "mplug/model.safetensors"), strict=False).missing_keys
        assert all(name.startswith("fusion_encoder.") for name in missing), missing
    # Layers that are not run need not be held.
    for number in range(6):
        network.fusion_encoder.encoder.layer[number] = torch.nn.Identity()
    tokenizer = BertTokenizer(str(folder / "mplug/vocab.txt"))
    picture = Image.open(folder / "picture.png")

    def tokens(text):
        return tokenizer(text.lower(), truncation=True, max_length=25)["input_ids"]

    def original(questions):
        best, steps = [], 0
        for text in questions:
            image = network.image_states(pixels(picture, SIDE)[None])
            ids = tokens(text)
            states, mask = network.question_states(image, padded([ids]), [len(ids)])
            hypotheses, taken = network.answer(states, mask)
            best.append(hypotheses[0])
            steps = max(steps, taken)
        return best, steps

    def shared(questions):
        return Shared(network).answers(pixels(picture, SIDE), [tokens(text) for text in questions])

    run = {"original": original, "shared": shared}[side]
    with torch.no_grad():
        for number, _ in enumerate(sys.stdin):
            asked = QUESTIONS
            if side == "original":
                asked = QUESTIONS[FEW] if number else QUESTIONS[:1]
            wall, before = time.monotonic(), processor_seconds()
            best, steps = run(asked)
            share = len(QUESTIONS) / len(asked)
            wall, cpu = share * (time.monotonic() - wall), share * (processor_seconds() - before)
            call = {"wall": wall, "cpu": cpu, "peak_mib": peak_mebibytes(), "steps": steps}
            print(json.dumps(call), flush=True)
    save_answers(best, folder / f"mplug.{side}.safetensors")


def save_answers(best, path):
    import torch
    from safetensors.torch import save_file

    width = max(len(tokens) for _, tokens in best)
    rows = [[score, *tokens] + [0] * (width - len(tokens)) for score, tokens in best]
    save_file({"output": torch.tensor(rows)}, path)


def compare(folder, sides):
    """The largest difference of scores between the sides; their tokens must be the same."""
    from safetensors.torch import load_file

    rows = {side: load_file(folder / f"mplug.{side}.safetensors")["output"] for side in sides}
    if "original" in rows:
        few = rows.pop("original")
        rows = {"original": few} | {f"{side}, few": values[FEW] for side, values in rows.items()} | rows
    values = list(rows.items())
    largest = 0.0
    for (name, first), (other_name, second) in zip(values, values[1:]):
        if len(first) == len(second):
            width = min(first.shape[1], second.shape[1])
            assert (first[:, 1:width] == second[:, 1:width]).all(), (name, other_name)
            largest = max(largest, (first[:, 0] - second[:, 0]).abs().max().item())
    assert largest < 1e-3, largest
    scores = values[-1][1][:, 0]
    print(f"scores from {scores.min():.4f} to {scores.max():.4f}, at most {largest:.1e} apart", file=sys.stderr)
    return largest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    names = ["original", "shared", "ours"]
    parser.add_argument("--sides", nargs="+", choices=names, default=names)
    parser.add_argument("--binary", help="a networks benchmark that is built already")
    parser.add_argument("--serve", choices=names[:2], help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder
    if options.serve:
        return serve(options.serve, folder, options.threads[0])
    if not (folder / "mplug/questions.json").exists():
        make(folder)
    binary = options.binary or build()
    print("| threads | side | wall, s | processor, s | peak, MiB | beside the original | scores apart |\n|---|---|---|---|---|---|---|")
    for threads in options.threads:
        sides = {}
        for side in options.sides:
            command = [binary, "mplug", str(folder)]
            if side != "ours":
                command = [sys.executable, __file__, str(folder), "--serve", side, "--threads", str(threads)]
            sides[side] = Side(command, threads)
        for number in range(options.rounds + 1):
            for name, side in sides.items():
                if name != "original" or number < 2:
                    side.call()
                    print(f"{threads} threads, {name}: {side.calls[-1]}", file=sys.stderr, flush=True)
        for side in sides.values():
            side.close()
        largest = compare(folder, options.sides)
        whole = sides.get("original")
        for name, side in sides.items():
            times = [f"{side.median(key):.2f}" for key in ("wall", "cpu")]
            ratio = f"{whole.median('cpu') / side.median('cpu'):.1f} x" if whole else ""
            cells = [str(threads), name, *times, str(side.calls[-1]["peak_mib"]), ratio, f"{largest:.1e}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
