//! In: parts that a checkpoint is put together from, and a golden's settings. Out: its pipeline, its picture, or why there
//! is none.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use serde::Deserialize;

/// Largest absolute error of a picture in 0..=1.
pub const TOLERANCE: f32 = 2e-5;

/// How a golden's pictures were made.
#[derive(Deserialize)]
pub struct Settings {
    steps: usize,
    guidance: f64,
    pub seed: u64,
    width: usize,
    height: usize,
}

impl Settings {
    pub fn options(&self) -> DiffusionOptions {
        DiffusionOptions {
            steps: self.steps,
            guidance: self.guidance,
            width: Some(self.width),
            height: Some(self.height),
            ..Default::default()
        }
    }
}

/// What makes pictures of a checkpoint's folder.
pub trait Pipeline: Sized {
    fn open(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Self>;

    /// [1, 3, height, width], in 0..=1.
    fn picture(&mut self, prompt: &str, seed: u64) -> Tensor;
}

impl Pipeline for Sd15 {
    fn open(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Self> {
        Self::load(folder, DType::F32, &Device::Cpu, options)
    }

    fn picture(&mut self, prompt: &str, seed: u64) -> Tensor {
        self.pictures(prompt, &[seed]).unwrap().1
    }
}

impl Pipeline for Sdxl {
    fn open(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Self> {
        Self::load(folder, DType::F32, &Device::Cpu, options)
    }

    fn picture(&mut self, prompt: &str, seed: u64) -> Tensor {
        self.pictures(prompt, &[seed]).unwrap().1
    }
}

pub fn of_folder(folder: &Path) -> CheckpointParts {
    CheckpointParts { checkpoint: folder.to_path_buf(), ..Default::default() }
}

pub fn load<P: Pipeline>(
    parts: &CheckpointParts,
    settings: &Settings,
) -> anyhow::Result<(P, Assembled)> {
    let assembled = parts.assemble()?;
    let opened = P::open(assembled.path(), settings.options());
    Ok((opened.map_err(|error| assembled.with_user_paths(error))?, assembled))
}

pub fn picture<P: Pipeline>(parts: &CheckpointParts, settings: &Settings, prompt: &str) -> Tensor {
    load::<P>(parts, settings).unwrap().0.picture(prompt, settings.seed)
}

/// The words with which parts are refused, which name no temporary file but the test's own.
pub fn refusal<P: Pipeline>(parts: &CheckpointParts, settings: &Settings) -> String {
    let message = format!("{:#}", load::<P>(parts, settings).err().unwrap());
    let temporary = std::env::temp_dir().join(".tmp").to_str().unwrap().to_owned();
    if !format!("{parts:?}").contains(&temporary) {
        assert!(!message.contains(&temporary), "{message}");
    }
    message
}

/// The largest difference; of what is no number, infinity.
pub fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let largest = |worst: f32, d: f32| if d.is_nan() { f32::INFINITY } else { worst.max(d) };
    difference.to_vec1::<f32>().unwrap().into_iter().fold(0.0, largest)
}
