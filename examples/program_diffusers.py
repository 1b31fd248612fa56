"""A model for dpg-bench out of a diffusers pipeline: any that AutoPipelineForText2Image knows.

dpg-bench run --model program --program 'python3 examples/program_diffusers.py FOLDER_OR_NAME' --judge mplug

dpg-bench starts it once for each device, and asks for one image a line. docs/programs.md describes the lines.
"""

import json
import os
import sys

import diffusers
import torch

replies = sys.stdout
sys.stdout = sys.stderr  # What libraries print must not come between the replies.
source = sys.argv[1]
device = os.environ.get("DPG_BENCH_DEVICE", "auto")
if device == "auto":
    device = "cuda" if torch.cuda.is_available() else "cpu"
dtype = torch.float32 if device == "cpu" else torch.float16
pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(source, torch_dtype=dtype).to(device)
pipeline.set_progress_bar_config(disable=True)


def reply(line):
    print(json.dumps(line), file=replies, flush=True)


# What changes the images: it is recorded, and a resume with other settings is refused.
settings = {"source": source, "diffusers": diffusers.__version__, "torch": torch.__version__, "dtype": str(dtype)}
reply({"protocol": 1, "model": os.path.basename(os.path.normpath(source)), "settings": settings})
names = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
for line in sys.stdin:
    request = json.loads(line)
    out, seed = request.pop("out"), request.pop("seed")
    which = {name: request.pop(name) for name in ("item", "image")}
    arguments = {names.get(name, name): value for name, value in request.items()}
    # Noise from the processor is the same on every device.
    generator = torch.Generator("cpu").manual_seed(seed)
    try:
        pipeline(generator=generator, **arguments).images[0].save(out)
        reply({**which, "path": out})
    except Exception as error:
        reply({**which, "error": f"{type(error).__name__}: {error}"})
