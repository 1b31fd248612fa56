//! PixArt-alpha and PixArt-Sigma from prompt and seeds to pictures, against `PixArtAlphaPipeline` and `PixArtSigmaPipeline` of
//! diffusers on tiny checkpoints (fixtures/pixart-golden, made by make_pixart.py).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::embeddings::EmbeddingFile;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::catalog::find;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::pixart::{PixArt, PixArtModel};
use dpg_bench::models::{PixArtTransformer, T5EncoderModel, TextContext};
use dpg_bench::text::t5::T5Tokenizer;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_within, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{Bounds, compare, configure, copy_of, fixture, read};
use crate::tiny_parts::{apart, of_folder};

const GOLDEN: &str = "pixart-golden";
/// Largest absolute error of a picture in 0..=1. The schedule begins at 157 times the picture's deviation: diffusers in f32 is up to
/// 6e-5 from diffusers in f64, and over the checkpoint for 1024 pixels up to 2.4e-4, where two pictures are made at once.
fn rounding(name: &str) -> f32 {
    if name.starts_with("pixart-alpha-tiny") { 5e-4 } else { 1e-4 }
}

const NAMES: [&str; 3] = ["pixart-alpha-tiny", "pixart-plain-tiny", "pixart-sigma-tiny"];

/// The checkpoint of a case, named before the stroke, with the parts that other fixtures hold.
pub fn whole(name: &str) -> TempDir {
    let name = name.split('/').next().unwrap();
    let folder = copy_of(name);
    let copy = |from: &str, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture(from), to).unwrap();
    };
    copy("ella-tiny/text_encoder/spiece.model", "tokenizer/spiece.model");
    for file in ["text_encoder/config.json", "text_encoder/model.safetensors"] {
        copy(&format!("ella-tiny/{file}"), file);
    }
    let vae = match name {
        "pixart-plain-tiny" => "sd15-tiny",
        "pixart-sigma-tiny" => "sdxl-tiny",
        _ => return folder,
    };
    for file in ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"] {
        copy(&format!("{vae}/{file}"), file);
    }
    folder
}

fn model(name: &str) -> PixArtModel {
    if name.contains("sigma") { PixArtModel::Sigma } else { PixArtModel::Alpha }
}

fn load(name: &str, folder: &Path, options: DiffusionOptions) -> anyhow::Result<PixArt> {
    PixArt::load(model(name), folder, DType::F32, &Device::Cpu, options)
}

fn picture(name: &str, folder: &Path, case: &Case) -> Tensor {
    load(name, folder, case.options()).unwrap().pictures(&case.prompt, &case.seeds).unwrap().1
}

fn refusal(name: &str, folder: &Path, options: DiffusionOptions) -> String {
    format!("{:#}", load(name, folder, options).err().unwrap())
}

#[test]
fn the_transformers_equal_diffusers_on_grids_that_are_not_theirs() {
    let golden = read(&fixture(GOLDEN).join("networks.safetensors"));
    let bounds = Bounds { relative: 1e-5, absolute: 1e-4 };
    for name in NAMES {
        let folder = fixture(name).join("transformer");
        let mut network = PixArtTransformer::load(&folder, DType::F32, &Device::Cpu).unwrap();
        let patch = if name == "pixart-sigma-tiny" { 4 } else { 2 };
        for (rows, columns, timestep) in [(4, 6, 481), (7, 3, 999), (5, 5, 0)] {
            let key = format!("{name}/{rows}x{columns}/{timestep}");
            let [latents, states, expected, erf] = ["latents", "states", "output", "erf"]
                .map(|part| golden[&format!("{key}/{part}")].clone());
            let texts: Vec<TextContext> =
                (0..2).map(|row| TextContext::new(states.narrow(0, row, 1).unwrap())).collect();
            let mut run = |timestep: usize, swap: usize| {
                let (height, width) = (rows * patch, columns * patch);
                let pixels = (8 * height, 8 * width);
                network.prepare((height, width), pixels, &Device::Cpu).unwrap();
                let texts = [&texts[swap], &texts[1 - swap]];
                network.forward_contexts(&latents, timestep as f64, &texts).unwrap()
            };
            compare(&key, &run(timestep, 0), &expected, bounds).unwrap();
            assert!(compare(&key, &run(timestep, 1), &expected, bounds).is_err());
            assert!(compare(&key, &run(timestep + 1, 0), &expected, bounds).is_err());
            assert!(compare(&key, &erf, &expected, bounds).is_err(), "{key}");
        }
        // Latents of another size than it was prepared for.
        let latents = Tensor::zeros((1, 4, 2 * patch, 2 * patch), DType::F32, &Device::Cpu);
        let states = golden[&format!("{name}/5x5/0/states")].narrow(0, 0, 1).unwrap();
        let text = TextContext::new(states);
        let error = network.forward_contexts(&latents.unwrap(), 1.0, &[&text]).unwrap_err();
        assert!(error.to_string().contains("this transformer takes"), "{error}");
        assert!(network.prepare((2 * patch + 1, patch), (8, 8), &Device::Cpu).is_err());
    }
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Case>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (21, 21));
    for (name, case) in cases {
        let ours = picture(&name, whole(&name).path(), &case);
        assert_within(&name, &ours, &goldens[&name], rounding(&name));
    }
}

