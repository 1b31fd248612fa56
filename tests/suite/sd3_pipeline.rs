//! Stable Diffusion 3 and 3.5 from prompt and seeds to pictures, against `StableDiffusion3Pipeline` of diffusers on tiny
//! checkpoints (fixtures/sd3-golden, made by make_sd3.py).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::catalog::find;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd3::Sd3;
use dpg_bench::models::Sd3Transformer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{Bounds, compare, configure, copy_of, fixture, read};
use crate::tiny_parts::{TOLERANCE, apart, of_folder};

const GOLDEN: &str = "sd3-golden";

/// The checkpoint of a case, named before the stroke, with the parts that other fixtures hold; without T5 where the name has
/// a colon.
pub fn whole(name: &str) -> TempDir {
    let name = name.split('/').next().unwrap();
    let (name, without_t5) = name.split_once(':').map_or((name, false), |(name, _)| (name, true));
    let folder = copy_of("sd3-tiny");
    let copy = |from: &str, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture(from), to).unwrap();
    };
    for file in ["transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"] {
        copy(&format!("{name}/{file}"), file);
    }
    for part in ["tokenizer", "tokenizer_2"] {
        for file in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]
        {
            copy(&format!("sdxl-tiny/{part}/{file}"), &format!("{part}/{file}"));
        }
    }
    if without_t5 {
        let absent = json!({"text_encoder_3": [null, null], "tokenizer_3": [null, null]});
        configure(&folder.path().join("model_index.json"), &absent);
        return folder;
    }
    copy("ella-tiny/text_encoder/spiece.model", "tokenizer_3/spiece.model");
    for file in ["config.json", "model.safetensors"] {
        copy(&format!("ella-tiny/text_encoder/{file}"), &format!("text_encoder_3/{file}"));
    }
    folder
}

fn load(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Sd3> {
    Sd3::load(folder, DType::F32, &Device::Cpu, options)
}

fn picture(folder: &Path, case: &Case) -> Tensor {
    load(folder, case.options()).unwrap().pictures(&case.prompt, &case.seeds).unwrap()
}

#[test]
fn the_transformers_equal_diffusers_on_other_grids() {
    let golden = read(&fixture(GOLDEN).join("networks.safetensors"));
    let bounds = Bounds { relative: 1e-5, absolute: 1e-4 };
    for name in ["sd3-tiny", "sd35-tiny"] {
        let folder = fixture(name).join("transformer");
        let network = Sd3Transformer::load(&folder, DType::F32, &Device::Cpu).unwrap();
        for (grid, timestep) in [("4x6", "481.25"), ("7x3", "1000.0"), ("5x5", "8.93")] {
            let key = format!("{name}/{grid}/{timestep}");
            let part = |part: &str| golden[&format!("{key}/{part}")].clone();
            let time: f32 = timestep.parse().unwrap();
            let run = |text: usize, pooled: usize, time: f64| {
                let row = |part_name: &str, row: usize| part(part_name).narrow(0, row, 1).unwrap();
                let latents = part("latents");
                let (states, pooled) = (row("states", text), row("pooled", pooled));
                network.forward(&latents, time, &states, &pooled).unwrap()
            };
            let time = f64::from(time);
            for row in 0..2 {
                let of_row = |all: Tensor| all.narrow(0, row, 1).unwrap();
                let expected = of_row(part("output"));
                let check = |ours: Tensor| compare(&key, &of_row(ours), &expected, bounds);
                check(run(row, row, time)).unwrap();
                assert!(check(run(1 - row, row, time)).is_err());
                assert!(check(run(row, 1 - row, time)).is_err());
                assert!(check(run(row, row, time + 1.0)).is_err());
                assert!(check(part("erf")).is_err());
            }
        }
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let (states, pooled) = (zeros(&[1, 5, 32]), zeros(&[1, 40]));
        for (latents, states, pooled) in [
            (zeros(&[1, 4, 8, 8]), &states, &pooled),
            (zeros(&[1, 16, 32, 8]), &states, &pooled),
            (zeros(&[1, 16, 8, 8]), &zeros(&[1, 5, 31]), &pooled),
            (zeros(&[1, 16, 8, 8]), &states, &zeros(&[2, 40])),
        ] {
            let error = network.forward(&latents, 1.0, states, pooled).unwrap_err();
            assert!(error.to_string().contains("this transformer takes"), "{error}");
        }
    }
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Case>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (12, 12));
    for (name, case) in cases {
        assert_same(&name, &picture(whole(&name).path(), &case), &goldens[&name]);
    }
}

