"""The same pictures and answers as `dpg-bench measure` times, made by PyTorch on the same machine: diffusers'
UNets and decoder, transformers' text encoders, mPLUG as one would write it, all with random weights of the
published sizes, f16 and scaled_dot_product_attention; with --compile through torch.compile as well.

In: flags. Out: a JSON record on stdout (or in --out, after every part), progress on stderr. What cannot be
imported or does not fit is named in the record with the reason; nothing is left out in silence.

    python3 scripts/gpu_check_torch.py --device cuda --out torch.json
    python3 scripts/gpu_check_torch.py --device cpu --tiny --parts pictures,judge
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

UNET_SD15 = dict(
    sample_size=64, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(320, 640, 1280, 1280),
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, cross_attention_dim=768, attention_head_dim=8,
)
UNET_SDXL = dict(
    sample_size=128, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(320, 640, 1280),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
    use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
VAE = dict(
    in_channels=3, out_channels=3, latent_channels=4, layers_per_block=2, block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)
CLIP = dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12)
CLIP_LARGE = dict(
    hidden_size=1280, intermediate_size=5120, num_attention_heads=20, num_hidden_layers=32, hidden_act="gelu"
)
TINY = {
    "unet_sd15": dict(block_out_channels=(32, 64, 64, 64), attention_head_dim=4, norm_num_groups=8, cross_attention_dim=64),
    "unet_sdxl": dict(
        block_out_channels=(32, 64, 64), attention_head_dim=(2, 4, 4), norm_num_groups=8, cross_attention_dim=64,
        transformer_layers_per_block=(1, 1, 2), addition_time_embed_dim=16, projection_class_embeddings_input_dim=128,
    ),
    "vae": dict(block_out_channels=(16, 32, 32, 32), norm_num_groups=8),
    "clip": dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_hidden_layers=3),
}
QUESTIONS = 14


def say(text):
    print(text, file=sys.stderr, flush=True)


class Check:
    """One record, to which every part adds what it found or why it found nothing."""

    def __init__(self, arguments):
        import torch

        self.torch, self.arguments = torch, arguments
        self.device = torch.device(arguments.device)
        on_gpu = self.device.type == "cuda"
        # f16 on the processor is no comparison: PyTorch has few kernels for it there.
        self.dtype = torch.float16 if on_gpu else torch.float32
        self.record = {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "dtype": str(self.dtype).removeprefix("torch."),
            "full_size": not arguments.tiny,
            "products": [], "pictures": [], "judges": [], "missing": [],
        }

    def save(self):
        if self.arguments.out:
            Path(self.arguments.out).write_text(json.dumps(self.record, indent=1) + "\n")

    def part(self, name, work):
        say(f"measuring {name} in PyTorch")
        try:
            with self.torch.inference_mode():
                work()
        except Exception as error:  # whatever it is, the other parts go on and the record tells
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            self.record["missing"].append({"what": name, "why": reason})
            say(f"warning: {name} failed and is missing: {reason}")
        self.save()
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()

    def wait(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def median(self, work, warm_ups=1):
        for _ in range(warm_ups):
            work()
        times = []
        for _ in range(self.arguments.repeats):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def size(self, values, name):
        return {**values, **(TINY[name] if self.arguments.tiny else {})}

    def product(self):
        side = 256 if self.arguments.tiny else 8192
        a, b = (self.torch.randn(side, side, device=self.device).to(self.dtype) for _ in range(2))
        best = math.inf
        for _ in range(1 + self.arguments.repeats):
            self.wait()
            start = time.perf_counter()
            for _ in range(10):
                a @ b
            self.wait()
            best = min(best, (time.perf_counter() - start) / 10)
        self.record["products"].append(
            {"side": side, "dtype": self.record["dtype"], "tera": 2 * side**3 / best / 1e12}
        )

    def pictures(self, model, compiled):
        pipeline = Pipeline(self, model, compiled)
        for batch in self.arguments.batch:
            text = self.median(pipeline.texts)
            decode = self.median(lambda: pipeline.decode(1))
            # torch.compile takes its time on the first calls of a shape.
            seconds = self.median(lambda: pipeline.pictures(batch), 2 if compiled else 1)
            self.record["pictures"].append({
                "model": model, "way": "torch.compile" if compiled else "SDPA", "dtype": self.record["dtype"],
                "batch": batch, "steps": pipeline.steps, "side": 8 * pipeline.side, "text": text,
                "seconds": seconds, "per_picture": seconds / batch, "decode": decode,
            })

    def judge(self, shared, compiled):
        asker = Asker(self, compiled)
        try:
            seconds = self.median(asker.together if shared else asker.one_by_one, 2 if compiled else 1)
        finally:
            self.torch.set_default_device(None)
        way = "all questions together" if shared else "one question at a time"
        self.record["judges"].append({
            "judge": "mplug", "way": way + (", torch.compile" if compiled else ""), "pictures": 1,
            "questions": QUESTIONS, "dtype": self.record["dtype"], "seconds": seconds, "per_second": QUESTIONS / seconds,
        })


class Pipeline:
    """Token ids to pixels, as diffusers' pipelines go, without their tokenizers and safety checker."""

    def __init__(self, check, model, compiled):
        import diffusers
        from transformers import CLIPTextConfig, CLIPTextModel

        torch = check.torch
        self.check, self.xl = check, model == "sdxl"
        self.steps = check.arguments.steps or (3 if check.arguments.tiny else 30 if self.xl else 50)
        usual = 128 if self.xl else 64
        self.side = check.arguments.latents or (usual // 8 if check.arguments.tiny else usual)
        torch.manual_seed(5)
        place = {"device": check.device, "dtype": check.dtype}

        def clip(values):
            config = CLIPTextConfig(vocab_size=49408, **check.size(values, "clip"))
            return CLIPTextModel(config).eval().to(**place)

        encoders = [clip(CLIP)] + ([clip(CLIP_LARGE)] if self.xl else [])
        self.encoders = encoders
        name = "unet_sdxl" if self.xl else "unet_sd15"
        config = check.size(UNET_SDXL if self.xl else UNET_SD15, name)
        self.unet = diffusers.UNet2DConditionModel(**config).eval().to(**place)
        self.width = config["cross_attention_dim"]
        # SDXL's decoder overflows f16, so diffusers decodes in f32.
        self.vae_dtype = torch.float32 if self.xl else check.dtype
        self.vae = diffusers.AutoencoderKL(**check.size(VAE, "vae")).eval().to(check.device, self.vae_dtype)
        betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
        self.scheduler = (
            diffusers.EulerDiscreteScheduler(**betas, timestep_spacing="leading") if self.xl
            else diffusers.PNDMScheduler(**betas, skip_prk_steps=True, set_alpha_to_one=False)
        )
        self.added = None
        if self.xl:
            pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
            pixels = 8.0 * self.side
            self.added = lambda rows: {
                "text_embeds": torch.zeros(rows, pooled, **place),
                "time_ids": torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]] * rows, **place),
            }
        if compiled:
            # As diffusers' own guide to speed does it.
            self.unet = torch.compile(self.unet, mode="max-autotune" if not check.arguments.quick_compile else None)
            self.vae.decode = torch.compile(self.vae.decode)

    def texts(self):
        torch, device = self.check.torch, self.check.device
        ids = torch.arange(2 * 77, device=device).reshape(2, 77) % 1000
        states = [encoder(ids, output_hidden_states=True) for encoder in self.encoders]
        if not self.xl:
            return states[0].last_hidden_state[..., : self.width]
        return torch.cat([state.hidden_states[-2] for state in states], dim=-1)[..., : self.width]

    def decode(self, count, latents=None):
        torch = self.check.torch
        if latents is None:
            latents = torch.zeros(count, 4, self.side, self.side, device=self.check.device)
        latents = latents.to(self.vae_dtype) / 0.18215
        # One at a time, as the f32 decoder at 1024 pixels is often run, and as ours does.
        return [self.vae.decode(latents[n : n + 1], return_dict=False)[0] for n in range(count)]

    def pictures(self, batch):
        torch = self.check.torch
        states = self.texts().repeat_interleave(batch, dim=0)
        generator = torch.Generator().manual_seed(3)
        latents = torch.randn(batch, 4, self.side, self.side, generator=generator).to(self.check.device, self.check.dtype)
        self.scheduler.set_timesteps(self.steps, device=self.check.device)
        latents = latents * self.scheduler.init_noise_sigma
        more = {"added_cond_kwargs": self.added(2 * batch)} if self.xl else {}
        for timestep in self.scheduler.timesteps:
            shown = self.scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
            noise = self.unet(shown, timestep, encoder_hidden_states=states, return_dict=False, **more)[0]
            without, given = noise.chunk(2)
            latents = self.scheduler.step(without + 7.5 * (given - without), timestep, latents, return_dict=False)[0]
        pictures = torch.cat(self.decode(batch, latents))
        return ((pictures.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


class Asker:
    """mPLUG-large as scripts/mplug_speed.py has it for the processor: `original` takes one question at a time and
    computes everything anew at every step, as ModelScope's code does; `shared` shares all that can be."""

    def __init__(self, check, compiled):
        sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "fixtures")]
        from mplug_speed import Shared
        from mplug_torch import Config, Mplug

        torch = check.torch
        tiny = dict(
            image_res=32, clip_vision_layers=2, clip_vision_patch_size=8, clip_vision_width=64, hidden_size=64,
            intermediate_size=128, num_attention_heads=4, num_hidden_layers=4, text_encoder_layers=2,
            fusion_layers=3, text_decode_layers=2, vocab_size=200,
        )
        self.check = check
        # Answers of one word: two steps of the search, as `dpg-bench measure` has it.
        self.config = Config(max_length=2, **(tiny if check.arguments.tiny else {}))
        torch.manual_seed(7)
        # Those files make their masks and places where PyTorch makes everything.
        torch.set_default_device(check.device)
        self.network = Mplug(self.config).eval().to(check.dtype)
        if compiled:
            self.network.image_states = torch.compile(self.network.image_states)
        self.shared = Shared(self.network)
        side = self.config.image_res
        self.pixels = torch.randn(1, 3, side, side).to(check.dtype)
        self.ids = [[(7 * number + place) % 100 for place in range(12)] for number in range(QUESTIONS)]

    def cast(self):
        """Their masks are f32: matrix products take f16 all the same."""
        on_gpu = self.check.device.type == "cuda"
        return self.check.torch.autocast("cuda" if on_gpu else "cpu", dtype=self.check.torch.float16, enabled=on_gpu)

    def one_by_one(self):
        from mplug_torch import padded

        with self.cast():
            for row in self.ids:
                ids, lengths = padded([row], len(row)), [len(row)]
                image = self.network.image_states(self.pixels)
                self.network.answer(*self.network.question_states(image, ids, lengths))

    def together(self):
        with self.cast():
            self.shared.answers(self.pixels[0], self.ids)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default="product,pictures,judge", help="of product, pictures, judge")
    parser.add_argument("--model", default="sd15,sdxl", help="of sd15, sdxl")
    parser.add_argument("--batch", default="1,4")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--latents", type=int, help="side of the latents")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--compile", action="store_true", help="with torch.compile as well")
    parser.add_argument("--quick-compile", action="store_true", help="its default mode in place of max-autotune")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    arguments.batch = [int(batch) for batch in arguments.batch.split(",")]
    return arguments


def main():
    arguments = parse_arguments()
    try:
        import torch  # noqa: F401
    except ImportError as error:
        record = {"missing": [{"what": "everything of PyTorch", "why": str(error)}]}
        print(json.dumps(record))
        if arguments.out:
            Path(arguments.out).write_text(json.dumps(record) + "\n")
        return
    check = Check(arguments)
    parts = arguments.parts.split(",")
    if "product" in parts:
        check.part("products", check.product)
    for compiled in [False, True] if arguments.compile else [False]:
        suffix = ", torch.compile" if compiled else ""
        if "pictures" in parts:
            for model in arguments.model.split(","):
                check.part(f"pictures of {model}{suffix}", lambda: check.pictures(model, compiled))
        if "judge" in parts:
            check.part(f"answers of mplug, one at a time{suffix}", lambda: check.judge(False, compiled))
            check.part(f"answers of mplug, together{suffix}", lambda: check.judge(True, compiled))
    check.save()
    print(json.dumps(check.record, indent=1))


if __name__ == "__main__":
    main()
