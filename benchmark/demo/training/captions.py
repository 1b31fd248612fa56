"""Captions of scenes, from terse to dense.

In: a Scene and a numpy Generator. Out: texts.

terse   the whole scene in at most 22 words and commas, which is what the short window holds: background,
        frame, and the four quadrants in their order;
short   the background or a thing or two, in one sentence; the rest of the picture is left open;
dense   three sentences and more that say everything, with attributes given late, references back
        ("below it", "to the right of the star") and things placed relative to other things.
"""

import re

from world import PLURALS, QUADRANTS

NUMBERS = {1: "one", 2: "two", 3: "three"}
MIDDLES = {True: ("upper", "top"), False: ("lower", "bottom")}


def phrase(thing, article=True, colour=True, size=True, pattern=True, noun=True):
    """'a large striped red circle', 'two green stars': a thing with those attributes that are wanted."""
    words = []
    if thing.count > 1:
        words.append(NUMBERS[thing.count])
    else:
        if size:
            words.append(thing.size)
        if pattern and thing.pattern != "solid":
            words.append(thing.pattern)
    if colour:
        words.append(thing.colour)
    words.append(thing.noun)
    if article and thing.count == 1:
        words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    return " ".join(words)


def terse(scene):
    """The canonical caption: every scene has one, and no two scenes the same."""
    there = {thing.quadrant: phrase(thing, article=False) for thing in scene.things}
    words = [scene.background + (" framed" if scene.frame else "")]
    return " , ".join(words + [there.get(quadrant, "empty") for quadrant in range(4)])


def terse_slots(scene):
    """The words of the terse caption in an order that is the same for every scene: 22 places, from 0.

    Background, frame (or the comma in its stead), and for each quadrant the comma before it, size or number,
    pattern, colour and noun. Where there is no such word it is the noun's place, or that of "empty".
    """
    words = tokens(terse(scene))
    slots, at = [0, 1], 1 + scene.frame
    there = {thing.quadrant: thing for thing in scene.things}
    for quadrant in range(4):
        thing = there.get(quadrant)
        count = len(tokens(phrase(thing, article=False))) if thing else 1
        noun = at + count
        patterned = thing is not None and thing.count == 1 and thing.pattern != "solid"
        slots += [at, at + 1, at + 2 if patterned else noun, noun - 1 if thing else noun, noun]
        at = noun + 1
    assert at == len(words) and words[slots[-1]] in (*PLURALS, *PLURALS.values(), "empty")
    return slots


def place(thing, generator):
    """'in the upper left', in one of several ways."""
    first = MIDDLES[thing.row == 0][generator.integers(2)]
    second = "right" if thing.column else "left"
    return ["in the {} {}", "at the {} {}", "in the {} {} corner"][generator.integers(3)].format(first, second)


def relation(thing, other):
    """How `thing` stands to `other`, where they share a row or a column; None where they do not."""
    if thing.column == other.column:
        return "below" if thing.row > other.row else "above"
    if thing.row == other.row:
        return "to the right of" if thing.column > other.column else "to the left of"
    return None


def _is(thing):
    return "is" if thing.count == 1 else "are"


def _stands(thing, generator):
    singular, plural = [("is", "are"), ("stands", "stand"), ("sits", "sit")][generator.integers(3)]
    return singular if thing.count == 1 else plural


def _capital(text):
    return text[0].upper() + text[1:]


def _it(thing):
    return "it" if thing.count == 1 else "them"


def _background(scene, generator):
    texts = [
        "The background is {b}{f}.",
        "This is a drawing on a {b} background{f}.",
        "The picture has a {b} background{f}.",
        "Everything stands on a {b} background{f}.",
    ]
    frame = ["", ""]
    if scene.frame:
        frame = [", and there is a brown frame around it", ", with a brown frame around the picture"]
    k = generator.integers(4)
    return texts[k].format(b=scene.background, f=frame[0] if k == 0 else frame[1])


def short(scene, generator):
    """One sentence about a part of the scene."""
    things = [scene.things[k] for k in generator.permutation(len(scene.things))]
    thing, other = things[0], things[1]
    def some(t):
        full = generator.random() < 0.6
        return phrase(t, size=full or generator.random() < 0.5, pattern=full or generator.random() < 0.5)
    ground = f" on a {scene.background} background" if generator.random() < 0.5 else ""
    if scene.frame and ground and generator.random() < 0.6:
        ground += " with a brown frame"
    kind = generator.integers(6)
    if kind == 0:
        return _capital(some(thing)) + ground + "."
    if kind == 1:
        return _capital(some(thing)) + " " + place(thing, generator) + ground + "."
    if kind == 2 and relation(thing, other):
        return _capital(some(thing)) + f" {relation(thing, other)} {some(other)}{ground}."
    if kind in (2, 3):
        return _capital(some(thing)) + " " + place(thing, generator) + f" and {some(other)} {place(other, generator)}."
    if kind == 4:
        return f"There {_is(thing)} {some(thing)} {place(thing, generator)}{ground}."
    return _background(scene, generator)


