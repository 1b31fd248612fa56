//! The schedulers against diffusers (fixtures/schedulers, made by make_noise_and_schedulers.py):
//! timesteps, noise scale and latents over whole walks with a stand-in for the network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::noise_schedule::NoiseSchedule;
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::checkpoint::scheduler_config::{PredictionType, TimestepSpacing};
use dpg_bench::checkpoint::scheduler_config::{
    SchedulerConfig, SchedulerError, SchedulerOverrides,
};
use dpg_bench::generate::noise::ImageNoise;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Largest relative error of latents, root mean square over root mean square.
const TOLERANCE: f64 = 2e-6;

#[derive(Deserialize)]
struct Golden {
    walks: Vec<Walk>,
    timesteps: Vec<TimestepDigest>,
}

#[derive(Deserialize)]
struct Walk {
    scheduler: String,
    steps: usize,
    config: Value,
    timesteps: Vec<f64>,
    initial_noise_scale: f64,
}

#[derive(Deserialize)]
struct TimestepDigest {
    scheduler: String,
    config: Value,
    max_steps: usize,
    sha256: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schedulers")
}

fn golden() -> (Golden, HashMap<String, Tensor>) {
    let golden =
        serde_json::from_slice(&std::fs::read(folder().join("golden.json")).unwrap()).unwrap();
    let tensors =
        candle_core::safetensors::load(folder().join("golden.safetensors"), &Device::Cpu).unwrap();
    (golden, tensors)
}

fn config(name: &str, json: &Value) -> Result<SchedulerConfig, SchedulerError> {
    SchedulerConfig::from_json(&json.to_string(), Some(SchedulerClass::from_name(name)?))
}

/// What the script's `fake_network` does.
fn fake_network(latents: &Tensor, timestep: f64) -> Tensor {
    latents.affine(1.3, 0.002 * timestep).unwrap().sin().unwrap().affine(0.8, 0.0).unwrap()
}

/// The script's `NOISE_SEEDS`.
const NOISE_SEEDS: [u64; 2] = [21, 22];

/// Latents in the middle and at the end of a walk.
fn walk(config: &SchedulerConfig, steps: usize, start: &Tensor) -> [Tensor; 2] {
    walk_with_noise(config, steps, start, &NOISE_SEEDS)
}

fn walk_with_noise(
    config: &SchedulerConfig,
    steps: usize,
    start: &Tensor,
    seeds: &[u64],
) -> [Tensor; 2] {
    let (_, channels, height, width) = start.dims4().unwrap();
    let mut noise = ImageNoise::new(seeds, (channels, height, width), &Device::Cpu);
    let mut scheduler = config.scheduler(steps).unwrap();
    let mut latents = start.affine(scheduler.init_noise_sigma(), 0.0).unwrap();
    let timesteps = scheduler.timesteps().to_vec();
    let mut middle = None;
    for (index, &timestep) in timesteps.iter().enumerate() {
        let shown = scheduler.scale_model_input(index, &latents).unwrap();
        let fresh = scheduler.wants_noise(index).then(|| noise.draw().unwrap());
        let prediction = fake_network(&shown, timestep);
        latents = scheduler.step(index, &latents, &prediction, fresh.as_ref()).unwrap();
        if index == timesteps.len() / 2 {
            middle = Some(latents.clone());
        }
    }
    [middle.unwrap(), latents]
}

/// Largest absolute error, and relative error (root mean squares).
fn errors(found: &Tensor, expected: &Tensor) -> (f64, f64) {
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len());
    let (mut worst, mut apart, mut size) = (0.0_f64, 0.0, 0.0);
    for (found, expected) in found.iter().zip(&expected) {
        let difference = f64::from(*found) - f64::from(*expected);
        // A NaN must not pass for a small number.
        worst = if difference.is_nan() { f64::INFINITY } else { worst.max(difference.abs()) };
        apart += difference * difference;
        size += f64::from(*expected) * f64::from(*expected);
    }
    (worst, (apart / size).sqrt())
}

/// Largest errors of the two stored latents of walk `number`.
fn walk_errors(
    number: usize,
    tensors: &HashMap<String, Tensor>,
    latents: &[Tensor; 2],
) -> (f64, f64) {
    let [middle, end] = latents;
    let middle = errors(middle, &tensors[&format!("{number}.middle")]);
    let end = errors(end, &tensors[&format!("{number}.end")]);
    (middle.0.max(end.0), middle.1.max(end.1))
}

