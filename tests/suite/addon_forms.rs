//! The forms in which embeddings, adapters and single files come, on the tiny checkpoint, against diffusers and PEFT
//! (fixtures/addon-forms, made by make_addon_forms.py). Words of the same goldens are in `added_words`, eight-bit weights
//! in `eight_bits`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::generate::pipelines::sd15::Sd15;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::added_words::write_tokenizer;
use crate::addons::single_file;
use crate::tiny_checkpoint::{configure, copy_of, edit, fixture, read};
use crate::tiny_parts::{self, Pipeline, Settings, TOLERANCE, apart, of_folder};

#[derive(Deserialize)]
pub struct Golden {
    pub settings: Settings,
    pub prompt: String,
    pub prompts: BTreeMap<String, String>,
    pub words: BTreeMap<String, Words>,
}

/// A tokenizer's folder and what transformers makes of texts with it.
#[derive(Deserialize)]
pub struct Words {
    /// Small files; null takes one of sd15-tiny's away.
    pub files: BTreeMap<String, Value>,
    pub size: usize,
    pub texts: Vec<Text>,
}

#[derive(Deserialize)]
pub struct Text {
    pub text: String,
    pub ids: Vec<u32>,
}

pub fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(fixture("addon-forms/golden.json")).unwrap()).unwrap()
}

pub fn expected(name: &str) -> Tensor {
    read(&fixture("addon-forms/pictures.safetensors"))[name].clone()
}

pub fn form(name: &str) -> PathBuf {
    fixture(&format!("addon-forms/{name}"))
}

pub fn tiny() -> CheckpointParts {
    of_folder(&fixture("sd15-tiny"))
}

pub fn lora(file: &Path) -> CheckpointParts {
    CheckpointParts { loras: vec![LoraFile { file: file.into(), weight: 1.0 }], ..tiny() }
}

pub fn embedding(spelled: &str) -> CheckpointParts {
    CheckpointParts { embeddings: vec![spelled.parse().unwrap()], ..tiny() }
}

pub fn open(folder: &Path) -> anyhow::Result<Sd15> {
    Sd15::open(folder, golden().settings.options())
}

pub fn load(parts: &CheckpointParts) -> anyhow::Result<(Sd15, Assembled)> {
    tiny_parts::load(parts, &golden().settings)
}

pub fn refusal(parts: &CheckpointParts) -> String {
    tiny_parts::refusal::<Sd15>(parts, &golden().settings)
}

pub fn picture(parts: &CheckpointParts, prompt: &str) -> Tensor {
    tiny_parts::picture::<Sd15>(parts, &golden().settings, prompt)
}

/// That the parts make the picture of a golden, which is not the plain one.
pub fn makes(case: &str, parts: &CheckpointParts) {
    let golden = golden();
    let prompt = golden.prompts.get(case).unwrap_or(&golden.prompt);
    let error = apart(&picture(parts, prompt), &expected(case));
    eprintln!("{case}: largest error {error:.2e}");
    assert!(error <= TOLERANCE, "{case}: {error:e}");
    assert!(apart(&expected(case), &expected("plain")) > 0.05, "{case} is hardly another picture");
}

#[test]
fn embeddings_come_as_pickles_and_under_common_names() {
    let spelled = |name: &str| form(name).to_str().unwrap().to_owned();
    for (case, name, word) in [
        ("web_ui", "web_ui.pt", "webword"),
        ("learned_embeds", "learned_embeds.bin", "<learned>"),
        ("trained", "trained.safetensors", "trained"),
    ] {
        let parts = embedding(&spelled(name));
        makes(case, &parts);
        let assembled = parts.assemble().unwrap();
        assert_eq!(assembled.words[0].token, word);
        let prompts = ["a plain cat", "a word"];
        assert_eq!(assembled.words_in_none(prompts).unwrap(), [word]);
        let heard = golden().prompts[case].to_uppercase();
        assert_eq!(assembled.words_in_none([prompts[0], &heard]).unwrap(), [""; 0]);
        // What CLIP does not read does not count.
        let late = format!("{}{word}", "cat ".repeat(80));
        assert_eq!(assembled.words_in_none([late.as_str()]).unwrap(), [word]);
    }
    // The folder that a training script leaves.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(form("learned_embeds.bin"), folder.path().join("learned_embeds.bin")).unwrap();
    std::fs::write(folder.path().join("optimizer.bin"), "").unwrap();
    makes("learned_embeds", &embedding(folder.path().to_str().unwrap()));
    let named = embedding(&format!("{}:other", spelled("web_ui.pt")));
    let error = apart(&picture(&named, "a small cat in the style of other"), &expected("web_ui"));
    assert!(error <= TOLERANCE, "{error:e}");
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(&embedding(empty.path().to_str().unwrap())).contains("no learned_embeds"));
}

