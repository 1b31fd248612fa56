"""The benchmark's questions about a scene: a graph in the form of DPG-Bench.

In: a Scene, which sentence of its dense caption tells what, and a numpy Generator. Out: 10 to 16 questions,
all of which the scene's own picture answers with yes. Only what the caption says is asked.
"""

from dataclasses import dataclass

from captions import NUMBERS, relation

MOST = 16


@dataclass
class Question:
    """One row of the question file, without its item."""

    category: str
    detail: str
    tuple: str
    text: str
    parents: list
    # The sentence of the prompt, from 0, after which the answer is known.
    sentence: int


def questions(scene, told, generator):
    """Questions about `scene`; numbers of parents count from 1. `told` is that of captions.dense_and_told."""
    found, entity = [], {}

    def ask(category, detail, body, text, facts, *parents):
        head = f"{category} - {detail} " if detail else f"{category} - "
        sentence = max(told[fact] for fact in facts)
        found.append(Question(category, detail, f"{head}({body})", text, list(parents), sentence))
        return len(found)

    ask("global", "", f"{scene.background} background", f"Is the background {scene.background}?", [("background",)])
    if scene.frame:
        ask("global", "", "brown frame", "Is there a brown frame around the picture?", [("background",)])
    things = [scene.things[k] for k in generator.permutation(len(scene.things))]
    for thing in things:
        text = f"Are there {thing.noun}?" if thing.count > 1 else f"Is there a {thing.noun}?"
        entity[thing] = ask("entity", "whole", thing.noun, text, [("there", thing.quadrant)])
    for thing in things:
        text = f"{is_are(thing)} the {thing.noun} {thing.colour}?"
        ask("attribute", "color", f"{thing.noun}, {thing.colour}", text, [("colour", thing.quadrant)], entity[thing])
    # What else can be asked, a kind at a time, until there are enough.
    pools = [[], [], [], []]
    for thing in things:
        own = entity[thing]
        def pool(k, category, detail, value, text, fact):
            pools[k].append((category, detail, f"{thing.noun}, {value}", text, [(fact, thing.quadrant)], own))

        if thing.count > 1:
            text = f"Are there exactly {NUMBERS[thing.count]} {thing.noun}?"
            pool(0, "other", "count", f"=={thing.count}", text, "there")
        else:
            pool(0, "other", "count", "==1", f"Is there exactly one {thing.noun}?", "there")
            pool(1, "attribute", "size", thing.size, f"Is the {thing.noun} {thing.size}?", "size")
            if ("pattern", thing.quadrant) in told:
                pool(1, "attribute", "texture", thing.pattern, f"Is the {thing.noun} {thing.pattern}?", "pattern")
        side = ("upper" if thing.row == 0 else "lower") + (" right" if thing.column else " left")
        text = f"{is_are(thing)} the {thing.noun} in the {side}?"
        pool(2, "relation", "spatial", f"picture, {side}", text, "place")
    for k, thing in enumerate(things):
        for other in things[:k]:
            how = relation(thing, other)
            if how:
                text = f"{is_are(thing)} the {thing.noun} {how} the {other.noun}?"
                body = f"{thing.noun}, {other.noun}, {how}"
                facts = [("place", thing.quadrant), ("place", other.quadrant)]
                pools[3].append(("relation", "spatial", body, text, facts, *sorted((entity[thing], entity[other]))))
    pools = [[pool[k] for k in generator.permutation(len(pool))] for pool in pools]
    # A count first, groups before single things; then attributes and relations by turns.
    pools[0].sort(key=lambda question: question[2].endswith("==1"))
    ask(*pools[0].pop(0))
    room = MOST - len(found) - int(generator.integers(3))
    kinds = [1, 3, 2, 1, 3, 1, 2, 3, 1, 2, 1, 3, 2, 1, 2, 3]
    for kind in kinds:
        if room > 0 and pools[kind]:
            ask(*pools[kind].pop(0))
            room -= 1
    return found


def is_are(thing):
    return "Is" if thing.count == 1 else "Are"
