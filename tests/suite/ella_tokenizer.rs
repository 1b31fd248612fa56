//! T5's tokenizer against sentencepiece (fixtures/ella-golden, made by make_ella.py).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use dpg_bench::text::sentence_piece::SentencePiece;
use dpg_bench::text::t5::T5Tokenizer;
use serde::Deserialize;

use crate::tiny_checkpoint::{digest, fixture};

#[derive(Deserialize)]
struct Line {
    text: String,
    ids: Vec<u32>,
    plain_ids: Vec<u32>,
}

fn lines() -> Vec<Line> {
    serde_json::from_slice(&std::fs::read(fixture("ella-golden/tokenizer.json")).unwrap()).unwrap()
}

fn spiece() -> PathBuf {
    fixture("ella-tiny/text_encoder/spiece.model")
}

#[test]
fn tricky_texts_get_the_ids_of_sentencepiece() {
    let usual = SentencePiece::load(&spiece()).unwrap();
    let plain = SentencePiece::load(&fixture("ella-tiny/spiece-plain.model")).unwrap();
    let mut told_apart = 0;
    for line in lines() {
        assert_eq!(usual.encode(&line.text), line.ids, "{:?}", line.text);
        assert_eq!(plain.encode(&line.text), line.plain_ids, "{:?}", line.text);
        told_apart += usize::from(usual.encode(&line.text) != line.plain_ids);
    }
    assert!(told_apart > 20, "{told_apart}");
}

/// Flips settings inside the file: each must be felt by some text, or the check above has no teeth.
#[test]
fn every_setting_of_the_file_is_felt() {
    let bytes = std::fs::read(spiece()).unwrap();
    let unequal = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spiece.model");
        std::fs::write(&path, bytes).unwrap();
        let model = SentencePiece::load(&path).unwrap();
        lines().iter().filter(|line| model.encode(&line.text) != line.ids).count()
    };
    assert_eq!(unequal(&bytes), 0);
    // Appended fields of a message come after those it holds, and the last one stands.
    for setting in [3_u8, 4, 5] {
        let changed = [&bytes[..], &[0x1a, 2, setting << 3, 0]].concat();
        assert!(unequal(&changed) > 5, "field {setting}");
    }
    // A map of one unit maps nothing.
    let mapless = [&bytes[..], &[0x1a, 11, 0x12, 9, 4, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(unequal(&mapless) > 5);
    // Another piece of great probability: field 1, a piece "cat" with score 0.
    let piece = [0x0a, 10, 0x0a, 3, b'c', b'a', b't', 0x15, 0, 0, 0, 0];
    assert!(unequal(&[&bytes[..], &piece].concat()) >= 2);
}

#[test]
fn real_prompts_get_the_ids_of_sentencepiece() {
    let prompts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/dpg_bench/prompts");
    if !prompts.is_dir() {
        eprintln!("SKIPPED: the prompt files of DPG-Bench are not at {}", prompts.display());
        return;
    }
    let text = std::fs::read(fixture("ella-golden/prompt_ids.json")).unwrap();
    let expected: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap();
    assert_eq!(expected.len(), 1065);
    let model = SentencePiece::load(&spiece()).unwrap();
    for (item, expected) in expected {
        let text = std::fs::read_to_string(prompts.join(format!("{item}.txt"))).unwrap();
        let ids = model.encode(&text);
        let words: Vec<String> = ids.iter().map(u32::to_string).collect();
        let ours = format!("{} {}", ids.len(), &digest(words.join(" ").as_bytes())[..12]);
        assert_eq!(ours, expected, "{item}");
    }
}

/// A `tokenizer.json` as flan-t5 ships it, from the pieces and the character map of the fixture.
fn tokenizer_json() -> serde_json::Value {
    let bytes = std::fs::read(spiece()).unwrap();
    let (pieces, map) = pieces_and_map(&bytes);
    let special = |id: usize, content: &str| {
        serde_json::json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    serde_json::json!({
        "version": "1.0",
        "truncation": {
            "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0
        },
        "padding": {
            "strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"
        },
        "added_tokens": [special(0, "<pad>"), special(1, "</s>"), special(2, "<unk>")],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": base64::engine::general_purpose::STANDARD.encode(map),
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true}
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
        },
        "decoder": null,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": false},
    })
}

