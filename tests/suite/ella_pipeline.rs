//! ELLA from prompt and seed to picture, against diffusers' UNet, scheduler and autoencoder in a loop
//! with a connector of torch.nn modules (fixtures/ella-golden, made by make_ella.py).

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::ella::EllaTokens;
use dpg_bench::generate::pipelines::ella::{Ella, EllaBase, EllaFiles, EllaOptions};
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::stage_observer::Silent;
use serde::Deserialize;

use crate::generate_run::files;
use crate::tiny_checkpoint::{Tensors, fixture, read};

/// Largest absolute error of a picture in 0..=1.
const TOLERANCE: f32 = 2e-5;

#[derive(Debug, Clone, Deserialize)]
struct Case {
    model: String,
    tokens: EllaTokens,
    prompt: String,
    negative_prompt: Option<String>,
    seed: u64,
    steps: usize,
    guidance: f64,
    width: usize,
    height: usize,
}

impl Case {
    fn base(&self) -> EllaBase {
        let bases = [EllaBase::Sd15, EllaBase::Sdxl];
        bases.into_iter().find(|base| base.model() == self.model).unwrap()
    }

    fn load(&self, low_memory: bool) -> Ella {
        let scheduler = match self.base() {
            EllaBase::Sd15 => SchedulerClass::DpmSolverMultistep,
            EllaBase::Sdxl => SchedulerClass::EulerDiscrete,
        };
        let pictures = DiffusionOptions {
            steps: self.steps,
            guidance: self.guidance,
            width: Some(self.width),
            height: Some(self.height),
            scheduler: Some(scheduler),
            negative_prompt: self.negative_prompt.clone(),
            ..Default::default()
        };
        let options = EllaOptions { reading: self.tokens.into(), low_memory, pictures };
        let parts = parts(self.base());
        Ella::load(self.base(), parts, DType::F32, &Device::Cpu, options).unwrap()
    }
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read(fixture("ella-golden/pipeline.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn golden() -> Tensors {
    read(&fixture("ella-golden/pipeline.safetensors"))
}

fn parts(base: EllaBase) -> EllaFiles {
    let (checkpoint, connector) = match base {
        EllaBase::Sd15 => ("sd15-tiny", "ella-tiny/ella.safetensors"),
        EllaBase::Sdxl => ("sdxl-tiny", "ella-tiny/ella-sdxl.safetensors"),
    };
    EllaFiles {
        checkpoint: fixture(checkpoint),
        connector: fixture(connector),
        text_encoder: fixture("ella-tiny/text_encoder"),
    }
}

fn picture(case: &Case) -> Tensor {
    case.load(false).pictures(&case.prompt, &[case.seed]).unwrap().0
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let values: Vec<f32> =
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().fold(0.0, |worst, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) })
}

#[test]
fn pictures_in_every_token_mode_equal_torch() {
    let golden = golden();
    for (name, case) in cases() {
        let error = difference(&picture(&case), &golden[&name]);
        eprintln!("{name}: largest error {error:.2e} in 0..=1");
        assert!(error <= TOLERANCE, "{name}: {error:e}");
    }
}

/// The tolerance must refuse each near miss, of the goldens' side and of ours.
#[test]
fn near_misses_are_told_apart() {
    let (golden, cases) = (golden(), cases());
    for (right, wrongs) in [
        ("fixed", ["time_not_fed", "no_mask", "halves_swapped"]),
        ("xl_fixed", ["xl_no_pooled", "xl_no_sizes", "xl_encoded_negative"]),
    ] {
        let right = picture(&cases[right]);
        for wrong in wrongs {
            let error = difference(&right, &golden[&format!("wrong.{wrong}")]);
            eprintln!("{wrong}: {error:.2e}");
            assert!(error > 5.0 * TOLERANCE, "{wrong}: {error:e}");
        }
    }
    let case = &cases["fixed"];
    let near = |change: &dyn Fn(&mut Case)| {
        let mut changed = case.clone();
        change(&mut changed);
        difference(&picture(&changed), &golden["fixed"])
    };
    for (what, error) in [
        ("flexible", near(&|case| case.tokens = EllaTokens::Flexible)),
        ("clip+ella", near(&|case| case.tokens = EllaTokens::ClipAndElla)),
        ("another negative prompt", near(&|case| case.negative_prompt = Some("dark".into()))),
        ("guidance 12 -> 12.01", near(&|case| case.guidance += 0.01)),
        ("seed", near(&|case| case.seed += 1)),
        ("steps", near(&|case| case.steps += 1)),
    ] {
        eprintln!("{what}: {error:.2e}");
        assert!(error > 5.0 * TOLERANCE, "{what}: {error:e}");
    }
}

