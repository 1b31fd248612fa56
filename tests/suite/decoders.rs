//! Decoder-only language models, read as text encoders, against transformers (fixtures/decoders-golden, made by
//! make_decoders.py): their tokens and their hidden states.

use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dpg_bench::models::DecoderModel;
use dpg_bench::text::decoder::{DecoderTokenizer, PaddingSide};
use serde::Deserialize;
use serde_json::json;

use crate::tiny_checkpoint::{
    Bounds, Tensors, compare, configure, copy_of, edit, fixture, read, rows, sha256,
};

/// Hidden states of root mean square near 1.
const STATES: Bounds = Bounds { relative: 1e-5, absolute: 1e-4 };
const KINDS: [&str; 5] = ["llama", "llama3", "qwen3", "gemma3", "gemma3-whole"];
/// Tokens of text in the rows of the goldens, of 128.
const LENGTHS: [usize; 3] = [128, 7, 1];

fn load(folder: &Path) -> DecoderModel {
    DecoderModel::load(folder, DType::F32, &Device::Cpu).unwrap()
}

fn golden(kind: &str) -> Tensors {
    read(&fixture(&format!("decoders-golden/{kind}.safetensors")))
}

/// The rows `texts` of `states`, one after the other: [tokens, width].
fn of_texts(states: &Tensor, texts: &[Range<usize>]) -> Tensor {
    let parts = texts
        .iter()
        .enumerate()
        .map(|(row, text)| states.get(row).unwrap().narrow(0, text.start, text.len()).unwrap());
    Tensor::cat(&parts.collect::<Vec<_>>(), 0).unwrap()
}

fn right() -> Vec<Range<usize>> {
    LENGTHS.iter().map(|length| 0..*length).collect()
}

/// One text, as long as its row.
fn whole(length: usize) -> Vec<Range<usize>> {
    std::iter::once(0..length).collect()
}

#[test]
fn hidden_states_equal_transformers() {
    for kind in KINDS {
        let (model, golden) = (load(&fixture(&format!("decoders-tiny/{kind}"))), golden(kind));
        let ours = model.forward(&rows(&golden["ids"]), &right()).unwrap();
        if model.padding_sees_text(&(0..1), 128) {
            // The padding's own states too, since a connector sees them.
            compare(&format!("{kind} padded"), &ours, &golden["hidden"], STATES).unwrap();
            compare(kind, &ours, &golden["wrong.no_mask"], STATES).unwrap_err();
        } else {
            assert!(kind.starts_with("gemma3"), "{kind}");
            let (ours, golden) = (of_texts(&ours, &right()), of_texts(&golden["hidden"], &right()));
            compare(&format!("{kind} padded"), &ours, &golden, STATES).unwrap();
        }
        let left: Vec<Range<usize>> = LENGTHS.iter().map(|length| 128 - length..128).collect();
        let at_left = model.forward(&rows(&golden["left_ids"]), &left).unwrap();
        let (at_left, expected) =
            (of_texts(&at_left, &left), of_texts(&golden["left_hidden"], &left));
        compare(&format!("{kind} padded at the left"), &at_left, &expected, STATES).unwrap();
        // Each row alone, without padding.
        for (row, length) in LENGTHS.into_iter().enumerate() {
            let ids = rows(&golden["ids"])[row][..length].to_vec();
            let alone = model.forward(&[ids], &whole(length)).unwrap();
            let expected =
                golden["hidden"].narrow(0, row, 1).unwrap().narrow(1, 0, length).unwrap();
            compare(&format!("{kind} alone, {length} tokens"), &alone, &expected, STATES).unwrap();
        }
        let whole = ours.narrow(0, 0, 1).unwrap();
        let wrongs =
            golden.keys().filter(|name| name.starts_with("wrong.") && !name.ends_with("no_mask"));
        let wrongs: Vec<&String> = wrongs.collect();
        assert!(!wrongs.is_empty());
        for wrong in wrongs {
            compare(&format!("{kind} against {wrong}"), &whole, &golden[wrong], STATES)
                .unwrap_err();
        }
    }
}

