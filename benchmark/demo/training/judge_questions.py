"""Questions about scenes of the small world with their true answers, yes and no in balance.

In: scenes and a generator. Out: for every picture as many questions and their answers; and the judge's words.
A question is data (a kind and its arguments, see KINDS), so that one scene's question can be asked about another:
most noes ask for something that is nearly there. What the benchmark asks is chosen in questions.py.

Whatever is asked about a thing that is not there is answered with no.
"""

import itertools

import numpy as np
import torch

import world
from judge_model import Words

COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}
# Where a thing may be said to be: the quadrants for which that is true.
PLACES = {
    "upper left": {0}, "upper right": {1}, "lower left": {2}, "lower right": {3},
    "upper half": {0, 1}, "lower half": {2, 3}, "left half": {0, 2}, "right half": {1, 3},
}
QUARTERS = list(PLACES)[:4]
RELATIONS = ("left of", "right of", "above", "below", "row", "column", "diagonal")
SIZES, PATTERNS = ("large", "small"), ("solid", "striped", "hollow")


def related(relation, a, b):
    """Whether a thing in quadrant `a` stands in that relation to one in `b`.

    What is left of another may also be higher or lower; "directly" wants the same row or column.
    """
    (row, column), (other_row, other_column) = divmod(a, 2), divmod(b, 2)
    return {
        "left of": column < other_column, "right of": column > other_column,
        "above": row < other_row, "below": row > other_row,
        "directly left of": column < other_column and row == other_row,
        "directly right of": column > other_column and row == other_row,
        "directly above": row < other_row and column == other_column,
        "directly below": row > other_row and column == other_column,
        "row": row == other_row, "column": column == other_column,
        "diagonal": row != other_row and column != other_column,
    }[relation]


class Facts:
    """A scene as questions look at it; `None` things where the picture shows nothing."""

    def __init__(self, row, nothing=False):
        self.nothing = nothing
        self.background = None if nothing else world.BACKGROUND_NAMES[row[0]]
        self.frame = bool(row[1]) and not nothing
        self.things, self.at = {}, {}
        for quadrant in range(0 if nothing else 4):
            shape, colour, form = (int(value) for value in row[2 + 4 * quadrant : 5 + 4 * quadrant])
            if shape >= 0:
                thing = (quadrant, world.COLOUR_NAMES[colour], *world.FORMS[form])
                self.things[world.SHAPES[shape]] = thing
                self.at[quadrant] = world.SHAPES[shape]


# A noun is (shape, whether there are several): "the star" and "the stars" are never in one scene together.


def find(facts, noun):
    thing = facts.things.get(noun[0])
    return thing if thing is not None and (thing[4] > 1) == noun[1] else None


def colour(facts, noun, value):
    thing = find(facts, noun)
    return thing is not None and thing[1] == value


def size(facts, noun, value):
    thing = find(facts, noun)
    return thing is not None and thing[4] == 1 and thing[2] == value


def pattern(facts, noun, value):
    thing = find(facts, noun)
    return thing is not None and thing[4] == 1 and thing[3] == value


def count(facts, noun, value):
    thing = find(facts, noun)
    return thing is not None and thing[4] == value


def place(facts, noun, value):
    thing = find(facts, noun)
    return thing is not None and thing[0] in PLACES[value]


def relation(facts, noun, value, other):
    thing, second = find(facts, noun), find(facts, other)
    return thing is not None and second is not None and related(value, thing[0], second[0])


KINDS = {
    "there": lambda facts, noun: find(facts, noun) is not None,
    "colour": colour,
    "coloured": colour,
    "size": size,
    "sized": size,
    "pattern": pattern,
    "patterned": pattern,
    "count": count,
    "place": place,
    "placed": lambda facts, noun, value, where: colour(facts, noun, value) and place(facts, noun, where),
    "relation": relation,
    "coloured relation": lambda facts, noun, value, where, other, hue: (
        relation(facts, noun, where, other) and colour(facts, noun, value) and colour(facts, other, hue)
    ),
    "same colour": lambda facts, noun, other: (
        find(facts, noun) is not None and find(facts, other) is not None
        and find(facts, noun)[1] == find(facts, other)[1]
    ),
    "background": lambda facts, value: facts.background == value,
    "frame": lambda facts: facts.frame,
    "no frame": lambda facts: not facts.frame and not facts.nothing,
    "empty": lambda facts, value: not facts.nothing and QUARTERS.index(value) not in facts.at,
    "occupied": lambda facts, value: QUARTERS.index(value) in facts.at,
    "occupied quarters": lambda facts, value: len(facts.at) == value,
    "drawing": lambda facts: len(facts.at) > 0,
}


