//! SDXL's single-file checkpoints, adapters and embeddings on the tiny checkpoint, against diffusers and
//! PEFT (fixtures/addons-sdxl, made by make_addons_sdxl.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::checkpoint::scheduler_config::SchedulerConfig;
use dpg_bench::checkpoint::scheduler_config::noise_schedule::NoiseSchedule;
use dpg_bench::generate::pipelines::ella::EllaTokens;
use dpg_bench::generate::pipelines::ella::{Ella, EllaBase, EllaFiles, EllaOptions};
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sdxl::Sdxl;
use dpg_bench::text::clip::ClipTokenizer;
use serde::Deserialize;

use crate::tiny_checkpoint::{Tensors, fixture, read};
use crate::tiny_parts::{self, Settings, TOLERANCE, apart, of_folder};

#[derive(Deserialize)]
struct Golden {
    settings: Settings,
    plain: String,
    cases: BTreeMap<String, Case>,
    /// Per component: names of diffusers with those of the latent-diffusion layout.
    names: BTreeMap<String, BTreeMap<String, String>>,
    /// Tensors that hold three of the second text encoder.
    packed: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    loras: Vec<(String, f64)>,
    embeddings: Vec<String>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(fixture("addons-sdxl/golden.json")).unwrap()).unwrap()
}

fn expected(name: &str) -> Tensor {
    read(&fixture("addons-sdxl/pictures.safetensors"))[name].clone()
}

fn addon(name: &str) -> PathBuf {
    fixture(&format!("addons-sdxl/{name}.safetensors"))
}

fn tiny() -> CheckpointParts {
    of_folder(&fixture("sdxl-tiny"))
}

fn lora(file: PathBuf, weight: f64) -> CheckpointParts {
    CheckpointParts { loras: vec![LoraFile { file, weight }], ..tiny() }
}

fn refusal(parts: &CheckpointParts) -> String {
    tiny_parts::refusal::<Sdxl>(parts, &golden().settings)
}

fn picture(parts: &CheckpointParts, prompt: &str) -> Tensor {
    tiny_parts::picture::<Sdxl>(parts, &golden().settings, prompt)
}