def dense(scene, generator):
    """Three sentences and more that say everything about the scene."""
    return dense_and_told(scene, generator)[0]


def dense_and_told(scene, generator):
    """A dense caption, and the sentence (from 0) that tells each fact.

    Facts are ("background",), and with a thing's quadrant ("there", q), ("place", q), ("colour", q),
    ("size", q), ("pattern", q). What is never said (that a thing is solid) has no sentence.
    """
    told = {}
    things = [scene.things[k] for k in generator.permutation(len(scene.things))]
    sentences, later = [], []
    last = None
    for number, thing in enumerate(things):
        # What is said at once; the rest comes in a sentence of its own, at once or at the end.
        said = {
            "colour": generator.random() < 0.45,
            "size": generator.random() < 0.45,
            "pattern": generator.random() < 0.45,
        }
        what = phrase(thing, **said)
        at = len(sentences)
        told["there", thing.quadrant] = told["place", thing.quadrant] = at
        for fact, said_now in said.items():
            if said_now and not (fact == "pattern" and thing.pattern == "solid"):
                told[fact, thing.quadrant] = at
        near = [(other, relation(thing, other)) for other in things[:number] if relation(thing, other)]
        if near and generator.random() < 0.6:
            other, how = near[generator.integers(len(near))]
            if other is last and generator.random() < 0.6:
                if how.startswith("to the"):
                    where = f"to {'its' if other.count == 1 else 'their'} {how.split()[2]}"
                else:
                    where = f"{how} {_it(other)}"
            else:
                where = f"{how} the {other.noun}"
        else:
            where = place(thing, generator)
        kind = generator.integers(3)
        if kind == 0:
            sentences.append(f"There {_is(thing)} {what} {where}.")
        elif kind == 1:
            sentences.append(f"{_capital(what)} {_stands(thing, generator)} {where}.")
        else:
            sentences.append(f"{_capital(where)} {_stands(thing, generator)} {what}.")
        rest = []
        if thing.count == 1 and not said["size"]:
            rest.append(("size", thing.size))
        if thing.count == 1 and thing.pattern == "solid" and generator.random() < 0.4:
            rest.append(("pattern", "solid"))
        elif thing.count == 1 and thing.pattern != "solid" and not said["pattern"]:
            rest.append(("pattern", thing.pattern))
        if not said["colour"]:
            rest.append(("colour", thing.colour))
        last = thing
        if rest:
            rest = [rest[k] for k in generator.permutation(len(rest))]
            if generator.random() < 0.35:
                subject = "it" if thing.count == 1 else "they"
                told |= {(fact, thing.quadrant): len(sentences) for fact, _ in rest}
                sentences.append(_capital(f"{subject} {_is(thing)} {listed(rest)}."))
            else:
                later.append((thing, rest))
    later = [later[k] for k in generator.permutation(len(later))]
    while later:
        thing, rest = later.pop(0)
        told |= {(fact, thing.quadrant): len(sentences) for fact, _ in rest}
        text = f"the {thing.noun} {_is(thing)} {listed(rest)}"
        if later and generator.random() < 0.4:
            other, rest = later.pop(0)
            told |= {(fact, other.quadrant): len(sentences) for fact, _ in rest}
            link = [", while", ", and"][generator.integers(2)]
            text += f"{link} the {other.noun} {_is(other)} {listed(rest)}"
        sentences.append(_capital(text) + ".")
    ground = _background(scene, generator)
    first = generator.random() < 0.6
    sentences.insert(0 if first else len(sentences), ground)
    if first:
        told = {fact: at + 1 for fact, at in told.items()}
    told["background",] = 0 if first else len(sentences) - 1
    if len(sentences) < 3:
        missing = [q for q in range(4) if q not in [t.quadrant for t in things]]
        sentences.append(f"The {QUADRANTS[missing[0]]} is empty.")
    return " ".join(sentences), told


def tokens(text):
    """Words and signs of a text: what CLIP's vocabulary makes a token each."""
    return re.findall(r"[a-z]+|[^\sa-z]+", text.lower())


def listed(facts):
    """'red', 'red and large', 'red, large and striped'."""
    words = [word for _, word in facts]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
