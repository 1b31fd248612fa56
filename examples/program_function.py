"""A model for dpg-bench out of a Python function from prompt and seed to an image; it needs Pillow.

dpg-bench run --model program --program 'python3 examples/program_function.py' --benchmark demo --judge demo-judge --limit 2
"""

import json
import random
import sys

from PIL import Image


def make(prompt, seed, width=64, height=64, **_):
    """Your model here: this one paints one color, and pays no heed to the prompt."""
    color = random.Random(seed).choices(range(256), k=3)
    return Image.new("RGB", (width, height), tuple(color))


print(json.dumps({"protocol": 1, "model": "one-color", "settings": {"version": 1}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    make(**request).save(request["out"])
    print(json.dumps({"item": request["item"], "image": request["image"], "path": request["out"]}), flush=True)