#[test]
fn adapters_come_as_diffusers_and_peft_save_them() {
    makes("save_lora_adapter", &lora(&form("unet.safetensors")));
    makes("rslora", &lora(&form("rslora.safetensors")));
    makes("peft", &lora(&form("peft")));
    makes("attention_processors", &lora(&form("pytorch_lora_weights.bin")));
    let understood = lora(&form("peft")).assemble().unwrap().understood.to_string();
    let counts = "peft, weight 1: changes 40 tensors (text_encoder 4, unet 36)";
    assert!(understood.contains(counts), "{understood}");
    // A folder as diffusers names its files.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(form("unet.safetensors"), folder.path().join("pytorch_lora_weights.safetensors"))
        .unwrap();
    std::fs::write(folder.path().join("another.safetensors"), "").unwrap();
    makes("save_lora_adapter", &lora(folder.path()));
    // Without the alpha of its header it is another adapter.
    let bare = folder.path().join("bare.safetensors");
    candle_core::safetensors::save(&read(&form("unet.safetensors")), &bare).unwrap();
    let without = picture(&lora(&bare), &golden().prompt);
    assert!(apart(&without, &expected("save_lora_adapter")) > 10.0 * TOLERANCE);
    // The adapter's own name in the tensors' names, as PEFT has it in memory; diffusers reads it alike.
    let respelled = |ending: &dyn Fn(usize) -> &'static str| {
        let tensors = read(&bare);
        let mut keys: Vec<&String> = tensors.keys().collect();
        keys.sort();
        let named = keys.into_iter().enumerate().map(|(number, key)| {
            (key.replace(".weight", ending(number / 2)), tensors[key].clone())
        });
        let path = folder.path().join("named.safetensors");
        candle_core::safetensors::save(&named.collect(), &path).unwrap();
        lora(&path)
    };
    let named = picture(&respelled(&|_| ".default_0.weight"), &golden().prompt);
    assert_eq!(apart(&named, &without), 0.0);
    // Two spellings in one file, as `convert_state_dict_to_diffusers` writes attention beside other layers: diffusers reads
    // those with lora_A alone (findings/diffusers-lora-of-two-spellings-loses-layers.sh).
    let mixed = folder.path().join("mixed.safetensors");
    let attention =
        |name: &str| ["to_q", "to_k", "to_v", "to_out.0"].iter().any(|end| name.contains(end));
    let tensors = read(&bare);
    let renamed = tensors.iter().filter(|(name, _)| attention(name)).count() / 2;
    assert!(renamed > 0 && renamed < tensors.len() / 2);
    let respell = |name: &str| match attention(name) {
        true => name.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."),
        false => name.to_owned(),
    };
    let tensors = tensors.iter().map(|(name, tensor)| (respell(name), tensor.clone())).collect();
    candle_core::safetensors::save(&tensors, &mixed).unwrap();
    assert_eq!(apart(&picture(&lora(&mixed), &golden().prompt), &without), 0.0);
    let told = |file: &Path| lora(file).assemble().unwrap().understood.warnings;
    let warning = told(&mixed).join("|");
    let expected = format!("diffusers 0.42.1 passes over {renamed} of its layers");
    assert!(warning.contains(&expected) && !warning.contains('|'), "{warning}");
    assert_eq!(told(&bare), Vec::<String>::new());
    let two = |number| if number == 0 { ".a.weight" } else { ".b.weight" };
    assert!(refusal(&respelled(&two)).contains("several adapters (a, b)"));
}