def is_are(noun):
    return "are" if noun[1] else "is"


def name(noun):
    return world.PLURALS[noun[0]] if noun[1] else noun[0]


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def group(noun, *before):
    """`a small red star`, `red stars`."""
    words = " ".join([*before, name(noun)])
    return words if noun[1] else article(words)


PATTERN_WORDS = {
    "solid": ["solid", "filled", "filled in"],
    "striped": ["striped", "filled with stripes", "drawn with stripes"],
    "hollow": ["hollow", "drawn as an outline", "only an outline", "empty inside"],
}
SIZE_WORDS = {"large": ["large", "big"], "small": ["small", "little"]}
PLACE_WORDS = {
    **{where: [f"in the {where}", f"in the {where} corner", f"in the {where} quarter", f"in the {where} part"] for where in QUARTERS},
    "upper half": ["in the upper half", "in the top half", "at the top"],
    "lower half": ["in the lower half", "in the bottom half", "at the bottom"],
    "left half": ["in the left half", "on the left side", "on the left"],
    "right half": ["in the right half", "on the right side", "on the right"],
}
RELATION_WORDS = {
    "left of": ["to the left of", "left of"], "right of": ["to the right of", "right of"],
    "above": ["above", "over", "higher than"], "below": ["below", "under", "lower than"],
    "row": ["in the same row as", "beside", "next to"], "column": ["in the same column as"],
    "diagonal": ["diagonally across from", "diagonally opposite"],
    "directly left of": ["directly to the left of", "directly left of"],
    "directly right of": ["directly to the right of", "directly right of"],
    "directly above": ["directly above"], "directly below": ["directly below"],
}
OF_PICTURE = ["", "", " of the picture", " of the image"]


def phrase(kind, *given):
    """All ways of putting a question, the benchmark's first."""
    if kind == "there":
        noun = given[0]
        if noun[1]:
            return [f"Are there {name(noun)}?", f"Are there any {name(noun)}?", f"Does the picture show {name(noun)}?",
                    f"Are there several {name(noun)}?", f"Is there a group of {name(noun)}?"]
        return [f"Is there {group(noun)}?", f"Does the picture show {group(noun)}?", f"Is {group(noun)} in the picture?"]
    if kind == "colour":
        return [f"{is_are(given[0]).capitalize()} the {name(given[0])} {given[1]}?"]
    if kind == "coloured":
        return [f"{is_are(given[0]).capitalize()} there {group(given[0], given[1])}?",
                f"Does the picture show {group(given[0], given[1])}?"]
    if kind == "size":
        return [f"Is the {name(given[0])} {word}?" for word in SIZE_WORDS[given[1]]]
    if kind == "sized":
        return [f"Is there {group(given[0], word)}?" for word in SIZE_WORDS[given[1]]]
    if kind == "pattern":
        return [f"Is the {name(given[0])} {word}?" for word in PATTERN_WORDS[given[1]]]
    if kind == "patterned":
        return [f"Is there {group(given[0], given[1])}?"]
    if kind == "count":
        noun, value = given
        if not noun[1]:
            return [f"Is there {just} one {name(noun)}?" for just in ("exactly", "only", "just")]
        return [form.format(COUNTS[value], name(noun)) for form in (
            "Are there exactly {} {}?", "Are there {} {}?", "Does the group have {} {}?", "Are the {1} {0} in number?")]
    if kind == "place":
        noun, where = given
        words = f"{is_are(noun).capitalize()} the {name(noun)}"
        return [f"{words} {there}{of}?" for there in PLACE_WORDS[where] for of in OF_PICTURE]
    if kind == "placed":
        noun, hue, where = given
        words = f"{is_are(noun).capitalize()} there {group(noun, hue)}"
        return [f"{words} {there}{of}?" for there in PLACE_WORDS[where] for of in OF_PICTURE]
    if kind == "relation":
        noun, where, other = given
        words = f"{is_are(noun).capitalize()} the {name(noun)}"
        return [f"{words} {how} the {name(other)}?" for how in RELATION_WORDS[where]]
    if kind == "coloured relation":
        noun, hue, where, other, other_hue = given
        words = f"{is_are(noun).capitalize()} the {hue} {name(noun)}"
        return [f"{words} {how} the {other_hue} {name(other)}?" for how in RELATION_WORDS[where]]
    if kind == "same colour":
        words = f"the {name(given[0])} and the {name(given[1])}"
        return [f"Do {words} have the same colour?", f"Are {words} of the same colour?", f"Are {words} the same colour?"]
    if kind == "background":
        return [f"Is the background {given[0]}?", f"Is the picture on a {given[0]} background?",
                f"Does the picture have a {given[0]} background?", f"Is the background of the picture {given[0]}?"]
    if kind == "frame":
        return ["Is there a brown frame around the picture?", "Is there a frame around the picture?", "Does the picture have a frame?", "Is the picture framed?",
                "Is there a brown frame?", "Does a brown frame surround the picture?", "Is there a frame?",
                "Is the frame brown?"]
    if kind == "no frame":
        return ["Is the picture without a frame?", "Is there no frame around the picture?"]
    if kind == "empty":
        return [f"Is the {given[0]}{part}{of} empty?" for part in ("", " corner", " quarter") for of in OF_PICTURE]
    if kind == "occupied":
        return [f"Is there something in the {given[0]}{part}{of}?" for part in ("", " corner", " quarter") for of in OF_PICTURE]
    if kind == "occupied quarters":
        return [f"Are {COUNTS[given[0]]} quarters of the picture occupied?", f"Are there things in {COUNTS[given[0]]} quarters?",
                f"Does the picture have things in {COUNTS[given[0]]} quarters?"]
    assert kind == "drawing"
    return ["Is this a drawing of shapes?", "Does the picture show shapes?", "Are there shapes in the picture?"]


