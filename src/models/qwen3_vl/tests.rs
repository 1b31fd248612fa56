//! In: the tiny checkpoints and goldens of `tests/fixtures/make_qwen3_vl.py`. Checks: both networks equal
//! transformers picture by picture and token by token, with questions read together and alone, and the
//! errors that a wrong reading would make are seen.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::*;
use crate::compute::golden::{Golden, errors};

/// Bounds on the relative and the largest absolute error, for states and logits of order one to ten.
const RELATIVE: f64 = 5e-6;
const ABSOLUTE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(kind: &str, dtype: DType) -> Qwen3Vl {
    Qwen3Vl::load(&fixtures().join(format!("qwen3-vl-{kind}")), dtype, &Device::Cpu).unwrap()
}

fn goldens(kind: &str) -> Golden {
    Golden::open(&format!("../qwen3-vl-golden/{kind}"))
}

/// A picture and a question, as tokens, with the reply.
struct Case {
    picture: String,
    grid: Grid,
    before: Vec<u32>,
    after: Vec<u32>,
    reply: Vec<u32>,
    /// Which of the picture's questions it is.
    number: usize,
}

fn cases(kind: &str) -> Vec<Case> {
    let text = std::fs::read(fixtures().join("qwen3-vl-golden/cases.json")).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let numbers = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let mut cases: Vec<Case> = Vec::new();
    for case in all.iter().filter(|case| case["checkpoint"] == kind) {
        let grid = numbers(&case["grid"]);
        let ids = numbers(&case["ids"]);
        let pad = load_image_token();
        let first = ids.iter().position(|id| *id == pad).unwrap();
        let after = ids.iter().rposition(|id| *id == pad).unwrap() + 1;
        let picture = case["picture"].as_str().unwrap().to_owned();
        cases.push(Case {
            number: cases.iter().filter(|case| case.picture == picture).count(),
            picture,
            grid: Grid { rows: grid[1] as usize, columns: grid[2] as usize },
            before: ids[..first].to_vec(),
            after: ids[after..].to_vec(),
            reply: numbers(&case["reply_ids"]),
        });
    }
    assert!(cases.len() >= 4);
    cases
}

