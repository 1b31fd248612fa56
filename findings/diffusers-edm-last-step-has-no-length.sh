#!/usr/bin/env bash
# diffusers 0.42.1: with `final_sigmas_type: "sigma_min"` the last step of EDMDPMSolverMultistepScheduler and EDMEulerScheduler goes
# from a noise level to the same one, so n steps do the work of n - 1, and a rule for the last step (`euler_at_final`) changes
# nothing. With one step the two part: of one configuration the first goes from 80 to 0.002, the second from 80 to 80, and what
# comes out is the noise that went in. With `sigma_schedule: "exponential"` and one step both begin at sigma_min, while the noise is
# scaled for sigma_max.
#
# Expected output: the noise levels of each, and the last line "as found".
# dpg-bench walks the same levels (docs/generation.md, Playground v2.5; tests/suite/playground25_pipeline.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0
cat >"$work/finding.py" <<'PYTHON'
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

found = {}
for kind in (EDMDPMSolverMultistepScheduler, EDMEulerScheduler):
    for schedule, last, steps in (("karras", "sigma_min", 3), ("karras", "sigma_min", 1), ("exponential", "zero", 1)):
        scheduler = kind(sigma_min=0.002, sigma_max=80.0, sigma_schedule=schedule, final_sigmas_type=last)
        scheduler.set_timesteps(steps)
        levels = [round(float(level), 4) for level in scheduler.sigmas]
        found[kind, schedule, steps] = levels
        print(kind.__name__, schedule, last, steps, "steps:", levels, "noise scaled by", round(float(scheduler.init_noise_sigma), 2))

noise = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(1)) * 80
scheduler = EDMEulerScheduler(final_sigmas_type="sigma_min")
scheduler.set_timesteps(1)
scheduler.scale_model_input(noise, scheduler.timesteps[0])
after = scheduler.step(torch.zeros_like(noise), scheduler.timesteps[0], noise).prev_sample
print("one step of Euler moves the noise by", float((after - noise).abs().max()))
multistep, euler = EDMDPMSolverMultistepScheduler, EDMEulerScheduler
assert found[multistep, "karras", 3][-2:] == found[euler, "karras", 3][-2:] == [0.002, 0.002]
assert (found[multistep, "karras", 1], found[euler, "karras", 1]) == ([80.0, 0.002], [80.0, 80.0])
assert found[multistep, "exponential", 1] == found[euler, "exponential", 1] == [0.002, 0.0]
assert torch.equal(after, noise), "this has changed"
PYTHON
"$work/venv/bin/python" "$work/finding.py"
echo "as found"
