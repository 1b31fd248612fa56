//! In: the tiny checkpoints of the newer models, and what diffusers computes from them in f32, f16 and bf16 (fixtures/half, made by
//! make_half_transformers.py). Checks: in a half format every network is as near to f32 as PyTorch is in that format and near to
//! PyTorch, and whole pictures are near those in f32.

use candle_core::{DType, Device, Tensor};
use dpg_bench::generate::pipelines::flux::Flux;
use dpg_bench::generate::pipelines::pixart::{PixArt, PixArtModel};
use dpg_bench::generate::pipelines::sd3::Sd3;
use dpg_bench::models::{
    FluxTransformer, PixArtTransformer, Sd3Transformer, TextContext, UNet, VaeDecoder,
};

use crate::golden_pictures::{Case, cases, pictures};
use crate::half_precision::{FORMATS, holds};
use crate::tiny_checkpoint::{Tensors, fixture, read};
use crate::{flux_pipeline, pixart_pipeline, sd3_pipeline};

const CPU: Device = Device::Cpu;
const TIMESTEP: f64 = 481.0;
const GUIDANCE: f64 = 3.5;

fn golden() -> Tensors {
    read(&fixture("half/transformers.safetensors"))
}

#[test]
fn unets_are_as_near_to_f32_as_diffusers() {
    let golden = golden();
    for (format, dtype) in FORMATS {
        for name in ["sd2-tiny", "lcm-tiny"] {
            let mut unet = UNet::load(&fixture(name).join("unet"), dtype, &CPU).unwrap();
            let get = |part: &str| golden[&format!("{name}.{part}")].clone();
            let mut run = |timestep: f64, guidance: f64| {
                unet.tell_guidance(guidance, &CPU).unwrap();
                let text = TextContext::new(get("context"));
                unet.forward_contexts(&get("latents"), timestep, &[&text], None).unwrap()
            };
            assert!(holds(&golden, name, format, &run(TIMESTEP, GUIDANCE)));
            assert!(!holds(&golden, name, format, &run(400.0, GUIDANCE)));
            let is_told = name == "lcm-tiny";
            assert_eq!(!holds(&golden, name, format, &run(TIMESTEP, 8.0)), is_told);
        }
    }
}

#[test]
fn pixart_is_as_near_to_f32_as_diffusers() {
    let golden = golden();
    for (format, dtype) in FORMATS {
        for name in ["pixart-alpha-tiny", "pixart-sigma-tiny"] {
            let folder = fixture(name).join("transformer");
            let mut network = PixArtTransformer::load(&folder, dtype, &CPU).unwrap();
            let get = |part: &str| golden[&format!("{name}.{part}")].clone();
            let (latents, context) = (get("latents"), TextContext::new(get("context")));
            let (_, _, height, width) = latents.dims4().unwrap();
            let mut run = |timestep: f64, pixels: (usize, usize)| {
                network.prepare((height, width), pixels, &CPU).unwrap();
                network.forward_contexts(&latents, timestep, &[&context]).unwrap()
            };
            let pixels = (8 * height, 8 * width);
            assert!(holds(&golden, name, format, &run(TIMESTEP, pixels)));
            assert!(!holds(&golden, name, format, &run(400.0, pixels)));
            let is_told = name == "pixart-alpha-tiny";
            assert_eq!(!holds(&golden, name, format, &run(TIMESTEP, (96, 8))), is_told);
        }
    }
}

#[test]
fn joint_transformers_are_as_near_to_f32_as_diffusers() {
    let golden = golden();
    for (format, dtype) in FORMATS {
        for name in ["sd3-tiny", "sd35-tiny"] {
            let folder = fixture(name).join("transformer");
            let network = Sd3Transformer::load(&folder, dtype, &CPU).unwrap();
            let get = |part: &str| golden[&format!("{name}.{part}")].clone();
            let run = |timestep: f64| {
                network.forward(&get("latents"), timestep, &get("context"), &get("pooled")).unwrap()
            };
            assert!(holds(&golden, name, format, &run(TIMESTEP)));
            assert!(!holds(&golden, name, format, &run(400.0)));
        }
        for name in ["flux-dev-tiny", "flux-schnell-tiny"] {
            let folder = fixture(name).join("transformer");
            let mut network = FluxTransformer::load(&folder, dtype, &CPU).unwrap();
            let get = |part: &str| golden[&format!("{name}.{part}")].clone();
            let mut run = |timestep: f64, guidance: f64| {
                network.tell_guidance(guidance, &CPU).unwrap();
                network.forward(&get("latents"), timestep, &get("context"), &get("pooled")).unwrap()
            };
            let ours = run(TIMESTEP, GUIDANCE);
            assert!(holds(&golden, name, format, &ours));
            // Timestep and guidance are rounded as diffusers rounds them, in bf16 far from f32: the same must come of it.
            let theirs = &golden[&format!("{name}.{format}")];
            let rounded = distance(&ours, theirs);
            println!("{name} {format}: {rounded:.2e} from diffusers");
            assert!(rounded < if format == "bf16" { 2e-2 } else { 3e-3 }, "{rounded:e}");
            assert!(distance(&run(400.0, GUIDANCE), theirs) > 3e-2);
            let is_told = name == "flux-dev-tiny";
            assert_eq!(distance(&run(TIMESTEP, 4.0), theirs) > 3e-2, is_told);
        }
    }
}

