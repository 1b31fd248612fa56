//! In: a single-file checkpoint's tensors outside its networks, and the free text of its header. Out: what they
//! say about prediction and noise schedule, written into the scheduler's file; a refusal of what is not built; and
//! a warning of what is unknown. The networks' tensors are left to `single_file`.
//!
//! The marks are those that ComfyUI, the A1111 web interface, Forge, SwarmUI and the training scripts write and
//! read; diffusers reads `edm_mean` alone. docs/generation.md has the table.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::folder::read;
use super::ldm_names;
use super::load_report::{LoadReport, tensors_in_nothing};
use super::safetensors_file::{FileContents, values, whole_number};
use super::scheduler_config::noise_schedule::NoiseSchedule;
use super::scheduler_config::scheduler_class::SchedulerClass;
use super::scheduler_config::{MARKED_ZERO_SNR, PredictionType, SchedulerConfig, parse};
use super::small_files::{read_component, write_json};

/// What a file of Playground v2.5 asks for, and what to do.
const PLAYGROUND: (&str, &str) = (
    "the EDM sampling of Playground v2.5",
    "; --model playground-v25 takes its folder in the diffusers layout",
);

/// Marks of sampling that single files cannot have here, with what it is.
const NOT_BUILT: &[(&str, (&str, &str))] = &[
    ("edm_mean", PLAYGROUND),
    ("edm_std", PLAYGROUND),
    ("edm_vpred.sigma_max", ("EDM sampling with v prediction", "")),
    ("edm_vpred.sigma_min", ("EDM sampling with v prediction", "")),
];

/// Tables of the latent-diffusion code that follow from the betas, and counters of training.
const WITHOUT_EFFECT: &[&str] = &[
    "alphas_cumprod_prev",
    "betas",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "cond_stage_model.text_projection.weight",
    "epoch",
    "global_step",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "lvlb_weights",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "posterior_variance",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
];

/// Where tensors of networks stand; `model_ema.` holds averaged weights, which no loader takes unasked.
const NETWORKS: &[&str] = &[
    ldm_names::UNET,
    ldm_names::VAE,
    ldm_names::TEXT_ENCODER,
    ldm_names::SD2_TEXT_ENCODER,
    ldm_names::SDXL_TEXT_ENCODER,
    ldm_names::SDXL_TEXT_ENCODER_2,
    "model_ema.",
];

/// Largest difference between the file's table of alphas and the configuration's, which may be stored in half.
const ALPHA_TOLERANCE: f64 = 1e-3;

/// What a file is marked with.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    prediction: Option<(PredictionType, String)>,
    zero_snr: bool,
}

/// Reads the marks of the checkpoint at `path` and writes them into the scheduler's file of the folder `root`;
/// `wanted` is the prediction that the user asks for, which stands above them. Where `is_open`, the configurations are
/// those of a release with both kinds.
///
/// # Errors
/// The sampling that they ask for is not built, they contradict each other or the configuration, or a file
/// cannot be read or written.
pub(crate) fn apply_marks(
    (path, contents): (&Path, &FileContents),
    root: &Path,
    wanted: Option<PredictionType>,
    is_open: bool,
) -> Result<LoadReport> {
    let mut understood = LoadReport::default();
    let marks = read_marks(path, contents, &mut understood)?;
    let file = root.join("scheduler/scheduler_config.json");
    let options = parse(&read(&file)?).with_context(|| file.display().to_string())?;
    let mut scheduler = Value::Object(options);
    let stated = &scheduler["prediction_type"];
    if let Some((prediction, mark)) = &marks.prediction {
        understood.line("mark", format!("{mark}: prediction {}", prediction.name()));
        let differs = stated.as_str().is_some_and(|stated| stated != prediction.name());
        // Epsilon is what configurations state unasked; a file that is marked knows better.
        ensure!(
            !differs || *prediction == PredictionType::VPrediction || wanted.is_some(),
            "{}: {mark} says prediction {}, and the configuration says {stated}; say which with --prediction",
            path.display(),
            prediction.name()
        );
        if let Some(wanted) = wanted.filter(|wanted| wanted != prediction) {
            understood.warn(format!(
                "{}: {mark} says prediction {}, --prediction says {}",
                path.display(),
                prediction.name(),
                wanted.name()
            ));
        }
        scheduler["prediction_type"] = Value::from(prediction.name());
    } else if is_open && wanted.is_none() {
        let prediction = prediction_of_release(path, &mut understood)?;
        scheduler["prediction_type"] = Value::from(prediction.name());
    }
    let config = SchedulerConfig::from_json(
        &scheduler.to_string(),
        // The betas are the same for every class, and this one has no option that is refused.
        Some(SchedulerClass::EulerAncestral),
    )
    .with_context(|| file.display().to_string())?;
    let zero_snr = marks.zero_snr || has_zero_snr(path, contents, &config, &mut understood)?;
    if zero_snr {
        let prediction = wanted.unwrap_or(config.prediction_type);
        ensure!(
            prediction == PredictionType::VPrediction,
            "{}: `ztsnr` asks for zero terminal SNR, and nothing says that the network predicts v: web \
             interfaces differ in what they make of that; say --prediction v if it does",
            path.display()
        );
        understood.line("mark", "ztsnr: zero terminal SNR");
        scheduler["rescale_betas_zero_snr"] = true.into();
        scheduler[MARKED_ZERO_SNR] = true.into();
    }
    check_scale(path, contents, root)?;
    write_json(&file, &scheduler)?;
    Ok(understood)
}

