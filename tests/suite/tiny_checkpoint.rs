//! In: the tiny checkpoint and the goldens under `tests/fixtures`. Out: copies that a test may
//! damage, and comparisons that state their error.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::model_error::ModelError;
use dpg_bench::models::{ClipTextModel, UNet, VaeDecoder};
use sha2::{Digest, Sha256};

pub type Tensors = HashMap<String, Tensor>;

pub const UNET_FILE: &str = "unet/diffusion_pytorch_model.safetensors";
pub const VAE_FILE: &str = "vae/diffusion_pytorch_model.safetensors";
pub const CLIP_FILE: &str = "text_encoder/model.safetensors";

pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

pub fn read(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

pub fn golden(name: &str) -> Tensors {
    read(&fixture(&format!("sd15-golden/{name}.safetensors")))
}

/// Bounds on the relative (root mean square) and the largest absolute error.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub relative: f64,
    pub absolute: f64,
}

/// f32 on the processor: outputs are of order one, so this is some tens of roundings.
pub const F32: Bounds = Bounds { relative: 5e-6, absolute: 5e-5 };

pub fn compare(name: &str, ours: &Tensor, golden: &Tensor, bounds: Bounds) -> Result<(), String> {
    assert_eq!(ours.dims(), golden.dims(), "{name}");
    let values = |tensor: &Tensor| -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (ours, golden) = (values(ours), values(golden));
    let (mut largest, mut squares, mut scale) = (0.0, 0.0, 0.0);
    for (a, b) in ours.iter().zip(&golden) {
        let difference = (a - b).abs();
        if difference > largest || difference.is_nan() {
            largest = difference;
        }
        squares += difference * difference;
        scale += b * b;
    }
    let relative = f64::sqrt(squares / scale);
    let line = format!("{name}: max absolute error {largest:.1e}, relative error {relative:.1e}");
    println!("{line}");
    if relative <= bounds.relative && largest <= bounds.absolute { Ok(()) } else { Err(line) }
}

/// A copy of a whole checkpoint under `tests/fixtures` that a test may damage.
pub fn copy_of(checkpoint: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in std::fs::read_dir(fixture(checkpoint)).unwrap() {
        let part = part.unwrap().path();
        let name = part.file_name().unwrap();
        if part.is_file() {
            std::fs::copy(&part, folder.path().join(name)).unwrap();
            continue;
        }
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for file in std::fs::read_dir(&part).unwrap() {
            let file = file.unwrap().path();
            std::fs::copy(&file, folder.path().join(name).join(file.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Changes keys of a JSON object in a file.
pub fn configure(path: &Path, changes: &serde_json::Value) {
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(path, config.to_string()).unwrap();
}

/// Changes the tensors of a safetensors file.
pub fn edit(path: &Path, change: impl Fn(&mut Tensors)) {
    let mut tensors = read(path);
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, path).unwrap();
}

/// A copy of the checkpoint that a test may change.
pub struct Copy(tempfile::TempDir);

impl Copy {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["unet", "vae", "text_encoder"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            for entry in std::fs::read_dir(fixture("sd15-tiny").join(part)).unwrap() {
                let entry = entry.unwrap();
                let target = folder.path().join(part).join(entry.file_name());
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
        Self(folder)
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Changes keys of a component's `config.json`.
    pub fn configure(self, part: &str, changes: serde_json::Value) -> Self {
        configure(&self.path(part).join("config.json"), &changes);
        self
    }

    /// Changes the tensors of a file.
    pub fn edit(self, file: &str, change: impl Fn(&mut Tensors)) -> Self {
        edit(&self.path(file), change);
        self
    }

    pub fn unet(&self) -> Result<UNet, ModelError> {
        UNet::load(&self.path("unet"), DType::F32, &Device::Cpu)
    }

    pub fn vae(&self) -> Result<VaeDecoder, ModelError> {
        VaeDecoder::load(&self.path("vae"), DType::F32, &Device::Cpu)
    }

    pub fn clip(&self) -> Result<ClipTextModel, ModelError> {
        ClipTextModel::load(&self.path("text_encoder"), DType::F32, &Device::Cpu)
    }
}

pub const UNET_CASES: &[&str] = &["square", "wide", "odd", "long_context", "single"];
pub const VAE_CASES: &[&str] = &["square", "wide", "single"];

/// The UNet's outputs against the cases `names` of the tiny checkpoint's goldens.
pub fn unet_cases(unet: &UNet, names: &[&str], bounds: Bounds) -> Result<(), String> {
    unet_against(unet, &golden("unet"), names, bounds)
}

/// The UNet's outputs against the cases `names` of `golden`.
pub fn unet_against(
    unet: &UNet,
    golden: &Tensors,
    names: &[&str],
    bounds: Bounds,
) -> Result<(), String> {
    for name in names {
        let part = |part: &str| golden[&format!("{name}.{part}")].clone();
        let timestep = part("timestep").to_vec1::<f32>().unwrap()[0];
        let ours = unet.forward(&part("latents"), f64::from(timestep), &part("context")).unwrap();
        compare(&format!("unet {name}"), &ours, &part("output"), bounds)?;
    }
    Ok(())
}

/// The decoder's outputs against the cases `names` of the tiny checkpoint's goldens.
pub fn vae_cases(vae: &VaeDecoder, names: &[&str], bounds: Bounds) -> Result<(), String> {
    vae_against(vae, &golden("vae"), names, bounds)
}

/// The decoder's outputs against the cases `names` of `golden`.
pub fn vae_against(
    vae: &VaeDecoder,
    golden: &Tensors,
    names: &[&str],
    bounds: Bounds,
) -> Result<(), String> {
    for name in names {
        let ours = vae.decode(&golden[&format!("{name}.latents")]).unwrap();
        compare(&format!("vae {name}"), &ours, &golden[&format!("{name}.output")], bounds)?;
    }
    Ok(())
}

/// The text encoder's hidden states against the tiny checkpoint's goldens.
pub fn clip_cases(clip: &ClipTextModel, bounds: Bounds) -> Result<(), String> {
    clip_against(clip, &golden("clip_text"), bounds)
}

/// The text encoder's hidden states against `golden`.
pub fn clip_against(clip: &ClipTextModel, golden: &Tensors, bounds: Bounds) -> Result<(), String> {
    for (ids, hidden) in [("ids", "hidden"), ("short_ids", "short_hidden")] {
        let ours = clip.forward(&rows(&golden[ids])).unwrap();
        compare(&format!("clip_text {hidden}"), &ours, &golden[hidden], bounds)?;
    }
    Ok(())
}

pub fn rows(ids: &Tensor) -> Vec<Vec<u32>> {
    ids.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

/// SHA-256 of a file.
pub fn sha256(path: &Path) -> String {
    digest(&std::fs::read(path).unwrap())
}

/// SHA-256 of bytes.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