#[test]
fn adapters_that_lack_something_or_change_nothing_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("adapter_model.safetensors");
    std::fs::copy(form("peft/unet/adapter_model.safetensors"), &alone).unwrap();
    let message = refusal(&lora(&alone));
    assert!(message.contains("adapter_config.json"), "{message}");
    let config = folder.path().join("adapter_config.json");
    std::fs::copy(form("peft/unet/adapter_config.json"), &config).unwrap();
    for (key, value) in [("use_dora", json!(true)), ("fan_in_fan_out", json!(true))] {
        std::fs::copy(form("peft/unet/adapter_config.json"), &config).unwrap();
        configure(&config, &json!({key: value}));
        let message = refusal(&lora(&alone));
        assert!(message.contains(key) && message.contains("adapter_config.json"), "{message}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(&lora(empty.path())).contains("holds no adapter"));
    let told = |parts: &CheckpointParts| parts.assemble().unwrap().understood.warnings;
    let mut idle = lora(&form("unet.safetensors"));
    assert_eq!(told(&idle), Vec::<String>::new());
    idle.loras[0].weight = 0.0;
    assert!(told(&idle)[0].contains("changes no tensor: its weight is 0"));
    let zeros = folder.path().join("zeros.safetensors");
    std::fs::copy(form("pytorch_lora_weights.bin"), folder.path().join("x.bin")).unwrap();
    std::fs::copy(form("unet.safetensors"), &zeros).unwrap();
    edit(&zeros, |tensors| {
        for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
            *tensor = tensor.zeros_like().unwrap();
        }
    });
    assert!(told(&lora(&zeros))[0].contains("all zero"));
}

#[test]
fn a_single_file_without_autoencoder_takes_another() {
    let folder = tempfile::tempdir().unwrap();
    let whole = picture(&tiny(), &golden().prompt);
    let single = single_file(folder.path(), |tensors| {
        tensors.retain(|name, _| !name.starts_with("first_stage_model."));
    });
    let message = refusal(&single);
    assert!(message.contains("holds no autoencoder") && message.contains("add --vae"), "{message}");
    for vae in ["sd15-tiny/vae", "sd15-tiny/vae/diffusion_pytorch_model.safetensors"] {
        let parts = CheckpointParts { vae: Some(fixture(vae)), ..single.clone() };
        assert_eq!(apart(&picture(&parts, &golden().prompt), &whole), 0.0);
    }
    let bare = single_file(folder.path(), |tensors| {
        tensors.retain(|name, _| !name.starts_with("cond_stage_model."));
    });
    assert!(refusal(&bare).contains("holds no text encoder"));
}

#[test]
fn refusals_name_the_users_files() {
    // A checkpoint at a path that is not in the folder for temporary files.
    let mut named = tempfile::Builder::new();
    let folder = named.prefix("parts").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let said = |parts: &CheckpointParts, named: &Path| {
        let message = refusal(parts);
        assert!(message.contains(named.to_str().unwrap()), "{message}");
        message
    };
    let vae = folder.path().join("vae");
    std::fs::create_dir(&vae).unwrap();
    for entry in std::fs::read_dir(fixture("sd15-tiny/vae")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, vae.join(path.file_name().unwrap())).unwrap();
    }
    let config = vae.join("config.json");
    configure(&config, &json!({"act_fn": "unheard"}));
    let other = CheckpointParts { vae: Some(vae.clone()), ..tiny() };
    assert!(said(&other, &config).contains("unheard"));
    let tokenizer = folder.path().join("words");
    write_tokenizer(&[("added_tokens.json".into(), json!([]))].into(), &tokenizer);
    let other = CheckpointParts { tokenizer: Some(tokenizer.clone()), ..tiny() };
    said(&other, &tokenizer.join("added_tokens.json"));
    // While it is put together.
    let base = folder.path().join("base");
    let copy = copy_of("sd15-tiny");
    for part in ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        std::fs::create_dir_all(base.join(part)).unwrap();
        for entry in std::fs::read_dir(copy.path().join(part)).unwrap() {
            let path = entry.unwrap().path();
            let small = path.extension().is_some_and(|ending| ending != "safetensors");
            if small {
                std::fs::copy(&path, base.join(part).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    let index = "model_index.json";
    std::fs::copy(copy.path().join(index), base.join(index)).unwrap();
    let single = CheckpointParts { base: Some(base.clone()), ..single_file(folder.path(), |_| {}) };
    assert_eq!(apart(&picture(&single, "a cat"), &picture(&tiny(), "a cat")), 0.0);
    configure(&base.join("unet/config.json"), &json!({"layers_per_block": "two"}));
    said(&single, &base.join("unet/config.json"));
    let known = CheckpointParts {
        base: None,
        tokenizer: Some(fixture("sd15-tiny/tokenizer")),
        ..single_file(folder.path(), |_| {})
    };
    said(&known, &folder.path().join("single.safetensors"));
}
