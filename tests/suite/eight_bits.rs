//! Weights in floats of eight bits, against PyTorch and diffusers (fixtures/addon-forms, made by make_addon_forms.py).

use std::path::Path;

use candle_core::{DType, Device};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::weights::Weights;
use serde_json::{Value, json};

use crate::addon_forms::{form, golden, lora, makes, picture};
use crate::tiny_checkpoint::{UNET_FILE, copy_of, edit, fixture, read};
use crate::tiny_parts::{apart, of_folder};

/// Tensors in a safetensors file, as format, shape and bytes.
fn write_raw(path: &Path, tensors: &[(&str, &str, &[usize], Vec<u8>)]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, format, shape, bytes) in tensors {
        let end = data.len() + bytes.len();
        let entry = json!({"dtype": format, "shape": shape, "data_offsets": [data.len(), end]});
        header.insert((*name).to_owned(), entry);
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let size = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&size[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn eight_bit_floats_are_those_of_pytorch() {
    let codes: Vec<u8> = (0..=255).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codes.safetensors");
    let numbers = |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let floats = |weights: &Weights, name: &str, shape: &[usize]| -> anyhow::Result<Vec<f32>> {
        Ok(weights.root().tensor(name, shape)?.flatten_all()?.to_vec1::<f32>()?)
    };
    let golden = read(&fixture("addon-forms/rows_and_codes.safetensors"));
    for format in ["F8_E4M3", "F8_E5M2"] {
        write_raw(&path, &[("a.weight", format, &[256], codes.clone())]);
        let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
        let ours = floats(&weights, "a.weight", &[256]).unwrap();
        let theirs: Vec<f32> = golden[&format!("codes_{format}")].to_vec1().unwrap();
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(ours.iter().zip(&theirs).all(|(a, b)| same(a, b)), "{format}: {ours:?}");
    }
    // 1, 2, -1, 0.5 times their scale: one number, or one for each row.
    let four = vec![0x38, 0x40, 0xb8, 0x30];
    for (scale, shape, wanted) in [
        (vec![4.0], &[][..], [4.0, 8.0, -4.0, 2.0]),
        (vec![0.5], &[1], [0.5, 1.0, -0.5, 0.25]),
        (vec![2.0, 10.0], &[2], [2.0, 4.0, -10.0, 5.0]),
        (vec![2.0, 10.0], &[2, 1], [2.0, 4.0, -10.0, 5.0]),
    ] {
        for name in ["a.scale_weight", "a.weight_scale"] {
            let input = ("a.scale_input", "F32", &[][..], numbers(&[3.0]));
            let scale = (name, "F32", shape, numbers(&scale));
            let weight = ("a.weight", "F8_E4M3", &[2, 2][..], four.clone());
            write_raw(&path, &[input, scale, weight]);
            let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
            assert_eq!(floats(&weights, "a.weight", &[2, 2]).unwrap(), wanted, "{name}");
        }
    }
    let refused = |tensors: &[(&str, &str, &[usize], Vec<u8>)]| {
        write_raw(&path, tensors);
        let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
        floats(&weights, "a.weight", &[2, 2]).unwrap_err().to_string()
    };
    let weight = ("a.weight", "F8_E4M3", &[2, 2][..], four.clone());
    let scale = |name, count: usize, shape| (name, "F32", shape, numbers(&vec![1.0; count]));
    let inverse = scale("a.weight_scale_inv", 1, &[1, 1][..]);
    assert!(refused(&[weight.clone(), inverse]).contains("`a.weight_scale_inv`"));
    let columns = scale("a.scale_weight", 2, &[1, 2][..]);
    assert!(refused(&[weight, columns]).contains("`a.scale_weight`, which has neither"));
    let half = ("a.weight", "F16", &[2, 2][..], vec![0; 8]);
    let message = refused(&[half, scale("a.scale_weight", 1, &[][..])]);
    assert!(message.contains("stored as F16 with `a.scale_weight` beside it"), "{message}");
    let other = ("a.weight", "F8_E4M3FNUZ", &[2, 2][..], four);
    assert!(refused(&[other]).contains("F8_E4M3FNUZ"));
}

#[test]
fn eight_bit_checkpoints_make_the_pictures_of_diffusers() {
    let folder = copy_of("sd15-tiny");
    let unet = folder.path().join(UNET_FILE);
    std::fs::copy(form("unet_eight_bits.safetensors"), &unet).unwrap();
    makes("eight_bits", &of_folder(folder.path()));
    // An adapter is added to what the eight bits stand for.
    let with = CheckpointParts {
        loras: lora(&form("unet.safetensors")).loras,
        ..of_folder(folder.path())
    };
    let ours = picture(&with, &golden().prompt);
    let widened = copy_of("sd15-tiny");
    let weights = Weights::open_file(&unet, DType::F32, &Device::Cpu).unwrap();
    edit(&widened.path().join(UNET_FILE), |tensors| {
        for (name, tensor) in tensors {
            *tensor = weights.root().tensor(name, tensor.dims()).unwrap();
        }
    });
    let wide = CheckpointParts { checkpoint: widened.path().into(), ..with };
    assert_eq!(apart(&ours, &picture(&wide, &golden().prompt)), 0.0);
}
