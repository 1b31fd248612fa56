"""The small world: scenes of drawn shapes, and their exact pictures.

In: seeds, or scenes as rows of numbers. Out: scenes, and pictures of them, uint8 [n, 64, 64, 3].
Captions are left to captions.py, questions to questions.py.

A scene is one row of 18 small integers (see COLUMNS): background, frame, and for each quadrant, in the
order upper left, upper right, lower left, lower right, the shape (-1 where the quadrant is empty),
colour, form and displacement. Two to four quadrants are occupied and no shape occurs in two of them, so
"the circle" (or "the stars") names one thing in every scene. Masks are drawn once, with 8 x 8 points a
pixel; a picture is put together from them, so that one core draws about two thousand a second.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

SIZE = 64
HALF = SIZE // 2
SHAPES = ["circle", "square", "triangle", "diamond", "cross", "star"]
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
COLOURS = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (245, 215, 30),
    "purple": (145, 50, 180),
    "orange": (245, 135, 20),
}
BACKGROUNDS = {"white": (250, 250, 250), "grey": (150, 150, 150), "black": (15, 15, 15), "pink": (255, 190, 205)}
FRAME_COLOUR = (110, 65, 30)
FRAME_WIDTH = 3
# (size, pattern, count); groups of two and three are always small and solid, and are called neither.
FORMS = [
    ("large", "solid", 1),
    ("large", "striped", 1),
    ("large", "hollow", 1),
    ("small", "solid", 1),
    ("small", "striped", 1),
    ("small", "hollow", 1),
    ("small", "solid", 2),
    ("small", "solid", 3),
]
QUADRANTS = ["upper left", "upper right", "lower left", "lower right"]
JITTER = 1
SHIFTS = (2 * JITTER + 1) ** 2
COLUMNS = ["background", "frame"] + [f"{part}{q}" for q in range(4) for part in ("shape", "colour", "form", "shift")]

COLOUR_NAMES, BACKGROUND_NAMES = list(COLOURS), list(BACKGROUNDS)
_COLOUR_TABLE = np.array(list(COLOURS.values()), np.float32)
_BACKGROUND_TABLE = np.array(list(BACKGROUNDS.values()), np.float32)
_POINTS = 8


@dataclass(frozen=True)
class Thing:
    """What stands in one quadrant (0..4): a shape, or a group of two or three of them."""

    quadrant: int
    shape: str
    colour: str
    size: str
    pattern: str
    count: int

    @property
    def row(self):
        return self.quadrant // 2

    @property
    def column(self):
        return self.quadrant % 2

    @property
    def noun(self):
        return self.shape if self.count == 1 else PLURALS[self.shape]


@dataclass(frozen=True)
class Scene:
    """A scene in words: what its captions and questions are made of."""

    background: str
    frame: bool
    things: tuple


def describe(row):
    """The scene of one row."""
    things = []
    for quadrant in range(4):
        shape, colour, form, _ = (int(v) for v in row[2 + 4 * quadrant : 6 + 4 * quadrant])
        if shape >= 0:
            size, pattern, count = FORMS[form]
            things.append(Thing(quadrant, SHAPES[shape], COLOUR_NAMES[colour], size, pattern, count))
    return Scene(BACKGROUND_NAMES[int(row[0])], bool(row[1]), tuple(things))


def draw_rows(generator, count):
    """`count` random scenes: int8 [count, 18]. `generator` is a numpy Generator."""
    rows = np.zeros((count, 18), np.int8)
    rows[:, 0] = generator.integers(len(BACKGROUNDS), size=count)
    rows[:, 1] = generator.random(count) < 0.4
    things = generator.choice([2, 3, 4], size=count, p=[0.25, 0.4, 0.35])
    occupied = np.argsort(np.argsort(generator.random((count, 4)), axis=1), axis=1) < things[:, None]
    shapes = np.argsort(generator.random((count, len(SHAPES))), axis=1)[:, :4]
    rows[:, 2::4] = np.where(occupied, shapes, -1)
    rows[:, 3::4] = np.where(occupied, generator.integers(len(COLOURS), size=(count, 4)), 0)
    rows[:, 4::4] = np.where(occupied, generator.integers(len(FORMS), size=(count, 4)), 0)
    rows[:, 5::4] = np.where(occupied, generator.integers(SHIFTS, size=(count, 4)), SHIFTS // 2)
    return rows


def held_out(row):
    """Whether a scene is kept from all training: one in twenty, whatever the displacements."""
    kept = np.array(row, np.int8)
    kept[5::4] = 0
    return hashlib.sha256(b"held out" + kept.tobytes()).digest()[0] < 13


def training_rows(generator, count):
    """`count` random scenes that are not held out."""
    return _filtered(generator, count, False)


def held_out_rows(generator, count):
    """`count` random scenes that no training saw."""
    return _filtered(generator, count, True)


def _filtered(generator, count, wanted):
    found, have = [], 0
    while have < count:
        rows = draw_rows(generator, max(256, count))
        rows = rows[[held_out(row) == wanted for row in rows]]
        found.append(rows)
        have += len(rows)
    return np.concatenate(found)[:count]


def _inside(shape, x, y, radius):
    """Whether points lie in a shape of about the area of a circle of `radius` around 0, 0 (y downward)."""
    if shape == "circle":
        return x * x + y * y <= radius * radius
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.88 * radius
    if shape == "diamond":
        return abs(x) / 0.85 + abs(y) / 1.12 <= radius
    if shape == "cross":
        arm, reach = 0.36 * radius, 1.05 * radius
        return (np.minimum(abs(x), abs(y)) <= arm) & (np.maximum(abs(x), abs(y)) <= reach)
    if shape == "triangle":
        angles = np.deg2rad([-90, 30, 150])
        return _polygon(x, y - 0.22 * radius, 1.17 * radius * np.cos(angles), 1.17 * radius * np.sin(angles))
    angles = np.deg2rad(-90 + 36 * np.arange(10))
    radii = np.where(np.arange(10) % 2 == 0, 1.17, 0.5) * radius
    return _polygon(x, y, radii * np.cos(angles), radii * np.sin(angles))


def _polygon(x, y, corners_x, corners_y):
    inside = np.zeros(x.shape, bool)
    for ax, ay, bx, by in zip(corners_x, corners_y, np.roll(corners_x, -1), np.roll(corners_y, -1)):
        if ay == by:
            continue
        crosses = ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        inside ^= crosses
    return inside


def _mask(shape, form):
    """Coverage [32, 32] in 0..=1 of a form in the middle of its quadrant."""
    size, pattern, count = form
    axis = (np.arange(HALF * _POINTS) + 0.5) / _POINTS - HALF / 2
    x, y = np.meshgrid(axis, axis)
    if count == 1:
        radius = 10.5 if size == "large" else 6.5
        covered = _inside(shape, x, y, radius)
        if pattern == "hollow":
            # A wall of about two pixels (a star and a cross are thin, so theirs is a smaller copy too).
            wall = 2.4 if size == "large" else 2.0
            scale = 1 - wall / (radius * (0.8 if shape in ("star", "triangle", "diamond") else 1.0))
            if shape == "cross":
                grown = radius - wall
                arm = max(0.36 * radius - 0.8 * wall, 0.0) if size == "large" else 0.9
                hole = (np.minimum(abs(x), abs(y)) <= arm) & (np.maximum(abs(x), abs(y)) <= grown)
                covered &= ~hole
            else:
                covered &= ~_inside(shape, x, y - (0.22 * radius * (1 - scale) if shape == "triangle" else 0), radius * scale)
        elif pattern == "striped":
            period = 5.0 if size == "large" else 4.0
            covered &= np.mod(y + 0.75 * period, period) < 0.55 * period
    else:
        places = [(-6, 0), (6, 0)] if count == 2 else [(0, -6), (-6, 5), (6, 5)]
        covered = np.zeros(x.shape, bool)
        for px, py in places:
            covered |= _inside(shape, x - px, y - py, 4.9)
    return covered.reshape(HALF, _POINTS, HALF, _POINTS).mean((1, 3)).astype(np.float32)


def _bank():
    """Coverage of every shape, form and displacement: uint8 [6, 8, 9, 32, 32]."""
    bank = np.zeros((len(SHAPES), len(FORMS), SHIFTS, HALF, HALF), np.uint8)
    for s, shape in enumerate(SHAPES):
        for f, form in enumerate(FORMS):
            mask = np.round(_mask(shape, form) * 255).astype(np.uint8)
            for shift in range(SHIFTS):
                dy, dx = shift // (2 * JITTER + 1) - JITTER, shift % (2 * JITTER + 1) - JITTER
                bank[s, f, shift] = np.roll(mask, (dy, dx), (0, 1))
    return bank


_BANK = None


def bank():
    """The masks of all things, drawn once: uint8 [6, 8, 9, 32, 32]."""
    global _BANK
    if _BANK is None:
        _BANK = _bank()
    return _BANK


def render(rows):
    """Pictures of scenes: uint8 [n, 64, 64, 3]."""
    rows = np.asarray(rows).astype(np.int64)
    shape, colour, form, shift = (rows[:, k::4] for k in (2, 3, 4, 5))
    there = (shape >= 0)[..., None, None]
    cover = bank()[np.maximum(shape, 0), form, shift] * there
    cover = cover.astype(np.float32)[..., None] / 255
    background = _BACKGROUND_TABLE[rows[:, 0]][:, None, None, None]
    quadrants = background + cover * (_COLOUR_TABLE[colour][:, :, None, None] - background)
    grid = quadrants.reshape(-1, 2, 2, HALF, HALF, 3).transpose(0, 1, 3, 2, 4, 5)
    pictures = grid.reshape(-1, SIZE, SIZE, 3)
    framed = pictures[rows[:, 1] == 1]
    w = FRAME_WIDTH
    framed[:, :w], framed[:, -w:], framed[:, :, :w], framed[:, :, -w:] = (FRAME_COLOUR,) * 4
    pictures[rows[:, 1] == 1] = framed
    return np.round(pictures).astype(np.uint8)


def sheet(pictures, columns, scale=2, gap=2):
    """Pictures side by side, for looking at: uint8 [height, width, 3]."""
    pictures = np.asarray(pictures)
    lines = -(-len(pictures) // columns)
    cell = SIZE * scale + gap
    canvas = np.full((lines * cell + gap, columns * cell + gap, 3), 90, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = (k // columns) * cell + gap, (k % columns) * cell + gap
        canvas[y : y + SIZE * scale, x : x + SIZE * scale] = picture.repeat(scale, 0).repeat(scale, 1)
    return canvas
