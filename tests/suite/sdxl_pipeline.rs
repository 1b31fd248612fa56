//! The whole way from prompt and seed to picture, against `StableDiffusionXLPipeline` of diffusers on
//! the tiny checkpoint (fixtures/sdxl-golden, made by make_sdxl.py).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::diffusion::to_pixels;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use serde::Deserialize;
use serde_json::json;

use crate::tiny_checkpoint::{Tensors, configure, copy_of, edit, fixture, read};

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

    fn picture(&self, folder: &Path) -> Tensor {
        let mut pipeline = load(folder, self.options());
        pipeline.pictures(&self.prompt, &[self.generator_seed]).unwrap().1
    }
}

fn load(folder: &Path, options: DiffusionOptions) -> Sdxl {
    Sdxl::load(folder, DType::F32, &Device::Cpu, options).unwrap()
}

fn checkpoint() -> std::path::PathBuf {
    fixture("sdxl-tiny")
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read(fixture("sdxl-golden/pipelines.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn golden(name: &str) -> Tensors {
    read(&fixture(&format!("sdxl-golden/pipeline_{name}.safetensors")))
}

fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference =
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    difference
        .into_iter()
        .fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

#[test]
fn whole_images_equal_diffusers() {
    let cases = cases();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        let (ours, theirs) = (case.picture(&checkpoint()), golden(&name)["image"].clone());
        let error = max_difference(&ours, &theirs);
        let bytes = |picture: &Tensor| to_pixels(&picture.get(0).unwrap()).unwrap().into_raw();
        let (ours, theirs) = (bytes(&ours), bytes(&theirs));
        let steps: Vec<u8> = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
        let unequal = steps.iter().filter(|&&step| step > 0).count();
        eprintln!("{name}: largest error {error:.2e}; {unequal} of {} bytes differ", steps.len());
        assert!(error <= TOLERANCE, "{name}: {error:e}");
        assert!(steps.iter().all(|&step| step <= 1), "{name}");
        assert!(unequal * 100 < steps.len(), "{name}: {unequal} bytes differ");
    }
}

/// The tolerance must refuse each near miss, whether diffusers makes it or we do.
#[test]
fn near_misses_are_told_apart() {
    let case = cases()["euler_negative"].clone();
    let right = case.picture(&checkpoint());
    for (what, wrong) in golden("sabotaged") {
        let error = max_difference(&right, &wrong);
        eprintln!("{what}: {error:.2e}");
        assert!(error > 100.0 * TOLERANCE, "{what}: {error:e}");
    }
    let golden = &golden("euler_negative")["image"];
    let near = |change: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        change(&mut case);
        max_difference(&case.picture(&checkpoint()), golden)
    };
    let with = |file: &str, change: serde_json::Value| {
        let folder = copy_of("sdxl-tiny");
        configure(&folder.path().join(file), &change);
        max_difference(&case.picture(folder.path()), golden)
    };
    let scheduler = "scheduler/scheduler_config.json";
    let misses = [
        ("seed", near(&|case| case.generator_seed += 1)),
        ("guidance 5 -> 5.01", near(&|case| case.guidance_scale += 0.01)),
        ("zeros in place of the negative", near(&|case| case.negative_prompt = None)),
        ("steps", near(&|case| case.num_inference_steps += 1)),
        ("spacing", with(scheduler, json!({"timestep_spacing": "linspace"}))),
        ("offset", with(scheduler, json!({"steps_offset": 0}))),
        ("scaling", with("vae/config.json", json!({"scaling_factor": 0.18215}))),
        ("erf GELU", with("text_encoder/config.json", json!({"hidden_act": "gelu"}))),
        ("tanh GELU", with("text_encoder_2/config.json", json!({"hidden_act": "gelu_new"}))),
    ];
    for (what, error) in misses {
        eprintln!("{what}: {error:.2e}");
        assert!(error > 5.0 * TOLERANCE, "{what}: {error:e}");
    }
}