/// The tiny checkpoint as one file in the latent-diffusion layout, changed by `change`.
pub fn single_file(folder: &Path, change: impl Fn(&mut Tensors)) -> CheckpointParts {
    let golden = golden();
    let mut tensors = Tensors::new();
    for (component, stem) in [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
        ("text_encoder_2", "model"),
    ] {
        let own = read(&fixture(&format!("sdxl-tiny/{component}/{stem}.safetensors")));
        for (name, stored) in &golden.names[component] {
            let tensor = own[name].clone();
            let tensor = match tensor.dims() {
                [rows, columns] if stored.contains(".mid.attn_1.") => {
                    tensor.reshape((*rows, *columns, 1, 1)).unwrap()
                }
                _ if stored.ends_with("text_projection") => tensor.t().unwrap(),
                _ => tensor,
            };
            tensors.insert(stored.clone(), tensor.contiguous().unwrap());
        }
        if component == "text_encoder_2" {
            for (stored, parts) in &golden.packed {
                let parts: Vec<&Tensor> = parts.iter().map(|part| &own[part]).collect();
                tensors.insert(stored.clone(), Tensor::cat(&parts, 0).unwrap());
            }
        }
    }
    // What such files hold besides.
    let junk = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    for name in ["conditioner.embedders.1.model.logit_scale", "model_ema.decay"] {
        tensors.insert(name.to_owned(), junk.clone());
    }
    tensors.insert("denoiser.sigmas".to_owned(), sigmas(false));
    change(&mut tensors);
    let path = folder.join("single.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    CheckpointParts { checkpoint: path, base: Some(fixture("sdxl-tiny")), ..Default::default() }
}

/// The sigmas of SDXL's training schedule, descending.
pub fn sigmas(rescale_betas_zero_snr: bool) -> Tensor {
    let file = fixture("sdxl-tiny/scheduler/scheduler_config.json");
    let config = SchedulerConfig::from_json(&std::fs::read_to_string(file).unwrap(), None);
    let config = SchedulerConfig { rescale_betas_zero_snr, ..config.unwrap() };
    let schedule = NoiseSchedule::new(&config);
    let sigmas = (0..1000).rev().map(|step| schedule.sigma(f64::from(step)) as f32);
    Tensor::from_vec(sigmas.collect::<Vec<_>>(), 1000, &Device::Cpu).unwrap()
}

/// What is done to a checkpoint's tensors.
type Change<'c> = &'c dyn Fn(&mut Tensors);

const SECOND: &str = "conditioner.embedders.1.model.";

#[test]
fn a_single_file_makes_the_pictures_of_its_folder() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let of_folder = picture(&tiny(), &golden.plain);
    assert!(apart(&of_folder, &expected("plain")) <= TOLERANCE);
    let parts = single_file(folder.path(), |_| {});
    assert_eq!(apart(&picture(&parts, &golden.plain), &of_folder), 0.0);
    // Near misses in the tensors that are stored otherwise, and in the added conditioning.
    let swap = |tensors: &mut Tensors, parts: [usize; 3]| {
        let name = format!("{SECOND}transformer.resblocks.1.attn.in_proj_weight");
        let thirds = tensors[&name].chunk(3, 0).unwrap();
        tensors.insert(name, Tensor::cat(&parts.map(|part| thirds[part].clone()), 0).unwrap());
    };
    let misses: [(&str, Change<'_>); 4] = [
        ("query and key exchanged", &|tensors| swap(tensors, [1, 0, 2])),
        ("value and key exchanged", &|tensors| swap(tensors, [0, 2, 1])),
        ("projection turned", &|tensors| {
            let name = format!("{SECOND}text_projection");
            let shape = tensors[&name].shape().clone();
            let turned = tensors[&name].t().unwrap().contiguous().unwrap().reshape(shape).unwrap();
            tensors.insert(name, turned);
        }),
        ("label_emb.0.2 doubled", &|tensors| {
            let name = "model.diffusion_model.label_emb.0.2.weight";
            let twice = tensors[name].affine(2.0, 0.0).unwrap();
            tensors.insert(name.to_owned(), twice);
        }),
    ];
    for (what, change) in misses {
        let error = apart(&picture(&single_file(folder.path(), change), &golden.plain), &of_folder);
        eprintln!("{what}: {error:.2e}");
        assert!(error > 10.0 * TOLERANCE, "{what}: {error:e}");
    }
}

#[test]
fn unfitting_single_files_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let add = |name: &'static str| {
        move |tensors: &mut Tensors| {
            let one = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
            tensors.insert(name.to_owned(), one);
        }
    };
    let without =
        |name: &'static str| move |tensors: &mut Tensors| assert!(tensors.remove(name).is_some());
    let strange = [
        "model.diffusion_model.strange.weight",
        // One block deeper than the configuration says.
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.norm1.weight",
        "model.diffusion_model.middle_block.1.transformer_blocks.2.norm1.weight",
        "model.diffusion_model.output_blocks.0.1.transformer_blocks.2.norm1.weight",
        // Attention where the configuration has none.
        "model.diffusion_model.input_blocks.1.1.norm.weight",
        "first_stage_model.decoder.up.0.block.2.norm1.weight",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.3.layer_norm1.weight",
        "conditioner.embedders.1.model.transformer.resblocks.3.ln_1.weight",
        "conditioner.embedders.1.model.strange",
    ];
    for name in strange {
        let message = refusal(&single_file(folder.path(), add(name)));
        assert!(message.contains(name) && message.contains("--base"), "{name}: {message}");
    }
    let missing = [
        ("model.diffusion_model.label_emb.0.0.weight", "add_embedding.linear_1.weight"),
        (
            "model.diffusion_model.input_blocks.8.1.transformer_blocks.1.norm3.bias",
            "down_blocks.2.attentions.1.transformer_blocks.1.norm3.bias",
        ),
        (
            "conditioner.embedders.1.model.transformer.resblocks.2.attn.in_proj_bias",
            "text_model.encoder.layers.2.self_attn.",
        ),
        ("conditioner.embedders.1.model.text_projection", "text_projection.weight"),
    ];
    for (name, own) in missing {
        let message = refusal(&single_file(folder.path(), without(name)));
        assert!(message.contains(own), "{name}: {message}");
    }
    // A packed tensor that is not three of a size, and bases of other models.
    let odd = single_file(folder.path(), |tensors| {
        let name = format!("{SECOND}transformer.resblocks.0.attn.in_proj_bias");
        let rows = tensors[&name].narrow(0, 0, 71).unwrap();
        tensors.insert(name, rows);
    });
    assert!(refusal(&odd).contains("71 rows"), "{}", refusal(&odd));
    let parts = single_file(folder.path(), |_| {});
    let other = CheckpointParts { base: Some(fixture("sd15-tiny")), ..parts.clone() };
    let both =
        "of Stable Diffusion XL, and --base holds configurations of a StableDiffusionPipeline";
    assert!(refusal(&other).contains(both), "{}", refusal(&other));
    let none = CheckpointParts { base: None, ..parts };
    assert!(refusal(&none).contains("--tokenizer"), "{}", refusal(&none));
}

