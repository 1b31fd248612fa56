//! Words that were added to a tokenizer's folder, on the tiny checkpoints, against transformers and diffusers
//! (fixtures/addon-forms, made by make_addon_forms.py; fixtures/second-vocabulary, made by make_second_vocabulary.py).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use dpg_bench::checkpoint::assembled::CheckpointParts;
use dpg_bench::generate::ImageGenerator;
use dpg_bench::generate::pipelines::sd15::Sd15;
use dpg_bench::text::clip::ClipTokenizer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::addon_forms::{Text, golden, load, makes, open, refusal};
use crate::addons_sdxl;
use crate::tiny_checkpoint::{CLIP_FILE, configure, copy_of, edit, fixture, read};
use crate::tiny_parts::of_folder;

/// Puts the small files of a golden tokenizer over a copy of sd15-tiny's.
pub fn write_tokenizer(files: &BTreeMap<String, Value>, folder: &Path) {
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

#[derive(Deserialize)]
struct SecondGolden {
    words: BTreeMap<String, SecondWords>,
}

/// A tokenizer's folder, and what transformers makes of texts with it once it pads with `!`.
#[derive(Deserialize)]
struct SecondWords {
    files: BTreeMap<String, Value>,
    size: usize,
    texts: Vec<SecondText>,
}

#[derive(Deserialize)]
struct SecondText {
    text: String,
    /// Up to the last that is no padding.
    ids: Vec<u32>,
    /// With the padding, whose id is 0.
    length: usize,
}

/// SDXL's second vocabulary where a single file has no base: that of `--tokenizer`, padded with `!`.
#[test]
fn the_second_vocabulary_has_the_ids_of_transformers() {
    let text = std::fs::read(fixture("second-vocabulary/golden.json")).unwrap();
    let golden: SecondGolden = serde_json::from_slice(&text).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let single = addons_sdxl::single_file(scratch.path(), |_| {});
    let mut wrong = Vec::new();
    for (case, words) in &golden.words {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(&words.files, folder.path());
        let parts = CheckpointParts {
            base: None,
            tokenizer: Some(folder.path().to_path_buf()),
            ..single.clone()
        };
        let assembled = parts.assemble().unwrap();
        let tokenizer = match ClipTokenizer::load(&assembled.path().join("tokenizer_2")) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                wrong.push(format!("{case}: {error:#}"));
                continue;
            }
        };
        if tokenizer.size() != words.size {
            wrong.push(format!("{case}: {} tokens, not {}", tokenizer.size(), words.size));
        }
        for SecondText { text, ids, length } in &words.texts {
            let mut ids = ids.clone();
            ids.resize(*length, 0);
            let own = tokenizer.encode(text).unwrap().ids;
            if own != ids {
                wrong.push(format!("{case}: {text}: {own:?}, not {ids:?}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(golden.words.len(), 15);
}
