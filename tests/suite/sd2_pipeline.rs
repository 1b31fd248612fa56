//! Stable Diffusion 2 from prompt and seeds to pictures, against `StableDiffusionPipeline` of diffusers on tiny checkpoints
//! in the published layout (fixtures/sd2-golden, made by make_sd2.py).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::PredictionType;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::{Sd15, SdModel};
use dpg_bench::text::clip::ClipTokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{configure, copy_of, fixture};
use crate::tiny_parts::{TOLERANCE, apart};

const GOLDEN: &str = "sd2-golden";

fn load(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Sd15> {
    Sd15::load_model(SdModel::Sd2, folder, DType::F32, &Device::Cpu, options)
}

fn picture(folder: &Path, case: &Case) -> Tensor {
    load(folder, case.options()).unwrap().pictures(&case.prompt, &case.seeds).unwrap().1
}

/// The checkpoint of a case, which is named before the stroke.
fn checkpoint(name: &str) -> std::path::PathBuf {
    fixture(name.split('/').next().unwrap())
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Case>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (14, 14));
    for (name, case) in cases {
        assert_same(&name, &picture(&checkpoint(&name), &case), &goldens[&name]);
    }
}

/// The tolerance must refuse each near miss, whether diffusers makes it or we do.
#[test]
fn near_misses_are_told_apart() {
    let (cases, goldens, wrong) = (cases::<Case>(GOLDEN), pictures(GOLDEN), sabotaged(GOLDEN));
    assert_eq!(wrong.len(), 9);
    for (name, wrong) in wrong {
        let (case, _) = name.rsplit_once('/').unwrap();
        assert_apart(&name, apart(&picture(&checkpoint(case), &cases[case]), &wrong));
    }
    for name in ["sd2-tiny", "sd2-base-tiny"] {
        let key = format!("{name}/negative");
        let (case, golden) = (&cases[&key], &goldens[&key]);
        let near = |change: &dyn Fn(&mut Case)| {
            let mut case = case.clone();
            change(&mut case);
            apart(&picture(&checkpoint(name), &case), golden)
        };
        assert_apart("seed", near(&|case| case.seeds[0] += 1));
        assert_apart("guidance", near(&|case| case.guidance += 0.01));
        assert_apart("steps", near(&|case| case.steps += 1));
        assert_apart("no negative prompt", near(&|case| case.negative_prompt = None));
        let with = |file: &str, change: Value| {
            let folder = copy_of(name);
            configure(&folder.path().join(file), &change);
            apart(&picture(folder.path(), case), golden)
        };
        let padding = json!({"pad_token": "<|endoftext|>"});
        assert_apart("padding", with("tokenizer/special_tokens_map.json", padding));
        // The other checkpoint's text encoder is too small for it to show far beyond the tolerance.
        if name == "sd2-tiny" {
            let gelu = json!({"hidden_act": "gelu_new"});
            assert_apart("tanh GELU", with("text_encoder/config.json", gelu));
        }
        let scheduler = "scheduler/scheduler_config.json";
        assert_apart("spacing", with(scheduler, json!({"timestep_spacing": "trailing"})));
    }
}

/// `special_tokens_map.json` stands above `tokenizer_config.json`: the published tokenizer pads with `!`.
#[test]
fn the_tokenizer_pads_as_the_published_one() {
    #[derive(Deserialize)]
    struct Row {
        text: String,
        ids: Vec<u32>,
    }
    let rows = std::fs::read(fixture("sd2-golden/tokenizer.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_slice(&rows).unwrap();
    let tokenizer = ClipTokenizer::load(&fixture("sd2-tiny/tokenizer")).unwrap();
    assert!(rows.iter().any(|row| row.ids.ends_with(&[0, 0])));
    for Row { text, ids } in rows {
        assert_eq!(tokenizer.encode(&text).unwrap().ids, ids, "{text}");
    }
}

#[test]
fn the_record_names_the_model_and_its_prediction() {
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let settings = load(&fixture("sd2-tiny"), options.clone()).unwrap().settings();
    assert_eq!(settings["model"], "sd2");
    assert_eq!(settings["pipeline"], "StableDiffusionPipeline");
    assert_eq!(settings["scheduler"]["class"], "DDIMScheduler");
    assert_eq!(settings["scheduler"]["prediction_type"], "v_prediction");
    assert_eq!((&settings["width"], &settings["height"]), (&json!(32), &json!(32)));
    let base = load(&fixture("sd2-base-tiny"), options.clone()).unwrap().settings();
    assert_eq!(base["scheduler"]["prediction_type"], "epsilon");
    // The same folder as another model is another run.
    let folder = fixture("sd2-tiny");
    let other = Sd15::load(&folder, DType::F32, &Device::Cpu, options.clone()).unwrap().settings();
    assert_eq!(other["model"], "sd15");
    // What the user says stands above the checkpoint.
    let mut options = options;
    options.overrides.prediction = Some(PredictionType::Epsilon);
    assert_eq!(
        load(&folder, options).unwrap().settings()["scheduler"]["prediction_type"],
        "epsilon"
    );
}

#[test]
fn the_other_release_is_refused_with_its_model() {
    let folder = copy_of("sd2-tiny");
    let unet = folder.path().join("unet/config.json");
    let refusal = |model: SdModel| {
        let options = DiffusionOptions::default();
        let loaded = Sd15::load_model(model, folder.path(), DType::F32, &Device::Cpu, options);
        format!("{:#}", loaded.err().unwrap())
    };
    configure(&unet, &json!({"cross_attention_dim": 1024}));
    let message = refusal(SdModel::Sd15);
    assert!(message.contains("unet/config.json: cross_attention_dim = 1024"), "{message}");
    assert!(message.contains("Stable Diffusion 2.x, which --model sd2 runs"), "{message}");
    // Its own model goes on to the weights, which are not so wide.
    assert!(!refusal(SdModel::Sd2).contains("--model"), "{}", refusal(SdModel::Sd2));
    configure(&unet, &json!({"cross_attention_dim": 768}));
    let message = refusal(SdModel::Sd2);
    assert!(message.contains("Stable Diffusion 1.x, which --model sd15 runs"), "{message}");
    assert!(!refusal(SdModel::Sd15).contains("--model"), "{}", refusal(SdModel::Sd15));
}

/// Pictures of one call are those of calls of their own, within the rounding of a batch.
#[test]
fn a_picture_hardly_depends_on_its_batch() {
    let name = "sd2-tiny/own";
    let case = &cases::<Case>(GOLDEN)[name];
    let together = picture(&checkpoint(name), case);
    for (image, &seed) in case.seeds.iter().enumerate() {
        let alone = picture(&checkpoint(name), &Case { seeds: vec![seed], ..case.clone() });
        let error = apart(&alone.get(0).unwrap(), &together.get(image).unwrap());
        assert!(error <= TOLERANCE, "{error:e}");
    }
}