fn load_image_token() -> u32 {
    let path = fixtures().join("qwen3-vl-tied/config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    config["image_token_id"].as_u64().unwrap() as u32
}

fn near(name: &str, ours: &Tensor, golden: &Tensor) -> bool {
    errors(name, ours, golden).within(RELATIVE, ABSOLUTE)
}

#[test]
fn pictures_are_seen_as_transformers_sees_them() {
    for kind in ["tied", "untied"] {
        let (model, golden) = (load(kind, DType::F32), goldens(kind));
        for case in cases(kind).iter().filter(|case| case.number == 0) {
            let get = |name: &str| golden.get(&format!("{}.{name}", case.picture));
            let seen = model.encode_image(&get("patches"), case.grid).unwrap();
            assert!(near(&format!("{kind} {} tokens", case.picture), &seen.tokens, &get("vision")));
            assert_eq!(seen.deepstack.len(), 2);
            for (level, ours) in seen.deepstack.iter().enumerate() {
                let golden = get(&format!("deepstack.{level}"));
                assert!(near(&format!("{kind} {} {level}", case.picture), ours, &golden));
            }
            assert!(!near("levels swapped", &seen.deepstack[0], &get("deepstack.1")));
            let turned = Grid { rows: case.grid.columns, columns: case.grid.rows };
            let turned = model.encode_image(&get("patches"), turned).unwrap();
            assert!(!near("grid turned", &turned.tokens, &get("vision")));
        }
    }
}

/// Logits of every token of a case, through a beginning and a rest cut at the picture's end.
fn all_logits(model: &Qwen3Vl, image: &ImageStates, case: &Case) -> Tensor {
    let (beginning, first) = model.read_beginning(&case.before, image, &case.after[..1]).unwrap();
    let rest = vec![case.after[1..].to_vec()];
    let (_, second) = model.read_texts(&beginning, &rest).unwrap();
    model.language.logits(&Tensor::cat(&[first, second], 0).unwrap()).unwrap()
}

#[test]
fn every_token_of_a_prompt_has_the_logits_of_transformers() {
    for kind in ["tied", "untied"] {
        let (model, golden) = (load(kind, DType::F32), goldens(kind));
        let mut compared = 0;
        for case in cases(kind) {
            let name = format!("{}.{}.logits", case.picture, case.number);
            if case.number > 0 && case.picture != "rounded" || case.number > 1 {
                continue;
            }
            let patches = golden.get(&format!("{}.patches", case.picture));
            let image = model.encode_image(&patches, case.grid).unwrap();
            let expected = golden.get(&name);
            assert!(near(&format!("{kind} {name}"), &all_logits(&model, &image, &case), &expected));
            compared += 1;
            let no_taps =
                ImageStates { deepstack: Vec::new(), tokens: image.tokens.clone(), ..image };
            assert!(!near("without DeepStack", &all_logits(&model, &no_taps, &case), &expected));
            let in_a_row = ImageStates { rows: 1, columns: image.rows * image.columns, ..no_taps };
            let in_a_row = ImageStates { deepstack: image.deepstack.clone(), ..in_a_row };
            assert!(!near("tokens in a row", &all_logits(&model, &in_a_row, &case), &expected));
        }
        assert!(compared >= 3);
    }
}

/// Greedy replies of up to eight tokens to all of a picture's questions together.
fn replies(
    model: &Qwen3Vl,
    beginning: &Beginning,
    texts: &[Vec<u32>],
    ends: &[u32],
) -> Vec<Vec<u32>> {
    let best = |logits: &Tensor| -> Vec<u32> { logits.argmax(1).unwrap().to_vec1().unwrap() };
    let (mut going, logits) = model.read(beginning, texts).unwrap();
    let mut replies = vec![Vec::new(); texts.len()];
    let mut live: Vec<usize> = (0..texts.len()).collect();
    let mut next = best(&logits);
    loop {
        for (text, token) in live.iter().zip(&next) {
            replies[*text].push(*token);
        }
        let tokens: Vec<(usize, u32)> = live
            .iter()
            .copied()
            .zip(next)
            .filter(|(text, token)| !ends.contains(token) && replies[*text].len() < 8)
            .collect();
        if tokens.is_empty() {
            return replies;
        }
        live = tokens.iter().map(|(text, _)| *text).collect();
        next = best(&going.go_on(&tokens).unwrap());
    }
}

#[test]
fn questions_read_together_get_the_replies_of_transformers() {
    for (kind, dtype) in [
        ("tied", DType::F32),
        ("tied", DType::BF16),
        ("untied", DType::F32),
        ("untied", DType::BF16),
    ] {
        let (model, golden) = (load(kind, dtype), goldens(kind));
        let all = cases(kind);
        for first in all.iter().filter(|case| case.number == 0) {
            let patches = golden.get(&format!("{}.patches", first.picture));
            let image = model.encode_image(&patches, first.grid).unwrap();
            let beginning = model.begin(&first.before, &image, &first.after[..1]).unwrap();
            let of_picture: Vec<&Case> =
                all.iter().filter(|case| case.picture == first.picture).collect();
            let texts: Vec<Vec<u32>> =
                of_picture.iter().map(|case| case.after[1..].to_vec()).collect();
            let expected: Vec<Vec<u32>> =
                of_picture.iter().map(|case| case.reply.clone()).collect();
            // <|im_end|> and <|endoftext|>.
            let together = replies(&model, &beginning, &texts, &[352, 350]);
            assert_eq!(together, expected, "{kind} {dtype:?} {}", first.picture);
            let alone: Vec<Vec<u32>> = texts
                .iter()
                .flat_map(|text| {
                    replies(&model, &beginning, std::slice::from_ref(text), &[352, 350])
                })
                .collect();
            assert_eq!(alone, expected);
        }
    }
}

#[test]
fn weights_of_sixteen_bits_give_the_numbers_of_f32() {
    let golden = goldens("untied");
    let [exact, narrow] = [DType::F32, DType::BF16].map(|dtype| load("untied", dtype));
    let case = &cases("untied")[0];
    let patches = golden.get("whole.patches");
    let [exact, narrow] = [exact, narrow].map(|model| {
        let image = model.encode_image(&patches, case.grid).unwrap();
        all_logits(&model, &image, case)
    });
    assert!(errors("bf16 weights", &narrow, &exact).within(2e-6, 2e-5));
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = load("tied", DType::F32);
    let patches = goldens("tied").get("whole.patches");
    for (rows, columns) in [(5, 12), (6, 8), (0, 0)] {
        let error = model.encode_image(&patches, Grid { rows, columns }).unwrap_err().to_string();
        assert!(error.contains("are no grid of"), "{error}");
    }
    let image = model.encode_image(&patches, Grid { rows: 6, columns: 10 }).unwrap();
    assert!(model.begin(&[9999], &image, &[]).unwrap_err().to_string().contains("9999"));
    let beginning = model.begin(&[], &image, &[]).unwrap();
    assert!(model.read(&beginning, &[]).is_err());
    assert!(model.read(&beginning, &[vec![1], vec![]]).is_err());
    let (mut replies, _) = model.read(&beginning, &[vec![1], vec![2, 3]]).unwrap();
    for tokens in [&[(2, 1)][..], &[(1, 1), (0, 1)], &[(0, 1), (0, 1)], &[]] {
        assert!(replies.go_on(tokens).unwrap_err().to_string().contains("cannot go on"));
    }
}
