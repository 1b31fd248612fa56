//! In: the tiny checkpoints, and what diffusers and transformers compute from them in f32 and bf16
//! (`tests/fixtures/half`). Checks: networks whose products are rounded, by the model of the matrix tiles, are as near to
//! f32 as the parts of their factors allow, nearer than PyTorch's bf16, and give the same bits at any number of threads.

mod judges;

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::{ClipTextModel, T5EncoderModel, UNet, VaeDecoder};
use crate::compute::golden::{Golden, errors};
use crate::compute::products::Products;

/// Relative errors that two parts may leave, and that no single part reaches; the decoder's is 4.2e-5.
const TWO_PARTS: f64 = 5e-5;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// `run` loads a network and computes what the golden tensors `name` are.
fn holds(name: &str, run: impl Fn(&Golden) -> Tensor + Sync) {
    let golden = Golden::open("../half/golden");
    let (exact, theirs) = (golden.get(&format!("{name}.f32")), golden.get(&format!("{name}.bf16")));
    let off = |tensor: &Tensor| errors(name, tensor, &exact).relative();
    let with = |products: Products| products.by_the_model().while_loading(|| run(&golden));
    let (plain, two, one) =
        (with(Products::F32), with(Products::Bf16x3), on_threads(1, || with(Products::Bf16)));
    assert!(off(&plain) < TWO_PARTS / 3.0);
    assert!(off(&two) < TWO_PARTS);
    // Rounded, and not by another product in f32.
    assert!(off(&one) > 3.0 * TWO_PARTS);
    assert!(off(&one) < off(&theirs.to_dtype(DType::F32).unwrap()));
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values.iter().map(|value| value.to_bits()).collect()
    };
    assert!(bits(&one) == bits(&on_threads(3, || with(Products::Bf16))));
}

#[test]
fn a_unet_with_rounded_products_is_near_to_f32() {
    holds("unet", |golden| {
        let unet = UNet::load(&folder("sd15-tiny/unet"), DType::F32, &Device::Cpu).unwrap();
        unet.forward(&golden.get("unet.latents"), 981.0, &golden.get("unet.context")).unwrap()
    });
}

#[test]
fn a_decoder_with_rounded_products_is_near_to_f32() {
    holds("vae", |golden| {
        let vae = VaeDecoder::load(&folder("sd15-tiny/vae"), DType::F32, &Device::Cpu).unwrap();
        vae.decode(&golden.get("vae.latents")).unwrap()
    });
}

#[test]
fn text_encoders_with_rounded_products_are_near_to_f32() {
    let ids = |golden: &Golden, name: &str| -> Vec<Vec<u32>> {
        golden.get(name).to_dtype(DType::U32).unwrap().to_vec2().unwrap()
    };
    holds("clip", |golden| {
        let folder = folder("sd15-tiny/text_encoder");
        let clip = ClipTextModel::load(&folder, DType::F32, &Device::Cpu).unwrap();
        clip.forward(&ids(golden, "clip.ids")).unwrap()
    });
    holds("t5", |golden| {
        let folder = folder("ella-tiny/text_encoder");
        let t5 = T5EncoderModel::load(&folder, DType::F32, &Device::Cpu).unwrap();
        t5.forward(&ids(golden, "t5.ids"), &[12, 12]).unwrap()
    });
}
