//! Playground v2.5 from prompt and seeds to pictures: sdxl-tiny with its schedulers and its autoencoder's statistics, against
//! `StableDiffusionXLPipeline` of diffusers (fixtures/playground25-golden, made by make_playground25.py).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::catalog::find;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sdxl::{Sdxl, SdxlModel};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{configure, copy_of, fixture};
use crate::tiny_parts::{TOLERANCE, apart};

const GOLDEN: &str = "playground25-golden";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const DPM: &str = "EDMDPMSolverMultistepScheduler";

/// A case, and what its scheduler's file has otherwise than the published one.
#[derive(Clone, Deserialize)]
struct Changed {
    changes: Value,
    #[serde(flatten)]
    case: Case,
}

/// sdxl-tiny with the published scheduler and form of the autoencoder, and with `changes` of the scheduler's file.
fn folder(changes: &Value) -> TempDir {
    let folder = copy_of("sdxl-tiny");
    let scheduler = folder.path().join(SCHEDULER);
    std::fs::copy(fixture(GOLDEN).join("scheduler_config.json"), &scheduler).unwrap();
    configure(&scheduler, changes);
    let class = changes.get("_class_name").cloned().unwrap_or_else(|| DPM.into());
    let index = json!({"scheduler": ["diffusers", class]});
    configure(&folder.path().join("model_index.json"), &index);
    let vae = std::fs::read(fixture(GOLDEN).join("vae.json")).unwrap();
    let vae: Value = serde_json::from_slice(&vae).unwrap();
    configure(&folder.path().join("vae/config.json"), &vae);
    folder
}

fn load(model: SdxlModel, folder: &Path, options: DiffusionOptions) -> anyhow::Result<Sdxl> {
    Sdxl::load_model(model, folder, DType::F32, &Device::Cpu, options)
}

fn picture(folder: &Path, case: &Case) -> Tensor {
    let mut pipeline = load(SdxlModel::PlaygroundV25, folder, case.options()).unwrap();
    pipeline.pictures(&case.prompt, &case.seeds).unwrap().1
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Changed>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (18, 18));
    for (name, Changed { changes, case }) in &cases {
        assert_same(name, &picture(folder(changes).path(), case), &goldens[name]);
    }
}

#[test]
fn near_misses_are_told_apart() {
    let (cases, goldens, wrong) = (cases::<Changed>(GOLDEN), pictures(GOLDEN), sabotaged(GOLDEN));
    assert_eq!(wrong.len(), 13);
    for (name, wrong) in wrong {
        assert_apart(&name, apart(&goldens["small"], &wrong));
    }
    let small = &cases["small"].case;
    let with = |changes: Value, case: &Case| {
        apart(&picture(folder(&changes).path(), case), &goldens["small"])
    };
    assert_apart("guidance", with(json!({}), &Case { guidance: 3.01, ..small.clone() }));
    assert_apart("steps", with(json!({}), &Case { steps: 8, ..small.clone() }));
    assert_apart("sigma_data", with(json!({"sigma_data": 0.51}), small));
    assert_apart("rho", with(json!({"rho": 7.1}), small));
    assert_apart("sigma_max", with(json!({"sigma_max": 70.0}), small));
    let left = json!({"final_sigmas_type": "sigma_min", "sigma_min": 0.1});
    assert_apart("noise left", with(left, small));
    // Where noise is left, the last step has no length, and its order changes nothing, in diffusers too.
    for (name, other) in [("noise_left", "high_order"), ("noise_left_twenty", "low_at_last")] {
        let Changed { changes, case } = &cases[name];
        let ours = picture(folder(changes).path(), case);
        assert!(apart(&ours, &goldens[other]) <= TOLERANCE, "{name}");
        assert_apart(name, apart(&ours, &goldens["exponential"]));
    }
}

#[test]
fn the_record_and_the_defaults_are_its_own() {
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let loaded = load(SdxlModel::PlaygroundV25, folder(&json!({})).path(), options).unwrap();
    let settings = loaded.settings();
    assert_eq!(settings["model"], "playground-v25");
    let schedule = json!({
        "class": DPM, "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0,
        "prediction_type": "epsilon", "ends_at_zero": true, "lower_order_final": true, "euler_at_final": false
    });
    assert_eq!(settings["scheduler"], schedule);
    assert_eq!(settings["negative_prompt"], Value::Null);
    assert!(loaded.understood().warnings.is_empty(), "{:?}", loaded.understood().warnings);
    let defaults = find("playground-v25").unwrap().defaults;
    assert_eq!((defaults.steps, defaults.guidance, defaults.scheduler), (50, 3.0, None));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let refusal = |changes: Value| {
        let loaded = load(SdxlModel::PlaygroundV25, folder(&changes).path(), options.clone());
        format!("{:#}", loaded.err().unwrap())
    };
    for (changes, words) in [
        (json!({"solver_order": 3}), "solver_order"),
        (json!({"solver_type": "heun"}), "solver_type"),
        (json!({"algorithm_type": "sde-dpmsolver++"}), "algorithm_type"),
        (json!({"thresholding": true}), "thresholding"),
        (json!({"sigma_schedule": "beta"}), "sigma_schedule"),
        (json!({"prediction_type": "sample"}), "prediction_type"),
        (json!({"final_sigmas_type": "half"}), "final_sigmas_type"),
        (json!({"sigma_min": 90.0}), "sigma_min"),
        (json!({"sigma_data": 0.0}), "sigma_data"),
        (json!({"rho": "seven"}), "rho"),
        (json!({"_class_name": "EDMHeunScheduler"}), "EDMHeunScheduler"),
        (json!({"_class_name": "EulerDiscreteScheduler"}), "--model playground-v2"),
    ] {
        let message = refusal(changes);
        assert!(message.contains(words), "{message}");
    }
    let loaded = folder(&json!({}));
    for (options, words) in [
        (DiffusionOptions { steps: 0, ..Default::default() }, "0 steps"),
        (
            DiffusionOptions { scheduler: Some(SchedulerClass::Ddim), ..Default::default() },
            "leave out --scheduler",
        ),
    ] {
        let message = load(SdxlModel::PlaygroundV25, loaded.path(), options).err().unwrap();
        assert!(format!("{message:#}").contains(words), "{message:#}");
    }
    // Aliases that diffusers takes for what is here.
    for changes in [json!({"solver_type": "bh2"}), json!({"algorithm_type": "deis"})] {
        load(SdxlModel::PlaygroundV25, folder(&changes).path(), options.clone()).unwrap();
    }
    for model in [SdxlModel::Sdxl, SdxlModel::PlaygroundV2] {
        for scheduler in [None, Some(SchedulerClass::DpmSolverMultistep)] {
            let options = DiffusionOptions { scheduler, ..Default::default() };
            let message = format!("{:#}", load(model, loaded.path(), options).err().unwrap());
            assert!(
                message.contains(DPM) && message.contains("--model playground-v25"),
                "{message}"
            );
        }
    }
}