/// `ella-sdxl` takes both of CLIP's encoders, the UNet and the autoencoder from the file.
#[test]
fn ella_runs_over_a_single_file() {
    let folder = tempfile::tempdir().unwrap();
    let picture = |checkpoint: &Path| {
        let files = EllaFiles {
            checkpoint: checkpoint.to_path_buf(),
            connector: fixture("ella-tiny/ella-sdxl.safetensors"),
            text_encoder: fixture("ella-tiny/text_encoder"),
        };
        let pictures =
            DiffusionOptions { steps: 3, width: Some(64), height: Some(64), ..Default::default() };
        let options =
            EllaOptions { reading: EllaTokens::ClipAndElla.into(), low_memory: false, pictures };
        let mut ella =
            Ella::load(EllaBase::Sdxl, files, DType::F32, &Device::Cpu, options).unwrap();
        ella.pictures(&golden().plain, &[21]).unwrap().0
    };
    let of_folder = picture(&fixture("sdxl-tiny"));
    let assembled = single_file(folder.path(), |_| {}).assemble().unwrap();
    assert_eq!(apart(&picture(assembled.path()), &of_folder), 0.0);
    let other = single_file(folder.path(), |tensors| {
        let name = format!("{SECOND}ln_final.bias");
        let moved = tensors[&name].affine(1.0, 1.0).unwrap();
        tensors.insert(name, moved);
    });
    let other = other.assemble().unwrap();
    assert!(apart(&picture(other.path()), &of_folder) > 10.0 * TOLERANCE);
}

/// The parts of a golden case, put onto `parts`.
fn with(case: &Case, parts: CheckpointParts) -> CheckpointParts {
    let lora = |(name, weight): &(String, f64)| LoraFile { file: addon(name), weight: *weight };
    let embedding = |name: &String| addon(name).to_str().unwrap().parse().unwrap();
    CheckpointParts {
        loras: case.loras.iter().map(lora).collect(),
        embeddings: case.embeddings.iter().map(embedding).collect(),
        ..parts
    }
}

#[test]
fn adapters_and_embeddings_make_the_pictures_of_diffusers() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let single = single_file(folder.path(), |_| {});
    for (name, case) in &golden.cases {
        let of_folder = picture(&with(case, tiny()), &case.prompt);
        let error = apart(&of_folder, &expected(name));
        eprintln!("{name}: largest error {error:.2e}");
        assert!(error <= TOLERANCE, "{name}: {error:e}");
        let of_file = picture(&with(case, single.clone()), &case.prompt);
        assert_eq!(apart(&of_file, &of_folder), 0.0, "{name} on a single file");
        let without = picture(&tiny(), &case.prompt);
        assert!(apart(&without, &expected(name)) > 0.1, "{name} changes hardly anything");
    }
    assert_eq!(golden.cases.len(), 4);
}

