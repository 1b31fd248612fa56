//! FLUX.1 dev and schnell from prompt and seeds to pictures, against `FluxPipeline` of diffusers on tiny checkpoints
//! (fixtures/flux-golden, made by make_flux.py).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::catalog::find;
use dpg_bench::generate::pipelines::flux::Flux;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::recognised::recognise;
use dpg_bench::models::FluxTransformer;
use dpg_bench::session::generator_options::GeneratorOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_pictures::{Case, assert_apart, assert_same, cases, pictures, sabotaged};
use crate::tiny_checkpoint::{Bounds, compare, configure, copy_of, fixture, read};
use crate::tiny_parts::{TOLERANCE, apart, of_folder};

const GOLDEN: &str = "flux-golden";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const INDEX: &str = "model_index.json";

/// The checkpoint of a case, named before the stroke, with the parts that other fixtures hold; with a scheduler of its own
/// where the name has a colon.
pub fn whole(name: &str) -> TempDir {
    let name = name.split('/').next().unwrap();
    let (name, scheduler) = name.split_once(':').unwrap_or((name, ""));
    let folder = copy_of("flux-dev-tiny");
    let copy = |from: &str, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture(from), to).unwrap();
    };
    for file in ["transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"] {
        copy(&format!("{name}/{file}"), file);
    }
    copy(&format!("{name}/{SCHEDULER}"), SCHEDULER);
    let weights = "vae/diffusion_pytorch_model.safetensors";
    copy(&format!("sd3-tiny/{weights}"), weights);
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"] {
        copy(&format!("sdxl-tiny/tokenizer/{file}"), &format!("tokenizer/{file}"));
    }
    copy("ella-tiny/text_encoder/spiece.model", "tokenizer_2/spiece.model");
    for file in ["config.json", "model.safetensors"] {
        copy(&format!("ella-tiny/text_encoder/{file}"), &format!("text_encoder_2/{file}"));
    }
    // With a dynamic shift, nothing reads the other.
    let change = match scheduler {
        "steep" => {
            json!({"base_image_seq_len": 3, "max_image_seq_len": 11, "base_shift": 0.3, "max_shift": 1.4})
        }
        "linear" => json!({"time_shift_type": "linear", "base_shift": 0.7}),
        "shifted" => json!({"shift": 2.5}),
        _ => return folder,
    };
    configure(&folder.path().join(SCHEDULER), &change);
    folder
}

/// A case, with the second guidance where it has one.
#[derive(Clone, Deserialize)]
struct Told {
    true_cfg: Option<f64>,
    #[serde(flatten)]
    case: Case,
}

impl Told {
    fn options(&self) -> DiffusionOptions {
        DiffusionOptions { true_cfg: self.true_cfg, ..self.case.options() }
    }
}

fn load(folder: &Path, options: DiffusionOptions) -> anyhow::Result<Flux> {
    Flux::load(folder, DType::F32, &Device::Cpu, options)
}

fn picture(folder: &Path, told: &Told) -> Tensor {
    let case = &told.case;
    load(folder, told.options()).unwrap().pictures(&case.prompt, &case.seeds).unwrap()
}

