//! In: the goldens of `tests/fixtures/make_bert.py`. Checks: the blocks put together equal transformers'
//! BERT encoder and BLIP's decoder, whole and step by step with rows that change places.

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::json;

use super::*;
use crate::checkpoint::weights::Weights;
use crate::compute::golden::{Golden, errors};

const SIZE: BertSize =
    BertSize { width: 24, inner: 40, heads: 3, activation: Activation::Gelu, eps: 1e-12 };
const VOCABULARY: usize = 30;
const POSITIONS: usize = 12;

fn weights(name: &str) -> Weights {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert");
    let path = path.join(format!("{name}.safetensors"));
    Weights::open_file(&path, DType::F32, &Device::Cpu).unwrap()
}

fn equals(name: &str, ours: &Tensor, golden: &Tensor) -> bool {
    errors(name, ours, golden).within(5e-6, 5e-5)
}

fn layers(scope: &Scope, size: BertSize, encoder_width: Option<usize>) -> Vec<BertLayer> {
    let scope = scope.at("encoder.layer");
    (0..2).map(|number| BertLayer::load(&scope.at(number), size, encoder_width).unwrap()).collect()
}

/// For every row of texts of these `lengths`, the rows of its own text up to itself.
fn causal_spans(lengths: &[usize]) -> Vec<Range<usize>> {
    let rows = spans(lengths).into_iter().enumerate();
    rows.map(|(row, span)| span.start..row + 1).collect()
}

fn lengths(golden: &Golden) -> Vec<usize> {
    let lengths: Vec<i64> = golden.get("golden.lengths").to_vec1().unwrap();
    lengths.into_iter().map(|length| length as usize).collect()
}

fn ids(golden: &Golden) -> Vec<Vec<u32>> {
    golden.get("golden.ids").to_dtype(DType::U32).unwrap().to_vec2().unwrap()
}

#[test]
fn an_encoder_equals_transformers() {
    let (golden, weights) = (Golden::open("../bert/encoder"), weights("encoder"));
    let lengths = lengths(&golden);
    let texts: Vec<Vec<u32>> =
        ids(&golden).iter().zip(&lengths).map(|(row, length)| row[..*length].to_vec()).collect();
    let run = |size: BertSize, segments: Option<usize>, seen: &[Range<usize>]| {
        let (root, n) = (weights.root(), POSITIONS);
        let scope = root.at("embeddings");
        let words = BertEmbeddings::load(&scope, size, VOCABULARY, n, segments).unwrap();
        let start = words.forward_texts(&texts).unwrap();
        layers(&root, size, None).iter().fold(start, |x, layer| {
            layer.forward(&x, &SelfAttentionMask::new(seen.to_vec()), None).unwrap()
        })
    };
    let expected = golden.get("golden.states");
    let ours = run(SIZE, Some(2), &spans(&lengths));
    assert!(equals("encoder", &ours, &expected));
    for wrong in ["no_mask", "tanh", "eps", "heads"] {
        assert!(!equals(wrong, &ours, &golden.get(&format!("golden.wrong.{wrong}"))));
    }
    let all: Vec<Range<usize>> = vec![0..texts.concat().len(); texts.concat().len()];
    assert!(!equals("sees other texts", &run(SIZE, Some(2), &all), &expected));
    assert!(!equals("causal", &run(SIZE, Some(2), &causal_spans(&lengths)), &expected));
    assert!(!equals("no segments", &run(SIZE, None, &spans(&lengths)), &expected));
    let tanh = BertSize { activation: Activation::GeluTanh, ..SIZE };
    let ours = run(tanh, Some(2), &spans(&lengths));
    assert!(!equals("tanh", &ours, &expected));
    assert!(equals("tanh", &ours, &golden.get("golden.wrong.tanh")));
}

struct Decoder {
    golden: Golden,
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    head: BertWordPrediction,
}

impl Decoder {
    fn load() -> Self {
        let weights = weights("decoder");
        let (bert, head) = (weights.root().at("bert"), weights.root().at("cls.predictions"));
        let scope = bert.at("embeddings");
        let embeddings = BertEmbeddings::load(&scope, SIZE, VOCABULARY, POSITIONS, None).unwrap();
        let table = embeddings.words.clone();
        Self {
            golden: Golden::open("../bert/decoder"),
            layers: layers(&bert, SIZE, Some(20)),
            head: BertWordPrediction::load(&head, SIZE, table).unwrap(),
            embeddings,
        }
    }

    /// Keys and values of the two questions' states, one after the other, cut to `lengths`.
    fn crossed(&self, lengths: &[usize]) -> Vec<KeysAndValues> {
        let states = self.golden.get("golden.states");
        let parts: Vec<Tensor> = (0..2)
            .map(|number| states.get(number).unwrap().narrow(0, 0, lengths[number]).unwrap())
            .collect();
        let states = Tensor::cat(&parts, 0).unwrap();
        self.layers.iter().map(|layer| layer.cross_keys_and_values(&states).unwrap()).collect()
    }
}

