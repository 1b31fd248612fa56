"""Trains demo-judge to answer questions about pictures of the small world.

In: world.py, judge_questions.py, and --autoencoder, the trained autoencoder of demo-sd, whose pictures are
among those that the judge learns from. Out: WORK/judge-look.pt and WORK/judge-answer.pt, rewritten every two
minutes; the same command goes on from there. export_judge.py makes the published files of the second.

1. `look`: the vision tower alone learns what stands in each quarter, by heads that are thrown away. The
   original's tower was trained on pictures and captions before it saw a question, too.
2. `answer`: the rest learns the answers' word pieces, "yes" or "no" and [SEP], as the original does. The tower
   stays as it is: nearly all of the time goes into questions, and there is one core.

Every step draws its scenes, pictures and questions from a generator of its own, seeded by its number, so that
a stopped training ends as one that was never stopped.

    OMP_NUM_THREADS=1 python train_judge.py --work WORK [--autoencoder DIR] look
    OMP_NUM_THREADS=1 python train_judge.py --work WORK [--autoencoder DIR] answer
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import world
from judge_model import END, Words, answer_logits, first_word, image_states, new_network, padded, pixels
from judge_pictures import pictures

SEED = 7
BATCH = {"look": 64, "answer": 32}
STEPS = {"look": 6000, "answer": 8000}
RATE = {"look": 1e-3, "answer": 8e-4}
QUESTIONS = 24
PARTS = 3
EMA = 0.999


class Heads(nn.Module):
    """What stands in each quarter, the background and the frame, from a picture's states."""

    FIELDS = (len(world.SHAPES) + 1, len(world.COLOURS), len(world.FORMS))

    def __init__(self, width):
        super().__init__()
        self.things = nn.Linear(width, sum(self.FIELDS))
        self.whole = nn.Linear(width, len(world.BACKGROUNDS) + 2)

    def loss(self, states, rows, nothing):
        rows = torch.from_numpy(rows.astype(np.int64))
        patches = states[:, 1:].unflatten(1, (2, 4, 2, 4)).mean((2, 4)).flatten(1, 2)
        shape, colour, form = self.things(patches.float()).split(self.FIELDS, dim=-1)
        shapes = torch.where(nothing[:, None], 0, rows[:, 2::4] + 1)
        there = shapes > 0
        background, frame = self.whole(states[:, 0].float()).split((len(world.BACKGROUNDS), 2), dim=-1)
        something = ~nothing
        parts = [
            F.cross_entropy(shape.flatten(0, 1), shapes.flatten()),
            F.cross_entropy(colour[there], rows[:, 3::4][there]),
            F.cross_entropy(form[there], rows[:, 4::4][there]),
            0.3 * F.cross_entropy(background[something], rows[something, 0]),
            0.3 * F.cross_entropy(frame[something], rows[something, 1]),
        ]
        right = ((form.argmax(-1) == rows[:, 4::4]) & (colour.argmax(-1) == rows[:, 3::4]))[there].float().mean()
        return sum(parts), (shape.argmax(-1) == shapes).float().mean().item(), right.item()


def answer_loss(network, words, inputs, asked, truth):
    """Cross-entropy of both word pieces of each answer, and the share of right answers."""
    with torch.autocast("cpu", torch.bfloat16):
        states = image_states(network, inputs)
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
    arguments.add_argument("--autoencoder", type=Path)
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
    if answering:
        before = torch.load(arguments.work / "judge-look.pt", weights_only=True)["averaged"]
        network.load_state_dict(before, strict=False)
        network.visual_encoder.requires_grad_(False)
    else:
        # The vocabulary is not known yet, and not needed.
        network.text_encoder = network.fusion_encoder = network.text_decoder = nn.Identity()
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
    autoencoder = None
    if arguments.autoencoder:
        from judge_pictures import through_autoencoder

        autoencoder = through_autoencoder(arguments.autoencoder)

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
        drawn, nothing = pictures(generator, rows, autoencoder)
        inputs = pixels(drawn)
        if answering:
            asked, truth = judge_questions.questions(generator, rows, nothing, QUESTIONS)
            loss, right = answer_loss(network, words, inputs, asked, truth)
            seen.append((loss.item(), right))
        else:
            with torch.autocast("cpu", torch.bfloat16):
                states = image_states(network, inputs)
            loss, shapes, forms = heads.loss(states, rows, nothing)
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
