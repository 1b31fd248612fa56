"""The benchmark's questions about a scene: a graph in the form of DPG-Bench.

In: a Scene, its dense caption and a numpy Generator. Out: 10 to 16 questions, all of which the scene's own
picture answers with yes. Only what the caption says is asked.
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


def questions(scene, caption, generator):
    """Questions about `scene`; numbers of parents count from 1."""
    found, entity = [], {}

    def ask(category, detail, body, text, *parents):
        head = f"{category} - {detail} " if detail else f"{category} - "
        found.append(Question(category, detail, f"{head}({body})", text, list(parents)))
        return len(found)

    ask("global", "", f"{scene.background} background", f"Is the background {scene.background}?")
    if scene.frame:
        ask("global", "", "brown frame", "Is there a brown frame around the picture?")
    things = [scene.things[k] for k in generator.permutation(len(scene.things))]
    for thing in things:
        text = f"Are there {thing.noun}?" if thing.count > 1 else f"Is there a {thing.noun}?"
        entity[thing] = ask("entity", "whole", thing.noun, text)
    for thing in things:
        ask("attribute", "color", f"{thing.noun}, {thing.colour}", f"{is_are(thing)} the {thing.noun} {thing.colour}?", entity[thing])
    # What else can be asked, a kind at a time, until there are enough.
    pools = [[], [], [], []]
    for thing in things:
        own = entity[thing]
        if thing.count > 1:
            number = NUMBERS[thing.count]
            pools[0].append(("other", "count", f"{thing.noun}, =={thing.count}", f"Are there exactly {number} {thing.noun}?", own))
        else:
            pools[1].append(("attribute", "size", f"{thing.noun}, {thing.size}", f"Is the {thing.noun} {thing.size}?", own))
            pools[0].append(("other", "count", f"{thing.noun}, ==1", f"Is there exactly one {thing.noun}?", own))
            if thing.pattern != "solid" or "solid" in caption and said_solid(thing, caption):
                pools[1].append(("attribute", "texture", f"{thing.noun}, {thing.pattern}", f"Is the {thing.noun} {thing.pattern}?", own))
        side = ("upper" if thing.row == 0 else "lower") + (" right" if thing.column else " left")
        text = f"{is_are(thing)} the {thing.noun} in the {side}?"
        pools[2].append(("relation", "spatial", f"{thing.noun}, picture, {side}", text, own))
    for k, thing in enumerate(things):
        for other in things[:k]:
            how = relation(thing, other)
            if how:
                text = f"{is_are(thing)} the {thing.noun} {how} the {other.noun}?"
                body = f"{thing.noun}, {other.noun}, {how}"
                pools[3].append(("relation", "spatial", body, text, *sorted((entity[thing], entity[other]))))
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


def said_solid(thing, caption):
    """Whether the caption calls this thing solid, in the sentence about it."""
    before, _, after = caption.partition("solid")
    beginning = (before + "solid").rsplit(". ", 1)[-1].lower()
    if after.partition("solid")[1]:
        return False
    return f"the {thing.noun} is" in beginning and " while the " not in beginning and ", and the " not in beginning


def is_are(thing):
    return "Is" if thing.count == 1 else "Are"
