//! Playground v2 from prompt and seeds to pictures: sdxl-tiny with its published scheduler, against
//! `StableDiffusionXLPipeline` of diffusers (fixtures/playground-golden, made by make_playground.py).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::catalog::find;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sdxl::{Sdxl, SdxlModel};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{configure, copy_of, fixture};
use crate::tiny_parts::apart;

const GOLDEN: &str = "playground-golden";

/// sdxl-tiny with the scheduler of a class, which the golden's configuration is of.
fn folder(class: &str) -> TempDir {
    let folder = copy_of("sdxl-tiny");
    let to = folder.path().join("scheduler/scheduler_config.json");
    std::fs::copy(fixture(GOLDEN).join("scheduler_config.json"), &to).unwrap();
    configure(&to, &json!({"_class_name": class}));
    let index = json!({"scheduler": ["diffusers", class]});
    configure(&folder.path().join("model_index.json"), &index);
    folder
}

fn load(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Sdxl> {
    Sdxl::load_model(SdxlModel::PlaygroundV2, folder, DType::F32, &Device::Cpu, options)
}

fn picture(folder: &Path, case: &Case) -> Tensor {
    load(folder, case.options()).unwrap().pictures(&case.prompt, &case.seeds).unwrap().1
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Case>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (4, 4));
    let folder = folder("EulerAncestralDiscreteScheduler");
    for (name, case) in &cases {
        assert_same(name, &picture(folder.path(), case), &goldens[name]);
    }
    let right = picture(folder.path(), &cases["own"]);
    for (what, wrong) in sabotaged(GOLDEN) {
        assert_apart(&what, apart(&right, &wrong));
    }
    let higher = Case { guidance: 3.01, ..cases["own"].clone() };
    assert_apart("guidance", apart(&picture(folder.path(), &higher), &goldens["own"]));
}

#[test]
fn the_record_and_the_defaults_are_its_own() {
    let folder = folder("EulerAncestralDiscreteScheduler");
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let settings = load(folder.path(), options).unwrap().settings();
    assert_eq!(settings["model"], "playground-v2");
    assert_eq!(settings["scheduler"]["class"], "EulerAncestralDiscreteScheduler");
    assert_eq!(settings["negative_prompt"], Value::Null);
    let defaults = find("playground-v2").unwrap().defaults;
    assert_eq!((defaults.steps, defaults.guidance, defaults.scheduler), (50, 3.0, None));
}