#[test]
fn the_decoder_of_sixteen_channels_is_as_near_to_f32_as_diffusers() {
    let (golden, name) = (golden(), "sd3-tiny-vae");
    let latents = golden["sd3-tiny-vae.latents"].clone();
    for (format, dtype) in FORMATS {
        let vae = VaeDecoder::load(&fixture("sd3-tiny/vae"), dtype, &CPU).unwrap();
        assert!(holds(&golden, name, format, &vae.decode(&latents).unwrap()));
        assert!(!holds(&golden, name, format, &vae.decode(&(&latents + 0.1).unwrap()).unwrap()));
    }
}

/// Root mean square of the differences over that of `theirs`.
fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    let norm = |tensor: &Tensor| {
        let sum = tensor.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap();
        sum.to_scalar::<f64>().unwrap().sqrt()
    };
    norm(&(ours.to_dtype(DType::F32).unwrap() - theirs).unwrap()) / norm(theirs)
}

/// Mean difference of pictures in 0..=1.
fn mean_apart(ours: &Tensor, theirs: &Tensor) -> f32 {
    let difference = (ours.to_dtype(DType::F32).unwrap() - theirs).unwrap();
    difference.abs().unwrap().mean_all().unwrap().to_scalar().unwrap()
}

/// Pictures of `name` in `dtype`, of its case.
fn picture(name: &str, case: &Case, dtype: DType) -> Tensor {
    let (options, prompt, seeds) = (case.options(), &case.prompt, &case.seeds);
    match name {
        _ if name.starts_with("sd3") => {
            let folder = sd3_pipeline::whole(name);
            let mut sd3 = Sd3::load(folder.path(), dtype, &CPU, options).unwrap();
            sd3.pictures(prompt, seeds).unwrap()
        }
        _ if name.starts_with("flux") => {
            let folder = flux_pipeline::whole(name);
            let mut flux = Flux::load(folder.path(), dtype, &CPU, options).unwrap();
            flux.pictures(prompt, seeds).unwrap()
        }
        _ => {
            let folder = pixart_pipeline::whole(name);
            let load = PixArt::load(PixArtModel::Sigma, folder.path(), dtype, &CPU, options);
            load.unwrap().pictures(prompt, seeds).unwrap().1
        }
    }
}

/// From the prompt to the picture in half formats, on the processor.
#[test]
fn whole_pictures_are_near_those_in_f32() {
    for (golden, name, bounds) in [
        ("sd3-golden", "sd3-tiny/own", [3e-3, 1.2e-2]),
        ("sd3-golden", "sd35-tiny/own", [3e-3, 1.2e-2]),
        ("pixart-golden", "pixart-sigma-tiny/own", [3e-3, 1.2e-2]),
        ("flux-golden", "flux-schnell-tiny/own", [3e-3, 1.2e-2]),
    ] {
        let (cases, pictures) = (cases::<Case>(golden), pictures(golden));
        let (case, exact) = (&cases[name], &pictures[name]);
        let other = Case { prompt: "two zebras".to_owned(), ..case.clone() };
        for ((format, dtype), most) in FORMATS.into_iter().zip(bounds) {
            let apart = mean_apart(&picture(name, case, dtype), exact);
            let misread = mean_apart(&picture(name, &other, dtype), exact);
            println!("{name} {format}: mean {apart:.2e} from f32, another prompt {misread:.2e}");
            assert!(apart < most && apart > 0.0, "{name} {format}: {apart:e}");
            assert!(misread > most, "{name} {format}: {misread:e}");
        }
    }
}
