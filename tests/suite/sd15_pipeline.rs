//! The whole way from prompt and seed to picture, against `StableDiffusionPipeline` of diffusers on
//! the tiny checkpoint (fixtures/sd15-golden, made by make_sd15.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::diffusion::to_pixels;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
use serde::Deserialize;

use crate::tiny_checkpoint::copy_of;

/// Largest absolute error of a picture in 0..=1.
const TOLERANCE: f32 = 2e-5;

#[derive(Debug, Clone, Deserialize)]
struct Case {
    scheduler: String,
    generator_seed: u64,
    height: usize,
    width: usize,
    guidance_scale: f64,
    prompt: String,
    negative_prompt: Option<String>,
    num_inference_steps: usize,
}

impl Case {
    fn options(&self) -> DiffusionOptions {
        DiffusionOptions {
            steps: self.num_inference_steps,
            guidance: self.guidance_scale,
            width: Some(self.width),
            height: Some(self.height),
            scheduler: Some(SchedulerClass::from_name(&self.scheduler).unwrap()),
            negative_prompt: self.negative_prompt.clone(),
            ..Default::default()
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn checkpoint() -> PathBuf {
    fixtures().join("sd15-tiny")
}

fn load(folder: &Path, options: DiffusionOptions) -> Sd15 {
    Sd15::load(folder, DType::F32, &Device::Cpu, options).unwrap()
}

/// The cases whose scheduler is written here.
fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read(fixtures().join("sd15-golden/pipelines.json")).unwrap();
    let mut cases: BTreeMap<String, Case> = serde_json::from_slice(&text).unwrap();
    cases.retain(|_, case| SchedulerClass::from_name(&case.scheduler).is_ok());
    assert!(cases.len() >= 9, "{:?}", cases.keys());
    cases
}

/// Picture `[1, 3, h, w]` and pixels `[1, h, w, 3]` of diffusers.
fn expected(name: &str) -> (Tensor, Tensor) {
    let file = fixtures().join(format!("sd15-golden/pipeline_{name}.safetensors"));
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    (tensors["image"].clone(), tensors["pixels"].clone())
}

fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference =
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    difference
        .into_iter()
        .fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

/// Largest error of a picture that `options` and `seed` give for a case.
fn error(name: &str, folder: &Path, prompt: &str, seed: u64, options: DiffusionOptions) -> f32 {
    let (_, picture) = load(folder, options).pictures(prompt, &[seed]).unwrap();
    max_difference(&picture, &expected(name).0)
}

#[test]
fn whole_images_equal_diffusers() {
    for (name, case) in cases() {
        let mut pipeline = load(&checkpoint(), case.options());
        let (_, picture) = pipeline.pictures(&case.prompt, &[case.generator_seed]).unwrap();
        let (image, pixels) = expected(&name);
        let error = max_difference(&picture, &image);
        let ours = to_pixels(&picture.get(0).unwrap()).unwrap();
        let theirs = pixels.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let steps: Vec<u8> =
            ours.as_raw().iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
        let unequal = steps.iter().filter(|&&step| step > 0).count();
        eprintln!(
            "{name}: largest error {error:.2e} in 0..=1; {unequal} of {} bytes differ",
            theirs.len()
        );
        assert!(error <= TOLERANCE, "{name}: {error:e}");
        assert!(steps.iter().all(|&step| step <= 1), "{name}");
        assert!(unequal * 100 < theirs.len(), "{name}: {unequal} bytes differ");
    }
}

/// The tolerance must refuse each near miss.
#[test]
fn near_misses_are_told_apart() {
    let cases = cases();
    let case = &cases["pndm_negative"];
    let wrong_seed = error("pndm_negative", &checkpoint(), &case.prompt, 13, case.options());
    let near = |change: &dyn Fn(&mut DiffusionOptions)| {
        let mut options = case.options();
        change(&mut options);
        error("pndm_negative", &checkpoint(), &case.prompt, case.generator_seed, options)
    };
    let linspace = changed_checkpoint(
        "\"steps_offset\": 1",
        "\"steps_offset\": 1, \"timestep_spacing\": \"linspace\"",
    );
    let alpha = changed_checkpoint("\"set_alpha_to_one\": false", "\"set_alpha_to_one\": true");
    let with = |folder: &Path| {
        error("pndm_negative", folder, &case.prompt, case.generator_seed, case.options())
    };
    let misses = [
        ("seed", wrong_seed),
        ("guidance 7.5 -> 8", near(&|options| options.guidance += 0.5)),
        ("guidance 7.5 -> 7.51", near(&|options| options.guidance += 0.01)),
        ("no negative prompt", near(&|options| options.negative_prompt = None)),
        ("steps", near(&|options| options.steps += 1)),
        ("scheduler", near(&|options| options.scheduler = Some(SchedulerClass::Ddim))),
        ("spacing", with(linspace.path())),
        ("final alpha", with(alpha.path())),
    ];
    for (what, error) in misses {
        eprintln!("{what}: {error:.2e}");
        assert!(error > 5.0 * TOLERANCE, "{what}: {error:e}");
    }
}

/// A copy of the checkpoint with one change to its scheduler's configuration.
fn changed_checkpoint(from: &str, to: &str) -> tempfile::TempDir {
    let folder = copy_of_checkpoint();
    let path = folder.path().join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    folder
}

fn copy_of_checkpoint() -> tempfile::TempDir {
    copy_of("sd15-tiny")
}

#[test]
fn a_picture_hardly_depends_on_its_batch() {
    let options =
        DiffusionOptions { steps: 4, width: Some(64), height: Some(48), ..Default::default() };
    let mut pipeline = load(&checkpoint(), options);
    let seeds = [1, 2, 3, 1 << 40];
    let (_, together) = pipeline.pictures("a red kite over a stone house", &seeds).unwrap();
    let mut worst = 0.0_f32;
    for (index, seed) in seeds.into_iter().enumerate() {
        let (_, alone) = pipeline.pictures("a red kite over a stone house", &[seed]).unwrap();
        worst = worst.max(max_difference(&alone.get(0).unwrap(), &together.get(index).unwrap()));
    }
    eprintln!("batch of 1 against batch of 4: largest difference {worst:.2e} in 0..=1");
    assert!(worst <= 2e-5, "{worst:e}");
    let one = together.get(0).unwrap();
    assert!(max_difference(&one, &together.get(1).unwrap()) > 1e-2);
}

#[test]
fn the_generator_says_what_it_did() {
    let options =
        DiffusionOptions { steps: 2, width: Some(64), height: Some(48), ..Default::default() };
    let mut pipeline = load(&checkpoint(), options.clone());
    let images = pipeline.generate("a small cat", &[5, 6]).unwrap();
    assert_eq!(images.iter().map(|image| image.seed).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(images[0].pixels.dimensions(), (64, 48));
    assert!(images[0].truncated == Some(false) && images[0].prompt_tokens < Some(20));
    let long = pipeline.generate(&"a small cat ".repeat(40), &[5]).unwrap();
    assert!(long[0].truncated == Some(true) && long[0].prompt_tokens > Some(77));

    let settings = pipeline.settings();
    assert_eq!(settings["scheduler"]["class"], "PNDMScheduler");
    assert_eq!(settings["scheduler"]["timestep_spacing"], "leading");
    assert_eq!(settings["weights"]["unet"].as_str().unwrap().len(), 64);
    // Each setting that changes a picture changes the record.
    for changed in [
        DiffusionOptions { steps: 3, ..options.clone() },
        DiffusionOptions { guidance: 7.0, ..options.clone() },
        DiffusionOptions { height: Some(64), ..options.clone() },
        DiffusionOptions { negative_prompt: Some("text".into()), ..options.clone() },
        DiffusionOptions { scheduler: Some(SchedulerClass::EulerDiscrete), ..options.clone() },
    ] {
        assert_ne!(load(&checkpoint(), changed).settings(), settings);
    }
    let alpha = changed_checkpoint("\"set_alpha_to_one\": false", "\"set_alpha_to_one\": true");
    assert_ne!(load(alpha.path(), options.clone()).settings(), settings);
    let path = alpha.path().join("tokenizer/merges.txt");
    let merges = std::fs::read_to_string(&path).unwrap();
    std::fs::copy(
        checkpoint().join("scheduler/scheduler_config.json"),
        alpha.path().join("scheduler/scheduler_config.json"),
    )
    .unwrap();
    assert_eq!(load(alpha.path(), options.clone()).settings(), settings);
    std::fs::write(&path, merges.trim_end().rsplit_once('\n').unwrap().0).unwrap();
    assert_ne!(load(alpha.path(), options).settings(), settings);
}

#[test]
fn unusable_checkpoints_and_settings_are_refused_in_a_sentence() {
    let refusal = |folder: &Path, options: DiffusionOptions| {
        let error = Sd15::load(folder, DType::F32, &Device::Cpu, options).err().unwrap();
        format!("{error:#}")
    };
    let missing = refusal(Path::new("no/such/folder"), DiffusionOptions::default());
    assert!(missing.contains("no/such/folder") && missing.contains("--weights"), "{missing}");

    let folder = copy_of_checkpoint();
    std::fs::remove_file(folder.path().join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    std::fs::remove_file(folder.path().join("tokenizer/merges.txt")).unwrap();
    let message = refusal(folder.path(), DiffusionOptions::default());
    assert!(message.contains("unet/diffusion_pytorch_model.safetensors"), "{message}");
    assert!(message.contains("tokenizer/merges.txt") && !message.contains("vae/"), "{message}");

    let folder = copy_of_checkpoint();
    let index = std::fs::read_to_string(folder.path().join("model_index.json")).unwrap();
    let other = index.replace("\"StableDiffusionPipeline\"", "\"StableDiffusionXLPipeline\"");
    std::fs::write(folder.path().join("model_index.json"), other).unwrap();
    let message = refusal(folder.path(), DiffusionOptions::default());
    assert!(message.contains("StableDiffusionXLPipeline"), "{message}");

    let folder = copy_of_checkpoint();
    let path = folder.path().join("model_index.json");
    let index = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, index.replace("\"PNDMScheduler\"", "\"LMSDiscreteScheduler\"")).unwrap();
    let message = refusal(folder.path(), DiffusionOptions::default());
    assert!(
        message.contains("LMSDiscreteScheduler") && message.contains("model_index.json"),
        "{message}"
    );
    // ... and runs when another is asked for.
    load(
        folder.path(),
        DiffusionOptions { scheduler: Some(SchedulerClass::Ddim), ..Default::default() },
    );

    for (options, word) in [
        (DiffusionOptions { width: Some(100), ..Default::default() }, "--width 100"),
        (DiffusionOptions { height: Some(0), ..Default::default() }, "--height 0"),
        (DiffusionOptions { steps: 0, ..Default::default() }, "0 steps"),
        (DiffusionOptions { steps: 1001, ..Default::default() }, "1001 steps"),
        (DiffusionOptions { guidance: f64::NAN, ..Default::default() }, "--guidance"),
    ] {
        let message = refusal(&checkpoint(), options);
        assert!(message.contains(word), "{message}");
    }
}