#[test]
fn an_absent_negative_is_zeros_and_an_empty_one_is_a_text() {
    let case = cases()["euler_empty_negative"].clone();
    let absent = Case { negative_prompt: None, ..case.clone() };
    let empty = golden("euler_empty_negative")["image"].clone();
    assert!(max_difference(&case.picture(&checkpoint()), &empty) <= TOLERANCE);
    assert!(max_difference(&absent.picture(&checkpoint()), &empty) > 100.0 * TOLERANCE);
    // A checkpoint that does not want zeros encodes the empty text for an absent one.
    let folder = copy_of("sdxl-tiny");
    let index = folder.path().join("model_index.json");
    configure(&index, &json!({"force_zeros_for_empty_prompt": false}));
    assert!(max_difference(&absent.picture(folder.path()), &empty) <= TOLERANCE);
    assert_eq!(load(folder.path(), absent.options()).settings()["negative_prompt"], "");
    // Where nothing is stated, diffusers' pipeline wants zeros.
    configure(&index, &json!({"force_zeros_for_empty_prompt": null}));
    let unstated = max_difference(&absent.picture(folder.path()), &absent.picture(&checkpoint()));
    assert_eq!(unstated, 0.0);
}

#[test]
fn a_picture_hardly_depends_on_its_batch() {
    let options =
        DiffusionOptions { steps: 4, width: Some(64), height: Some(48), ..Default::default() };
    let mut pipeline = load(&checkpoint(), options);
    let seeds = [1, 2, 1 << 40];
    let (_, together) = pipeline.pictures("a red kite over a stone house", &seeds).unwrap();
    let mut worst = 0.0_f32;
    for (index, seed) in seeds.into_iter().enumerate() {
        let (_, alone) = pipeline.pictures("a red kite over a stone house", &[seed]).unwrap();
        worst = worst.max(max_difference(&alone.get(0).unwrap(), &together.get(index).unwrap()));
    }
    eprintln!("batch of 1 against batch of 3: largest difference {worst:.2e} in 0..=1");
    assert!(worst <= 2e-5, "{worst:e}");
    let first = together.get(0).unwrap();
    assert!(max_difference(&first, &together.get(1).unwrap()) > 1e-2);
}

#[test]
fn half_precision_decodes_in_f32() {
    let case = cases()["euler_negative"].clone();
    let folder = copy_of("sdxl-tiny");
    let half =
        |folder: &Path| Sdxl::load(folder, DType::F16, &Device::Cpu, case.options()).unwrap();
    let mut pipeline = half(folder.path());
    assert_eq!(pipeline.settings()["vae_dtype"], "f32");
    let (_, picture) = pipeline.pictures(&case.prompt, &[case.generator_seed]).unwrap();
    let error = max_difference(&picture, &golden("euler_negative")["image"]);
    eprintln!("f16 against diffusers in f32: largest error {error:.2e}");
    assert!(error < 0.2, "{error:e}");

    // An autoencoder that overflows f16, as the published one does.
    edit(&folder.path().join("vae/diffusion_pytorch_model.safetensors"), |tensors| {
        let weight = tensors.get_mut("decoder.conv_in.weight").unwrap();
        *weight = (&*weight * 20_000.0).unwrap();
    });
    let images = half(folder.path()).generate(&case.prompt, &[1]).unwrap();
    assert_eq!(images.len(), 1);
    configure(&folder.path().join("vae/config.json"), &json!({"force_upcast": false}));
    let mut pipeline = half(folder.path());
    assert_eq!(pipeline.settings()["vae_dtype"], "f16");
    let message = pipeline.generate(&case.prompt, &[1]).unwrap_err().to_string();
    assert!(message.contains("overflowed"), "{message}");
}

