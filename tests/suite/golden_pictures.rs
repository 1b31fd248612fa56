//! In: the goldens of a pipeline, which are `cases.json`, `pictures.safetensors` and `sabotaged.safetensors` of a folder
//! below `tests/fixtures`. Out: how each is made here, and how far a picture is from it.

use std::collections::BTreeMap;

use candle_core::Tensor;
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::pipelines::diffusion::to_pixels;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use serde::Deserialize;

use crate::tiny_checkpoint::{Tensors, fixture, read};
use crate::tiny_parts::{TOLERANCE, apart};

/// A call of a pipeline of diffusers; each seed is one image's.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    #[serde(default)]
    pub scheduler: Option<String>,
    pub seeds: Vec<u64>,
    pub height: usize,
    pub width: usize,
    pub guidance: f64,
    pub steps: usize,
    pub prompt: String,
    pub negative_prompt: Option<String>,
}

impl Case {
    pub fn options(&self) -> DiffusionOptions {
        let class = |name: &String| SchedulerClass::from_name(name).unwrap();
        DiffusionOptions {
            steps: self.steps,
            guidance: self.guidance,
            width: Some(self.width),
            height: Some(self.height),
            scheduler: self.scheduler.as_ref().map(class),
            negative_prompt: self.negative_prompt.clone(),
            ..Default::default()
        }
    }
}

pub fn cases<C: for<'de> Deserialize<'de>>(folder: &str) -> BTreeMap<String, C> {
    let text = std::fs::read(fixture(folder).join("cases.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Pictures `[seeds, 3, height, width]` of diffusers, by case.
pub fn pictures(folder: &str) -> Tensors {
    read(&fixture(folder).join("pictures.safetensors"))
}

/// The same of diffusers with one thing wrong.
pub fn sabotaged(folder: &str) -> Tensors {
    read(&fixture(folder).join("sabotaged.safetensors"))
}

/// Asserts that pictures are those of diffusers: within the tolerance in 0..=1, and as bytes within one level.
pub fn assert_same(name: &str, ours: &Tensor, theirs: &Tensor) {
    assert_within(name, ours, theirs, TOLERANCE);
}

/// The same with a tolerance of its own.
pub fn assert_within(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f32) {
    let error = apart(ours, theirs);
    let bytes = |pictures: &Tensor| -> Vec<u8> {
        let images = (0..pictures.dim(0).unwrap()).map(|image| pictures.get(image).unwrap());
        images.flat_map(|image| to_pixels(&image).unwrap().into_raw()).collect()
    };
    let (ours, theirs) = (bytes(ours), bytes(theirs));
    let levels = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b));
    let unequal = levels.clone().filter(|&level| level > 0).count();
    eprintln!("{name}: largest error {error:.2e}; {unequal} of {} bytes differ", ours.len());
    assert!(error <= tolerance, "{name}: {error:e}");
    assert!(levels.max() <= Some(1), "{name}");
    // Where the error is e, rounding gives up to 510 e of the bytes another level.
    let share = unequal as f32 / ours.len() as f32;
    assert!(share < (510.0 * tolerance).max(0.01), "{name}: {unequal} bytes differ");
}

/// Asserts that a picture is none of those made with one thing wrong.
pub fn assert_apart(what: &str, error: f32) {
    eprintln!("{what}: {error:.2e}");
    assert!(error > 5.0 * TOLERANCE, "{what}: {error:e}");
}
