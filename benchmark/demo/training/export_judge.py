"""Makes demo-judge's published files of what train_judge.py keeps, and measures it on scenes that it never saw.

In: WORK/judge-answer.pt. Out: ../models/demo-judge (f16), and on stdout how often it is right, by kind of
question, with yes and no weighed alike: on true renderings, on worn ones, and how often it says yes about
pictures that show nothing. Run it while the training goes on to see how far it is.

    OMP_NUM_THREADS=1 python export_judge.py --work WORK [--scenes 1000]
"""

import argparse
import collections
from pathlib import Path

import numpy as np
import torch

import judge_questions
import train_vae
import world
from common import to_pictures, to_pixels
from judge_model import answer_logits, first_word, image_states, new_network, padded, pixels, write_files
from judge_pictures import picture_of_nothing, wear

FOLDER = Path(__file__).resolve().parent.parent / "models" / "demo-judge"


@torch.no_grad()
def answers(network, words, pictures, asked):
    """Whether the answers are yes, bool [pictures, questions]."""
    found = []
    for first in range(0, len(asked), 50):
        part = slice(first, first + 50)
        ids = padded(words, asked[part])
        states = image_states(network, pixels(pictures[part]))
        logits = answer_logits(network, states, ids, torch.full(ids.shape[:2], words.yes))
        found.append(first_word(words, logits)[0])
    return torch.cat(found)


@torch.no_grad()
def through_autoencoder(work, pictures):
    """What demo-sd's autoencoder makes of pictures, uint8 [n, 64, 64, 3]."""
    vae = train_vae.load(work)
    made = [
        to_pictures(vae.decode(vae.encode(to_pixels(part.numpy())).latent_dist.mode()).sample)
        for part in pictures.split(50)
    ]
    return np.concatenate(made)


def measure(network, words, scenes, work):
    generator = np.random.default_rng(2026)
    rows = world.held_out_rows(generator, scenes)
    nothing = np.zeros(len(rows), bool)
    true = torch.from_numpy(world.render(rows))
    worn = wear(generator, true.permute(0, 3, 1, 2).float()).round().byte().permute(0, 2, 3, 1)
    shown = {"true renderings": true, "worn renderings": worn}
    if (work / "autoencoder.json").exists():
        shown["true renderings through demo-sd's autoencoder"] = torch.from_numpy(through_autoencoder(work, true))
    for name, pictures in shown.items():
        asked, truth = judge_questions.questions(generator, rows, nothing, 20)
        right = answers(network, words, pictures, asked) == truth
        yes, no = right[truth].float().mean().item(), right[~truth].float().mean().item()
        print(f"{name}: {right.numel()} questions, right {100 * (yes + no) / 2:.2f} % (yes {100 * yes:.2f}, no {100 * no:.2f})")
    by_kind = collections.OrderedDict()
    for kind in judge_questions.CHOICES:
        asked, truth = judge_questions.questions(generator, rows[:300], nothing, 4, only=kind)
        right = answers(network, words, true[:300], asked) == truth
        by_kind[kind] = right.float().mean().item()
    print("by kind: " + ", ".join(f"{kind} {100 * share:.1f}" for kind, share in by_kind.items()))
    others = true.permute(0, 3, 1, 2).float()
    blank = torch.stack([picture_of_nothing(generator, others) for _ in rows]).round().clamp(0, 255).byte()
    asked, truth = judge_questions.questions(generator, rows, nothing, 20)
    said = answers(network, words, blank.permute(0, 2, 3, 1), asked)
    print(f"pictures of nothing: yes to {100 * said[truth].float().mean().item():.2f} % of what is true of the scene")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--scenes", type=int, default=1000)
    arguments.add_argument("--folder", type=Path, default=FOLDER)
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    words = judge_questions.words()
    state = torch.load(arguments.work / "judge-answer.pt", weights_only=True)
    assert state["vocabulary"] == words.pieces, "the checkpoint is of another vocabulary"
    network = new_network(words, 0)
    # As they will be read.
    network.load_state_dict({name: value.half().float() for name, value in state["averaged"].items()})
    network.eval()
    print(f"step {state['step']}, {sum(value.numel() for value in network.parameters()):,} parameters")
    write_files(arguments.folder, network, words)
    measure(network, words, arguments.scenes, arguments.work)


if __name__ == "__main__":
    main()