/// Each key that changes the arithmetic must be felt, and files of older and newer libraries read alike.
#[test]
fn every_key_of_a_configuration_is_felt() {
    let states = |folder: &Path, kind: &str| {
        let golden = golden(kind);
        let ids = rows(&golden["ids"])[..1].to_vec();
        let ours = load(folder).forward(&ids, &whole(128)).unwrap();
        compare(kind, &ours, &golden["hidden"].narrow(0, 0, 1).unwrap(), STATES)
    };
    let run = |kind: &str, changes: serde_json::Value| {
        let folder = copy_of(&format!("decoders-tiny/{kind}"));
        configure(&folder.path().join("config.json"), &changes);
        states(folder.path(), kind)
    };
    let scaled = |key: &str, value: serde_json::Value| {
        let mut said = json!({
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        });
        if !key.is_empty() {
            said[key] = value;
        }
        said
    };
    for (kind, changes) in [
        ("llama", json!({"rope_theta": 9000.0})),
        ("llama", json!({"rms_norm_eps": 1e-3})),
        ("llama", json!({"hidden_act": "gelu"})),
        ("llama", json!({"rope_scaling": {"type": "linear", "factor": 2.0}})),
        ("llama3", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}})),
        ("llama3", json!({"rope_parameters": scaled("factor", json!(7.0))})),
        ("llama3", json!({"rope_parameters": scaled("low_freq_factor", json!(2.0))})),
        ("llama3", json!({"rope_parameters": scaled("high_freq_factor", json!(3.0))})),
        (
            "llama3",
            json!({"rope_parameters": scaled("original_max_position_embeddings", json!(48))}),
        ),
        ("qwen3", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})),
        (
            "qwen3",
            json!({"sliding_window": 16, "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                         "use_sliding_window": true}),
        ),
        ("gemma3", json!({"rope_theta": 10000.0})),
        ("gemma3", json!({"rope_local_base_freq": 1000000.0})),
        ("gemma3", json!({"sliding_window": 128})),
        ("gemma3", json!({"sliding_window": 17})),
        ("gemma3", json!({"sliding_window_pattern": 6})),
        ("gemma3", json!({"query_pre_attn_scalar": 16})),
        ("gemma3", json!({"hidden_activation": "gelu"})),
        ("gemma3", json!({"hidden_activation": "silu"})),
    ] {
        run(kind, changes.clone()).expect_err(&changes.to_string());
    }
    // The same in other words.
    for (kind, changes) in [
        (
            "llama",
            json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
        ),
        ("llama", json!({"head_dim": 8, "pretraining_tp": 4})),
        (
            "llama3",
            json!({"rope_parameters": null, "rope_theta": 500.0, "rope_scaling": scaled("", json!(0.0))}),
        ),
        ("qwen3", json!({"rope_parameters": null, "rope_theta": 1000000.0, "sliding_window": 16})),
        (
            "gemma3",
            json!({"layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
                          "sliding_window_pattern": 6}),
        ),
        (
            "gemma3",
            json!({"rope_theta": null, "rope_local_base_freq": null, "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}),
        ),
    ] {
        run(kind, changes.clone()).unwrap_or_else(|error| panic!("{kind} {changes}: {error}"));
    }
}

#[test]
fn a_configuration_that_asks_for_more_is_refused() {
    for (kind, changes, words) in [
        ("llama", json!({"model_type": "mistral"}), &["model_type", "mistral", "gemma3"][..]),
        ("llama", json!({"quantization_config": {"bits": 4}}), &["quantization_config"]),
        ("llama", json!({"num_key_value_heads": 3}), &["num_key_value_heads", "divide 4"]),
        ("llama", json!({"hidden_act": "swish2"}), &["hidden_act"]),
        ("llama", json!({"attention_bias": true}), &["self_attn.q_proj.bias"]),
        ("llama", json!({"mlp_bias": true}), &["mlp.gate_proj.bias"]),
        ("llama", json!({"num_hidden_layers": 2}), &["num_hidden_layers", "more layers"]),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
            &["rope_type", "yarn"],
        ),
        ("llama", json!({"rope_scaling": {"rope_type": "linear"}}), &["rope_scaling.factor"]),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32}}),
            &["beta_fast"],
        ),
        ("llama", json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor"]),
        ("qwen3", json!({"layer_types": ["full_attention"]}), &["layer_types", "3 names"]),
        (
            "qwen3",
            json!({"layer_types": ["linear_attention", "full_attention", "full_attention"]}),
            &["layer_types"],
        ),
        (
            "qwen3",
            json!({"layer_types": ["full_attention", "full_attention", "sliding_attention"]}),
            &["sliding_window"],
        ),
        ("gemma3", json!({"attn_logit_softcapping": 50.0}), &["attn_logit_softcapping"]),
        ("gemma3", json!({"use_bidirectional_attention": true}), &["use_bidirectional_attention"]),
        (
            "gemma3",
            json!({"rope_parameters": {"rope_type": "default"}}),
            &["rope_parameters", "sliding_attention"],
        ),
        ("gemma3-whole", json!({"text_config": null}), &["text_config"]),
    ] {
        let folder = copy_of(&format!("decoders-tiny/{kind}"));
        configure(&folder.path().join("config.json"), &changes);
        let loaded = DecoderModel::load(folder.path(), DType::F32, &Device::Cpu);
        let message = loaded.expect_err(&changes.to_string()).to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{changes}: {message}");
    }
    let folder = copy_of("decoders-tiny/llama");
    edit(&folder.path().join("model.safetensors"), |tensors| {
        tensors.remove("model.layers.1.mlp.up_proj.weight").unwrap();
    });
    let loaded = DecoderModel::load(folder.path(), DType::F32, &Device::Cpu);
    assert!(loaded.unwrap_err().to_string().contains("model.layers.1.mlp.up_proj.weight"));

    let model = load(&fixture("decoders-tiny/llama"));
    let refusal = |ids: &[Vec<u32>], texts: &[Range<usize>]| {
        model.forward(ids, texts).unwrap_err().to_string()
    };
    assert!(refusal(&[vec![5, 6], vec![7]], &[0..2, 0..1]).contains("one length"));
    assert!(refusal(&[vec![5, 4000]], &whole(2)).contains("4000"));
    for text in [0..0, 1..3, 2..2] {
        assert!(refusal(&[vec![5, 6]], &[text]).contains("no texts within"));
    }
}