#[test]
fn whole_walks_equal_diffusers() {
    let (golden, tensors) = golden();
    let mut worst: HashMap<String, (f64, f64)> = HashMap::new();
    for (number, case) in golden.walks.iter().enumerate() {
        let config = config(&case.scheduler, &case.config).unwrap();
        let label = format!("{} x {}, {}", case.scheduler, case.steps, case.config);
        let scheduler = config.scheduler(case.steps).unwrap();
        if config.use_karras_sigmas && config.class == SchedulerClass::EulerDiscrete {
            // Between whole timesteps the last bits hang on NumPy's f32 logarithm, which differs from
            // processor to processor.
            assert_eq!(scheduler.timesteps().len(), case.timesteps.len(), "{label}");
            for (ours, theirs) in scheduler.timesteps().iter().zip(&case.timesteps) {
                assert!((ours - theirs).abs() < 1e-4, "{label}: {ours} {theirs}");
            }
        } else {
            assert_eq!(scheduler.timesteps(), case.timesteps, "{label}");
        }
        let scale = scheduler.init_noise_sigma() / case.initial_noise_scale - 1.0;
        assert!(scale.abs() < 1e-7, "{label}: {scale:e}");
        let (max, relative) =
            walk_errors(number, &tensors, &walk(&config, case.steps, &tensors["start"]));
        assert!(relative <= TOLERANCE, "{label}: relative {relative:e}, largest {max:e}");
        let entry = worst.entry(case.scheduler.clone()).or_default();
        *entry = (entry.0.max(max), entry.1.max(relative));
    }
    assert!(golden.walks.len() >= 50);
    for (name, (max, relative)) in worst {
        eprintln!("{name}: largest absolute error {max:e}, largest relative error {relative:e}");
    }
}

