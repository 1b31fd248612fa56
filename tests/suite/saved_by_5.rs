//! Judges as transformers 5 saves them (fixtures/judges-saved-by-5, made by make_judges_saved_by_5.py): settings in
//! `processor_config.json`, word pieces in `tokenizer.json`, no `preprocessor_config.json`, no `vocab.txt`.

use std::path::Path;

use candle_core::{DType, Device};
use dpg_bench::compute::device::Place;
use dpg_bench::judge::Judge;
use dpg_bench::judge::blip_vqa::BlipVqaJudge;
use dpg_bench::judge::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use dpg_bench::text::word_piece::WordPiece;
use serde_json::{Value, json};

use super::qwen3_vl::ask;
use super::tiny_checkpoint::{configure, fixture};

fn golden() -> Value {
    let text = std::fs::read(fixture("judges-saved-by-5/golden.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The saved folder of a judge with the weights of the tiny one.
fn saved(judge: &str, weights: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (source, only) in
        [(format!("judges-saved-by-5/{judge}"), ""), (weights.to_owned(), "model")]
    {
        for entry in std::fs::read_dir(fixture(&source)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with(only) {
                std::fs::copy(&path, folder.path().join(name)).unwrap();
            }
        }
    }
    folder
}

fn place() -> Place {
    Place { device: Device::Cpu, dtype: DType::F32 }
}

fn blip(folder: &Path) -> anyhow::Result<BlipVqaJudge> {
    BlipVqaJudge::check(folder)?;
    BlipVqaJudge::load(folder, place())
}

fn refused(folder: &Path) -> String {
    format!("{:#}", blip(folder).err().expect("a judge was loaded"))
}

#[test]
fn blip_is_read_and_answers_as_transformers() {
    let folder = saved("blip-vqa", "blip-vqa-tiny");
    let judge = blip(folder.path()).unwrap();
    let golden = golden();
    let answers = golden["blip_answers"].as_array().unwrap();
    assert_eq!(answers.len(), 26);
    for answer in answers {
        let question = answer["question"].as_str().unwrap();
        let ids = judge.question_ids(question).unwrap();
        assert_eq!(json!(ids), answer["ids"], "{question}");
        let path = fixture(&format!("blip-vqa-golden/{}.png", answer["image"]));
        let pixels = judge.pixels(&image::open(path).unwrap().to_rgb8()).unwrap();
        let images = judge.network().encode_images(&pixels).unwrap();
        let states = judge.network().encode_questions(&images, &[0], &[ids]).unwrap();
        let reply = judge.replies(&states).unwrap().remove(0);
        assert_eq!(judge.text(&reply.ids).unwrap(), answer["text"].as_str().unwrap(), "{question}");
    }
    let settings = serde_json::to_value(judge.settings()).unwrap();
    let files: Vec<&String> = settings["files_sha256"].as_object().unwrap().keys().collect();
    assert_eq!(files, ["config.json", "processor_config.json", "tokenizer.json"]);
}

#[test]
fn a_vocabulary_is_read_as_the_tokenizer_that_was_made_of_it() {
    // `vocab.txt` alone, as published: special tokens in a question are tokens all the same.
    let plain = blip(&fixture("blip-vqa-tiny")).unwrap();
    for answer in golden()["blip_answers"].as_array().unwrap() {
        let question = answer["question"].as_str().unwrap();
        assert_eq!(json!(plain.question_ids(question).unwrap()), answer["ids"], "{question}");
    }
}

#[test]
fn letters_and_added_tokens_are_those_of_transformers_5() {
    let words = WordPiece::of_transformers(&fixture("judges-saved-by-5/greek")).unwrap();
    let golden = golden();
    for row in golden["greek"].as_array().unwrap() {
        let question = row["question"].as_str().unwrap();
        assert_eq!(json!(words.encode(question, None).unwrap().ids), row["ids"], "{question}");
    }
    let added = words.id("[ENC]").unwrap();
    assert!(words.is_special(added) && words.piece(added) == Some("[ENC]"));
}

#[test]
fn what_is_not_here_is_refused_in_a_sentence() {
    for (file, change, expected) in [
        (
            "tokenizer.json",
            json!({"normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": null, "lowercase": false}}),
            "normalizer.lowercase = false",
        ),
        (
            "tokenizer.json",
            json!({"pre_tokenizer": {"type": "Whitespace"}}),
            "pre_tokenizer.type = \"Whitespace\"",
        ),
        ("tokenizer.json", json!({"post_processor": null}), "between [CLS] and [SEP]"),
        ("tokenizer.json", json!({"added_tokens": [{"id": 4, "content": "[PAD]"}]}), "another id"),
        (
            "tokenizer.json",
            json!({"added_tokens": [{"id": 900, "content": "[ENC]"}]}),
            "without a gap",
        ),
        ("tokenizer_config.json", json!({"do_lower_case": false}), "do_lower_case = false"),
        ("generation_config.json", json!({"num_beams": 3}), "num_beams = 3 is not supported"),
        ("generation_config.json", json!({"max_length": 50}), "max_length = 50"),
        ("generation_config.json", json!({"do_sample": true}), "do_sample = true"),
        ("processor_config.json", json!({"image_processor": {"size": 32}}), "32 x 32 pixels"),
        (
            "processor_config.json",
            json!({"image_processor": null}),
            "image_processor is no JSON object",
        ),
    ] {
        let folder = saved("blip-vqa", "blip-vqa-tiny");
        configure(&folder.path().join(file), &change);
        let error = refused(folder.path());
        assert!(error.contains(file) && error.contains(expected), "{change}: {error}");
    }
    let folder = saved("blip-vqa", "blip-vqa-tiny");
    let vocabulary = std::fs::read_to_string(fixture("blip-vqa-tiny/vocab.txt")).unwrap();
    let listed = folder.path().join("vocab.txt");
    std::fs::write(&listed, &vocabulary).unwrap();
    blip(folder.path()).unwrap();
    std::fs::write(&listed, vocabulary.replace("bakery", "bakers")).unwrap();
    assert!(refused(folder.path()).contains("other word pieces than vocab.txt"));
    std::fs::remove_file(&listed).unwrap();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    assert!(refused(folder.path()).contains("neither tokenizer.json nor vocab.txt"));
    // Words added beside a vocabulary are tokens to transformers.
    std::fs::write(&listed, &vocabulary).unwrap();
    blip(folder.path()).unwrap();
    std::fs::write(folder.path().join("added_tokens.json"), "{\"[ENC]\": 130}").unwrap();
    assert!(refused(folder.path()).contains("adds `[ENC]`"));
    std::fs::remove_file(folder.path().join("processor_config.json")).unwrap();
    assert!(
        refused(folder.path())
            .contains("neither preprocessor_config.json nor processor_config.json")
    );
}

#[test]
fn qwen3_vl_is_read_and_says_the_same() {
    let folder = saved("qwen3-vl", "qwen3-vl-untied");
    let load = |folder: &Path| {
        let options = Qwen3VlOptions::new(folder.to_owned(), place());
        Qwen3VlJudge::check(&options).unwrap();
        Qwen3VlJudge::load(options).unwrap()
    };
    let (judge, published) = (load(folder.path()), load(&fixture("qwen3-vl-untied")));
    let questions = ["Is there a truck?", "Are there two dogs on the left of the red truck?"];
    for picture in ["whole", "rounded"] {
        assert_eq!(ask(&judge, picture, &questions), ask(&published, picture, &questions));
    }
    let settings = |judge: &Qwen3VlJudge| serde_json::to_value(judge.settings()).unwrap();
    for key in ["picture", "weights_sha256"] {
        assert_eq!(settings(&judge)[key], settings(&published)[key], "{key}");
    }
    let golden = golden();
    let size = &golden["qwen"]["size"];
    assert_eq!(settings(&judge)["picture"]["min_pixels"], size["shortest_edge"]);
    assert_eq!(settings(&judge)["picture"]["max_pixels"], size["longest_edge"]);
}