#[test]
fn the_transformers_equal_diffusers_on_other_grids() {
    let golden = read(&fixture(GOLDEN).join("networks.safetensors"));
    let bounds = Bounds { relative: 1e-5, absolute: 1e-4 };
    for name in ["flux-dev-tiny", "flux-schnell-tiny"] {
        let is_told = name == "flux-dev-tiny";
        let folder = fixture(name).join("transformer");
        let mut network = FluxTransformer::load(&folder, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(network.takes_guidance(), is_told);
        for (grid, timestep, guidance) in
            [("4x6", "481.25", 3.5), ("7x3", "1000.0", 1.0), ("5x5", "8.93", 2.25)]
        {
            let key = format!("{name}/{grid}/{timestep}/{guidance:?}");
            let part = |part: &str| golden[&format!("{key}/{part}")].clone();
            let time: f32 = timestep.parse().unwrap();
            let mut run = |text: usize, pooled: usize, time: f64, guidance: f64| {
                network.tell_guidance(guidance, &Device::Cpu).unwrap();
                let row = |part_name: &str, row: usize| part(part_name).narrow(0, row, 1).unwrap();
                let (states, pooled) = (row("states", text), row("pooled", pooled));
                network.forward(&part("latents"), time, &states, &pooled).unwrap()
            };
            let time = f64::from(time);
            for row in 0..2 {
                let of_row = |all: Tensor| all.narrow(0, row, 1).unwrap();
                let expected = of_row(part("output"));
                let check = |ours: Tensor| compare(&key, &of_row(ours), &expected, bounds);
                check(run(row, row, time, guidance)).unwrap();
                assert!(check(run(1 - row, row, time, guidance)).is_err());
                assert!(check(run(row, 1 - row, time, guidance)).is_err());
                assert!(check(run(row, row, time + 1.0, guidance)).is_err());
                assert_eq!(check(run(row, row, time, guidance + 0.25)).is_err(), is_told);
                assert!(check(part("erf")).is_err());
            }
        }
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let (states, pooled) = (zeros(&[1, 5, 32]), zeros(&[1, 8]));
        for (latents, states, pooled, words) in [
            (zeros(&[1, 4, 8, 8]), &states, &pooled, "this transformer takes"),
            (zeros(&[1, 16, 8, 8]), &zeros(&[1, 5, 31]), &pooled, "this transformer takes"),
            (zeros(&[1, 16, 8, 8]), &states, &zeros(&[2, 8]), "this transformer takes"),
            (zeros(&[1, 16, 7, 8]), &states, &pooled, "no squares of 2 x 2"),
        ] {
            let error = network.forward(&latents, 1.0, states, pooled).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let folder = fixture("flux-dev-tiny/transformer");
    let network = FluxTransformer::load(&folder, DType::F32, &Device::Cpu).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let error = network.forward(&zeros(&[1, 16, 2, 2]), 1.0, &zeros(&[1, 5, 32]), &zeros(&[1, 8]));
    assert!(error.unwrap_err().to_string().contains("was not told the guidance"));
}

#[test]
fn whole_images_equal_diffusers() {
    let (cases, goldens) = (cases::<Told>(GOLDEN), pictures(GOLDEN));
    assert_eq!((cases.len(), goldens.len()), (17, 17));
    for (name, case) in cases {
        assert_same(&name, &picture(whole(&name).path(), &case), &goldens[&name]);
    }
}

/// The tolerance must refuse each near miss, whether diffusers makes it or we do.
#[test]
fn near_misses_are_told_apart() {
    let (cases, goldens, wrong) = (cases::<Told>(GOLDEN), pictures(GOLDEN), sabotaged(GOLDEN));
    assert_eq!(wrong.len(), 29);
    for (name, wrong) in wrong {
        let (case, _) = name.rsplit_once('/').unwrap();
        assert_apart(&name, apart(&goldens[case], &wrong));
    }
    for name in ["flux-dev-tiny", "flux-schnell-tiny"] {
        let is_dev = name == "flux-dev-tiny";
        let key = format!("{name}/two");
        let (case, golden) = (&cases[&key], &goldens[&key]);
        let folder = whole(name);
        let near = |change: &dyn Fn(&mut Case)| {
            let mut told = case.clone();
            change(&mut told.case);
            apart(&picture(folder.path(), &told), golden)
        };
        assert_apart("seed", near(&|case| case.seeds[0] += 1));
        assert_apart("steps", near(&|case| case.steps += 1));
        let told = near(&|case| case.guidance += 0.01);
        if is_dev {
            assert_apart("guidance", told);
        } else {
            assert!(told <= TOLERANCE, "{told:e}");
        }
        let negative = near(&|case| case.negative_prompt = Some("dark".to_owned()));
        assert!(negative <= TOLERANCE, "{negative:e}");
        let second = format!("{name}/true_cfg");
        let (told, due) = (&cases[&second], &goldens[&second]);
        let scaled = |true_cfg: Option<f64>, negative: Option<&str>| {
            let mut told = Told { true_cfg, ..told.clone() };
            told.case.negative_prompt = negative.map(str::to_owned);
            picture(folder.path(), &told)
        };
        let own = told.case.negative_prompt.as_deref();
        assert_apart("second guidance", apart(&scaled(Some(2.51), own), due));
        assert_apart("empty negative prompt", apart(&scaled(Some(2.5), Some("")), due));
        let without = scaled(None, None);
        for idle in [scaled(Some(2.5), None), scaled(Some(1.0), own), scaled(None, own)] {
            assert!(apart(&idle, &without) <= TOLERANCE);
        }
        let with = |file: &str, change: Value| {
            let folder = whole(name);
            configure(&folder.path().join(file), &change);
            apart(&picture(folder.path(), case), golden)
        };
        let key = if is_dev { "base_shift" } else { "shift" };
        assert_apart("shift", with(SCHEDULER, json!({key: 0.55})));
        assert_apart("scale of latents", with("vae/config.json", json!({"scaling_factor": 0.37})));
        let gelu = json!({"hidden_act": "gelu"});
        assert_apart("CLIP's GELU", with("text_encoder/config.json", gelu));
        let other_end = json!({"eos_token_id": 5});
        assert_apart("pooled elsewhere", with("text_encoder/config.json", other_end));
    }
}

#[test]
fn the_record_names_all_that_changes_a_pixel() {
    let options = DiffusionOptions { steps: 4, guidance: 3.5, ..Default::default() };
    let settings = load(whole("flux-dev-tiny").path(), options.clone()).unwrap().settings();
    assert_eq!((&settings["model"], &settings["t5_tokens"]), (&json!("flux"), &json!(512)));
    assert_eq!(settings["pipeline"], "FluxPipeline");
    let mu = settings["scheduler"]["dynamic_shift"]["mu"].as_f64().unwrap();
    assert!((mu - 1.15).abs() < 1e-12, "{mu}");
    assert_eq!(settings["scheduler"]["even_sigmas"], true);
    assert_eq!((&settings["width"], &settings["guidance"]), (&json!(1024), &json!(3.5)));
    for part in ["transformer", "vae", "text_encoder", "text_encoder_2"] {
        assert_eq!(settings["weights"][part].as_str().unwrap().len(), 64, "{part}");
    }
    let settings = load(whole("flux-schnell-tiny").path(), options).unwrap().settings();
    assert_eq!(settings["t5_tokens"], 256);
    assert!(settings["scheduler"].get("dynamic_shift").is_none());
}

/// One name serves both; what is said stands above what the checkpoint is.
#[test]
fn the_checkpoint_decides_on_the_defaults() {
    let model = find("flux").unwrap();
    for (name, steps, guidance) in [("flux-dev-tiny", 28, 3.5), ("flux-schnell-tiny", 4, 0.0)] {
        let folder = whole(name);
        assert_eq!(recognise(folder.path()).unwrap().model, "flux");
        let mut options = GeneratorOptions::new("flux");
        options.weights = Some(folder.path().to_owned());
        let sampling = options.resolve_sampling(model).unwrap().options;
        assert_eq!((sampling.steps, sampling.guidance), (steps, guidance));
        options.sampling.steps = Some(9);
        options.sampling.guidance = Some(2.0);
        let sampling = options.resolve_sampling(model).unwrap().options;
        assert_eq!((sampling.steps, sampling.guidance), (9, 2.0));
        options.sampling.width = Some(1000);
        options.sampling.height = Some(64);
        assert_eq!(options.stated_size(), Some((992, 64)));
    }
}

#[test]
fn what_changes_nothing_is_told() {
    let told = |name: &str, guidance: f64, negative: &str| {
        let options = DiffusionOptions {
            steps: 2,
            guidance,
            negative_prompt: Some(negative.to_owned()),
            ..Default::default()
        };
        load(whole(name).path(), options).unwrap().understood()
    };
    let line = |name: &str, guidance: f64, subject: &str| {
        let understood = told(name, guidance, "");
        let line = understood.lines.iter().find(|line| line.subject == subject).unwrap();
        line.text.clone()
    };
    let (dev, schnell) = ("flux-dev-tiny", "flux-schnell-tiny");
    assert_eq!(line(dev, 3.5, "guidance"), "3.5, told to the transformer");
    assert_eq!(line(schnell, 0.0, "guidance"), "none: the transformer was distilled without");
    let narrow = DiffusionOptions { width: Some(40), ..Default::default() };
    let warnings = load(whole(dev).path(), narrow).unwrap().understood().warnings;
    let told_size = "images are 32 x 1024, not 40 x 1024: FluxPipeline of diffusers rounds down to multiples of 16";
    assert_eq!(warnings, [told_size]);
    assert!(told(dev, 3.5, "").warnings.is_empty());
    assert!(told(schnell, 0.0, "").warnings.is_empty());
    let second = |true_cfg: f64, negative: Option<&str>| {
        let options = DiffusionOptions {
            steps: 2,
            true_cfg: Some(true_cfg),
            negative_prompt: negative.map(str::to_owned),
            ..Default::default()
        };
        load(whole(dev).path(), options).unwrap()
    };
    let loaded = second(2.0, Some(""));
    assert!(loaded.understood().warnings.is_empty());
    assert_eq!(loaded.settings()["true_cfg"], 2.0);
    let loaded = second(2.0, None);
    assert!(!loaded.settings().contains_key("true_cfg"));
    assert!(loaded.understood().warnings[0].contains("--true-cfg 2 changes nothing"));
    assert_eq!(second(1.0, Some("dark")).understood().warnings.len(), 2);
    let warnings = told(dev, 3.5, "dark").warnings;
    assert!(
        warnings[0]
            .contains("negative prompt changes nothing: this transformer is told the guidance")
    );
    let warnings = told(schnell, 3.5, "dark").warnings;
    assert!(warnings[0].contains("guidance 3.5 changes nothing"), "{warnings:?}");
    assert!(warnings[1].contains("negative prompt changes nothing"), "{warnings:?}");
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let options = DiffusionOptions { steps: 2, ..Default::default() };
    let refusal = |folder: &Path, options: DiffusionOptions| {
        format!("{:#}", load(folder, options).err().unwrap())
    };
    let with = |file: &str, change: Value| {
        let folder = whole("flux-dev-tiny");
        configure(&folder.path().join(file), &change);
        refusal(folder.path(), options.clone())
    };
    let transformer = "transformer/config.json";
    for (message, words) in [
        (with(transformer, json!({"axes_dims_rope": [2, 4, 4]})), "axes_dims_rope"),
        (with(transformer, json!({"axes_dims_rope": [12]})), "axes_dims_rope"),
        (with(transformer, json!({"patch_size": 2})), "patch_size"),
        (with(transformer, json!({"in_channels": 66})), "in_channels"),
        (
            with(transformer, json!({"_class_name": "ChromaTransformer2DModel"})),
            "FluxTransformer2DModel",
        ),
        (with(transformer, json!({"pooled_projection_dim": 9})), "text_embedder"),
        (with(SCHEDULER, json!({"use_karras_sigmas": true})), "use_karras_sigmas"),
        (with(SCHEDULER, json!({"shift_terminal": 0.02})), "shift_terminal"),
        (with(INDEX, json!({"scheduler": ["diffusers", "DDIMScheduler"]})), "DDIMScheduler"),
        (with(INDEX, json!({"_class_name": "StableDiffusion3Pipeline"})), "try --model sd3"),
        (with(INDEX, json!({"_class_name": "FluxKontextPipeline"})), "names a FluxKontextPipeline"),
        (
            with(INDEX, json!({"text_encoder_2": ["transformers", "UMT5EncoderModel"]})),
            "UMT5EncoderModel",
        ),
    ] {
        assert!(message.contains(words), "{message}");
    }
    // Transformers that are made for pictures beside the text.
    let widened = |channels: usize| {
        let folder = whole("flux-dev-tiny");
        let path = folder.path().join("transformer/diffusion_pytorch_model.safetensors");
        let mut tensors = read(&path);
        let zeros = Tensor::zeros((24, channels), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("x_embedder.weight".to_owned(), zeros);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let change = json!({"in_channels": channels, "out_channels": 64});
        configure(&folder.path().join(transformer), &change);
        refusal(folder.path(), options.clone())
    };
    assert!(widened(128).contains("made for a control picture"), "{}", widened(128));
    assert!(widened(384).contains("made for filling in pictures"), "{}", widened(384));
    let folder = whole("flux-dev-tiny");
    for (options, words) in [
        (DiffusionOptions { width: Some(15), ..options.clone() }, "from 16 to 8192"),
        (DiffusionOptions { height: Some(8208), ..options.clone() }, "from 16 to 8192"),
        (DiffusionOptions { steps: 1001, ..options.clone() }, "1001 steps"),
        (
            DiffusionOptions { scheduler: Some(SchedulerClass::Ddim), ..options.clone() },
            "leave out --scheduler",
        ),
    ] {
        let message = refusal(folder.path(), options);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn parts_are_put_together_with_another_autoencoder() {
    let name = "flux-dev-tiny/two";
    let (folder, case) = (whole(name), &cases::<Told>(GOLDEN)[name]);
    let mut parts = of_folder(folder.path());
    parts.vae = Some(folder.path().join("vae"));
    let made = picture(parts.assemble().unwrap().path(), case);
    assert!(apart(&made, &pictures(GOLDEN)[name]) <= TOLERANCE);
}

#[test]
fn the_number_of_tokens_and_the_cut_are_told() {
    let case = &cases::<Told>(GOLDEN)["flux-dev-tiny/long_prompt"];
    let told = |name: &str, prompt: &str| {
        let mut pipeline = load(whole(name).path(), case.options()).unwrap();
        let images = pipeline.generate(prompt, &[1]).unwrap();
        assert_eq!(images[0].pixels.dimensions(), (32, 32));
        (images[0].prompt_tokens.unwrap(), images[0].truncated.unwrap())
    };
    // With T5 the 77 tokens of CLIP cut nothing off.
    let middle = "a cat ".repeat(90);
    let (tokens, cut) = told("flux-dev-tiny", &middle);
    assert!(tokens > 256 && tokens <= 512 && !cut, "{tokens}");
    assert!(told("flux-schnell-tiny", &middle).1);
    assert!(told("flux-dev-tiny", &case.case.prompt).1);
}

/// Pictures of one call are those of calls of their own, within the rounding of a batch.
#[test]
fn a_picture_hardly_depends_on_its_batch() {
    let name = "flux-dev-tiny/own";
    let (folder, case) = (whole(name), &cases::<Told>(GOLDEN)[name]);
    let together = picture(folder.path(), case);
    for (image, &seed) in case.case.seeds.iter().enumerate() {
        let mut alone = case.clone();
        alone.case.seeds = vec![seed];
        let alone = picture(folder.path(), &alone);
        let error = apart(&alone.get(0).unwrap(), &together.get(image).unwrap());
        assert!(error <= TOLERANCE, "{error:e}");
    }
}

/// The transformer at its full width, against what `scripts/full_size_flux.py` left in the folder that
/// `DPG_BENCH_FULL_SIZE_FLUX` names.
#[test]
#[ignore = "needs 5 GB of weights that scripts/full_size_flux.py makes, and 6 GB of memory"]
fn full_size_flux_equals_diffusers() {
    let bounds = Bounds { relative: 1e-5, absolute: 1e-4 };
    let folder = std::env::var_os("DPG_BENCH_FULL_SIZE_FLUX").expect("names the folder");
    let folder = Path::new(&folder);
    let golden = read(&folder.join("transformer.safetensors"));
    let mut network =
        FluxTransformer::load(&folder.join("transformer"), DType::F32, &Device::Cpu).unwrap();
    for case in ["small", "odd"] {
        let part = |part: &str| golden[&format!("{case}.{part}")].clone();
        let told: Vec<f32> = part("told").to_vec1().unwrap();
        network.tell_guidance(f64::from(told[1]), &Device::Cpu).unwrap();
        let (latents, states, pooled) = (part("latents"), part("states"), part("pooled"));
        let ours = network.forward(&latents, f64::from(told[0]), &states, &pooled).unwrap();
        compare(case, &ours, &part("output"), bounds).unwrap();
    }
}