#[test]
fn timesteps_equal_diffusers_for_every_number_of_steps() {
    for case in golden().0.timesteps {
        let config = config(&case.scheduler, &case.config).unwrap();
        let mut hasher = Sha256::new();
        for steps in 1..=case.max_steps {
            for timestep in config.scheduler(steps).unwrap().timesteps() {
                hasher.update(timestep.to_le_bytes());
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, case.sha256, "{} {}", case.scheduler, case.config);
    }
}

/// The check of `whole_walks_equal_diffusers` must refuse each near miss by a wide margin.
#[test]
fn near_misses_are_told_apart() {
    let (golden, tensors) = golden();
    let mut refused = 0;
    for (number, case) in golden.walks.iter().enumerate() {
        if case.steps != 25 {
            continue;
        }
        let right = config(&case.scheduler, &case.config).unwrap();
        let mut wrong = vec![];
        // Karras sigmas of the solvers ignore the spacing.
        let spaced = (!right.use_karras_sigmas && right.class != SchedulerClass::Lcm)
            || right.class == SchedulerClass::EulerDiscrete;
        for spacing in
            [TimestepSpacing::Linspace, TimestepSpacing::Leading, TimestepSpacing::Trailing]
        {
            if spaced && spacing != right.timestep_spacing {
                wrong.push((
                    "spacing",
                    SchedulerConfig { timestep_spacing: spacing, ..right.clone() },
                ));
            }
        }
        let other = match right.prediction_type {
            PredictionType::Epsilon => PredictionType::VPrediction,
            PredictionType::VPrediction => PredictionType::Epsilon,
        };
        wrong.push(("prediction", SchedulerConfig { prediction_type: other, ..right.clone() }));
        wrong.push((
            "beta_end",
            SchedulerConfig { beta_end: right.beta_end * 1.001, ..right.clone() },
        ));
        if matches!(
            right.class,
            SchedulerClass::DpmSolverMultistep
                | SchedulerClass::EulerDiscrete
                | SchedulerClass::UniPc
        ) {
            let use_karras_sigmas = !right.use_karras_sigmas;
            wrong.push(("Karras sigmas", SchedulerConfig { use_karras_sigmas, ..right.clone() }));
        }
        // The corrector left out, and the fresh noise.
        if right.class == SchedulerClass::UniPc {
            let class = SchedulerClass::DpmSolverMultistep;
            wrong.push(("corrector", SchedulerConfig { class, ..right.clone() }));
        }
        if right.class == SchedulerClass::EulerAncestral {
            let class = SchedulerClass::EulerDiscrete;
            wrong.push(("fresh noise", SchedulerConfig { class, ..right.clone() }));
        }
        if right.class == SchedulerClass::Lcm {
            let scaling = right.timestep_scaling.map(|scaling| scaling / 1000.0);
            wrong.push(("scaling", SchedulerConfig { timestep_scaling: scaling, ..right.clone() }));
            let original = right.original_inference_steps.map(|steps| steps + 1);
            let original_inference_steps = original;
            wrong.push(("steps", SchedulerConfig { original_inference_steps, ..right.clone() }));
            let clip_sample_range = Some(0.5);
            wrong.push(("clipping", SchedulerConfig { clip_sample_range, ..right.clone() }));
            let class = SchedulerClass::Ddim;
            wrong.push(("fresh noise", SchedulerConfig { class, ..right.clone() }));
        }
        // Fourth order against first, on nearly the same timesteps.
        if right.class == SchedulerClass::Pndm {
            wrong.push(("order", SchedulerConfig { class: SchedulerClass::Ddim, ..right.clone() }));
        }
        if matches!(right.class, SchedulerClass::Pndm | SchedulerClass::Ddim) {
            wrong
                .push(("final alpha", SchedulerConfig { set_alpha_to_one: true, ..right.clone() }));
        }
        for (what, wrong) in wrong {
            let (max, relative) =
                walk_errors(number, &tensors, &walk(&wrong, 25, &tensors["start"]));
            assert!(
                relative > 10.0 * TOLERANCE,
                "{what} of {}: {relative:e} {max:e}",
                case.scheduler
            );
            refused += 1;
        }
    }
    assert!(refused > 30, "{refused}");
}

/// The stream of another image, or the images' streams exchanged: the golden refuses both.
#[test]
fn fresh_noise_comes_from_each_images_own_stream() {
    let (golden, tensors) = golden();
    let is_it = |(_, case): &(usize, &Walk)| case.scheduler == "euler-a" && case.steps == 10;
    let (number, case) = golden.walks.iter().enumerate().find(|found| is_it(found)).unwrap();
    let config = config("euler-a", &case.config).unwrap();
    for (seeds, right) in [([21, 22], true), ([22, 21], false), ([21, 23], false)] {
        let latents = walk_with_noise(&config, 10, &tensors["start"], &seeds);
        let (_, relative) = walk_errors(number, &tensors, &latents);
        assert_eq!(relative <= TOLERANCE, right, "{seeds:?}: {relative:e}");
        assert!(right || relative > 0.1, "{seeds:?}: {relative:e}");
    }
}

/// DPM-Solver++ without its second order, which is DDIM on the same timesteps: the golden refuses it.
#[test]
fn the_first_order_walk_is_not_the_second_order_one() {
    let (golden, tensors) = golden();
    let is_it = |(_, case): &(usize, &Walk)| case.scheduler == "dpm++" && case.steps == 10;
    let (number, case) = golden.walks.iter().enumerate().find(|found| is_it(found)).unwrap();
    let schedule = NoiseSchedule::new(&config("dpm++", &case.config).unwrap());
    let sigmas = case.timesteps.iter().map(|&step| schedule.sigma(step)).chain([0.0]);
    let sigmas: Vec<f64> = sigmas.collect();
    let mut latents = tensors["start"].clone();
    for (index, &timestep) in case.timesteps.iter().enumerate() {
        let [signal, signal_after] =
            [sigmas[index], sigmas[index + 1]].map(|sigma| 1.0 / (sigma * sigma + 1.0).sqrt());
        let prediction = fake_network(&latents, timestep);
        // In units where the signal is 1, Euler's step along the noise.
        let step = prediction.affine(sigmas[index + 1] - sigmas[index], 0.0).unwrap();
        let scaled = (latents.affine(1.0 / signal, 0.0).unwrap() + step).unwrap();
        latents = scaled.affine(signal_after, 0.0).unwrap();
    }
    let (_, relative) = errors(&latents, &tensors[&format!("{number}.end")]);
    assert!(relative > 1e-3, "{relative:e}");
}

fn sd15() -> Value {
    golden().0.walks[0].config.clone()
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

#[test]
fn an_override_takes_what_the_json_says_and_its_own_defaults() {
    let own = SchedulerConfig::from_json(&sd15().to_string(), None).unwrap();
    assert_eq!((own.class, own.timestep_spacing), (SchedulerClass::Pndm, TimestepSpacing::Leading));
    let other = config("dpm++", &sd15()).unwrap();
    assert_eq!((other.timestep_spacing, other.steps_offset), (TimestepSpacing::Linspace, 1));
    let stated = with(sd15(), "timestep_spacing", json!("leading"));
    assert_eq!(config("dpm++", &stated).unwrap().timestep_spacing, TimestepSpacing::Leading);
    // A value that diffusers noted as never set by anyone is not carried over.
    let unset = with(stated, "_use_default_values", json!(["timestep_spacing"]));
    assert_eq!(config("dpm++", &unset).unwrap().timestep_spacing, TimestepSpacing::Linspace);
}

#[test]
fn what_is_not_supported_is_named() {
    let refusals = [
        ("pndm", "skip_prk_steps", json!(false)),
        ("ddim", "clip_sample", json!("yes")),
        ("ddim", "thresholding", json!(true)),
        ("ddim", "prediction_type", json!("sample")),
        ("ddim", "beta_schedule", json!("squaredcos_cap_v2")),
        ("ddim", "trained_betas", json!([0.1, 0.2])),
        ("ddim", "rescale_betas_zero_snr", json!("yes")),
        ("dpm++", "use_exponential_sigmas", json!(true)),
        ("euler-a", "trained_betas", json!([0.5])),
        ("lcm", "thresholding", json!(true)),
        ("lcm", "prediction_type", json!("sample")),
        ("lcm", "original_inference_steps", json!(1001)),
        ("lcm", "original_inference_steps", json!(0)),
        ("lcm", "timestep_scaling", json!("ten")),
        ("unipc", "shift_terminal", json!(0.1)),
        ("unipc", "solver_order", json!(3)),
        ("unipc", "solver_type", json!("bh1")),
        ("unipc", "disable_corrector", json!([0])),
        ("unipc", "predict_x0", json!(false)),
        ("unipc", "sigma_max", json!(12.5)),
        ("dpm++", "algorithm_type", json!("sde-dpmsolver++")),
        ("dpm++", "solver_order", json!(3)),
        ("dpm++", "final_sigmas_type", json!("sigma_min")),
        ("euler", "interpolation_type", json!("log_linear")),
        ("euler", "timestep_spacing", json!("sideways")),
        ("euler", "beta_end", json!(1.5)),
        ("euler", "num_train_timesteps", json!(0)),
        ("euler", "steps_offset", json!(-1)),
    ];
    for (name, key, value) in refusals {
        let message = config(name, &with(sd15(), key, value.clone())).unwrap_err().to_string();
        assert!(message.contains(key) && message.contains(&value.to_string()), "{message}");
        assert!(
            message.contains(SchedulerClass::from_name(name).unwrap().class_name()),
            "{message}"
        );
    }
    let range = with(with(sd15(), "clip_sample", json!(true)), "clip_sample_range", json!(-1.5));
    let message = config("ddim", &range).unwrap_err().to_string();
    assert!(message.contains("clip_sample_range") && message.contains("-1.5"), "{message}");

    let unknown = with(sd15(), "_class_name", json!("HeunDiscreteScheduler"));
    let message = SchedulerConfig::from_json(&unknown.to_string(), None).unwrap_err().to_string();
    assert!(message.contains("HeunDiscreteScheduler") && message.contains("dpm++"), "{message}");
    assert!(matches!(SchedulerConfig::from_json("[1]", None), Err(SchedulerError::BadJson(_))));
}

#[test]
fn a_flag_stands_above_what_the_json_says() {
    let wanted = SchedulerOverrides {
        spacing: Some(TimestepSpacing::Trailing),
        karras: Some(true),
        prediction: Some(PredictionType::VPrediction),
    };
    for name in ["dpm++", "euler", "unipc"] {
        let flagged = config(name, &sd15()).unwrap().overridden(&wanted).unwrap();
        let stated = json!({
            "timestep_spacing": "trailing",
            "use_karras_sigmas": true,
            "prediction_type": "v_prediction",
        });
        let mut json = sd15();
        json.as_object_mut().unwrap().extend(stated.as_object().unwrap().clone());
        assert_eq!(flagged, config(name, &json).unwrap());
        let off = SchedulerOverrides { karras: Some(false), ..Default::default() };
        assert!(!flagged.overridden(&off).unwrap().use_karras_sigmas);
    }
    let spacing = SchedulerOverrides { karras: None, ..wanted };
    let message = config("lcm", &sd15()).unwrap().overridden(&spacing).unwrap_err().to_string();
    assert!(message.contains("lcm") && message.contains("--spacing"), "{message}");
    for name in ["pndm", "ddim", "euler-a", "lcm"] {
        let own = config(name, &with(sd15(), "use_karras_sigmas", json!(true))).unwrap();
        // diffusers' classes pass over the key that they do not know.
        assert!(!own.use_karras_sigmas);
        let message = own.overridden(&wanted).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("--karras"), "{message}");
    }
}

/// In Python null is no, and a class passes over what it does not know.
#[test]
fn values_that_change_nothing_are_accepted() {
    for name in ["pndm", "ddim", "dpm++", "euler", "euler-a", "unipc", "lcm"] {
        let plain = config(name, &sd15()).unwrap();
        for (key, value) in [
            ("use_karras_sigmas", json!(null)),
            ("use_beta_sigmas", json!(null)),
            ("thresholding", json!(null)),
            ("rescale_betas_zero_snr", json!(null)),
            ("set_alpha_to_one", json!(null)),
            ("clip_sample", json!(null)),
            ("clip_sample_range", json!(3.0)),
            ("dynamic_thresholding_ratio", json!(0.5)),
            ("sigma_max", json!(null)),
            ("base_shift", json!(0.5)),
        ] {
            assert_eq!(config(name, &with(sd15(), key, value)).unwrap(), plain, "{name} {key}");
        }
        let zero = with(sd15(), "rescale_betas_zero_snr", json!(true));
        assert_eq!(config(name, &zero).unwrap().rescale_betas_zero_snr, name != "pndm");
    }
    // Noise alone says nothing about noise: diffusers divides by zero.
    for name in ["ddim", "lcm"] {
        let zero = config(name, &with(sd15(), "rescale_betas_zero_snr", json!(true))).unwrap();
        let message = zero.scheduler(5).err().unwrap().to_string();
        assert!(message.contains("rescale_betas_zero_snr") && message.contains("--prediction v"));
    }
}

/// As diffusers turns `solver_type` of one class into another's.
#[test]
fn solvers_take_each_others_names() {
    config("dpm++", &with(sd15(), "algorithm_type", json!("deis"))).unwrap();
    for solver in ["midpoint", "bh2", "logrho"] {
        for name in ["dpm++", "unipc"] {
            config(name, &with(sd15(), "solver_type", json!(solver))).unwrap();
        }
    }
}

#[test]
fn a_value_that_python_writes_and_json_has_not_is_read() {
    let text = sd15().to_string().replacen('{', "{\"lambda_min_clipped\": -Infinity,", 1);
    SchedulerConfig::from_json(&text, Some(SchedulerClass::DpmSolverMultistep)).unwrap();
}

#[test]
fn impossible_walks_are_refused() {
    for name in ["pndm", "ddim", "dpm++", "euler", "euler-a", "unipc", "lcm"] {
        let config = config(name, &sd15()).unwrap();
        for steps in [0, 1001] {
            let message = config.scheduler(steps).err().unwrap().to_string();
            assert!(message.contains(&format!("{steps} steps")), "{message}");
        }
        let mut scheduler = config.scheduler(10).unwrap();
        let latents = Tensor::ones(4, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(scheduler.step(scheduler.timesteps().len(), &latents, &latents, None).is_err());
    }
    // The offset pushes the first of 1000 leading timesteps to 1000, which was never trained.
    assert!(config("ddim", &sd15()).unwrap().scheduler(1000).is_err());
    // More steps than the network was distilled on.
    assert!(config("lcm", &sd15()).unwrap().scheduler(50).is_ok());
    let message = config("lcm", &sd15()).unwrap().scheduler(51).err().unwrap().to_string();
    assert!(message.contains("1 to 50"), "{message}");
    let mut lcm = config("lcm", &sd15()).unwrap().scheduler(4).unwrap();
    let latents = Tensor::ones(4, candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(lcm.wants_noise(2) && !lcm.wants_noise(3));
    assert!(lcm.step(0, &latents, &latents, None).is_err());
    // Two timesteps fall together: the step between them has no length.
    assert!(config("dpm++", &sd15()).unwrap().scheduler(1000).is_err());
    assert!(config("unipc", &sd15()).unwrap().scheduler(1000).is_err());
    // The ancestral step needs its noise.
    let mut ancestral = config("euler-a", &sd15()).unwrap().scheduler(10).unwrap();
    let latents = Tensor::ones(4, candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(ancestral.wants_noise(8) && !ancestral.wants_noise(9));
    assert!(ancestral.step(0, &latents, &latents, None).is_err());
    let mut pndm = config("pndm", &sd15()).unwrap().scheduler(10).unwrap();
    let latents = Tensor::ones(4, candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(pndm.step(1, &latents, &latents, None).is_err());
    assert!(pndm.step(5, &latents, &latents, None).is_err());
}