#[test]
fn weights_of_sixteen_bits_give_nearly_the_same_states() {
    for kind in ["qwen3", "gemma3"] {
        let golden = golden(kind);
        let narrow = DecoderModel::load(
            &fixture(&format!("decoders-tiny/{kind}")),
            DType::F16,
            &Device::Cpu,
        );
        let narrow = narrow.unwrap();
        assert_eq!(narrow.dtype(), DType::BF16);
        let ours = narrow.forward(&rows(&golden["ids"])[..1], &whole(128)).unwrap();
        let expected = golden["hidden"].narrow(0, 0, 1).unwrap();
        compare(kind, &ours, &expected, Bounds { relative: 3e-2, absolute: 0.5 }).unwrap();
        compare(kind, &ours, &expected, STATES).unwrap_err();
    }
}

#[derive(Deserialize)]
struct Tokens {
    template: String,
    side: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    ids: Vec<u32>,
    /// Of the text in the template, whose special tokens are all there are.
    told_ids: Option<Vec<u32>>,
    fixed_ids: Option<Vec<u32>>,
    mask: Option<String>,
}

#[test]
fn tokens_equal_transformers() {
    for kind in ["llama", "llama3", "qwen3", "gemma3"] {
        let tokenizer = DecoderTokenizer::load(&fixture(&format!("decoders-tiny/{kind}"))).unwrap();
        let golden =
            std::fs::read(fixture(&format!("decoders-golden/{kind}-tokens.json"))).unwrap();
        let golden: Tokens = serde_json::from_slice(&golden).unwrap();
        let side = match golden.side.as_str() {
            "left" => PaddingSide::Left,
            _ => PaddingSide::Right,
        };
        assert_eq!(tokenizer.side(), side, "{kind}");
        let (mut fixed, mut cut) = (0, 0);
        for line in golden.lines {
            let encoded = tokenizer.encode(&line.text, true).unwrap();
            assert_eq!(encoded.ids, line.ids, "{kind} {:?}", line.text);
            assert!(!encoded.truncated());
            if let Some(ids) = line.told_ids {
                let told = golden.template.replace("{prompt}", &line.text);
                assert_eq!(tokenizer.encode(&told, false).unwrap().ids, ids, "{kind} {told:?}");
            }
            let Some(ids) = line.fixed_ids else { continue };
            let encoded = tokenizer.encode_to(&line.text, true, 128).unwrap();
            assert_eq!(encoded.ids, ids, "{kind} {:?}", line.text);
            let mask: String = (0..128)
                .map(|token| if encoded.text.contains(&token) { '1' } else { '0' })
                .collect();
            assert_eq!(mask, line.mask.unwrap());
            assert_eq!(encoded.full_length, line.ids.len());
            fixed += 1;
            cut += usize::from(encoded.truncated());
        }
        assert_eq!((fixed, cut), if kind == "llama3" { (0, 0) } else { (6, 1) }, "{kind}");
        // transformers 5 would not take the file of LLaMA 2 as it stands.
        assert_eq!(tokenizer.warning().is_some(), kind == "llama", "{kind}");
        if kind == "llama3" {
            let message = tokenizer.encode_to("a cat", true, 128).unwrap_err().to_string();
            assert!(message.contains("no padding token"), "{message}");
        }
    }
}

