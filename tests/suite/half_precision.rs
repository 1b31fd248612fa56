//! In: the tiny checkpoints, and what diffusers and transformers compute from them in f32, f16 and bf16
//! (fixtures/half, made by make_half.py). Checks: in a half format every network here is as near to f32 as
//! PyTorch is in that format, and near to PyTorch.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use dpg_bench::models::{
    AddedCondition, ClipTextModel, T5EncoderModel, TextContext, UNet, VaeDecoder,
};

use crate::tiny_checkpoint::{fixture, read};

/// How much further from f32 than PyTorch: roundings fall otherwise, so single results differ.
const ROOM: f64 = 1.25;

pub const FORMATS: [(&str, DType); 2] = [("f16", DType::F16), ("bf16", DType::BF16)];

fn golden() -> HashMap<String, Tensor> {
    read(&fixture("half/golden.safetensors"))
}

fn ids(tensor: &Tensor) -> Vec<Vec<u32>> {
    tensor.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

/// Root mean square of the differences over that of `exact`; not a number where anything is none.
fn distance(ours: &Tensor, exact: &Tensor) -> f64 {
    assert_eq!(ours.dims(), exact.dims());
    let norm = |tensor: &Tensor| {
        let sum = tensor.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap();
        sum.to_scalar::<f64>().unwrap().sqrt()
    };
    let ours = ours.to_dtype(DType::F32).unwrap();
    norm(&(ours - exact).unwrap()) / norm(exact)
}

/// Whether `ours` is no further from f32 than PyTorch in the same format, and PyTorch's neighbour.
pub fn holds(golden: &HashMap<String, Tensor>, name: &str, format: &str, ours: &Tensor) -> bool {
    let (exact, theirs) = (&golden[&format!("{name}.f32")], &golden[&format!("{name}.{format}")]);
    let (ours_off, theirs_off) = (distance(ours, exact), distance(theirs, exact));
    let apart = distance(ours, theirs);
    println!("{name} {format}: ours {ours_off:.2e}, PyTorch {theirs_off:.2e}, apart {apart:.2e}");
    // Two roundings of one sum are apart by no more than both are from it.
    ours_off <= ROOM * theirs_off && apart <= 1.5 * (ours_off + theirs_off) && ours_off > 0.0
}

#[test]
fn unets_are_as_near_to_f32_as_diffusers() {
    let golden = golden();
    let get = |name: &str| golden[name].clone();
    for (format, dtype) in FORMATS {
        let unet = UNet::load(&fixture("sd15-tiny/unet"), dtype, &Device::Cpu).unwrap();
        let run = |timestep: f64| {
            unet.forward(&get("unet.latents"), timestep, &get("unet.context")).unwrap()
        };
        assert!(holds(&golden, "unet", format, &run(981.0)));
        // A timestep that went through bf16 (980) must show, and does in f16; in bf16 it is within the error.
        if dtype == DType::F16 {
            assert!(!holds(&golden, "unet", format, &run(980.0)));
        }
        assert!(!holds(&golden, "unet", format, &run(900.0)));

        let unet = UNet::load(&fixture("sdxl-tiny/unet"), dtype, &Device::Cpu).unwrap();
        let sizes: Vec<f32> = get("unet_xl.time_ids").to_vec1().unwrap();
        let run = |sizes: &[f32]| {
            let sizes = sizes.iter().map(|size| f64::from(*size)).collect();
            let added = AddedCondition::new(get("unet_xl.pooled"), sizes);
            let context = get("unet_xl.context");
            unet.forward_with(&get("unet_xl.latents"), 981.0, &context, Some(&added)).unwrap()
        };
        assert!(holds(&golden, "unet_xl", format, &run(&sizes)));
        assert!(!holds(&golden, "unet_xl", format, &run(&[768.0; 6])));
    }
}

#[test]
fn the_decoder_is_as_near_to_f32_as_diffusers() {
    let golden = golden();
    let latents = golden["vae.latents"].clone();
    for (format, dtype) in FORMATS {
        let vae = VaeDecoder::load(&fixture("sd15-tiny/vae"), dtype, &Device::Cpu).unwrap();
        assert!(holds(&golden, "vae", format, &vae.decode(&latents).unwrap()));
        let shifted = (&latents + 0.1).unwrap();
        assert!(!holds(&golden, "vae", format, &vae.decode(&shifted).unwrap()));
    }
}

#[test]
fn text_encoders_are_as_near_to_f32_as_transformers() {
    let golden = golden();
    let (clip_ids, t5_ids) = (ids(&golden["clip.ids"]), ids(&golden["t5.ids"]));
    for (format, dtype) in FORMATS {
        let clip =
            ClipTextModel::load(&fixture("sd15-tiny/text_encoder"), dtype, &Device::Cpu).unwrap();
        assert!(holds(&golden, "clip", format, &clip.forward(&clip_ids).unwrap()));
        let swapped = [clip_ids[1].clone(), clip_ids[0].clone()];
        assert!(!holds(&golden, "clip", format, &clip.forward(&swapped).unwrap()));

        let t5 =
            T5EncoderModel::load(&fixture("ella-tiny/text_encoder"), dtype, &Device::Cpu).unwrap();
        assert!(holds(&golden, "t5", format, &t5.forward(&t5_ids, &[12, 12]).unwrap()));
        assert!(!holds(&golden, "t5", format, &t5.forward(&t5_ids, &[12, 11]).unwrap()));
    }
}

/// What is kept of a text is in the network's format, and serves as well as the text itself.
#[test]
fn kept_keys_and_values_change_nothing_in_half_precision() {
    let golden = golden();
    for (_, dtype) in FORMATS {
        let unet = UNet::load(&fixture("sd15-tiny/unet"), dtype, &Device::Cpu).unwrap();
        let text = TextContext::new(golden["unet.context"].clone());
        let run = || unet.forward_contexts(&golden["unet.latents"], 500.0, &[&text], None).unwrap();
        assert_eq!(distance(&run(), &run()), 0.0);
        assert!(text.cached_bytes() > 0);
    }
}
