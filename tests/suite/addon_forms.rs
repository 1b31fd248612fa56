//! The forms in which words, embeddings, adapters and eight-bit weights come, on the tiny checkpoint, against
//! transformers, diffusers and PEFT (fixtures/addon-forms, made by make_addon_forms.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dpg_bench::checkpoint::assembled::{Assembled, CheckpointParts};
use dpg_bench::checkpoint::lora::LoraFile;
use dpg_bench::checkpoint::weights::Weights;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::ella::EllaTokens;
use dpg_bench::generate::pipelines::ella::{Ella, EllaBase, EllaFiles, EllaOptions};
use dpg_bench::generate::pipelines::options::DiffusionOptions;
use dpg_bench::generate::pipelines::sd15::Sd15;
use dpg_bench::text::clip::ClipTokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::addons::single_file;
use crate::tiny_checkpoint::{CLIP_FILE, UNET_FILE, configure, copy_of, edit, fixture, read};

/// Largest absolute error of a picture in 0..=1.
const TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
struct Golden {
    settings: Settings,
    prompt: String,
    prompts: BTreeMap<String, String>,
    words: BTreeMap<String, Words>,
}

#[derive(Deserialize)]
struct Settings {
    steps: usize,
    guidance: f64,
    seed: u64,
    width: usize,
    height: usize,
}

/// A tokenizer's folder and what transformers makes of texts with it.
#[derive(Deserialize)]
struct Words {
    /// Small files; null takes one of sd15-tiny's away.
    files: BTreeMap<String, Value>,
    size: usize,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(fixture("addon-forms/golden.json")).unwrap()).unwrap()
}

fn expected(name: &str) -> Tensor {
    read(&fixture("addon-forms/pictures.safetensors"))[name].clone()
}

fn form(name: &str) -> PathBuf {
    fixture(&format!("addon-forms/{name}"))
}

fn of_folder(folder: &Path) -> CheckpointParts {
    CheckpointParts { checkpoint: folder.to_path_buf(), ..Default::default() }
}

fn tiny() -> CheckpointParts {
    of_folder(&fixture("sd15-tiny"))
}

fn lora(file: &Path) -> CheckpointParts {
    CheckpointParts { loras: vec![LoraFile { file: file.into(), weight: 1.0 }], ..tiny() }
}

fn embedding(spelled: &str) -> CheckpointParts {
    CheckpointParts { embeddings: vec![spelled.parse().unwrap()], ..tiny() }
}

fn open(folder: &Path) -> anyhow::Result<Sd15> {
    let settings = golden().settings;
    let options = DiffusionOptions {
        steps: settings.steps,
        guidance: settings.guidance,
        width: Some(settings.width),
        height: Some(settings.height),
        ..Default::default()
    };
    Sd15::load(folder, DType::F32, &Device::Cpu, options)
}

fn load(parts: &CheckpointParts) -> anyhow::Result<(Sd15, Assembled)> {
    let assembled = parts.assemble()?;
    Ok((open(assembled.path()).map_err(|error| assembled.told(error))?, assembled))
}

fn refusal(parts: &CheckpointParts) -> String {
    let message = format!("{:#}", load(parts).err().unwrap());
    let temporary = std::env::temp_dir().join(".tmp").to_str().unwrap().to_owned();
    if !format!("{parts:?}").contains(&temporary) {
        assert!(!message.contains(&temporary), "{message}");
    }
    message
}

fn picture(parts: &CheckpointParts, prompt: &str) -> Tensor {
    load(parts).unwrap().0.pictures(prompt, &[golden().settings.seed]).unwrap().1
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let largest = |worst: f32, d: f32| if d.is_nan() { f32::INFINITY } else { worst.max(d) };
    difference.to_vec1::<f32>().unwrap().into_iter().fold(0.0, largest)
}

/// That the parts make the picture of a golden, which is not the plain one.
fn makes(case: &str, parts: &CheckpointParts) {
    let golden = golden();
    let prompt = golden.prompts.get(case).unwrap_or(&golden.prompt);
    let error = apart(&picture(parts, prompt), &expected(case));
    eprintln!("{case}: largest error {error:.2e}");
    assert!(error <= TOLERANCE, "{case}: {error:e}");
    assert!(apart(&expected(case), &expected("plain")) > 0.05, "{case} is hardly another picture");
}