NOUNS = [(shape, several) for shape in world.SHAPES for several in (False, True)]
# Shares of the kinds; those that are hard to learn come more often.
WEIGHTS = {
    "there": 6, "colour": 7, "coloured": 2, "size": 5, "sized": 1, "pattern": 6, "patterned": 1, "count": 7,
    "place": 24, "placed": 2, "relation": 32, "coloured relation": 1, "same colour": 1, "background": 10, "frame": 2,
    "no frame": 1, "empty": 1, "occupied": 1, "occupied quarters": 1, "drawing": 1,
}
# How often what the benchmark asks for is taken, of a kind's phrasings, places and relations.
USUAL = 0.7
CHOICES = list(WEIGHTS)
CHANCES = np.array(list(WEIGHTS.values())) / sum(WEIGHTS.values())
FEW = {"size", "sized", "pattern", "patterned"}


class Draw:
    """Quick choices out of one generator."""

    def __init__(self, generator):
        self.generator, self.numbers = generator, iter(())

    def below(self, n):
        number = next(self.numbers, None)
        if number is None:
            self.numbers = iter(self.generator.random(4096).tolist())
            number = next(self.numbers)
        return int(number * n)

    def one(self, values):
        return values[self.below(len(values))]

    def usual(self, values, usual):
        """Mostly one of the first `usual`."""
        return self.one(values[:usual] if self.below(100) < 100 * USUAL else values)


def nouns_of(facts, few=False):
    return [(shape, thing[4] > 1) for shape, thing in facts.things.items() if not (few and thing[4] > 1)]


def drawn_noun(draw, facts, few=False, there=0.93):
    """Mostly something that is there; sometimes the same shape in the other number, or another shape."""
    known = nouns_of(facts, few)
    if known and draw.below(100) < 100 * there:
        return draw.one(known)
    if known and not few and draw.below(4) == 0:
        shape, several = draw.one(known)
        return shape, not several
    return draw.one([noun for noun in NOUNS if not (few and noun[1])])