#[test]
fn the_generator_says_what_it_did() {
    let options =
        DiffusionOptions { steps: 2, width: Some(64), height: Some(48), ..Default::default() };
    let mut pipeline = load(&checkpoint(), options.clone());
    let images = pipeline.generate("a small cat!!!!!!", &[5, 6]).unwrap();
    assert_eq!(images.iter().map(|image| image.seed).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(images[0].pixels.dimensions(), (64, 48));
    let plain = pipeline.generate("a small cat", &[5]).unwrap();
    // Six ids by the second tokenizer, whatever the first one merges.
    assert_eq!(images[0].prompt_tokens, plain[0].prompt_tokens.map(|tokens| tokens + 6));
    let long = pipeline.generate(&format!("a cat{}", "!".repeat(90)), &[5]).unwrap();
    assert_eq!((long[0].truncated, images[0].truncated), (Some(true), Some(false)));

    let settings = pipeline.settings();
    assert_eq!(settings["scheduler"]["class"], "EulerDiscreteScheduler");
    assert_eq!(settings["scheduler"]["timestep_spacing"], "leading");
    assert_eq!(settings["time_ids"], json!([48, 64, 0, 0, 48, 64]));
    assert_eq!(settings["negative_prompt"], json!(null));
    assert_eq!(settings["weights"]["text_encoder_2"].as_str().unwrap().len(), 64);
    for changed in [
        DiffusionOptions { steps: 3, ..options.clone() },
        DiffusionOptions { guidance: 7.0, ..options.clone() },
        DiffusionOptions { height: Some(64), ..options.clone() },
        DiffusionOptions { negative_prompt: Some(String::new()), ..options.clone() },
        DiffusionOptions { scheduler: Some(SchedulerClass::Ddim), ..options.clone() },
    ] {
        assert_ne!(load(&checkpoint(), changed).settings(), settings);
    }
    let folder = copy_of("sdxl-tiny");
    let path = folder.path().join("tokenizer_2/tokenizer_config.json");
    configure(&path, &json!({"pad_token": "<|endoftext|>"}));
    assert_ne!(load(folder.path(), options).settings(), settings);
    // The checkpoint's own size.
    let settings = load(&checkpoint(), DiffusionOptions::default()).settings();
    assert_eq!((&settings["width"], &settings["height"]), (&json!(64), &json!(64)));
}

#[test]
fn unusable_checkpoints_are_refused_in_a_sentence() {
    let refusal = |folder: &Path| {
        let options = DiffusionOptions::default();
        format!("{:#}", Sdxl::load(folder, DType::F32, &Device::Cpu, options).err().unwrap())
    };
    let message = refusal(&fixture("sd15-tiny"));
    assert!(message.ends_with("; try --model sd15"), "{message}");
    let folder = copy_of("sdxl-tiny");
    std::fs::remove_dir_all(folder.path().join("tokenizer_2")).unwrap();
    let message = refusal(folder.path());
    assert!(
        message.contains("it lacks") && message.contains("tokenizer_2/vocab.json"),
        "{message}"
    );
    let folder = copy_of("sdxl-tiny");
    configure(
        &folder.path().join("model_index.json"),
        &json!({"_class_name": "StableDiffusionXLImg2ImgPipeline"}),
    );
    let message = refusal(folder.path());
    assert!(message.contains("Img2Img") && message.contains("model sdxl"), "{message}");

    // Text encoders of another model.
    let folder = copy_of("sdxl-tiny");
    for file in ["config.json", "model.safetensors"] {
        let to = folder.path().join("text_encoder").join(file);
        std::fs::copy(fixture("sd15-tiny/text_encoder").join(file), to).unwrap();
    }
    let message = refusal(folder.path());
    assert!(message.contains("48 channels") && message.contains("40"), "{message}");
    let folder = copy_of("sdxl-tiny");
    configure(
        &folder.path().join("tokenizer_2/tokenizer_config.json"),
        &json!({"model_max_length": 60}),
    );
    let message = refusal(folder.path());
    assert!(message.contains("77 and 60"), "{message}");
}