/// Puts the small files of a golden tokenizer over a copy of sd15-tiny's.
fn write_tokenizer(files: &BTreeMap<String, Value>, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(fixture("sd15-tiny/tokenizer")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    for (name, content) in files {
        let path = folder.join(name);
        match content {
            Value::Null => std::fs::remove_file(path).unwrap(),
            whole if name == "tokenizer.json" => {
                std::fs::write(path, whole_tokenizer(whole).to_string()).unwrap();
            }
            content => std::fs::write(path, content.to_string()).unwrap(),
        }
    }
}

/// A `tokenizer.json` of sd15-tiny's vocabulary and its first merges.
fn whole_tokenizer(golden: &Value) -> Value {
    let folder = fixture("sd15-tiny/tokenizer");
    let vocabulary: Value =
        serde_json::from_slice(&std::fs::read(folder.join("vocab.json")).unwrap()).unwrap();
    let merges = std::fs::read_to_string(folder.join("merges.txt")).unwrap();
    let merges = merges.lines().skip(1).filter(|line| !line.is_empty());
    let merges: Vec<Vec<&str>> = merges
        .take(golden["merges"].as_u64().unwrap() as usize)
        .map(|line| line.split(' ').collect())
        .collect();
    json!({"added_tokens": golden["added_tokens"],
           "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}})
}

#[test]
fn added_words_get_the_ids_of_transformers() {
    let golden = golden();
    assert_eq!(golden.words.len(), 12);
    for (case, words) in &golden.words {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(&words.files, folder.path());
        let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
        assert_eq!(tokenizer.size(), words.size, "{case}");
        for Text { text, ids } in &words.texts {
            let mut ids = ids.clone();
            // The pieces of the vocabulary end before 1114.
            if text.starts_with("<CAT-TOY>") && ids[1] >= 1114 {
                // diffusers takes only the first vector of a word in capitals; here it has all (docs/generation.md).
                let small = tokenizer.encode("<cat-toy>").unwrap().ids;
                let vectors = small[1..].iter().take_while(|id| **id != small[76]);
                let others: Vec<u32> = vectors.skip(1).copied().collect();
                ids.splice(2..2, others);
                ids.truncate(77);
            }
            assert_eq!(tokenizer.encode(text).unwrap().ids, ids, "{case}: {text}");
        }
    }
}

/// A copy of the tiny checkpoint whose tokenizer knows four words more, and its text encoder `rows` rows more of
/// the golden's six.
fn with_words(rows: usize) -> tempfile::TempDir {
    let folder = copy_of("sd15-tiny");
    let words = &golden().words["saved_by_transformers_4"].files;
    write_tokenizer(words, &folder.path().join("tokenizer"));
    let added = read(&fixture("addon-forms/rows_and_codes.safetensors"))["added_rows"].clone();
    let name = "embeddings.token_embedding.weight";
    edit(&folder.path().join(CLIP_FILE), |tensors| {
        let name = tensors.keys().find(|own| own.ends_with(name)).unwrap().clone();
        let table = Tensor::cat(&[&tensors[&name], &added.narrow(0, 0, rows).unwrap()], 0);
        tensors.insert(name, table.unwrap());
    });
    let config = folder.path().join("text_encoder/config.json");
    configure(&config, &json!({"vocab_size": 1114 + rows}));
    folder
}

#[test]
fn added_words_are_read_with_their_own_rows() {
    let folder = with_words(6);
    makes("added_word", &of_folder(folder.path()));
    // An embedding's word follows the vocabulary, not the table, which has two rows to spare.
    let kite = fixture("addons/kite.safetensors").to_str().unwrap().parse().unwrap();
    let over = CheckpointParts { embeddings: vec![kite], ..of_folder(folder.path()) };
    makes("added_word_and_embedding", &over);
    let told = |sd15: &Sd15| {
        let warnings = sd15.understood().warnings;
        warnings.into_iter().filter(|text| text.contains(" rows, ")).collect::<Vec<_>>()
    };
    let spare = told(&load(&of_folder(folder.path())).unwrap().0);
    assert_eq!(spare.len(), 1);
    assert!(spare[0].contains("1120 rows, 2 more"), "{spare:?}");
    assert_eq!(told(&open(&fixture("sd15-tiny")).unwrap()), Vec::<String>::new());
    let fitting = with_words(4);
    assert_eq!(told(&open(fitting.path()).unwrap()), Vec::<String>::new());
}

#[test]
fn words_without_rows_and_ids_with_gaps_are_refused() {
    let short = with_words(3);
    let message = format!("{:#}", open(short.path()).err().unwrap());
    assert!(message.contains("`spacy` with id 1117") && message.contains("1117 rows"), "{message}");
    let kite = fixture("addons/kite.safetensors").to_str().unwrap().parse().unwrap();
    let message = refusal(&CheckpointParts { embeddings: vec![kite], ..of_folder(short.path()) });
    assert!(message.contains("1117 rows, fewer than the tokenizer's 1118"), "{message}");
    for files in [
        json!({"added_tokens.json": {"<cat>": 1115}}),
        json!({"added_tokens.json": {"<cat>": 1114, "<dog>": 1116}}),
        json!({"tokenizer_config.json": {"added_tokens_decoder": {"7": {"content": "<cat>"}}}}),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(&serde_json::from_value(files).unwrap(), folder.path());
        let message = format!("{:#}", ClipTokenizer::load(folder.path()).err().unwrap());
        assert!(message.contains("without a gap"), "{message}");
    }
    for files in [
        json!({"added_tokens.json": {"<cat>": "x"}}),
        json!({"tokenizer_config.json": {"added_tokens_decoder": {"x": {"content": "<cat>"}}}}),
        json!({"tokenizer_config.json": {"added_tokens_decoder": {"1114": {"text": "<cat>"}}}}),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(&serde_json::from_value(files).unwrap(), folder.path());
        let message = format!("{:#}", ClipTokenizer::load(folder.path()).err().unwrap());
        assert!(message.contains("not in the usual form"), "{message}");
    }
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

/// Tensors in a safetensors file, as format, shape and bytes.
fn write_raw(path: &Path, tensors: &[(&str, &str, &[usize], Vec<u8>)]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, format, shape, bytes) in tensors {
        let end = data.len() + bytes.len();
        let entry = json!({"dtype": format, "shape": shape, "data_offsets": [data.len(), end]});
        header.insert((*name).to_owned(), entry);
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let size = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&size[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn eight_bit_floats_are_those_of_pytorch() {
    let codes: Vec<u8> = (0..=255).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codes.safetensors");
    let numbers = |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let floats = |weights: &Weights, name: &str, shape: &[usize]| -> anyhow::Result<Vec<f32>> {
        Ok(weights.root().tensor(name, shape)?.flatten_all()?.to_vec1::<f32>()?)
    };
    let golden = read(&fixture("addon-forms/rows_and_codes.safetensors"));
    for format in ["F8_E4M3", "F8_E5M2"] {
        write_raw(&path, &[("a.weight", format, &[256], codes.clone())]);
        let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
        let ours = floats(&weights, "a.weight", &[256]).unwrap();
        let theirs: Vec<f32> = golden[&format!("codes_{format}")].to_vec1().unwrap();
        let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(ours.iter().zip(&theirs).all(|(a, b)| same(a, b)), "{format}: {ours:?}");
    }
    // 1, 2, -1, 0.5 times their scale: one number, or one for each row.
    let four = vec![0x38, 0x40, 0xb8, 0x30];
    for (scale, shape, wanted) in [
        (vec![4.0], &[][..], [4.0, 8.0, -4.0, 2.0]),
        (vec![0.5], &[1], [0.5, 1.0, -0.5, 0.25]),
        (vec![2.0, 10.0], &[2], [2.0, 4.0, -10.0, 5.0]),
        (vec![2.0, 10.0], &[2, 1], [2.0, 4.0, -10.0, 5.0]),
    ] {
        for name in ["a.scale_weight", "a.weight_scale"] {
            let input = ("a.scale_input", "F32", &[][..], numbers(&[3.0]));
            let scale = (name, "F32", shape, numbers(&scale));
            let weight = ("a.weight", "F8_E4M3", &[2, 2][..], four.clone());
            write_raw(&path, &[input, scale, weight]);
            let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
            assert_eq!(floats(&weights, "a.weight", &[2, 2]).unwrap(), wanted, "{name}");
        }
    }
    let refused = |tensors: &[(&str, &str, &[usize], Vec<u8>)]| {
        write_raw(&path, tensors);
        let weights = Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap();
        floats(&weights, "a.weight", &[2, 2]).unwrap_err().to_string()
    };
    let weight = ("a.weight", "F8_E4M3", &[2, 2][..], four.clone());
    let scale = |name, count: usize, shape| (name, "F32", shape, numbers(&vec![1.0; count]));
    let inverse = scale("a.weight_scale_inv", 1, &[1, 1][..]);
    assert!(refused(&[weight.clone(), inverse]).contains("`a.weight_scale_inv`"));
    let columns = scale("a.scale_weight", 2, &[1, 2][..]);
    assert!(refused(&[weight, columns]).contains("`a.scale_weight`, which has neither"));
    let half = ("a.weight", "F16", &[2, 2][..], vec![0; 8]);
    let message = refused(&[half, scale("a.scale_weight", 1, &[][..])]);
    assert!(message.contains("stored as F16 with `a.scale_weight` beside it"), "{message}");
    let other = ("a.weight", "F8_E4M3FNUZ", &[2, 2][..], four);
    assert!(refused(&[other]).contains("F8_E4M3FNUZ"));
}

#[test]
fn eight_bit_checkpoints_make_the_pictures_of_diffusers() {
    let folder = copy_of("sd15-tiny");
    let unet = folder.path().join(UNET_FILE);
    std::fs::copy(form("unet_eight_bits.safetensors"), &unet).unwrap();
    makes("eight_bits", &of_folder(folder.path()));
    // An adapter is added to what the eight bits stand for.
    let with = CheckpointParts {
        loras: lora(&form("unet.safetensors")).loras,
        ..of_folder(folder.path())
    };
    let ours = picture(&with, &golden().prompt);
    let widened = copy_of("sd15-tiny");
    let weights = Weights::open_file(&unet, DType::F32, &Device::Cpu).unwrap();
    edit(&widened.path().join(UNET_FILE), |tensors| {
        for (name, tensor) in tensors {
            *tensor = weights.root().tensor(name, tensor.dims()).unwrap();
        }
    });
    let wide = CheckpointParts { checkpoint: widened.path().into(), ..with };
    assert_eq!(apart(&ours, &picture(&wide, &golden().prompt)), 0.0);
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

/// ELLA over a checkpoint that was put together.
fn ella(base: EllaBase, tokens: EllaTokens, parts: &CheckpointParts) -> anyhow::Result<Ella> {
    let assembled = parts.assemble()?;
    let connector = if base == EllaBase::Sd15 { "ella" } else { "ella-sdxl" };
    let files = EllaFiles {
        checkpoint: assembled.path().to_path_buf(),
        connector: fixture(&format!("ella-tiny/{connector}.safetensors")),
        text_encoder: fixture("ella-tiny/text_encoder"),
    };
    let pictures =
        DiffusionOptions { steps: 2, width: Some(32), height: Some(32), ..Default::default() };
    let options = EllaOptions { tokens, low_memory: false, pictures };
    Ella::load(base, files, DType::F32, &Device::Cpu, options)
}

#[test]
fn ella_refuses_what_it_does_not_read() {
    let modes = [EllaTokens::Fixed, EllaTokens::Flexible];
    let spelled = |path: PathBuf| path.to_str().unwrap().to_owned();
    let taught = embedding(&spelled(fixture("addons/kite.safetensors")));
    let text_alone = lora(&form("peft/text_encoder"));
    let both = lora(&form("peft"));
    let unet_alone = lora(&form("unet.safetensors"));
    let load = |tokens, parts: &CheckpointParts| ella(EllaBase::Sd15, tokens, parts);
    let idle = |ella: Ella| {
        let warnings = ella.understood().warnings;
        warnings.into_iter().filter(|text| text.starts_with("adapter ")).collect::<Vec<_>>()
    };
    for tokens in modes {
        for (parts, what) in [(&taught, "embedding"), (&text_alone, "adapter")] {
            let message = format!("{:#}", load(tokens, parts).err().unwrap());
            assert!(message.contains(what) && message.contains("would do nothing"), "{message}");
            assert!(message.contains("clip+ella reads CLIP"), "{message}");
        }
        assert_eq!(idle(load(tokens, &unet_alone).unwrap()), Vec::<String>::new());
        // Of an adapter of both, in two files or one, the text encoder's part is told.
        for parts in [&both, &lora(&fixture("addons/peft.safetensors"))] {
            let told = idle(load(tokens, parts).unwrap());
            let what = "are the text encoder's and do nothing";
            assert!(told.len() == 1 && told[0].contains(what), "{told:?}");
        }
    }
    for parts in [&taught, &text_alone, &both] {
        let loaded = load(EllaTokens::ClipAndElla, parts).unwrap();
        assert_eq!(idle(loaded), Vec::<String>::new());
    }
    // SDXL's second encoder is asked for its pooled output in every mode.
    let sdxl = CheckpointParts { checkpoint: fixture("sdxl-tiny"), ..Default::default() };
    let kite = spelled(fixture("addons-sdxl/kite.safetensors"));
    let taught = CheckpointParts { embeddings: vec![kite.parse().unwrap()], ..sdxl.clone() };
    assert!(ella(EllaBase::Sdxl, EllaTokens::Fixed, &taught).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.safetensors");
    std::fs::copy(fixture("addons-sdxl/kohya.safetensors"), &first).unwrap();
    edit(&first, |tensors| tensors.retain(|name, _| name.starts_with("lora_te1_")));
    let loras = vec![LoraFile { file: first, weight: 1.0 }];
    let first = CheckpointParts { loras, ..sdxl };
    let refused = ella(EllaBase::Sdxl, EllaTokens::Flexible, &first).err().unwrap();
    assert!(format!("{refused:#}").contains("would do nothing"), "{refused:#}");
    assert!(ella(EllaBase::Sdxl, EllaTokens::ClipAndElla, &first).is_ok());
}

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red <kite> over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
";

/// What the command says of words, adapters and vocabularies in vain.
#[test]
fn the_command_tells_what_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = folder.path().join("items.csv");
    std::fs::write(&benchmark, QUESTIONS).unwrap();
    let generate = |out: &str, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.args(["generate", "--device", "cpu", "--images", "1", "--steps", "1"]);
        if !more.contains(&"--model") {
            command.args(["--model", "sd15"]);
        }
        command.args(["--width", "16", "--height", "16", "--weights", "tests/fixtures/sd15-tiny"]);
        command.arg("--benchmark").arg(&benchmark).arg("--out").arg(folder.path().join(out));
        let output = command.args(more).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let kite = "tests/fixtures/addons/kite.safetensors";
    let (code, said) = generate("heard", &["--embedding", kite]);
    assert!(code == 0 && !said.contains("the embedding's word"), "{said}");
    let unheard = format!("{kite}:EasyNeg");
    let (code, said) = generate("unheard", &["--embedding", &unheard]);
    assert!(code == 0 && said.contains("warning: the embedding's word `EasyNeg`"), "{said}");
    let negative = ["--embedding", &unheard, "--negative-prompt", "easyneg"];
    let (code, said) = generate("negative", &negative);
    assert!(code == 0 && !said.contains("the embedding's word"), "{said}");
    let idle = ["--lora", "tests/fixtures/addons/kohya.safetensors:0"];
    let (code, said) = generate("idle", &idle);
    assert!(code == 0 && said.contains("changes no tensor: its weight is 0"), "{said}");
    let ella = [
        "--model",
        "ella-sd15",
        "--ella",
        "tests/fixtures/ella-tiny/ella.safetensors",
        "--text-encoder",
        "tests/fixtures/ella-tiny/text_encoder",
    ];
    let words = ["--tokenizer", "tests/fixtures/sd15-tiny/tokenizer"];
    let (code, said) = generate("idle-words", &[&ella[..], &words].concat());
    assert!(code == 2 && said.contains("--tokenizer") && said.contains("clip+ella"), "{said}");
    let (code, said) = generate("idle-words", &[&ella[..], &["--embedding", kite]].concat());
    assert!(code == 2 && said.contains("would do nothing") && said.contains(kite), "{said}");
}
