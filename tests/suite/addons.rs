//! Single-file checkpoints, adapters and embeddings on the tiny checkpoint, against diffusers and PEFT
//! (fixtures/addons, made by make_addons.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
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
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    loras: Vec<(String, f64)>,
    embeddings: Vec<String>,
    ids: Option<Vec<u32>>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(fixture("addons/golden.json")).unwrap()).unwrap()
}

fn expected(name: &str) -> Tensor {
    read(&fixture("addons/pictures.safetensors"))[name].clone()
}

fn tiny() -> CheckpointParts {
    of_folder(&fixture("sd15-tiny"))
}

fn addon(name: &str) -> PathBuf {
    fixture(&format!("addons/{name}.safetensors"))
}

fn lora(file: PathBuf, weight: f64) -> CheckpointParts {
    CheckpointParts { loras: vec![LoraFile { file, weight }], ..tiny() }
}

/// The parts of a golden case.
fn parts(case: &Case) -> CheckpointParts {
    CheckpointParts {
        loras: case
            .loras
            .iter()
            .map(|(name, weight)| LoraFile { file: addon(name), weight: *weight })
            .collect(),
        embeddings: case
            .embeddings
            .iter()
            .map(|name| addon(name).to_str().unwrap().parse().unwrap())
            .collect(),
        ..tiny()
    }
}

fn load(parts: &CheckpointParts) -> anyhow::Result<(Sd15, Assembled)> {
    tiny_parts::load(parts, &golden().settings)
}

fn refusal(parts: &CheckpointParts) -> String {
    tiny_parts::refusal::<Sd15>(parts, &golden().settings)
}

fn picture(parts: &CheckpointParts, prompt: &str) -> Tensor {
    tiny_parts::picture::<Sd15>(parts, &golden().settings, prompt)
}

#[test]
fn adapters_and_embeddings_make_the_pictures_of_diffusers() {
    let golden = golden();
    for (name, case) in &golden.cases {
        let error = apart(&picture(&parts(case), &case.prompt), &expected(name));
        eprintln!("{name}: largest error {error:.2e}");
        assert!(error <= TOLERANCE, "{name}: {error:e}");
        let plain = apart(&expected(name), &expected("plain"));
        assert!(plain > 0.1, "{name} is hardly another picture: {plain:e}");
    }
    assert_eq!(golden.cases.len(), 7);
    // Put together from the same folder, nothing changes at all.
    let put_together = picture(&tiny(), &golden.plain);
    assert!(apart(&put_together, &expected("plain")) <= TOLERANCE);
}

/// The tolerance must refuse each near miss.
#[test]
fn near_misses_of_adapters_are_told_apart() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let without = |name: &str, drop: &dyn Fn(&str) -> bool| {
        let mut tensors = read(&addon("kohya"));
        let count = tensors.len();
        tensors.retain(|key, _| !drop(key));
        assert!(tensors.len() < count);
        let path = folder.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&tensors, &path).unwrap();
        path
    };
    let kohya = "lora_kohya";
    let misses = [
        ("alpha ignored", lora(without("alpha", &|key| key.ends_with(".alpha")), 1.0)),
        ("no text encoder", lora(without("text", &|key| key.starts_with("lora_te")), 1.0)),
        ("no convolutions", lora(without("conv", &|key| key.contains("_conv1")), 1.0)),
        (
            "one layer less",
            lora(without("one", &|key| key.contains("mid_block_attentions_0_proj_in")), 1.0),
        ),
        ("weight 0.99", lora(addon("kohya"), 0.99)),
    ];
    for (what, parts) in misses {
        let error = apart(&picture(&parts, &golden.plain), &expected(kohya));
        eprintln!("{what}: {error:.2e}");
        assert!(error > 10.0 * TOLERANCE, "{what}: {error:e}");
    }
}

#[test]
fn taught_words_become_the_ids_of_diffusers() {
    for (name, case) in golden().cases {
        let Some(ids) = &case.ids else { continue };
        let folder = parts(&case).assemble().unwrap();
        let tokenizer = ClipTokenizer::load(&folder.path().join("tokenizer")).unwrap();
        assert_eq!(&tokenizer.encode(&case.prompt).unwrap().ids, ids, "{name}");
        // Without its other vectors the word would be one token.
        let words = folder.path().join("tokenizer/embeddings.json");
        let text = std::fs::read_to_string(&words).unwrap();
        if text.contains("\"vectors\": 3") {
            std::fs::write(&words, text.replace("\"vectors\": 3", "\"vectors\": 1")).unwrap();
            let tokenizer = ClipTokenizer::load(&folder.path().join("tokenizer")).unwrap();
            assert_ne!(&tokenizer.encode(&case.prompt).unwrap().ids, ids, "{name}");
        }
    }
}

