#!/usr/bin/env bash
# diffusers 0.42.1: the processor that ControlNet pipelines hand their image to (`VaeImageProcessor(do_convert_rgb=True)`) resizes it
# first and converts it to RGB afterwards. So the same file gives other pixels by how it was opened. `PIL.Image.open` leaves a palette
# or an alpha channel in place: Pillow then resizes a palette image by its nearest pixels whatever filter is asked for, and weights
# colours by their alpha, while `diffusers.utils.load_image` converts to RGB before, and turns the image as its EXIF data says.
#
# Expected output: a largest difference of more than 100 levels of 255 for a palette and for transparency, 0 for grey, and the last
# line "as found".
# dpg-bench reads control images as `load_image` does (docs/controlnet.md; src/generate/pipelines/control.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 pillow==13.0.0 numpy
cat >"$work/finding.py" <<'PYTHON'
import sys

import numpy
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import load_image
from PIL import Image

folder = sys.argv[1]
y, x = numpy.mgrid[0:52, 0:61]
red = 255 * (((x - 22) ** 2 + (y - 20) ** 2) < 240)
colours = numpy.stack([red, (x * 4 + y) % 256, 255 * ((x // 9 + y // 7) % 2)], -1).astype(numpy.uint8)
alpha = ((x * 5 + y * 3) % 256).astype(numpy.uint8)
images = {
    "palette": Image.fromarray(colours).quantize(12),
    "transparency": Image.fromarray(numpy.dstack([colours, alpha])),
    "grey": Image.fromarray(colours[:, :, 1]),
}
processor = VaeImageProcessor(vae_scale_factor=8, do_convert_rgb=True, do_normalize=False)
found = {}
for name, image in images.items():
    path = f"{folder}/{name}.png"
    image.save(path)
    ways = [processor.preprocess(way(path), height=24, width=40) for way in (Image.open, load_image)]
    found[name] = round(255 * (ways[0] - ways[1]).abs().max().item())
    print(f"{name}: Image.open and load_image differ by up to {found[name]} levels")
if found["palette"] <= 100 or found["transparency"] <= 100 or found["grey"] != 0:
    sys.exit(f"changed: {found}")
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work" 2>/dev/null