/// The tolerance must refuse each near miss, whether diffusers makes it or we do.
#[test]
fn near_misses_are_told_apart() {
    let (cases, goldens, wrong) = (cases::<Case>(GOLDEN), pictures(GOLDEN), sabotaged(GOLDEN));
    assert_eq!(wrong.len(), 19);
    for (name, wrong) in wrong {
        let (case, _) = name.rsplit_once('/').unwrap();
        assert_apart(&name, apart(&goldens[case], &wrong));
        assert!(apart(&goldens[case], &wrong) > 5.0 * rounding(&name), "{name}");
    }
    for name in &NAMES[1..] {
        let key = format!("{name}/negative");
        let (case, golden) = (&cases[&key], &goldens[&key]);
        let folder = whole(name);
        let near = |change: &dyn Fn(&mut Case)| {
            let mut case = case.clone();
            change(&mut case);
            apart(&picture(name, folder.path(), &case), golden)
        };
        assert_apart("seed", near(&|case| case.seeds[0] += 1));
        assert_apart("guidance", near(&|case| case.guidance += 0.1));
        assert_apart("steps", near(&|case| case.steps += 1));
        assert_apart("no negative prompt", near(&|case| case.negative_prompt = None));
        let with = |file: &str, change: Value| {
            let folder = whole(name);
            let scheduler = folder.path().join("scheduler/scheduler_config.json");
            // Python writes what is no JSON.
            let text = std::fs::read_to_string(&scheduler).unwrap();
            std::fs::write(&scheduler, text.replace("-Infinity", "null")).unwrap();
            configure(&folder.path().join(file), &change);
            apart(&picture(name, folder.path(), case), golden)
        };
        let scheduler = "scheduler/scheduler_config.json";
        assert_apart("betas", with(scheduler, json!({"beta_schedule": "scaled_linear"})));
        let transformer = "transformer/config.json";
        assert_apart("scale", with(transformer, json!({"interpolation_scale": 2})));
        let heads = match *name {
            "pixart-plain-tiny" => json!({"num_attention_heads": 6, "attention_head_dim": 6}),
            _ => json!({"num_attention_heads": 2, "attention_head_dim": 24}),
        };
        assert_apart("heads", with(transformer, heads));
        assert_apart("eps", with(transformer, json!({"norm_eps": 1e-2})));
    }
}