/// The adapter of the goldens in the other spellings of the same names.
#[test]
fn spellings_of_adapters_mean_the_same() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let respelled = |name: &str, file: &str, spell: &dyn Fn(&str) -> String| {
        let tensors: Tensors =
            read(&addon(file)).into_iter().map(|(key, tensor)| (spell(&key), tensor)).collect();
        let path = folder.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&tensors, &path).unwrap();
        lora(path, 1.0)
    };
    let modules = golden.names["unet"].iter().filter_map(|(own, stored)| {
        let stored = stored.strip_prefix("model.diffusion_model.").unwrap();
        let spelled = |name: &str| name.strip_suffix(".weight").map(|name| name.replace('.', "_"));
        Some((spelled(own)?, spelled(stored)?))
    });
    let modules: BTreeMap<String, String> = modules.collect();
    let latent = respelled("latent", "kohya", &|key| {
        let (module, end) = key.split_once('.').unwrap();
        match module.strip_prefix("lora_unet_").map(|module| &modules[module]) {
            Some(stored) => format!("lora_unet_{stored}.{end}"),
            None => key.replace("lora_te_", "lora_te1_"),
        }
    });
    let older = respelled("older", "peft", &|key| {
        let key = key.replace(".lora_A.weight", "_lora.down.weight");
        let key = key.replace(".lora_B.weight", "_lora.up.weight");
        let key =
            key.replace(".attn1.", ".attn1.processor.").replace("to_out.0_lora", "to_out_lora");
        let key = key.replace(".q_proj_lora.", ".to_q_lora.");
        key.replace(".fc1_lora.", ".fc1.lora_linear_layer.")
    });
    let plain = respelled("plain", "peft", &|key| {
        key.replace(".lora_A.weight", ".lora.down.weight")
            .replace(".lora_B.weight", ".lora.up.weight")
    });
    for (what, parts, case) in [
        ("latent", latent, "lora_kohya"),
        ("older", older, "lora_peft"),
        ("plain", plain, "lora_peft"),
    ] {
        let error = apart(&picture(&parts, &golden.plain), &expected(case));
        assert!(error <= TOLERANCE, "{what}: {error:e}");
    }
}

/// The tiny checkpoint as one file in the latent-diffusion layout, changed by `change`.
pub fn single_file(folder: &Path, change: impl Fn(&mut Tensors)) -> CheckpointParts {
    let golden = golden();
    let mut tensors = Tensors::new();
    for (component, stem) in [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ] {
        let own = read(&fixture(&format!("sd15-tiny/{component}/{stem}.safetensors")));
        for (name, tensor) in own {
            let stored = &golden.names[component][&name];
            let tensor = match tensor.dims() {
                [rows, columns] if stored.contains(".mid.attn_1.") => {
                    tensor.reshape((*rows, *columns, 1, 1)).unwrap()
                }
                _ => tensor,
            };
            tensors.insert(stored.clone(), tensor);
        }
    }
    // What such files hold besides.
    let junk = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    for name in ["betas", "model_ema.decay", "model_ema.diffusion_modelout0bias"] {
        tensors.insert(name.to_owned(), junk.clone());
    }
    change(&mut tensors);
    let path = folder.join("single.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    CheckpointParts { checkpoint: path, base: Some(fixture("sd15-tiny")), ..Default::default() }
}

#[test]
fn a_single_file_makes_the_pictures_of_its_folder() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let of_folder = picture(&tiny(), &golden.plain);
    let parts = single_file(folder.path(), |_| {});
    assert_eq!(apart(&picture(&parts, &golden.plain), &of_folder), 0.0);
    // An adapter on top of it is the one of the golden.
    let with_lora = CheckpointParts { loras: lora(addon("kohya"), 1.0).loras, ..parts.clone() };
    let error = apart(&picture(&with_lora, &golden.plain), &expected("lora_kohya"));
    assert!(error <= TOLERANCE, "{error:e}");
    // Older files lack `text_model.`.
    let older = single_file(folder.path(), |tensors| {
        let old = std::mem::take(tensors);
        tensors.extend(old.into_iter().map(|(name, t)| (name.replace("text_model.", ""), t)));
    });
    assert_eq!(apart(&picture(&older, &golden.plain), &of_folder), 0.0);
    // Two tensors exchanged are another picture.
    let swapped = single_file(folder.path(), |tensors| {
        let at = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.";
        let [query, key] = ["to_q.weight", "to_k.weight"].map(|name| format!("{at}{name}"));
        let (q, k) = (tensors[&query].clone(), tensors[&key].clone());
        tensors.insert(query, k);
        tensors.insert(key, q);
    });
    assert!(apart(&picture(&swapped, &golden.plain), &of_folder) > 10.0 * TOLERANCE);
}

