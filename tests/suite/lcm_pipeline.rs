//! Latent consistency models from prompt and seeds to pictures, against the pipelines of diffusers on tiny checkpoints
//! (fixtures/lcm-golden, made by make_lcm.py).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::{Sd15, SdModel};
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use dpg_bench::models::UNet;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{configure, copy_of, fixture};
use crate::tiny_parts::apart;

const GOLDEN: &str = "lcm-golden";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// A case, and what its pipeline is put together from.
#[derive(Debug, Clone, Deserialize)]
struct Parts {
    base: String,
    overlay: Option<String>,
    pipeline: String,
    swap: bool,
    adapter: Option<String>,
    #[serde(flatten)]
    case: Case,
}

/// `overlay`'s files over a copy of `base`.
fn folder(base: &str, overlay: Option<&str>) -> TempDir {
    let folder = copy_of(base);
    for part in overlay.map(fixture).iter().flat_map(|overlay| std::fs::read_dir(overlay).unwrap())
    {
        let part = part.unwrap().path();
        let to = folder.path().join(part.file_name().unwrap());
        if part.is_file() {
            std::fs::copy(&part, to).unwrap();
            continue;
        }
        for file in std::fs::read_dir(&part).unwrap() {
            let file = file.unwrap().path();
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    folder
}

impl Parts {
    fn folder(&self) -> TempDir {
        let folder = folder(&self.base, self.overlay.as_deref());
        if self.pipeline == "StableDiffusionPipeline" {
            let class = json!({"_class_name": self.pipeline});
            configure(&folder.path().join("model_index.json"), &class);
        }
        folder
    }

    fn options(&self) -> DiffusionOptions {
        let scheduler = self.swap.then_some(SchedulerClass::Lcm);
        DiffusionOptions { scheduler, ..self.case.options() }
    }

    fn picture(&self, folder: &Path) -> Tensor {
        let (options, device) = (self.options(), Device::Cpu);
        let (prompt, seeds) = (&self.case.prompt, &self.case.seeds);
        if self.base == "sdxl-tiny" {
            let pipeline = Sdxl::load(folder, DType::F32, &device, options);
            return pipeline.unwrap().pictures(prompt, seeds).unwrap().1;
        }
        let model = match self.pipeline.as_str() {
            "LatentConsistencyModelPipeline" => SdModel::Lcm,
            _ => SdModel::Sd15,
        };
        let pipeline = Sd15::load_model(model, folder, DType::F32, &device, options);
        pipeline.unwrap().pictures(prompt, seeds).unwrap().1
    }

    fn made(&self) -> Tensor {
        let folder = self.folder();
        let Some(adapter) = &self.adapter else { return self.picture(folder.path()) };
        let file: PathBuf = fixture("addons").join(adapter);
        let parts = CheckpointParts {
            checkpoint: folder.path().to_path_buf(),
            loras: vec![LoraFile { file, weight: 1.0 }],
            ..Default::default()
        };
        self.picture(parts.assemble().unwrap().path())
    }
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Parts>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (13, 13));
    for (name, case) in cases {
        assert_same(&name, &case.made(), &goldens[&name]);
    }
}

/// The tolerance must refuse each near miss, whether diffusers makes it or we do.
#[test]
fn near_misses_are_told_apart() {
    let (cases, goldens) = (cases::<Parts>(GOLDEN), pictures(GOLDEN));
    let (case, golden) = (&cases["seven_steps"], &goldens["seven_steps"]);
    let right = case.made();
    let wrong = sabotaged(GOLDEN);
    assert_eq!(wrong.len(), 6);
    for (what, wrong) in wrong {
        assert_apart(&what, apart(&right, &wrong));
    }
    let near = |change: &dyn Fn(&mut Case)| {
        let mut parts = case.clone();
        change(&mut parts.case);
        apart(&parts.made(), golden)
    };
    assert_apart("seed", near(&|case| case.seeds[0] += 1));
    assert_apart("steps", near(&|case| case.steps += 1));
    assert_apart("guidance", near(&|case| case.guidance += 0.01));
    let with = |file: &str, change: Value| {
        let folder = case.folder();
        configure(&folder.path().join(file), &change);
        apart(&case.picture(folder.path()), golden)
    };
    assert_apart("original steps", with(SCHEDULER, json!({"original_inference_steps": 49})));
    assert_apart("scaling", with(SCHEDULER, json!({"timestep_scaling": 0.01})));
    assert_apart("betas", with(SCHEDULER, json!({"beta_end": 0.0121})));
    assert_apart(
        "class",
        with("model_index.json", json!({"scheduler": ["diffusers", "DDIMScheduler"]})),
    );
    // These are no options of the class, which diffusers passes over, too.
    for same in [json!({"timestep_spacing": "trailing"}), json!({"steps_offset": 7})] {
        assert_eq!(with(SCHEDULER, same), apart(&right, golden));
    }
}

#[test]
fn a_network_that_is_told_the_guidance_has_no_use_for_a_negative_prompt() {
    let cases = cases::<Parts>(GOLDEN);
    let folder = cases["negative"].folder();
    let load = |negative_prompt: Option<&str>| {
        let mut options = cases["negative"].options();
        options.negative_prompt = negative_prompt.map(str::to_owned);
        Sd15::load(folder.path(), DType::F32, &Device::Cpu, options).unwrap()
    };
    let warnings = |pipeline: &Sd15| pipeline.understood().warnings.join("\n");
    let (plain, negative) = (load(None), load(Some("dark")));
    assert!(warnings(&negative).contains("the negative prompt changes nothing"));
    assert!(!warnings(&plain).contains("negative prompt"), "{}", warnings(&plain));
    // An ordinary network has a use for it.
    let ordinary = cases["swapped_guided"].folder();
    let options = cases["swapped_guided"].options();
    let ordinary = Sd15::load(ordinary.path(), DType::F32, &Device::Cpu, options).unwrap();
    assert!(!warnings(&ordinary).contains("negative prompt"), "{}", warnings(&ordinary));
}

#[test]
fn the_record_names_the_model_and_how_it_steps() {
    let folder = folder("sd15-tiny", Some("lcm-tiny"));
    let load = |model: SdModel, folder: &Path| {
        let options = DiffusionOptions { steps: 4, guidance: 8.5, ..Default::default() };
        Sd15::load_model(model, folder, DType::F32, &Device::Cpu, options)
    };
    let settings = load(SdModel::Lcm, folder.path()).unwrap().settings();
    assert_eq!(settings["model"], "lcm");
    assert_eq!(settings["pipeline"], "LatentConsistencyModelPipeline");
    assert_eq!(settings["scheduler"]["class"], "LCMScheduler");
    assert_eq!(settings["scheduler"]["original_inference_steps"], 50);
    assert_eq!(settings["scheduler"]["timestep_scaling"], 10.0);
    // Other schedulers have no such options in their record.
    let other = load(SdModel::Sd15, &fixture("sd15-tiny")).unwrap().settings();
    assert!(other["scheduler"].get("original_inference_steps").is_none(), "{other:?}");
    // The class tells what the folder is for.
    let message = format!("{:#}", load(SdModel::Sd15, folder.path()).err().unwrap());
    assert!(message.contains("LatentConsistencyModelPipeline"), "{message}");
    assert!(message.ends_with("try --model lcm"), "{message}");
    let message = format!("{:#}", load(SdModel::Lcm, &fixture("sd15-tiny")).err().unwrap());
    assert!(message.ends_with("try --model sd15"), "{message}");
}

#[test]
fn a_folder_whose_network_is_not_told_the_guidance_is_refused() {
    // diffusers 0.42.1 fails there: it divides None by 2.
    let folder = copy_of("sd15-tiny");
    configure(
        &folder.path().join("model_index.json"),
        &serde_json::json!({"_class_name": "LatentConsistencyModelPipeline"}),
    );
    let load =
        |options| Sd15::load_model(SdModel::Lcm, folder.path(), DType::F32, &Device::Cpu, options);
    let message = format!("{:#}", load(DiffusionOptions::default()).err().unwrap());
    assert!(message.contains("time_cond_proj_dim is not stated"), "{message}");
}

#[test]
fn a_network_must_be_told_the_guidance() {
    let folder = folder("sd15-tiny", Some("lcm-tiny"));
    let mut unet = UNet::load(&folder.path().join("unet"), DType::F32, &Device::Cpu).unwrap();
    let latents = Tensor::zeros((1, 4, 3, 5), DType::F32, &Device::Cpu).unwrap();
    let context = Tensor::ones((1, 7, 24), DType::F32, &Device::Cpu).unwrap();
    let message = unet.forward(&latents, 999.0, &context).unwrap_err().to_string();
    assert!(message.contains("not told the guidance"), "{message}");
    // At a timestep that it has seen, too, another guidance counts.
    let mut told = |guidance: f64| {
        unet.tell_guidance(guidance, &Device::Cpu).unwrap();
        unet.forward(&latents, 999.0, &context).unwrap()
    };
    let (first, second, again) = (told(8.5), told(2.0), told(8.5));
    assert!(apart(&first, &second) > 1e-3);
    assert_eq!(apart(&first, &again), 0.0);
}