/// T5 v1.1 overflows f16 in its feed-forward; transformers keeps that layer and the sums in f32.
#[test]
fn t5_in_half_precision_sums_in_f32() {
    let golden = read(&fixture(GOLDEN).join("half_t5.safetensors"));
    let ids: Vec<Vec<u32>> = golden["ids"].to_dtype(DType::U32).unwrap().to_vec2().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stored = "ella-tiny/text_encoder";
    let mut tensors = read(&fixture(&format!("{stored}/model.safetensors")));
    for (name, tensor) in &mut tensors {
        if name.ends_with("DenseReluDense.wo.weight") {
            *tensor = (&*tensor * 65536.0).unwrap();
        }
    }
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let config = folder.path().join("config.json");
    std::fs::copy(fixture(&format!("{stored}/config.json")), config).unwrap();
    let bounds = Bounds { relative: 5e-3, absolute: 0.1 };
    let check = |dtype: DType, sums_in_f32: bool| {
        let load = match sums_in_f32 {
            true => T5EncoderModel::load_summing_in_f32,
            false => T5EncoderModel::load,
        };
        let states = load(folder.path(), dtype, &Device::Cpu).unwrap();
        let states = states.forward(&ids, &[ids[0].len()]).unwrap();
        assert_eq!(states.dtype(), dtype);
        let states = states.to_dtype(DType::F32).unwrap();
        compare("T5", &states, &golden["states"], bounds)
    };
    check(DType::F16, true).unwrap();
    check(DType::F32, true).unwrap();
    assert!(check(DType::F16, false).is_err());
}

