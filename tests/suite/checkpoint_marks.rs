//! What single-file checkpoints say of their own sampling, in tensors outside their networks and in their header.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::scheduler_config::PredictionType;
use dpg_bench::checkpoint::scheduler_config::SchedulerOverrides;
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use serde_json::json;

use crate::tiny_checkpoint::{Tensors, configure, copy_of, fixture};
use crate::{addons, addons_sdxl};

const PROMPT: &str = "a red kite over a stone house";

fn options() -> DiffusionOptions {
    DiffusionOptions { steps: 3, width: Some(24), height: Some(24), ..Default::default() }
}

fn empty() -> Tensor {
    Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap()
}

/// Adds marks without content.
fn marked<'m>(marks: &'m [&'m str]) -> impl Fn(&mut Tensors) + 'm {
    move |tensors| tensors.extend(marks.iter().map(|name| ((*name).to_owned(), empty())))
}

/// The parts with free text in the header of their file.
fn with_header(parts: CheckpointParts, notes: &[(&str, &str)]) -> CheckpointParts {
    let tensors = candle_core::safetensors::load(&parts.checkpoint, &Device::Cpu).unwrap();
    let notes: HashMap<String, String> =
        notes.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let views: Vec<_> = tensors.iter().collect();
    safetensors::serialize_to_file(views, Some(notes), &parts.checkpoint).unwrap();
    parts
}

fn sdxl(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Sdxl> {
    Sdxl::load(folder, DType::F32, &Device::Cpu, options)
}

fn sd15(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Sd15> {
    Sd15::load(folder, DType::F32, &Device::Cpu, options)
}

/// The bits of a file's picture.
fn of_file(parts: &CheckpointParts, options: DiffusionOptions) -> Vec<f32> {
    let folder = parts.assemble().unwrap();
    bits(sdxl(folder.path(), options).unwrap())
}

fn bits(mut pipeline: Sdxl) -> Vec<f32> {
    let picture = pipeline.pictures(PROMPT, &[4]).unwrap().1;
    picture.flatten_all().unwrap().to_vec1().unwrap()
}

/// The picture of SDXL's folder, its scheduler's file changed. What these are in diffusers is held by `loading`.
fn of_folder(changes: &serde_json::Value) -> Vec<f32> {
    let folder = copy_of("sdxl-tiny");
    configure(&folder.path().join("scheduler/scheduler_config.json"), changes);
    bits(sdxl(folder.path(), options()).unwrap())
}

fn told(assembled: &Assembled) -> String {
    assembled.understood.to_string()
}

fn refusal(parts: &CheckpointParts) -> String {
    format!("{:#}", parts.assemble().unwrap_err())
}

#[test]
fn marks_of_prediction_and_schedule_are_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let single = |change: &dyn Fn(&mut Tensors)| addons_sdxl::single_file(scratch.path(), change);
    let epsilon = of_folder(&json!({}));
    let v = of_folder(&json!({"prediction_type": "v_prediction"}));
    let zero_snr = json!({"prediction_type": "v_prediction", "rescale_betas_zero_snr": true});
    let zero_snr = of_folder(&zero_snr);
    assert!(epsilon != v && v != zero_snr && epsilon != zero_snr);

    assert!(of_file(&single(&|_| {}), options()) == epsilon);
    let parts = single(&marked(&["v_pred"]));
    assert!(of_file(&parts, options()) == v);
    assert!(told(&parts.assemble().unwrap()).contains("`v_pred`: prediction v_prediction"));
    let parts = single(&marked(&["v_pred", "ztsnr"]));
    assert!(of_file(&parts, options()) == zero_snr);
    assert!(told(&parts.assemble().unwrap()).contains("zero terminal SNR"));
    // The table of the file's own sigmas says it as well.
    let parts = single(&|tensors| {
        marked(&["v_pred"])(tensors);
        tensors.insert("denoiser.sigmas".to_owned(), addons_sdxl::sigmas(true));
    });
    assert!(of_file(&parts, options()) == zero_snr);
    for (key, text) in [
        ("modelspec.prediction_type", "v"),
        ("modelspec.predict_key", "v"),
        ("prediction_type", "v_prediction"),
    ] {
        let parts = with_header(single(&|_| {}), &[(key, text)]);
        assert!(of_file(&parts, options()) == v, "{key}");
        assert!(told(&parts.assemble().unwrap()).contains(key));
    }
    let parts = with_header(single(&|_| {}), &[("modelspec.prediction_type", "epsilon")]);
    assert!(of_file(&parts, options()) == epsilon);
}

#[test]
fn the_user_stands_above_marks_and_contradictions_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    let single = |change: &dyn Fn(&mut Tensors)| addons_sdxl::single_file(scratch.path(), change);
    let wanted = |parts: CheckpointParts, prediction| {
        let parts = CheckpointParts { prediction: Some(prediction), ..parts };
        let overrides = SchedulerOverrides { prediction: Some(prediction), ..Default::default() };
        let options = DiffusionOptions { overrides, ..options() };
        (of_file(&parts, options), told(&parts.assemble().unwrap()))
    };
    let (picture, told_of) = wanted(single(&marked(&["v_pred"])), PredictionType::Epsilon);
    assert!(picture == of_folder(&json!({})));
    assert!(told_of.contains("warning") && told_of.contains("--prediction"), "{told_of}");
    // The mark stands above the header.
    let parts =
        with_header(single(&marked(&["v_pred"])), &[("modelspec.prediction_type", "epsilon")]);
    let told_of = told(&parts.assemble().unwrap());
    assert!(told_of.contains("warning") && told_of.contains("the former"), "{told_of}");
    assert!(of_file(&parts, options()) == of_folder(&json!({"prediction_type": "v_prediction"})));
    // A configuration that says v, and a file that says epsilon.
    let base = copy_of("sdxl-tiny");
    let change = json!({"prediction_type": "v_prediction"});
    configure(&base.path().join("scheduler/scheduler_config.json"), &change);
    let parts = with_header(single(&|_| {}), &[("modelspec.prediction_type", "epsilon")]);
    let parts = CheckpointParts { base: Some(base.path().to_path_buf()), ..parts };
    let message = refusal(&parts);
    assert!(message.contains("modelspec.prediction_type") && message.contains("--prediction"));
    wanted(parts, PredictionType::VPrediction);
    // `ztsnr` alone is read in two ways by the loaders of the field.
    let parts = single(&marked(&["ztsnr"]));
    let message = refusal(&parts);
    assert!(message.contains("`ztsnr`") && message.contains("--prediction v"), "{message}");
    wanted(parts, PredictionType::VPrediction);
}

#[test]
fn sampling_that_is_not_built_is_refused_by_its_mark() {
    let scratch = tempfile::tempdir().unwrap();
    for mark in ["edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min"] {
        let message = refusal(&addons_sdxl::single_file(scratch.path(), marked(&[mark])));
        assert!(message.contains(&format!("`{mark}`")) && message.contains("EDM"), "{message}");
    }
    let parts = with_header(
        addons_sdxl::single_file(scratch.path(), |_| {}),
        &[("modelspec.prediction_type", "flow")],
    );
    assert!(refusal(&parts).contains("flow"), "{}", refusal(&parts));
    let odd = addons_sdxl::single_file(scratch.path(), |tensors| {
        let halved = tensors["denoiser.sigmas"].affine(0.5, 0.0).unwrap();
        tensors.insert("denoiser.sigmas".to_owned(), halved);
    });
    let warnings = odd.assemble().unwrap().understood.warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("`denoiser.sigmas`"), "{warnings:?}");
    for (share, fits) in [(1.0, true), (0.9, false)] {
        let parts = addons::single_file(scratch.path(), |tensors| {
            let alphas = addons_sdxl::sigmas(false).sqr().unwrap().affine(1.0, 1.0).unwrap();
            // From the first timestep to the last, as the latent-diffusion code has them.
            let alphas = alphas.recip().unwrap().to_vec1::<f32>().unwrap();
            let alphas: Vec<f32> = alphas.into_iter().rev().map(|alpha| share * alpha).collect();
            let alphas = Tensor::from_vec(alphas, 1000, &Device::Cpu).unwrap();
            tensors.insert("alphas_cumprod".to_owned(), alphas);
        });
        match parts.assemble() {
            Ok(assembled) => assert!(fits && assembled.understood.warnings.is_empty()),
            Err(error) => assert!(!fits && error.to_string().contains("`alphas_cumprod`")),
        }
    }
    let scaled = addons::single_file(scratch.path(), |tensors| {
        let scale = Tensor::new(&[0.13025_f32], &Device::Cpu).unwrap();
        tensors.insert("scale_factor".to_owned(), scale);
    });
    assert!(refusal(&scaled).contains("`scale_factor`"), "{}", refusal(&scaled));
}