/// The tolerance must refuse each near miss, whether diffusers makes it or we do.
#[test]
fn near_misses_are_told_apart() {
    let (cases, goldens, wrong) = (cases::<Case>(GOLDEN), pictures(GOLDEN), sabotaged(GOLDEN));
    assert_eq!(wrong.len(), 27);
    for (name, wrong) in wrong {
        let (case, _) = name.rsplit_once('/').unwrap();
        assert_apart(&name, apart(&goldens[case], &wrong));
    }
    for name in ["sd3-tiny", "sd35-tiny"] {
        let key = format!("{name}/negative");
        let (case, golden) = (&cases[&key], &goldens[&key]);
        let folder = whole(name);
        let near = |change: &dyn Fn(&mut Case)| {
            let mut case = case.clone();
            change(&mut case);
            apart(&picture(folder.path(), &case), golden)
        };
        assert_apart("seed", near(&|case| case.seeds[0] += 1));
        assert_apart("guidance", near(&|case| case.guidance += 0.01));
        assert_apart("steps", near(&|case| case.steps += 1));
        assert_apart("no negative prompt", near(&|case| case.negative_prompt = None));
        let with = |file: &str, change: Value| {
            let folder = whole(name);
            configure(&folder.path().join(file), &change);
            apart(&picture(folder.path(), case), golden)
        };
        assert_apart("shift", with("scheduler/scheduler_config.json", json!({"shift": 3.1})));
        assert_apart("scale of latents", with("vae/config.json", json!({"scaling_factor": 1.6})));
        let quick = json!({"hidden_act": "quick_gelu"});
        assert_apart("second encoder's GELU", with("text_encoder_2/config.json", quick));
        assert_apart(
            "without T5",
            apart(&picture(whole(&format!("{name}:")).path(), case), golden),
        );
    }
}