#[test]
fn captions_become_the_tokens_of_transformers() {
    #[derive(Deserialize)]
    struct Row {
        text: String,
        ids: Vec<u32>,
    }
    let rows = std::fs::read(fixture(GOLDEN).join("tokenizer.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_slice(&rows).unwrap();
    let tokenizer = T5Tokenizer::load(&fixture("ella-tiny/text_encoder")).unwrap();
    for Row { text, ids } in rows {
        let text = text.to_lowercase();
        assert_eq!(tokenizer.encode(text.trim()).unwrap().ids, ids, "{text}");
    }
}

#[test]
fn the_record_names_all_that_changes_a_pixel() {
    let options =
        DiffusionOptions { steps: 2, height: Some(50), width: Some(99), ..Default::default() };
    let settings = |name: &str, options: &DiffusionOptions| {
        load(name, whole(name).path(), options.clone()).unwrap().settings()
    };
    let alpha = settings("pixart-plain-tiny", &options);
    assert_eq!(
        (&alpha["model"], &alpha["pipeline"]),
        (&json!("pixart-alpha"), &json!("PixArtAlphaPipeline"))
    );
    assert_eq!((&alpha["height"], &alpha["width"]), (&json!(50), &json!(99)));
    assert_eq!(alpha["table_size"], json!([176, 352]));
    assert_eq!(alpha["captions"], "lower case, not cleaned");
    assert_eq!((&alpha["text_tokens"], &alpha["negative_prompt"]), (&json!(120), &json!("")));
    for part in ["transformer", "vae", "text_encoder", "configuration"] {
        assert_eq!(alpha["weights"][part].as_str().unwrap().len(), 64);
    }
    let options = DiffusionOptions { height: None, width: None, ..options };
    let sigma = settings("pixart-sigma-tiny", &options);
    assert_eq!((&sigma["model"], &sigma["text_tokens"]), (&json!("pixart-sigma"), &json!(300)));
    assert_eq!((&sigma["height"], &sigma["table_size"]), (&json!(512), &json!([512, 512])));
    let defaults = find("pixart-sigma").unwrap().defaults;
    assert_eq!((defaults.steps, defaults.guidance, defaults.scheduler), (20, 4.5, None));
}

#[test]
fn the_number_of_tokens_and_the_cut_are_told() {
    let case = &cases::<Case>(GOLDEN)["pixart-plain-tiny/long_prompt"];
    let folder = whole("pixart-plain-tiny");
    let mut pipeline = load("pixart-plain-tiny", folder.path(), case.options()).unwrap();
    let images = pipeline.generate(&case.prompt, &[1]).unwrap();
    assert_eq!((images[0].prompt_tokens, images[0].truncated), (Some(1500), Some(true)));
    assert_eq!(images[0].pixels.dimensions(), (80, 48));
    let images = pipeline.generate("A cat", &[1]).unwrap();
    assert_eq!(images[0].truncated, Some(false));
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let with = |name: &str, file: &str, change: Value| {
        let folder = whole(name);
        configure(&folder.path().join(file), &change);
        refusal(name, folder.path(), options.clone())
    };
    let transformer = |name: &str, change: Value| with(name, "transformer/config.json", change);
    let (plain, sigma) = ("pixart-plain-tiny", "pixart-sigma-tiny");
    for (message, words) in [
        (
            transformer(plain, json!({"sample_size": 256})),
            "sample_size = 256, for which PixArtAlpha",
        ),
        (transformer(plain, json!({"sample_size": 40})), "sample_size = 40"),
        (transformer(plain, json!({"activation_fn": "geglu"})), "activation_fn"),
        (transformer(plain, json!({"norm_type": "layer_norm"})), "norm_type"),
        (transformer(plain, json!({"out_channels": 5})), "out_channels = 5"),
        (transformer(plain, json!({"attention_head_dim": 13})), "attention_head_dim"),
        (transformer(plain, json!({"interpolation_scale": -1})), "interpolation_scale"),
        (transformer(sigma, json!({"cross_attention_dim": 32})), "cross_attention_dim"),
        (transformer(sigma, json!({"caption_channels": null})), "attends to 48"),
        (
            with(plain, "model_index.json", json!({"_class_name": "PixArtSigmaPipeline"})),
            "try --model pixart-sigma",
        ),
        (
            with(sigma, "model_index.json", json!({"_class_name": "StableDiffusionPipeline"})),
            "try --model sd15",
        ),
        (
            with(
                sigma,
                "model_index.json",
                json!({"text_encoder": ["transformers", "UMT5EncoderModel"]}),
            ),
            "text_encoder",
        ),
    ] {
        assert!(message.contains(words), "{message}");
    }
    // A transformer that is told the size, under the pipeline that tells none.
    let folder = whole("pixart-alpha-tiny");
    let index = json!({"_class_name": "PixArtSigmaPipeline"});
    configure(&folder.path().join("model_index.json"), &index);
    let message = refusal(sigma, folder.path(), options.clone());
    assert!(message.contains("use_additional_conditions"), "{message}");
    for (width, words) in [(0, "--width 0"), (8193, "--width 8193")] {
        let options = DiffusionOptions { width: Some(width), ..options.clone() };
        let message = refusal(plain, whole(plain).path(), options);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn another_autoencoder_goes_in_and_words_do_not() {
    let name = "pixart-plain-tiny";
    let (folder, case) = (whole(name), &cases::<Case>(GOLDEN)["pixart-plain-tiny/negative"]);
    let parts = of_folder(folder.path());
    let with_vae = |vae: &str| {
        let parts = CheckpointParts { vae: Some(fixture(vae)), ..parts.clone() };
        picture(name, parts.assemble().unwrap().path(), case)
    };
    let golden = &pictures(GOLDEN)["pixart-plain-tiny/negative"];
    assert!(apart(&with_vae("sd15-tiny/vae"), golden) <= rounding(name));
    assert_apart("another autoencoder", apart(&with_vae("sdxl-tiny/vae"), golden));
    let embedding = EmbeddingFile { file: "word.safetensors".into(), token: None };
    let parts_of = CheckpointParts { embeddings: vec![embedding], ..parts };
    let message = format!("{:#}", parts_of.assemble().err().unwrap());
    assert!(message.contains("word.safetensors") && message.contains("leave --embedding out"));
}

/// Pictures of one call are those of calls of their own, within the rounding of a batch.
#[test]
fn a_picture_hardly_depends_on_its_batch() {
    let name = "pixart-plain-tiny/own";
    let (folder, case) = (whole(name), &cases::<Case>(GOLDEN)[name]);
    let together = picture(name, folder.path(), case);
    for (image, &seed) in case.seeds.iter().enumerate() {
        let alone = Case { seeds: vec![seed], ..case.clone() };
        let alone = picture(name, folder.path(), &alone);
        let error = apart(&alone.get(0).unwrap(), &together.get(image).unwrap());
        assert!(error <= rounding(name), "{error:e}");
    }
}