#[test]
fn low_memory_and_company_change_no_bit() {
    for (name, case) in cases() {
        let values = |picture: &Tensor| picture.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let alone = values(&picture(&case));
        // Prepared among others, and not prepared at all.
        let mut prepared = case.load(true);
        prepared.prepare(&["a boat", &case.prompt, "", &case.prompt], &Silent).unwrap();
        let mut unprepared = case.load(true);
        let mut usual = case.load(false);
        for pipeline in [&mut prepared, &mut unprepared, &mut usual] {
            pipeline.pictures("a boat", &[5]).unwrap();
            let (among, ..) = pipeline.pictures(&case.prompt, &[case.seed]).unwrap();
            assert_eq!(values(&among), alone, "{name}");
            assert_eq!(pipeline.settings(), usual_settings(&case));
        }
        let (both, ..) = usual.pictures(&case.prompt, &[5, case.seed]).unwrap();
        let second = both.narrow(0, 1, 1).unwrap();
        assert!(difference(&second, &golden()[&name]) <= TOLERANCE);
        // Nothing to make: nothing is loaded again.
        prepared.prepare(&[], &Silent).unwrap();
    }
}

fn usual_settings(case: &Case) -> dpg_bench::results::Settings {
    case.load(false).settings()
}

#[test]
fn the_generator_says_what_it_did() {
    let cases = cases();
    let of = |name: &str| {
        let case = &cases[name];
        let images = case.load(false).generate(&case.prompt, &[1, 2]).unwrap();
        assert_eq!(images.iter().map(|image| image.seed).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(images[0].pixels.dimensions(), (48, 32));
        (images[0].prompt_tokens.unwrap(), images[0].truncated.unwrap())
    };
    let (short, cut) = of("fixed");
    assert!(!cut && short < 128);
    let (long, cut) = of("fixed_long");
    assert!(cut && long > 128);
    assert_eq!(of("flexible_long"), (long, false));
    assert_eq!(of("clip_ella"), (short, false));

    let case = &cases["fixed"];
    let settings = usual_settings(case);
    assert_eq!(settings["model"], "ella-sd15");
    assert_eq!(settings["ella_tokens"], "fixed");
    assert_eq!(settings["guidance"], 12.0);
    assert_eq!(settings["scheduler"]["class"], "DPMSolverMultistepScheduler");
    assert_eq!(settings["scheduler"]["timestep_spacing"], "linspace");
    for part in ["ella", "t5", "t5_configuration", "unet", "vae", "configuration"] {
        assert_eq!(settings["weights"][part].as_str().unwrap().len(), 64, "{part}");
    }
    assert!(settings["weights"].get("text_encoder").is_none());
    let xl = usual_settings(&cases["xl_fixed"]);
    assert_eq!(xl["model"], "ella-sdxl");
    assert_eq!(xl["time_ids"], serde_json::json!([32, 48, 0, 0, 32, 48]));
    assert_eq!(xl["pooled_text"], "text_encoder_2");
    assert!(xl["negative_prompt"].is_null());
    assert_eq!(xl["weights"]["text_encoder_2"].as_str().unwrap().len(), 64);
    let both = usual_settings(&cases["clip_ella"]);
    assert_eq!(both["weights"]["text_encoder"].as_str().unwrap().len(), 64);
    // The empty text is what is encoded where none is given.
    assert_eq!(usual_settings(&Case { negative_prompt: None, ..case.clone() }), settings);
    let other = Case { tokens: EllaTokens::Flexible, ..case.clone() };
    assert_ne!(usual_settings(&other), settings);
    let other = Case { negative_prompt: Some("text".into()), ..case.clone() };
    assert_ne!(usual_settings(&other), settings);
}

#[test]
fn parts_that_do_not_go_together_are_refused_in_a_sentence() {
    let refusal = |change: &dyn Fn(&mut EllaFiles)| {
        let mut files = parts(EllaBase::Sd15);
        change(&mut files);
        let options = EllaOptions {
            reading: EllaTokens::Fixed.into(),
            low_memory: false,
            pictures: DiffusionOptions::default(),
        };
        let loaded = Ella::load(EllaBase::Sd15, files, DType::F32, &Device::Cpu, options);
        format!("{:#}", loaded.err().unwrap())
    };
    let message = refusal(&|files| files.connector = "no/ella.safetensors".into());
    assert!(message.contains("--ella no/ella.safetensors"), "{message}");
    let message = refusal(&|files| files.text_encoder = "no/t5".into());
    assert!(message.contains("--text-encoder no/t5"), "{message}");
    let message = refusal(&|files| files.connector = fixture("ella-tiny/ella-wide.safetensors"));
    assert!(message.contains("connector is 48 wide") && message.contains("24"), "{message}");
    let message = refusal(&|files| {
        files.connector = fixture("ella-tiny/text_encoder/model.safetensors");
    });
    assert!(message.contains("no ELLA connector"), "{message}");
    // A T5 encoder of another width, with a tokenizer.
    let folder = tempfile::tempdir().unwrap();
    for (from, name) in [("t5-relu", ""), ("text_encoder", "spiece.model")] {
        for entry in std::fs::read_dir(fixture("ella-tiny").join(from)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if name.is_empty() || file == name {
                std::fs::copy(&path, folder.path().join(file)).unwrap();
            }
        }
    }
    let message = refusal(&|files| files.text_encoder = folder.path().to_path_buf());
    assert!(message.contains("16 wide") && message.contains("takes 32"), "{message}");
    let message = refusal(&|files| files.checkpoint = fixture("sdxl-tiny"));
    assert!(message.contains("StableDiffusionXLPipeline"), "{message}");
    let message = refusal(&|files| files.checkpoint = "no/sd15".into());
    assert!(message.contains("no/sd15"), "{message}");
}

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
cat,A small cat on a wooden chair,,1,0,entity,whole,entity - whole (cat),Is there a cat?
";

/// The command, with low memory and without, and with an image lost in between.
#[test]
fn the_command_makes_the_same_bytes_in_low_memory() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = folder.path().join("items.csv");
    std::fs::write(&benchmark, QUESTIONS).unwrap();
    let parts = parts(EllaBase::Sd15);
    let generate = |out: &str, model: &str, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.args(["generate", "--model", model, "--device", "cpu", "--images", "2"]);
        command.args(["--steps", "3", "--width", "48", "--height", "32", "--benchmark"]);
        command.arg(&benchmark).arg("--weights").arg(&parts.checkpoint);
        command.arg("--out").arg(folder.path().join(out)).args(more);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let connector = parts.connector.to_str().unwrap();
    let encoder = parts.text_encoder.to_str().unwrap();
    let ella = ["--ella", connector, "--text-encoder", encoder];
    let (code, said) = generate("whole", "ella-sd15", &ella);
    assert!(code == 0 && said.contains("4/4 images"), "{said}");
    let bytes = |out: &str| files(&folder.path().join(out));
    let whole = bytes("whole");
    // Images, their thumbnails and the journal.
    assert_eq!(whole.len(), 9);
    let manifest = std::fs::read(folder.path().join("whole/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let manifest = manifest.to_string();
    for setting in ["\"guidance\":12.0", "DPMSolverMultistepScheduler", "\"ella_tokens\":\"fixed\""]
    {
        assert!(manifest.contains(setting), "{setting} is not in {manifest}");
    }
    let frugal = [&ella[..], &["--low-memory"]].concat();
    let (code, said) = generate("frugal", "ella-sd15", &frugal);
    assert_eq!(code, 0, "{said}");
    assert_eq!(bytes("frugal"), whole);
    std::fs::remove_file(folder.path().join("frugal/images/cat/1.png")).unwrap();
    let (code, said) = generate("frugal", "ella-sd15", &frugal);
    assert!(code == 0 && said.contains("1 made now"), "{said}");
    assert_eq!(bytes("frugal"), whole);

    let modes = [&ella[..], &["--ella-tokens", "clip+ella"]].concat();
    let (code, said) = generate("modes", "ella-sd15", &modes);
    assert_eq!(code, 0, "{said}");
    assert_ne!(bytes("modes"), whole);
    let (code, said) = generate("whole", "ella-sd15", &modes);
    assert!(code == 2 && said.contains("ella_tokens"), "{said}");

    for (model, flags, word) in [
        ("ella-sd15", &ella[..2], "--text-encoder DIR"),
        ("ella-sd15", &ella[2..], "--ella FILE"),
        ("sd15", &ella[..2], "--ella is for models ella-sd15"),
        ("sd15", &["--low-memory"], "--low-memory is for"),
    ] {
        let (code, said) = generate("refused", model, flags);
        assert!(code == 2 && said.contains(word), "{said}");
        assert!(!folder.path().join("refused").exists());
    }
}
