"""Trains demo-judge to answer questions about pictures of the small world.

In: world.py, judge_questions.py. Out: WORK/judge-look.pt and WORK/judge-answer.pt, rewritten every two
minutes; the same command goes on from there. export_judge.py makes the published files of the second.

1. `look`: the vision tower alone learns what stands where, by heads that are thrown away. The original's tower
   was trained on pictures and captions before it saw a question, too.
2. `answer`: everything learns the answers' word pieces, "yes" or "no" and [SEP], as the original does; the heads
   go on beside, with a fifth of the weight, until the tower is left as it is.

Every step draws its scenes, pictures and questions from a generator of its own, seeded by its number, so that
a stopped training ends as one that was never stopped.

    OMP_NUM_THREADS=1 python train_judge.py --work WORK look
    OMP_NUM_THREADS=1 python train_judge.py --work WORK answer
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import world
from judge_model import END, Words, answer_logits, first_word, image_states, new_network, padded, pixels
from judge_pictures import pictures

SEED = 7
BATCH = {"look": 64, "answer": 32}
STEPS = {"look": 2000, "answer": 5000}
RATE = {"look": 1e-3, "answer": 8e-4}
# After so many steps of `answer` the tower stays as it is: the time goes into questions.
TOWER = 500
QUESTIONS = 16
PARTS = 2
EMA = 0.999


class Heads(nn.Module):
    """What stands in each quarter, the background and the frame, from a picture's states."""

    FIELDS = (len(world.SHAPES) + 1, len(world.COLOURS), len(world.FORMS))

    def __init__(self, width):
        super().__init__()
        self.things = nn.Linear(width, sum(self.FIELDS))
        self.whole = nn.Linear(width, len(world.BACKGROUNDS) + 2)
        # The class token knows the whole scene, and each patch where it is: without that, nothing tells the
        # questions which place a state is of.
        self.scene = nn.Linear(width, 4 * sum(self.FIELDS))
        self.place = nn.Linear(width, 16)

    def loss(self, states, rows, nothing):
        rows = torch.from_numpy(rows.astype(np.int64))
        patches = states[:, 1:].unflatten(1, (2, 4, 2, 4)).mean((2, 4)).flatten(1, 2)
        shapes = torch.where(nothing[:, None], 0, rows[:, 2::4] + 1)
        something, there = ~nothing, shapes > 0

        def things(logits):
            shape, colour, form = logits.split(self.FIELDS, dim=-1)
            losses = (
                F.cross_entropy(shape.flatten(0, 1), shapes.flatten())
                + F.cross_entropy(colour[there], rows[:, 3::4][there])
                + F.cross_entropy(form[there], rows[:, 4::4][there])
            )
            return losses, shape, colour, form

        near, shape, colour, form = things(self.things(patches.float()))
        far = things(self.scene(states[:, 0].float()).unflatten(1, (4, -1)))[0]
        background, frame = self.whole(states[:, 0].float()).split((len(world.BACKGROUNDS), 2), dim=-1)
        place = self.place(states[:, 1:].float()).unflatten(2, (2, 8))
        places = torch.stack([torch.arange(64) // 8, torch.arange(64) % 8], dim=-1).expand(len(states), -1, -1)
        parts = [
            near,
            0.5 * far,
            2.0 * F.cross_entropy(place.flatten(0, 2), places.flatten()),
            0.3 * F.cross_entropy(background[something], rows[something, 0]),
            0.3 * F.cross_entropy(frame[something], rows[something, 1]),
        ]
        right = ((form.argmax(-1) == rows[:, 4::4]) & (colour.argmax(-1) == rows[:, 3::4]))[there].float().mean()
        return sum(parts), (shape.argmax(-1) == shapes).float().mean().item(), right.item()


def answer_loss(network, words, states, asked, truth):
    """Cross-entropy of both word pieces of each answer, and the share of right answers."""
    # Short questions and long ones apart: less padding.
    order = torch.tensor([[len(words.encode(text)) for text in texts] for texts in asked]).argsort(dim=1)
    loss, right = 0.0, 0.0
    for part in order.chunk(PARTS, dim=1):
        ids = padded(words, [[texts[place] for place in places] for texts, places in zip(asked, part.tolist())])
        wanted = truth.gather(1, part)
        answers = torch.where(wanted, words.yes, words.no)
        logits = answer_logits(network, states, ids, answers)
        targets = torch.stack([answers, torch.full_like(answers, END)], dim=-1)
        loss = loss + F.cross_entropy(logits.float().flatten(0, 2), targets.flatten()) / PARTS
        right += (first_word(words, logits.detach())[0] == wanted).float().mean().item() / PARTS
    return loss, right


def rate(step, phase):
    """Warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / 300)
    return float(RATE[phase] * warm * (0.5 + 0.5 * np.cos(np.pi * step / STEPS[phase])) + 1e-6)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--start", type=Path, help="weights to begin with: kept by an earlier training, perhaps of a deeper network, or a folder as it is published")
    arguments.add_argument("phase", choices=STEPS)
    arguments = arguments.parse_args()
    phase, answering = arguments.phase, arguments.phase == "answer"
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    kept = arguments.work / f"judge-{phase}.pt"
    words = Words([])
    if answering:
        import judge_questions

        words = judge_questions.words()
    network = new_network(words, SEED)
    heads = Heads(network.config.hidden_size)
    if not answering:
        # The vocabulary is not known yet, and not needed.
        network.text_encoder = network.fusion_encoder = network.text_decoder = nn.Identity()
    begun = [arguments.start] if arguments.start else []
    # What `look` has learned stands above what another training began with.
    begun += [arguments.work / "judge-look.pt"] if answering else []
    for path in begun:
        weights = load_file(path / "model.safetensors") if path.is_dir() else torch.load(path, weights_only=True)["averaged"]
        network.load_state_dict(weights, strict=False)
    parts = nn.ModuleDict({"network": network, "heads": heads})
    optimizer = torch.optim.AdamW(parts.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    averaged = {name: value.clone() for name, value in network.state_dict().items()}
    step = 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        assert state["vocabulary"] == words.pieces, f"the vocabulary has changed; remove {kept} to begin anew"
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
        averaged, step = state["averaged"], state["step"]
        print(f"going on at step {step}", flush=True)

    def keep():
        state = {
            "vocabulary": words.pieces, "parts": parts.state_dict(), "optimizer": optimizer.state_dict(),
            "averaged": averaged, "step": step,
        }
        torch.save(state, kept.with_suffix(".part"))
        kept.with_suffix(".part").replace(kept)

    network.train()
    began, seen, saved = time.time(), [], time.time()
    while step < STEPS[phase]:
        generator = np.random.default_rng([SEED, list(STEPS).index(phase), step])
        rows = world.training_rows(generator, BATCH[phase])
        drawn, nothing = pictures(generator, rows)
        still = answering and step >= TOWER
        network.visual_encoder.requires_grad_(not still)
        with torch.autocast("cpu", torch.bfloat16):
            states = image_states(network, pixels(drawn))
        looked, shapes, forms = heads.loss(states, rows, nothing)
        if answering:
            asked, truth = judge_questions.questions(generator, rows, nothing, QUESTIONS)
            with torch.autocast("cpu", torch.bfloat16):
                loss, right = answer_loss(network, words, states, asked, truth)
            seen.append((loss.item(), right, looked.item(), shapes, forms))
            loss = loss if still else loss + 0.2 * looked
        else:
            loss = looked
            seen.append((loss.item(), shapes, forms))
        for group in optimizer.param_groups:
            group["lr"] = rate(step, phase)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        share = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                averaged[name].lerp_(value, 1 - share)
        if step % 100 == 0:
            figures = " ".join(f"{value:.4f}" for value in np.mean(seen, axis=0))
            speed = len(seen) * BATCH[phase] / (time.time() - began)
            print(f"{phase} {step} {figures} {speed:.0f}/s", flush=True)
            began, seen = time.time(), []
        if step == STEPS[phase] or time.time() - saved > 90:
            keep()
            saved = time.time()


if __name__ == "__main__":
    main()
