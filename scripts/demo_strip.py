"""Pictures of the demo's models side by side, for the README.

In: the folder of `dpg-bench demo`. Out: a PNG with a column for each of some items, and three rows: demo-sd, demo-ella,
and the true image, at twice the size at which it is shown.

    python scripts/demo_strip.py results/demo docs/demo.png [ITEM...]
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
TRUE = ROOT / "benchmark/demo/true"
FONT = ROOT / "src/reports/drawing/font/DejaVuSans.ttf"
# Twice the size at which a page shows it.
SIDE, GAP, LABEL, ITEMS, LETTERS = 192, 12, 216, 8, 26


def main():
    folder, out, items = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    rows = {name: folder / name / "images" for name in ("demo-sd", "demo-ella")} | {"true image": TRUE}
    items = items or sorted(path.name for path in rows["demo-sd"].iterdir())[:ITEMS]
    sheet = Image.new("RGB", (LABEL + len(items) * (SIDE + GAP), len(rows) * (SIDE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(str(FONT), LETTERS)
    for line, (name, pictures) in enumerate(rows.items()):
        top = GAP + line * (SIDE + GAP)
        draw.text((GAP, top + SIDE // 2), name, fill="black", font=font, anchor="lm")
        for column, item in enumerate(items):
            picture = Image.open(pictures / item / "0.png").convert("RGB").resize((SIDE, SIDE), Image.NEAREST)
            sheet.paste(picture, (LABEL + column * (SIDE + GAP), top))
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main()