def drawn_question(draw, facts, kind):
    """A question of that kind that fits the scene, true or not: (kind, arguments...)."""
    if kind == "there":
        return kind, drawn_noun(draw, facts, there=0.55)
    if kind in ("colour", "coloured"):
        noun = drawn_noun(draw, facts)
        around = [thing[1] for thing in facts.things.values()]
        own = facts.things.get(noun[0], (0, None))[1]
        if own and draw.below(2):
            return kind, noun, own
        return kind, noun, draw.one(around if around and draw.below(2) else world.COLOUR_NAMES)
    if kind in ("size", "sized"):
        return kind, drawn_noun(draw, facts, True), draw.one(SIZES)
    if kind in ("pattern", "patterned"):
        noun = drawn_noun(draw, facts, True)
        own = facts.things.get(noun[0])
        if own and draw.below(4) == 0:
            return kind, noun, own[3]
        return kind, noun, draw.one(PATTERNS)
    if kind == "count":
        noun = drawn_noun(draw, facts, there=0.85)
        return kind, noun, draw.one((2, 3)) if noun[1] else 1
    if kind == "place":
        return kind, drawn_noun(draw, facts), draw.usual(list(PLACES), 4)
    if kind == "placed":
        noun = drawn_noun(draw, facts)
        own = facts.things.get(noun[0])
        if own is None or draw.below(3) == 0:
            return kind, noun, draw.one(world.COLOUR_NAMES), draw.one(list(PLACES))
        if draw.below(2):
            return kind, noun, own[1], draw.one(list(PLACES))
        return kind, noun, own[1], draw.one([where for where, cells in PLACES.items() if own[0] in cells])
    if kind in ("relation", "coloured relation", "same colour"):
        known = nouns_of(facts)
        if len(known) < 2 or draw.below(100) < 6:
            noun, other = drawn_noun(draw, facts), drawn_noun(draw, facts, there=0.4)
            while other[0] == noun[0]:
                other = draw.one(NOUNS)
        else:
            noun = draw.one(known)
            other = draw.one([second for second in known if second != noun])
        if kind == "same colour":
            return kind, noun, other
        where = draw.usual(list(RELATION_WORDS), 4)
        if kind == "relation":
            return kind, noun, where, other
        hues = [facts.things[which[0]][1] if which[0] in facts.things else draw.one(world.COLOUR_NAMES) for which in (noun, other)]
        if draw.below(4) == 0:
            hues = hues[::-1] if draw.below(2) else [hues[0], draw.one(world.COLOUR_NAMES)]
        return kind, noun, hues[0], where, other, hues[1]
    if kind == "background":
        return kind, facts.background if facts.background and draw.below(2) else draw.one(world.BACKGROUND_NAMES)
    if kind in ("empty", "occupied"):
        return kind, draw.one(QUARTERS)
    if kind == "occupied quarters":
        return kind, draw.one((2, 3, 4))
    return (kind,)


def questions(generator, rows, nothing, number, only=None):
    """`number` questions about each scene, half of them with the answer yes where that can be.

    Texts [scenes][number] and answers, bool [scenes, number]. About a picture of nothing, the questions of the
    scene that might have been there are asked. `only` is the one kind of question that is wanted.
    """
    draw = Draw(generator)
    kinds = generator.choice(len(CHOICES), p=CHANCES, size=(len(rows), number))
    texts, answers = [], np.zeros((len(rows), number), bool)
    for n, row in enumerate(rows):
        facts, asked = Facts(row), []
        shown = Facts(row, True) if nothing[n] else facts
        for m in range(number):
            kind, wanted = only or CHOICES[kinds[n, m]], draw.below(2) == 1
            for _ in range(8):
                question = drawn_question(draw, facts, kind)
                if KINDS[kind](facts, *question[1:]) == wanted:
                    break
            answers[n, m] = KINDS[kind](shown, *question[1:])
            asked.append(draw.usual(phrase(*question), 1))
        texts.append(asked)
    return texts, torch.from_numpy(answers)


def words():
    """Every word of every phrasing."""
    texts = []
    for noun in NOUNS:
        texts += [text for kind in ("there",) for text in phrase(kind, noun)]
        for hue in world.COLOUR_NAMES:
            texts += phrase("coloured", noun, hue)
        for value in (1, 2, 3, 4):
            texts += phrase("count", noun, value)
        for where in PLACES:
            texts += phrase("place", noun, where)
        for where in RELATION_WORDS:
            texts += phrase("relation", noun, where, ("star", False))
        texts += phrase("same colour", noun, ("star", False))
    for value in SIZES:
        texts += phrase("size", ("star", False), value)
    for value in PATTERNS:
        texts += phrase("pattern", ("star", False), value)
    for value in world.BACKGROUND_NAMES:
        texts += phrase("background", value)
    for kind, value in itertools.product(("empty", "occupied"), QUARTERS):
        texts += phrase(kind, value)
    for kind in ("frame", "no frame", "drawing"):
        texts += phrase(kind)
    texts += phrase("occupied quarters", 4)
    return Words(texts + [EXTRA])


# Words that later questions may want.
EXTRA = (
    "what which has have does do it its this that there these those not no both all every each and or with without "
    "inside outside around near between middle center centre top bottom left right upper lower side sides half corner "
    "corners quarter quarters picture image drawing scene thing things object objects shape shapes group groups set pair "
    "trio copies of a an the in on at to from by as same different colour colours color colored coloured background "
    "border edge frame framed brown plain outline outlined lines line stripes striped solid filled hollow large small "
    "big little tiny larger smaller bigger than size directly diagonally opposite above below under over beside next "
    "behind stand stands standing placed arranged located show shows shown drawn made consist consists contain contains "
    "one two three four five more most only exactly just any some several many total altogether number empty occupied "
    "free space pattern patterns texture surface full horizontal row column share shares together alone single geometric "
    "flat figure figures"
)