#[test]
fn a_decoder_equals_transformers() {
    let decoder = Decoder::load();
    let (golden, texts) = (&decoder.golden, ids(&decoder.golden));
    let run = |lengths: &[usize], seen: &[Range<usize>]| {
        // Two texts of five tokens see the first question, two the second.
        let ends = [0..lengths[0], lengths[0]..lengths[0] + lengths[1]];
        let keys: Vec<Range<usize>> = (0..20).map(|row| ends[row / 10].clone()).collect();
        // The second question first: rows may come in any order.
        let rows: Vec<usize> = (10..20).chain(0..10).collect();
        let keys: Vec<Range<usize>> = rows.iter().map(|row| keys[*row].clone()).collect();
        let mut x = decoder.embeddings.forward_texts(&texts).unwrap();
        for (layer, crossed) in decoder.layers.iter().zip(decoder.crossed(lengths)) {
            let group = Group::new(&rows, vec![crossed.seen(&keys)]);
            x = layer.forward(&x, &SelfAttentionMask::new(seen.to_vec()), Some(&[group])).unwrap();
        }
        decoder.head.forward(&x).unwrap().reshape((4, 5, VOCABULARY)).unwrap()
    };
    let (expected, lengths) = (golden.get("golden.logits"), lengths(golden));
    let ours = run(&lengths, &causal_spans(&[5; 4]));
    assert!(equals("decoder", &ours, &expected));
    assert!(!equals("not causal", &run(&lengths, &spans(&[5; 4])), &expected));
    let padded = run(&[6, 6], &causal_spans(&[5; 4]));
    assert!(!equals("padding seen", &padded, &expected));
    assert!(equals("padding seen", &padded, &golden.get("golden.wrong.no_mask")));
}

/// The two texts of a question change places before the second, third and fifth token.
#[test]
fn a_decoder_step_by_step_follows_its_rows() {
    let decoder = Decoder::load();
    let (golden, texts) = (&decoder.golden, ids(&decoder.golden));
    let lengths = lengths(golden);
    let crossed = decoder.crossed(&lengths);
    let run = |follow: bool| {
        let mut kv_caches = vec![None; 2];
        let mut order = [0, 1, 2, 3];
        let mut logits = Vec::new();
        for (step, swapped) in [false, true, true, false, true].into_iter().enumerate() {
            let parents = if swapped { [1u32, 0, 3, 2] } else { [0, 1, 2, 3] };
            order = parents.map(|parent| order[parent as usize]);
            let parents = if follow { parents } else { [0, 1, 2, 3] };
            let parents = Tensor::new(&parents, &Device::Cpu).unwrap();
            let tokens: Vec<u32> = order.iter().map(|text| texts[*text][step]).collect();
            let mut x = decoder.embeddings.forward(&tokens, &[step as u32; 4]).unwrap();
            for ((layer, past), crossed) in decoder.layers.iter().zip(&mut kv_caches).zip(&crossed)
            {
                let keys = [vec![0..lengths[0]; 2], vec![lengths[0]..lengths[0] + lengths[1]; 2]];
                let groups = [
                    Group::new(&[0, 1], vec![crossed.seen(&keys[0])]),
                    Group::new(&[2, 3], vec![crossed.seen(&keys[1])]),
                ];
                x = layer.forward_after(&x, past, &parents, Some(&groups)).unwrap();
            }
            let of_text = |text: usize| order.iter().position(|other| *other == text).unwrap();
            let rows: Vec<u32> = (0..4).map(|text| of_text(text) as u32).collect();
            let rows = Tensor::new(&rows[..], &Device::Cpu).unwrap();
            logits.push(decoder.head.forward(&x).unwrap().index_select(&rows, 0).unwrap());
        }
        Tensor::stack(&logits, 1).unwrap()
    };
    let expected = golden.get("golden.logits");
    assert!(equals("step by step", &run(true), &expected));
    assert!(!equals("rows do not follow", &run(false), &expected));
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let decoder = Decoder::load();
    let refusal =
        |ids: &[u32], at: &[u32]| decoder.embeddings.forward(ids, at).unwrap_err().to_string();
    assert!(refusal(&[1, 30], &[0, 1]).contains("30"));
    assert!(refusal(&[1, 2], &[0, 12]).contains("12 positions"));
    assert!(refusal(&[1, 2], &[0]).contains("2 tokens"));
    let weights = weights("encoder");
    let plain = BertLayer::load(&weights.root().at("encoder.layer.0"), SIZE, None).unwrap();
    let states = Tensor::zeros((2, 24), DType::F32, &Device::Cpu).unwrap();
    assert!(plain.cross_keys_and_values(&states).is_err());
}

#[test]
fn sizes_come_from_the_configuration() {
    let read = |values: serde_json::Value| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), values.to_string()).unwrap();
        BertSize::from_config(&Config::read(folder.path()).unwrap())
    };
    let own = json!({
        "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    });
    assert_eq!(read(own).unwrap(), SIZE);
    let usual = BertSize { width: 768, inner: 3072, heads: 12, ..SIZE };
    assert_eq!(read(json!({})).unwrap(), usual);
    assert!(read(json!({"hidden_act": "mish"})).unwrap_err().to_string().contains("hidden_act"));
    let message = read(json!({"num_attention_heads": 7})).unwrap_err().to_string();
    assert!(message.contains("num_attention_heads"), "{message}");
}

#[test]
fn the_goldens_are_those_of_their_provenance() {
    use sha2::{Digest, Sha256};
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read(fixtures.join("bert/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let digests = provenance["sha256"].as_object().unwrap();
    assert_eq!(digests.len(), 2);
    for (file, digest) in digests {
        let bytes = std::fs::read(fixtures.join(file)).unwrap();
        let ours: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, digest.as_str().unwrap(), "{file}");
    }
}