#[test]
fn another_autoencoder_and_vocabulary_take_the_place_of_their_own() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let of_folder = picture(&tiny(), &golden.plain);
    let with_vae = |vae: PathBuf| CheckpointParts { vae: Some(vae), ..tiny() };
    let same = [
        with_vae(fixture("sd15-tiny/vae")),
        with_vae(fixture("sd15-tiny/vae/diffusion_pytorch_model.safetensors")),
        with_vae(single_file(folder.path(), |_| {}).checkpoint),
        CheckpointParts { tokenizer: Some(fixture("sd15-tiny/tokenizer")), ..tiny() },
    ];
    for parts in same {
        assert_eq!(apart(&picture(&parts, &golden.plain), &of_folder), 0.0);
    }
    let brighter = folder.path().join("vae.safetensors");
    let mut tensors = read(&fixture("sd15-tiny/vae/diffusion_pytorch_model.safetensors"));
    let bias = tensors["decoder.conv_out.bias"].affine(1.0, 0.1).unwrap();
    tensors.insert("decoder.conv_out.bias".to_owned(), bias);
    candle_core::safetensors::save(&tensors, &brighter).unwrap();
    assert!(apart(&picture(&with_vae(brighter), &golden.plain), &of_folder) > 0.01);
}

#[test]
fn the_record_tells_what_was_added() {
    let digest = |parts: &CheckpointParts| load(parts).unwrap().0.settings()["weights"].clone();
    let plain = digest(&tiny());
    let own =
        Sd15::load(&fixture("sd15-tiny"), DType::F32, &Device::Cpu, DiffusionOptions::default());
    assert_eq!(plain, own.unwrap().settings()["weights"]);
    let strong = digest(&lora(addon("kohya"), 1.0));
    assert_ne!(strong["unet"], plain["unet"]);
    assert_eq!(strong["vae"], plain["vae"]);
    assert_ne!(strong, digest(&lora(addon("kohya"), 0.5)));
    assert_eq!(strong, digest(&lora(addon("kohya"), 1.0)));
    let mut renamed = parts(&golden().cases["embedding_single"]);
    let word = digest(&renamed);
    renamed.embeddings[0].token = Some("other".to_owned());
    assert_ne!(word, digest(&renamed));
}

#[test]
fn unusable_parts_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, tensors: &[(&str, &[usize])]| {
        let tensors: Tensors = tensors
            .iter()
            .map(|(key, shape)| {
                ((*key).to_owned(), Tensor::ones(*shape, DType::F32, &Device::Cpu).unwrap())
            })
            .collect();
        let path = folder.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&tensors, &path).unwrap();
        path
    };
    let module = "lora_unet_mid_block_attentions_0_proj_in";
    let (up, down) = (format!("{module}.lora_up.weight"), format!("{module}.lora_down.weight"));
    let embedding = |path: PathBuf| CheckpointParts {
        embeddings: vec![path.to_str().unwrap().parse().unwrap()],
        ..tiny()
    };
    let single = |path: PathBuf| CheckpointParts { checkpoint: path, ..Default::default() };
    let based =
        |path: PathBuf| CheckpointParts { base: Some(fixture("sd15-tiny")), ..single(path) };
    let cases = [
        (lora(write("half", &[(&up, &[24, 2, 1, 1])]), 1.0), "lacks one of its two factors"),
        (lora(write("hada", &[(&format!("{module}.hada_w1_a"), &[2, 2])]), 1.0), "not supported"),
        (
            lora(write("odd", &[(&up, &[7, 2, 1, 1]), (&down, &[2, 9, 1, 1])]), 1.0),
            "another base model",
        ),
        (
            lora(
                write(
                    "stranger",
                    &[
                        ("lora_unet_x_y.lora_up.weight", &[2, 2]),
                        ("lora_unet_x_y.lora_down.weight", &[2, 2]),
                    ],
                ),
                1.0,
            ),
            "lora_unet_x_y",
        ),
        (embedding(write("wide", &[("<w>", &[2, 768])])), "768"),
        (embedding(write("pair", &[("clip_l", &[2, 24]), ("clip_g", &[2, 40])])), "2 tensors"),
        (embedding(write("known", &[("cat</w>", &[1, 24])])), "vocabulary already"),
        (single(write("lonely", &[("betas", &[1])])), "--tokenizer DIR"),
        (
            based(write("xl", &[("conditioner.embedders.0.x", &[1])])),
            "of Stable Diffusion XL, and --base",
        ),
        (
            based(write("bare", &[("transformer.transformer_blocks.0.x", &[1])])),
            "the names of transformer/diffusion_pytorch_model",
        ),
        (based(write("of_unet", &[("down_blocks.0.x", &[1])])), "the names of unet/"),
        (based(write("v2", &[("cond_stage_model.model.x", &[1])])), "model.diffusion_model."),
        (based(write("none", &[("betas", &[1])])), "model.diffusion_model."),
        (based(fixture("sd15-tiny")), "--base"),
        (single("no/such/thing".into()), "no/such/thing"),
    ];
    for (parts, word) in cases {
        let message = refusal(&parts);
        assert!(message.contains(word), "{message}\nlacks {word}");
    }
}