#[test]
fn the_record_names_all_that_changes_a_pixel() {
    let options = DiffusionOptions { steps: 4, ..Default::default() };
    let settings = load(whole("sd35-tiny").path(), options.clone()).unwrap().settings();
    assert_eq!((&settings["model"], &settings["t5"]), (&json!("sd3"), &json!(true)));
    assert_eq!(settings["pipeline"], "StableDiffusion3Pipeline");
    let schedule =
        json!({"class": "FlowMatchEulerDiscreteScheduler", "train_steps": 1000, "shift": 3.0});
    assert_eq!(settings["scheduler"], schedule);
    assert_eq!((&settings["width"], &settings["negative_prompt"]), (&json!(64), &json!("")));
    for part in ["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"] {
        assert_eq!(settings["weights"][part].as_str().unwrap().len(), 64, "{part}");
    }
    let settings = load(whole("sd3-tiny:no_t5").path(), options).unwrap().settings();
    assert_eq!(settings["t5"], false);
    assert!(settings["weights"].get("text_encoder_3").is_none());
    let defaults = find("sd3").unwrap().defaults;
    assert_eq!((defaults.steps, defaults.guidance, defaults.scheduler), (28, 7.0, None));
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let refusal = |folder: &Path, options: DiffusionOptions| {
        format!("{:#}", load(folder, options).err().unwrap())
    };
    let with = |file: &str, change: Value| {
        let folder = whole("sd35-tiny");
        configure(&folder.path().join(file), &change);
        refusal(folder.path(), options.clone())
    };
    let transformer = "transformer/config.json";
    let (scheduler, index) = ("scheduler/scheduler_config.json", "model_index.json");
    for (message, words) in [
        (with(transformer, json!({"qk_norm": "layer_norm"})), "qk_norm"),
        (with(transformer, json!({"dual_attention_layers": [4]})), "dual_attention_layers"),
        (with(transformer, json!({"caption_projection_dim": 24})), "caption_projection_dim"),
        (with(transformer, json!({"out_channels": 32})), "out_channels"),
        (with(scheduler, json!({"use_dynamic_shifting": true})), "use_dynamic_shifting"),
        (with("vae/config.json", json!({"shift_factor": null})), "states no shift_factor"),
        (with(index, json!({"scheduler": ["diffusers", "DDIMScheduler"]})), "DDIMScheduler"),
        (with(index, json!({"_class_name": "PixArtSigmaPipeline"})), "try --model pixart-sigma"),
        (
            with(index, json!({"text_encoder_3": ["transformers", "UMT5EncoderModel"]})),
            "UMT5EncoderModel",
        ),
    ] {
        assert!(message.contains(words), "{message}");
    }
    let folder = whole("sd35-tiny");
    for (options, words) in [
        (DiffusionOptions { width: Some(24), ..options.clone() }, "multiple of 16"),
        (DiffusionOptions { height: Some(256), ..options.clone() }, "positions for 240 pixels"),
        (DiffusionOptions { steps: 1001, ..options.clone() }, "1001 steps"),
        (
            DiffusionOptions { scheduler: Some(SchedulerClass::Ddim), ..options.clone() },
            "leave out --scheduler",
        ),
    ] {
        let message = refusal(folder.path(), options);
        assert!(message.contains(words), "{message}");
    }
    std::fs::remove_dir_all(folder.path().join("tokenizer_3")).unwrap();
    let message = refusal(folder.path(), options.clone());
    assert!(message.contains("without T5 has null"), "{message}");
    let path = folder.path().join(index);
    let mut named: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    named.as_object_mut().unwrap().remove("text_encoder_3");
    std::fs::write(&path, named.to_string()).unwrap();
    let message = refusal(folder.path(), options);
    assert!(message.contains("does not name text_encoder_3"), "{message}");
}

#[test]
fn parts_are_put_together_with_another_autoencoder() {
    let name = "sd3-tiny/negative";
    let (folder, case) = (whole(name), &cases::<Case>(GOLDEN)[name]);
    let mut parts = of_folder(folder.path());
    parts.vae = Some(fixture("sd3-tiny/vae"));
    let made = picture(parts.assemble().unwrap().path(), case);
    assert!(apart(&made, &pictures(GOLDEN)[name]) <= TOLERANCE);
}

#[test]
fn the_number_of_tokens_and_the_cut_are_told() {
    let case = &cases::<Case>(GOLDEN)["sd3-tiny/long_prompt"];
    let told = |name: &str, prompt: &str| {
        let mut pipeline = load(whole(name).path(), case.options()).unwrap();
        let images = pipeline.generate(prompt, &[1]).unwrap();
        assert_eq!(images[0].pixels.dimensions(), (48, 32));
        (images[0].prompt_tokens.unwrap(), images[0].truncated.unwrap())
    };
    // With T5 the 77 tokens of CLIP cut nothing off.
    let middle = "a cat ".repeat(60);
    let (tokens, cut) = told("sd3-tiny", &middle);
    assert!(tokens > 77 && tokens <= 256 && !cut, "{tokens}");
    assert!(told("sd3-tiny:no_t5", &middle).1);
    assert!(told("sd3-tiny", &case.prompt).1);
}

/// Pictures of one call are those of calls of their own, within the rounding of a batch.
#[test]
fn a_picture_hardly_depends_on_its_batch() {
    let name = "sd35-tiny/own";
    let (folder, case) = (whole(name), &cases::<Case>(GOLDEN)[name]);
    let together = picture(folder.path(), case);
    for (image, &seed) in case.seeds.iter().enumerate() {
        let alone = Case { seeds: vec![seed], ..case.clone() };
        let alone = picture(folder.path(), &alone);
        let error = apart(&alone.get(0).unwrap(), &together.get(image).unwrap());
        assert!(error <= TOLERANCE, "{error:e}");
    }
}