#[test]
fn what_no_loader_knows_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let parts = addons::single_file(
        scratch.path(),
        marked(&["control_model.input_blocks.0.0.weight", "mystery", "global_step"]),
    );
    let parts = with_header(parts, &[("modelspec.encoder_layer", "2"), ("format", "pt")]);
    let assembled = parts.assemble().unwrap();
    let warnings = &assembled.understood.warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("2 tensors") && warnings[0].contains("`mystery`"), "{warnings:?}");
    assert!(warnings[1].contains("encoder_layer") && warnings[1].contains("clip skip"));
    let plain = addons::single_file(scratch.path(), |_| {}).assemble().unwrap();
    assert!(plain.understood.warnings.is_empty(), "{:?}", plain.understood.warnings);
}

/// Stable Diffusion 1's own scheduler has no such schedule: diffusers passes the option over, a mark must not be.
#[test]
fn a_scheduler_without_the_marked_schedule_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let parts = addons::single_file(scratch.path(), marked(&["v_pred", "ztsnr"]));
    let folder = parts.assemble().unwrap();
    let message = format!("{:#}", sd15(folder.path(), options()).err().unwrap());
    assert!(message.contains("zero terminal SNR") && message.contains("pndm"), "{message}");
    let euler = DiffusionOptions { scheduler: Some(SchedulerClass::EulerDiscrete), ..options() };
    let settings = sd15(folder.path(), euler).unwrap().settings();
    assert_eq!(settings["scheduler"]["rescale_betas_zero_snr"], true);
    // Without the mark the key is absent, so that runs of before go on.
    let plain = sd15(&fixture("sd15-tiny"), options()).unwrap().settings();
    assert!(plain["scheduler"].get("rescale_betas_zero_snr").is_none());
}