/// A second, smaller reader of the file, for what the fixture holds.
fn pieces_and_map(bytes: &[u8]) -> (Vec<(String, f64)>, Vec<u8>) {
    fn number(bytes: &mut &[u8]) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    fn fields(mut bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = number(&mut bytes);
            let length = match tag & 7 {
                0 => {
                    number(&mut bytes);
                    continue;
                }
                5 => 4,
                2 => number(&mut bytes),
                _ => 8,
            };
            fields.push((tag >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        fields
    }
    let (mut pieces, mut map) = (Vec::new(), Vec::new());
    for (tag, content) in fields(bytes) {
        let inner = || fields(&content);
        let find = |wanted| inner().into_iter().find(|(tag, _)| *tag == wanted).map(|(_, b)| b);
        match tag {
            1 => {
                let score = find(2).map_or(0.0, |b| f32::from_le_bytes(b.try_into().unwrap()));
                pieces.push((String::from_utf8(find(1).unwrap()).unwrap(), f64::from(score)));
            }
            3 => map = find(2).unwrap(),
            _ => {}
        }
    }
    (pieces, map)
}

#[test]
fn tokenizer_json_is_read_and_its_own_lengths_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
    let json = T5Tokenizer::load(folder.path()).unwrap();
    let spiece = T5Tokenizer::load(&fixture("ella-tiny/text_encoder")).unwrap();
    let texts: Vec<Line> =
        lines().into_iter().filter(|l| l.text.is_ascii() && !l.text.contains('<')).collect();
    assert!(texts.len() >= 10);
    for line in &texts {
        let expected: Vec<u32> = line.ids.iter().copied().chain([1]).collect();
        for tokenizer in [&json, &spiece] {
            let prompt = tokenizer.encode(&line.text).unwrap();
            assert_eq!(prompt.ids, expected, "{:?}", line.text);
            assert_eq!((prompt.length, prompt.full_length), (expected.len(), expected.len()));
        }
    }
}

#[test]
fn a_fixed_length_keeps_the_end_and_says_what_was_cut() {
    let tokenizer = T5Tokenizer::load(&fixture("ella-tiny/text_encoder")).unwrap();
    let own = tokenizer.encode("a small cat").unwrap();
    let length = own.length;
    assert!(length > 3 && own.ids[length - 1] == 1 && !own.truncated());

    let padded = tokenizer.encode_to("a small cat", length + 3).unwrap();
    assert_eq!(padded.ids[..length], own.ids);
    assert_eq!(padded.ids[length..], [0, 0, 0]);
    assert_eq!((padded.length, padded.truncated()), (length, false));

    let fitting = tokenizer.encode_to("a small cat", length).unwrap();
    assert_eq!((fitting.ids.as_slice(), fitting.truncated()), (own.ids.as_slice(), false));

    let cut = tokenizer.encode_to("a small cat", length - 1).unwrap();
    assert_eq!(cut.ids[..length - 2], own.ids[..length - 2]);
    assert_eq!(cut.ids[length - 2], 1);
    assert_eq!((cut.length, cut.full_length, cut.truncated()), (length - 1, length, true));
    assert_eq!(tokenizer.encode("").unwrap().ids, [1]);
}

#[test]
fn unusable_files_are_refused_in_a_sentence() {
    let refusal = |files: &[(&str, &[u8])]| {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        format!("{:#}", T5Tokenizer::load(folder.path()).err().unwrap())
    };
    let nothing = refusal(&[]);
    assert!(nothing.contains("tokenizer.json nor spiece.model"), "{nothing}");
    let bytes = std::fs::read(spiece()).unwrap();
    let cut = refusal(&[("spiece.model", &bytes[..bytes.len() / 2])]);
    assert!(cut.contains("spiece.model") && cut.contains("cut"), "{cut}");
    // Trainer settings: another model type (BPE), fallback to bytes.
    let pairs = refusal(&[("spiece.model", &[&bytes[..], &[0x12, 2, 0x18, 2]].concat())]);
    assert!(pairs.contains("model type is 2"), "{pairs}");
    let fallback = [&bytes[..], &[0x12, 3, 0x98, 0x02, 1]].concat();
    let fallback = refusal(&[("spiece.model", &fallback)]);
    assert!(fallback.contains("falls back to bytes"), "{fallback}");
    let defined = [&bytes[..], &[0x0a, 5, 0x0a, 1, b'x', 0x18, 4]].concat();
    let defined = refusal(&[("spiece.model", &defined)]);
    assert!(defined.contains("piece `x`") && defined.contains("type 4"), "{defined}");
    let mut other = tokenizer_json();
    other["added_tokens"] = serde_json::json!([]);
    other["model"]["vocab"][1][0] = "<end>".into();
    let other = refusal(&[("tokenizer.json", other.to_string().as_bytes())]);
    assert!(other.contains("</s>"), "{other}");
    let broken = refusal(&[("tokenizer.json", b"{}"), ("spiece.model", &bytes)]);
    assert!(broken.contains("tokenizer.json"), "{broken}");
}