/// The prediction of an unmarked file of Stable Diffusion 2, as diffusers tells it: 2.0 base was saved at this step.
fn prediction_of_release(path: &Path, understood: &mut LoadReport) -> Result<PredictionType> {
    if whole_number(path, "global_step")? == Some(875_000) {
        understood.line("mark", "`global_step` 875000: prediction epsilon");
        return Ok(PredictionType::Epsilon);
    }
    understood.warn(format!(
        "{}: nothing says what this Stable Diffusion 2 predicts; v is taken, as by diffusers: the base models for 512 \
         pixels need --prediction epsilon --width 512 --height 512",
        path.display()
    ));
    Ok(PredictionType::VPrediction)
}

fn read_marks(path: &Path, contents: &FileContents, understood: &mut LoadReport) -> Result<Marks> {
    let mut marks = Marks::default();
    let mut unknown = Vec::new();
    for name in contents.shapes.keys() {
        if let Some((_, (what, advice))) = NOT_BUILT.iter().find(|(mark, _)| mark == name) {
            bail!(
                "{}: `{name}` asks for {what}, which is not built for single files{advice}",
                path.display()
            );
        }
        match name.as_str() {
            "v_pred" => {
                marks.prediction = Some((PredictionType::VPrediction, "`v_pred`".to_owned()))
            }
            "ztsnr" => marks.zero_snr = true,
            "alphas_cumprod" | "denoiser.sigmas" | "scale_factor" => {}
            _ if WITHOUT_EFFECT.contains(&name.as_str())
                || NETWORKS.iter().any(|prefix| name.starts_with(prefix)) => {}
            _ => unknown.push(name),
        }
    }
    if let Some(sentence) = tensors_in_nothing(&unknown) {
        understood.warn(format!("{}: {sentence}", path.display()));
    }
    read_notes(path, contents, &mut marks, understood)?;
    Ok(marks)
}

/// The header's free text, as the ModelSpec of Stability AI and ComfyUI have it.
fn read_notes(
    path: &Path,
    contents: &FileContents,
    marks: &mut Marks,
    understood: &mut LoadReport,
) -> Result<()> {
    for key in ["modelspec.prediction_type", "modelspec.predict_key", "prediction_type"] {
        let Some(text) = contents.notes.get(key) else { continue };
        let prediction = match text.to_ascii_lowercase().as_str() {
            "v" | "v_prediction" | "v-prediction" | "velocity" => PredictionType::VPrediction,
            "epsilon" | "eps" => PredictionType::Epsilon,
            _ => bail!("{}: `{key}` = {text} is no prediction that is built here", path.display()),
        };
        match &marks.prediction {
            None => marks.prediction = Some((prediction, format!("`{key}` of the header"))),
            Some((first, mark)) if *first != prediction => understood.warn(format!(
                "{}: {mark} says prediction {}, `{key}` of the header says {text}; the former is followed",
                path.display(),
                first.name()
            )),
            Some(_) => {}
        }
    }
    for (key, what) in [
        ("modelspec.encoder_layer", "the text encoder's last layer is used (no \"clip skip\")"),
        ("modelspec.timestep_range", "the network is used at all timesteps"),
    ] {
        if let Some(text) = contents.notes.get(key) {
            understood.warn(format!("{}: `{key}` = {text} is passed over: {what}", path.display()));
        }
    }
    Ok(())
}

/// Whether the file's own table of alphas, or of sigmas, is the configuration's with zero terminal SNR.
fn has_zero_snr(
    path: &Path,
    contents: &FileContents,
    config: &SchedulerConfig,
    understood: &mut LoadReport,
) -> Result<bool> {
    let (table, alphas) = if contents.shapes.contains_key("alphas_cumprod") {
        ("alphas_cumprod", values(path, "alphas_cumprod")?)
    } else if contents.shapes.contains_key("denoiser.sigmas") {
        let mut sigmas = values(path, "denoiser.sigmas")?;
        sigmas.sort_by(f32::total_cmp);
        let of_sigma = |sigma: &f32| 1.0 / (sigma * sigma + 1.0);
        ("denoiser.sigmas", sigmas.iter().map(of_sigma).collect())
    } else {
        return Ok(false);
    };
    let is_close = |rescale_betas_zero_snr| {
        let config = SchedulerConfig { rescale_betas_zero_snr, ..config.clone() };
        let difference = NoiseSchedule::new(&config).difference(&alphas);
        difference.is_some_and(|difference| difference <= ALPHA_TOLERANCE)
    };
    if is_close(config.rescale_betas_zero_snr) {
        return Ok(false);
    }
    if is_close(true) {
        return Ok(true);
    }
    let sentence =
        format!("{}: `{table}` is another noise schedule than the configuration's", path.display());
    // No web interface samples by the sigmas of the file.
    ensure!(
        table != "alphas_cumprod",
        "{sentence}; give --base DIR with a scheduler that has its betas"
    );
    understood.warn(format!("{sentence}, which is followed"));
    Ok(false)
}

/// Refuses a scale of the latents that is not the configuration's.
fn check_scale(path: &Path, contents: &FileContents, root: &Path) -> Result<()> {
    if !contents.shapes.contains_key("scale_factor") {
        return Ok(());
    }
    let config = read_component(&root.join("vae/config.json"))?;
    let own = config["scaling_factor"].as_f64().unwrap_or(0.18215);
    let stored = values(path, "scale_factor")?;
    ensure!(
        stored.len() == 1 && (f64::from(stored[0]) / own - 1.0).abs() < 1e-2,
        "{}: `scale_factor` is {stored:?} where the autoencoder's configuration has scaling_factor {own}; \
         give --base DIR with that of this checkpoint",
        path.display()
    );
    Ok(())
}