/// The tolerance must refuse each near miss.
#[test]
fn near_misses_of_addons_are_told_apart() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let changed = |name: &str, change: &dyn Fn(&mut Tensors)| {
        let mut tensors = read(&addon(name));
        change(&mut tensors);
        let path = folder.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&tensors, &path).unwrap();
        path
    };
    let without = |drop: &'static str| {
        let path = changed("kohya", &|tensors| {
            let count = tensors.len();
            tensors.retain(|key, _| !key.contains(drop));
            assert!(tensors.len() < count, "{drop}");
        });
        apart(&picture(&lora(path, 1.0), &golden.plain), &expected("lora"))
    };
    let case = &golden.cases["embedding_several"];
    let with_rows = |change: &dyn Fn(&mut Tensors)| {
        let embedding = changed("kite", change).to_str().unwrap().parse().unwrap();
        let parts = CheckpointParts { embeddings: vec![embedding], ..tiny() };
        apart(&picture(&parts, &case.prompt), &expected("embedding_several"))
    };
    let zeroed = |key: &'static str| {
        with_rows(&move |tensors| {
            let zeros = tensors[key].zeros_like().unwrap();
            tensors.insert(key.to_owned(), zeros);
        })
    };
    let misses = [
        ("alpha ignored", without(".alpha")),
        ("no first text encoder", without("lora_te1_")),
        ("no second text encoder", without("lora_te2_")),
        ("one module less", without("middle_block_1_transformer_blocks_1_attn2_to_k")),
        ("no first rows", zeroed("clip_l")),
        ("no second rows", zeroed("clip_g")),
    ];
    for (what, error) in misses {
        eprintln!("{what}: {error:.2e}");
        assert!(error > 10.0 * TOLERANCE, "{what}: {error:e}");
    }
    // The names that older training scripts gave.
    let older = with_rows(&|tensors| {
        for (name, older) in [("clip_l", "text_encoders_0"), ("clip_g", "text_encoders_1")] {
            let rows = tensors.remove(name).unwrap();
            tensors.insert(older.to_owned(), rows);
        }
    });
    assert!(older <= TOLERANCE, "{older:e}");
    let bad = |change: &dyn Fn(&mut Tensors)| {
        let embedding = changed("kite", change).to_str().unwrap().parse().unwrap();
        refusal(&CheckpointParts { embeddings: vec![embedding], ..tiny() })
    };
    let half = bad(&|tensors| assert!(tensors.remove("clip_g").is_some()));
    assert!(half.contains("1 tensors (`clip_l`)"), "{half}");
    assert!(half.contains("`clip_l` and `clip_g`"), "{half}");
    let uneven = bad(&|tensors| {
        let fewer = tensors["clip_g"].narrow(0, 0, 2).unwrap();
        tensors.insert("clip_g".to_owned(), fewer);
    });
    assert!(uneven.contains("[3, 2] vectors"), "{uneven}");
    let narrow = bad(&|tensors| {
        let swapped = tensors["clip_l"].clone();
        tensors.insert("clip_g".to_owned(), swapped);
    });
    assert!(narrow.contains("24 wide"), "{narrow}");
}

/// Without a base the published configurations stand around the file, and the second vocabulary is the
/// first one with its own padding.
#[test]
fn the_published_configurations_stand_in_for_a_base() {
    let folder = tempfile::tempdir().unwrap();
    let parts = single_file(folder.path(), |_| {});
    let parts =
        CheckpointParts { base: None, tokenizer: Some(fixture("sdxl-tiny/tokenizer")), ..parts };
    // The tiny networks are narrower than the published ones.
    let message = refusal(&parts);
    assert!(message.contains("[320]"), "{message}");
    let known: BTreeMap<&str, &str> =
        dpg_bench::checkpoint::known_configs::SDXL.iter().copied().collect();
    let assembled = parts.assemble().unwrap();
    let second = assembled.path().join("tokenizer_2");
    let ids =
        |folder: &Path| ClipTokenizer::load(folder).unwrap().encode("wow! a cat!!").unwrap().ids;
    assert_eq!(ids(&second), ids(&fixture("sdxl-tiny/tokenizer_2")));
    assert_ne!(ids(&second), ids(&fixture("sdxl-tiny/tokenizer")));
    for (path, text) in known {
        let config: serde_json::Value = serde_json::from_str(text).unwrap();
        let own = std::fs::read(fixture("sdxl-tiny").join(path)).unwrap();
        let own: serde_json::Value = serde_json::from_slice(&own).unwrap();
        for key in config.as_object().unwrap().keys() {
            assert!(own.get(key).is_some(), "{path}: `{key}` is no key of diffusers");
        }
        // What does not depend on the size of the networks is that of the tiny ones.
        for key in ["hidden_act", "force_upcast", "scaling_factor", "beta_schedule"] {
            assert_eq!(config.get(key), own.get(key), "{path}: {key}");
        }
    }
}
