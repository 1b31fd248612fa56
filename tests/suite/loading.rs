//! What the pipelines of diffusers mend, follow and refuse when they load a folder whose small files say something
//! unusual (fixtures/loading, made by make_loading.py).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::tiny_checkpoint::{Tensors, configure, copy_of, edit, fixture, read};
use crate::tiny_parts::{TOLERANCE, apart};

/// Euler's sigmas begin at 4,096 where the ratio at the end is zero (diffusers puts 2^-24 in its place), so that one
/// rounding of the latents in f32 is 2.4e-4.
const LARGE_SIGMA_TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Golden {
    settings: Settings,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Settings {
    prompt: String,
    seed: u64,
    steps: usize,
    guidance: f64,
}

#[derive(Deserialize)]
struct Case {
    base: String,
    changes: BTreeMap<String, Value>,
    remove: BTreeMap<String, Vec<String>>,
    /// The class that takes the scheduler's place.
    swap: Option<String>,
    size: Option<usize>,
    /// Height and width of the picture.
    shape: [usize; 2],
    /// How far the picture is from that of the unchanged folder.
    from_plain: Option<f32>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(fixture("loading/golden.json")).unwrap()).unwrap()
}

/// A copy of the case's folder with its changes.
fn folder_of(case: &Case) -> tempfile::TempDir {
    let folder = copy_of(&case.base);
    for (file, changes) in &case.changes {
        configure(&folder.path().join(file), changes);
    }
    for (file, keys) in &case.remove {
        let path = folder.path().join(file);
        let mut values: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for key in keys {
            assert!(values.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
        std::fs::write(path, values.to_string()).unwrap();
    }
    folder
}

enum Pipeline {
    Sd15(Box<Sd15>),
    Sdxl(Box<Sdxl>),
}

impl Pipeline {
    fn load(folder: &Path, base: &str, options: DiffusionOptions) -> anyhow::Result<Self> {
        let (dtype, device) = (DType::F32, &Device::Cpu);
        Ok(match base {
            "sdxl-tiny" => Self::Sdxl(Box::new(Sdxl::load(folder, dtype, device, options)?)),
            _ => Self::Sd15(Box::new(Sd15::load(folder, dtype, device, options)?)),
        })
    }

    fn generator(&self) -> &dyn ImageGenerator {
        match self {
            Self::Sd15(pipeline) => pipeline.as_ref(),
            Self::Sdxl(pipeline) => pipeline.as_ref(),
        }
    }

    fn picture(&mut self, prompt: &str, seed: u64) -> Tensor {
        let pictures = match self {
            Self::Sd15(pipeline) => pipeline.pictures(prompt, &[seed]),
            Self::Sdxl(pipeline) => pipeline.pictures(prompt, &[seed]),
        };
        pictures.unwrap().1.get(0).unwrap()
    }
}

fn options(settings: &Settings, case: &Case) -> DiffusionOptions {
    DiffusionOptions {
        steps: settings.steps,
        guidance: settings.guidance,
        width: case.size,
        height: case.size,
        scheduler: case.swap.as_ref().map(|name| SchedulerClass::from_name(name).unwrap()),
        ..Default::default()
    }
}

#[test]
fn unusual_folders_make_the_pictures_of_diffusers() {
    let golden = golden();
    let pictures: Tensors = read(&fixture("loading/pictures.safetensors"));
    let (mut compared, mut others, mut sizes) = (0, 0, 0);
    let mut wrong = Vec::new();
    for (name, case) in &golden.cases {
        let folder = folder_of(case);
        let mut pipeline =
            Pipeline::load(folder.path(), &case.base, options(&golden.settings, case))
                .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let settings = pipeline.generator().settings();
        assert_eq!(json!(case.shape), json!([settings["height"], settings["width"]]), "{name}");
        let Some(expected) = pictures.get(name) else {
            sizes += 1;
            continue;
        };
        let picture = pipeline.picture(&golden.settings.prompt, golden.settings.seed);
        let error = apart(&picture, expected);
        let is_large = name.starts_with("zero_snr_euler") || name == "zero_snr_xl";
        let tolerance = if is_large { LARGE_SIGMA_TOLERANCE } else { TOLERANCE };
        if error > tolerance {
            wrong.push(format!("{name}: {error:e}"));
        }
        compared += 1;
        others += usize::from(case.from_plain.unwrap() > 100.0 * TOLERANCE);
    }
    eprintln!("{compared} pictures, {others} of them unlike the plain one; {sizes} sizes");
    assert_eq!(wrong, [""; 0]);
    assert!(compared >= 104 && others >= 70 && sizes >= 10, "{compared} {others} {sizes}");
}

#[test]
fn what_was_mended_is_told() {
    let golden = golden();
    let mended = |name: &str| -> Vec<String> {
        let case = &golden.cases[name];
        let folder = folder_of(case);
        let options = options(&golden.settings, case);
        let pipeline = Pipeline::load(folder.path(), &case.base, options).unwrap();
        let lines = pipeline.generator().understood().lines;
        lines.into_iter().filter(|line| line.subject == "mended").map(|line| line.text).collect()
    };
    for (name, words) in [
        ("offset_0_euler", vec!["steps_offset: 0 in the file, 1 in"]),
        ("offset_absent_ddim", vec!["steps_offset: absent"]),
        ("clip_true_ddim", vec!["clip_sample: true"]),
        (
            "index_euler",
            vec!["EulerDiscreteScheduler of model_index.json stands above PNDMScheduler"],
        ),
        ("size_0_6_0", vec!["sample_size: 8 in a file of diffusers \"0.6.0\", 64"]),
        ("plain", vec![]),
        ("offset_0_xl", vec![]),
        ("offset_absent_swap_euler", vec![]),
    ] {
        let told = mended(name);
        assert_eq!(told.len(), words.len(), "{name}: {told:?}");
        assert!(told.iter().zip(words).all(|(told, word)| told.contains(word)), "{name}: {told:?}");
    }
}

/// The message with which a changed copy of `base` is refused.
fn refusal(base: &str, file: &str, changes: &Value, options: DiffusionOptions) -> String {
    let folder = copy_of(base);
    configure(&folder.path().join(file), changes);
    let loaded = Pipeline::load(folder.path(), base, options);
    let Err(error) = loaded else { panic!("{base} loads with {changes} in {file}") };
    format!("{error:#}")
}

#[test]
fn components_of_other_classes_are_refused_by_name() {
    let index = |name: &str, library: &str, class: &str| json!({name: [library, class]});
    let cases = [
        ("sd15-tiny", "model_index.json", index("vae", "diffusers", "AsymmetricAutoencoderKL")),
        ("sd15-tiny", "model_index.json", index("vae", "diffusers", "AutoencoderTiny")),
        ("sd15-tiny", "model_index.json", index("unet", "diffusers", "UNet3DConditionModel")),
        ("sd15-tiny", "model_index.json", index("unet", "my_module", "UNet2DConditionModel")),
        ("sd15-tiny", "model_index.json", index("scheduler", "my_module", "PNDMScheduler")),
        ("sd15-tiny", "model_index.json", index("scheduler", "diffusers", "HeunDiscreteScheduler")),
        (
            "sd15-tiny",
            "model_index.json",
            index("text_encoder", "transformers", "CLIPTextModelWithProjection"),
        ),
        ("sd15-tiny", "model_index.json", index("tokenizer", "transformers", "T5Tokenizer")),
        ("sdxl-tiny", "model_index.json", index("text_encoder_2", "transformers", "CLIPTextModel")),
        ("sdxl-tiny", "model_index.json", json!({"tokenizer": [null, null]})),
        ("sd15-tiny", "vae/config.json", json!({"_class_name": "AsymmetricAutoencoderKL"})),
        ("sd15-tiny", "unet/config.json", json!({"_class_name": "UNetMotionModel"})),
        ("sd15-tiny", "text_encoder/config.json", json!({"architectures": ["BertModel"]})),
        ("sd15-tiny", "text_encoder/config.json", json!({"model_type": "bert"})),
        ("sd15-tiny", "text_encoder/config.json", json!({"use_attention_mask": true})),
    ];
    for (base, file, changes) in cases {
        let message = refusal(base, file, &changes, DiffusionOptions::default());
        let (key, value) = changes.as_object().unwrap().iter().next().unwrap();
        let value = match value {
            Value::Array(parts) => parts.last().unwrap().as_str().unwrap_or("null").to_owned(),
            other => other.to_string(),
        };
        assert!(message.contains(key) && message.contains(&value), "{changes}: {message}");
    }
    // Another autoencoder's class is that of its own file.
    let folder = copy_of("sd15-tiny");
    let vae = folder.path().join("vae");
    configure(&vae.join("config.json"), &json!({"_class_name": "AsymmetricAutoencoderKL"}));
    let parts =
        CheckpointParts { checkpoint: fixture("sd15-tiny"), vae: Some(vae), ..Default::default() };
    let assembled = parts.assemble().unwrap();
    let loaded = Pipeline::load(assembled.path(), "sd15-tiny", DiffusionOptions::default());
    let message = format!("{:#}", loaded.err().unwrap());
    assert!(message.contains("AsymmetricAutoencoderKL"), "{message}");
}

#[test]
fn keys_that_ask_for_something_else_are_refused() {
    let unet = |key: &str, value: Value| ("unet/config.json", key.to_owned(), value);
    let vae = |key: &str, value: Value| ("vae/config.json", key.to_owned(), value);
    for (file, key, value) in [
        unet("only_cross_attention", json!([false, true])),
        unet("only_cross_attention", json!(true)),
        unet("cross_attention_dim", json!([24, 40])),
        unet("sample_size", json!([8, 8, 8])),
        unet("norm_num_groups", json!(null)),
        unet("act_fn", json!(null)),
        unet("attention_head_dim", json!(null)),
        unet("class_embeddings_concat", json!(true)),
        unet("num_class_embeds", json!(10)),
        unet("quantization_config", json!({"quant_method": "bitsandbytes"})),
        unet("mid_block_type", json!("UNetMidBlock2D")),
        vae("out_channels", json!(4)),
        vae("scaling_factor", json!(null)),
        vae("latents_mean", json!([0.5])),
        vae("up_block_types", json!(["AttnUpDecoderBlock2D"])),
    ] {
        let message =
            refusal("sd15-tiny", file, &json!({&key: value}), DiffusionOptions::default());
        assert!(message.contains(&key) && message.contains(file), "{key}: {message}");
    }
    // Where no size is stated, one must be given.
    let none = json!({"sample_size": null});
    let message = refusal("sd15-tiny", "unet/config.json", &none, DiffusionOptions::default());
    assert!(message.contains("sample_size") && message.contains("--width"), "{message}");
    let folder = copy_of("sd15-tiny");
    configure(&folder.path().join("unet/config.json"), &none);
    let sized = DiffusionOptions { width: Some(16), height: Some(24), ..Default::default() };
    Pipeline::load(folder.path(), "sd15-tiny", sized).unwrap();
    // What nobody set must be a list.
    for (file, value) in [
        ("unet/config.json", json!("norm_eps")),
        ("vae/config.json", json!(null)),
        ("scheduler/scheduler_config.json", json!({"beta_end": 1})),
    ] {
        let unset = json!({"_use_default_values": value});
        let message = refusal("sd15-tiny", file, &unset, DiffusionOptions::default());
        let named = message.contains("_use_default_values") && message.contains(file);
        assert!(named && message.contains("a list of keys"), "{message}");
    }
    // A key that nobody set and that has no usual value here.
    let unset = json!({"_use_default_values": ["block_out_channels"]});
    let message = refusal("sd15-tiny", "unet/config.json", &unset, DiffusionOptions::default());
    assert!(message.contains("block_out_channels"), "{message}");
    let ddim = DiffusionOptions { scheduler: Some(SchedulerClass::Ddim), ..Default::default() };
    let file = "scheduler/scheduler_config.json";
    let message = refusal("sd15-tiny", file, &json!({"thresholding": true}), ddim);
    assert!(message.contains("thresholding"), "{message}");
}

#[test]
fn unets_of_other_channels_are_refused_at_load() {
    for (channels, word) in [(9, "inpainting"), (8, "editing"), (5, "in_channels = 5")] {
        let folder = copy_of("sd15-tiny");
        configure(&folder.path().join("unet/config.json"), &json!({"in_channels": channels}));
        edit(&folder.path().join("unet/diffusion_pytorch_model.safetensors"), |tensors| {
            let shape = (16, channels, 3, 3);
            let wide = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            tensors.insert("conv_in.weight".to_owned(), wide);
        });
        let loaded = Pipeline::load(folder.path(), "sd15-tiny", DiffusionOptions::default());
        let message = format!("{:#}", loaded.err().unwrap());
        assert!(message.contains(word) && message.contains("unet/config.json"), "{message}");
    }
}

#[test]
fn keys_that_nobody_knows_are_told() {
    let folder = copy_of("sdxl-tiny");
    let files = [
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
    ];
    for file in files {
        configure(&folder.path().join(file), &json!({"strange_key": 3, "_note": 1, "empty": null}));
    }
    configure(&folder.path().join("vae/config.json"), &json!({"shift_factor": 0.25}));
    let pipeline = Pipeline::load(folder.path(), "sdxl-tiny", DiffusionOptions::default()).unwrap();
    let warnings = pipeline.generator().understood().warnings;
    for file in files {
        let told = |warning: &&String| {
            warning.contains(file)
                && warning.contains("strange_key = 3")
                && !warning.contains("_note")
        };
        assert_eq!(warnings.iter().filter(told).count(), 1, "{file}: {warnings:?}");
    }
    assert!(warnings.iter().any(|warning| warning.contains("shift_factor")), "{warnings:?}");
    assert_eq!(warnings.len(), 6, "{warnings:?}");
    // The published files of a checkpoint hold no such key.
    for base in ["sd15-tiny", "sdxl-tiny"] {
        let plain = Pipeline::load(&fixture(base), base, DiffusionOptions::default()).unwrap();
        assert_eq!(plain.generator().understood().warnings, [""; 0], "{base}");
    }
}
