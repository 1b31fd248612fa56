//! In: the tiny checkpoint's tokenizer. Checks: the same ids as `CLIPTokenizer` of transformers,
//! as diffusers pipelines call it. Goldens are made by `tests/fixtures/make_sd15.py`.

use std::path::Path;

use dpg_bench::text::clip::ClipTokenizer;
use serde::Deserialize;

use crate::tiny_checkpoint::fixture;

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
    full_length: usize,
}

fn goldens() -> Vec<Golden> {
    read(&fixture("sd15-golden/tokenizer.json"))
}

fn read(path: &Path) -> Vec<Golden> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Texts that `tokenizer` encodes otherwise than transformers.
fn disagreements(tokenizer: &ClipTokenizer) -> Vec<String> {
    disagreements_on(tokenizer, goldens())
}

fn disagreements_on(tokenizer: &ClipTokenizer, goldens: Vec<Golden>) -> Vec<String> {
    let differs = |golden: &Golden| {
        let ours = tokenizer.encode(&golden.text).unwrap();
        ours.ids != golden.ids
            || ours.full_length != golden.full_length
            || ours.truncated != (golden.full_length > 77)
    };
    goldens.into_iter().filter(differs).map(|golden| golden.text).collect()
}

/// A file and what becomes of its text; `None` removes it.
type Change<'c> = (&'c str, Option<&'c dyn Fn(String) -> String>);

/// A copy of the tokenizer folder with some files changed.
fn changed(changes: &[Change]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("sd15-tiny/tokenizer")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = match changes.iter().find(|(file, _)| *file == name) {
            Some((_, None)) => continue,
            Some((_, Some(change))) => change(text),
            None => text,
        };
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn ids_equal_those_of_transformers() {
    let tokenizer = ClipTokenizer::load(&fixture("sd15-tiny/tokenizer")).unwrap();
    assert!(goldens().len() >= 40);
    assert_eq!(disagreements(&tokenizer), Vec::<String>::new());
    assert_eq!(tokenizer.max_length(), 77);
    let long = goldens().into_iter().filter(|golden| golden.full_length > 77).count();
    assert!(long >= 5, "{long} goldens are truncated");
}

#[test]
fn a_folder_with_tokenizer_json_alone_gives_the_same_ids() {
    let folder = changed(&[("vocab.json", None), ("merges.txt", None)]);
    let file = folder.path().join("tokenizer.json");
    std::fs::copy(fixture("sd15-golden/tokenizer_file.json"), &file).unwrap();
    let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
    assert_eq!(disagreements(&tokenizer), Vec::<String>::new());
    std::fs::write(&file, "{}").unwrap();
    let error = format!("{:#}", ClipTokenizer::load(folder.path()).err().expect("loads"));
    assert!(error.contains("tokenizer.json"), "{error}");
}

#[test]
fn a_tokenizer_with_one_thing_wrong_disagrees() {
    let no_merges = changed(&[("merges.txt", Some(&|_| "#version: 0.2\n".into()))]);
    let disagreeing = disagreements(&ClipTokenizer::load(no_merges.path()).unwrap()).len();
    assert!(disagreeing > 20, "{disagreeing}");
    let late_merge = changed(&[(
        "merges.txt",
        Some(&|text| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines[1..].reverse();
            lines.join("\n")
        }),
    )]);
    assert!(!disagreements(&ClipTokenizer::load(late_merge.path()).unwrap()).is_empty());
    // Of the two files transformers 5 believes this one, where no word is numbered in the other.
    let other_padding = changed(&[(
        "special_tokens_map.json",
        Some(&|text| text.replace(r#""pad_token": "<|endoftext|>""#, r#""pad_token": "!""#)),
    )]);
    let other_padding = ClipTokenizer::load(other_padding.path()).unwrap();
    assert!(disagreements(&other_padding).len() > 30);
    // SDXL's second tokenizer does this: id 0 pads, and `!` becomes a token of its own.
    let ids = other_padding.encode("wow!!").unwrap().ids;
    assert_eq!(ids[ids.len() - 1], 0);
    assert_eq!(ids.iter().filter(|id| **id == 256).count(), 0);
}

#[test]
fn a_folder_says_what_it_lacks() {
    let error = |folder: &tempfile::TempDir| {
        format!("{:#}", ClipTokenizer::load(folder.path()).err().expect("loads"))
    };
    let missing = changed(&[("merges.txt", None)]);
    assert!(error(&missing).contains("neither vocab.json with merges.txt nor tokenizer.json"));
    let garbage = changed(&[("vocab.json", Some(&|_| "{".into()))]);
    assert!(error(&garbage).contains("vocab.json"), "{}", error(&garbage));
    let config = changed(&[("tokenizer_config.json", Some(&|_| "[]".into()))]);
    assert!(error(&config).contains("tokenizer_config.json"));
    let short = changed(&[("tokenizer_config.json", Some(&|text| text.replace(": 77", ": 1")))]);
    assert!(error(&short).contains("model_max_length = 1"));
    let bare = changed(&[("tokenizer_config.json", None), ("special_tokens_map.json", None)]);
    let bare = ClipTokenizer::load(bare.path()).unwrap();
    assert_eq!(bare.encode("a cat").unwrap().ids.len(), 77);
}

#[test]
#[ignore = "needs a published tokenizer and the goldens of scripts/clip_tokenizer_parity.py"]
fn real_vocabulary_gives_the_ids_of_transformers() {
    let Some(folder) = std::env::var_os("DPG_BENCH_CLIP_TOKENIZER") else {
        eprintln!("SKIPPED: DPG_BENCH_CLIP_TOKENIZER names no folder");
        return;
    };
    let folder = Path::new(&folder);
    let goldens = read(&folder.join("goldens.json"));
    println!("{} texts", goldens.len());
    let tokenizer = ClipTokenizer::load(folder).unwrap();
    assert_eq!(disagreements_on(&tokenizer, goldens), Vec::<String>::new());
}

proptest::proptest! {
    #[test]
    fn any_text_becomes_one_full_row(text in "\\PC{0,200}|[ -~\\s]{0,400}") {
        let tokenizer = ClipTokenizer::load(&fixture("sd15-tiny/tokenizer")).unwrap();
        let encoded = tokenizer.encode(&text).unwrap();
        assert_eq!(encoded.ids.len(), 77);
        assert_eq!(encoded.ids[0], 1112);
        assert_eq!(encoded.truncated, encoded.full_length > 77);
        let end = encoded.full_length.min(77) - 1;
        assert!(encoded.ids[end..].iter().all(|id| *id == 1113), "{:?}", encoded.ids);
    }
}
