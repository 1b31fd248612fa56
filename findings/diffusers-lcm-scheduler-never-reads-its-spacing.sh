#!/usr/bin/env bash
# diffusers 0.42.1: `LCMScheduler` takes `timestep_spacing` and `steps_offset`, documents both as its siblings do, keeps them in
# its configuration, and reads neither. `LCMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")`, the
# usual advice for few steps, is accepted without a word and changes nothing; `DDIMScheduler` with the same call changes its
# timesteps. So two rows of a table that differ in the spacing may be one.
#
# Expected output: "lcm: leading, linspace, trailing and an offset of 1 give [999, 759, 499, 259]", "ddim: leading [750, 500, 250, 0],
# trailing [999, 749, 499, 249]", and the last line "as found".
# dpg-bench has the same timesteps and refuses --spacing beside this scheduler (docs/generation.md, Latent consistency
# models; tests/suite/lcm_pipeline.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1
cat >"$work/finding.py" <<'PYTHON'
import sys

from diffusers import DDIMScheduler, LCMScheduler


def timesteps(kind, **options):
    scheduler = kind.from_config(kind().config, **options)
    scheduler.set_timesteps(4)
    assert all(scheduler.config[key] == value for key, value in options.items())
    return scheduler.timesteps.tolist()


ways = [{"timestep_spacing": way} for way in ("leading", "linspace", "trailing")] + [{"steps_offset": 1}]
lcm = [timesteps(LCMScheduler, **options) for options in ways]
ddim = [timesteps(DDIMScheduler, timestep_spacing=way) for way in ("leading", "trailing")]
if any(found != [999, 759, 499, 259] for found in lcm):
    sys.exit(f"changed: {lcm}")
print(f"lcm: leading, linspace, trailing and an offset of 1 give {lcm[0]}")
print(f"ddim: leading {ddim[0]}, trailing {ddim[1]}")
if ddim != [[750, 500, 250, 0], [999, 749, 499, 249]]:
    sys.exit(f"changed: {ddim}")
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py" 2>/dev/null