#[test]
fn what_a_tokenizers_files_say_is_heard() {
    let ids = |kind: &str, changes: serde_json::Value| {
        let folder = copy_of(&format!("decoders-tiny/{kind}"));
        configure(&folder.path().join("tokenizer_config.json"), &changes);
        DecoderTokenizer::load(folder.path())
            .map(|tokenizer| (tokenizer.encode("a cat", true).unwrap().ids, tokenizer.side()))
    };
    let (usual, side) = ids("llama", json!({})).unwrap();
    assert_eq!((usual[0], side), (1, PaddingSide::Right));
    let (without, _) = ids("llama", json!({"add_bos_token": false})).unwrap();
    assert_eq!(without, usual[1..]);
    let (ends, _) = ids("llama", json!({"add_eos_token": true})).unwrap();
    assert_eq!(ends, [&usual[..], &[2]].concat());
    // Its class pads at the left where nothing says otherwise.
    assert_eq!(ids("llama", json!({"padding_side": null})).unwrap().1, PaddingSide::Left);
    let object = json!({"content": "</s>", "lstrip": false});
    let (ends, _) = ids("llama", json!({"add_eos_token": true, "eos_token": object})).unwrap();
    assert_eq!(ends.last(), Some(&2));
    for (changes, word) in [
        (json!({"padding_side": "middle"}), "middle"),
        (json!({"pad_token": "<none>"}), "<none>"),
        (json!({"bos_token": "<none>"}), "<none>"),
    ] {
        let message = ids("llama", changes).err().unwrap().to_string();
        assert!(message.contains(word), "{message}");
    }
    let folder = copy_of("decoders-tiny/llama");
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let message = DecoderTokenizer::load(folder.path()).err().unwrap().to_string();
    assert!(message.contains("tokenizer.json is missing"), "{message}");
}

#[test]
fn the_fixtures_are_those_of_their_provenance() {
    let text = std::fs::read(fixture("decoders-golden/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let files = provenance["sha256"].as_object().unwrap();
    assert!(files.len() >= 25, "{}", files.len());
    for (file, digest) in files {
        assert_eq!(sha256(&fixture(file)), digest.as_str().unwrap(), "{file}");
    }
}
