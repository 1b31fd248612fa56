//! Replies of real servers (fixtures/endpoint, recorded by record_endpoint.py; those of vLLM are built after its
//! source), played to the endpoint judge over HTTP; and the judge that computes here on the same pictures and
//! questions: one judge, whichever way it is asked.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use dpg_bench::compute::device::Place;
use dpg_bench::judge::Judge;
use dpg_bench::judge::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use dpg_bench::results::AnswerOutcome;
use serde_json::Value;

use super::endpoint::{Judged, judge, options};
use super::loopback::{Loopback, Reply};
use super::qwen3_vl::ask;
use super::tiny_checkpoint::fixture;

/// The exchanges of a server, by their names; of several with one name, all.
fn recorded(server: &str) -> BTreeMap<String, Vec<Value>> {
    let text = std::fs::read(fixture(&format!("endpoint/{server}.json"))).unwrap();
    let record: Value = serde_json::from_slice(&text).unwrap();
    let mut exchanges: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for exchange in record["exchanges"].as_array().unwrap() {
        let name = exchange["name"].as_str().unwrap().to_owned();
        exchanges.entry(name).or_default().push(exchange.clone());
    }
    exchanges
}

fn reply(exchange: &Value) -> Reply {
    let status = exchange["status"].as_u64().unwrap() as u16;
    let headers = match exchange["content_type"].as_str() {
        Some(kind) => vec![format!("content-type: {kind}")],
        None => vec![],
    };
    Reply::Status(status, headers, exchange["body"].as_str().unwrap().to_owned())
}

/// Judges an item where every question gets this reply, and `without` where it comes without its picture.
fn play(with: &Value, without: Option<&Value>) -> Judged {
    let (with, without) = (with.clone(), without.cloned());
    let probe = without.is_some();
    let server = Loopback::start_blind(move |request| match &without {
        Some(without) if request.is_blind() => reply(without),
        _ => reply(&with),
    });
    let mut options = options(&server);
    options.probe = probe;
    options.retries = 1;
    judge(1, options)
}

/// What the first question was answered with: text, raw, P(yes), whether the reply was cut.
fn first(judged: &Judged) -> (String, Option<String>, Option<f64>, bool) {
    let record = &judged.run.read_answers("j").unwrap()[0];
    let answer = record.answers[0].clone();
    match answer.outcome {
        AnswerOutcome::Answered { text, raw, yes_probability } => {
            (text, raw, yes_probability, answer.reply_cut)
        }
        AnswerOutcome::Failed { reason } => panic!("{reason}"),
    }
}

#[test]
fn transformers_serve_is_understood() {
    let recorded = recorded("transformers-serve");
    let one = |name: &str| &recorded[name][0];
    let judged = play(one("picture-0"), Some(one("no-picture-0")));
    assert_eq!(first(&judged), ("yes".to_owned(), Some("Yes".to_owned()), None, false));
    // It ignores logprobs, and wants no key.
    assert!(judged.remarks[0].contains("gave no logprobs"), "{:?}", judged.remarks);
    assert_eq!(first(&play(one("any-key"), None)).0, "yes");
    assert_eq!(
        first(&play(one("cut"), None)),
        ("yes".to_owned(), Some("Yes".to_owned()), None, true)
    );
    let blind = play(one("text-only-picture-0"), Some(one("text-only-no-picture-0")));
    assert!(blind.error().contains("does not show the images"), "{}", blind.error());
    for (name, hint) in [
        ("unknown-field", "Unexpected fields in the request: {'top_k'}"),
        ("wrong-path", "check --judge-url"),
        // It says no more.
        ("unknown-model", "--judge-model"),
        ("broken-picture", "an image that they cannot read"),
        ("no-json", "JSON decode error"),
    ] {
        let error = play(one(name), None).error();
        assert!(error.contains(hint), "{name}: {error}");
    }
}

#[test]
fn litellm_is_understood() {
    let recorded = recorded("litellm");
    let one = |name: &str| &recorded[name][0];
    let judged = play(one("picture"), Some(one("no-picture")));
    assert_eq!(first(&judged).0, "yes");
    let passed_on = play(one("logprobs-passed-on"), None);
    let (text, _, probability, _) = first(&passed_on);
    assert_eq!(text, "yes");
    let expected = yes_of_vllm();
    assert!((probability.unwrap() - expected).abs() < 1e-12, "{probability:?}");
    // Its mock counts the same tokens whatever is asked.
    let mock = play(one("mock"), Some(one("mock")));
    assert!(mock.error().contains("does not show the images"), "{}", mock.error());
    for (name, hint) in [
        ("unknown-model", "does not know the model"),
        ("wrong-key", "refuses the key"),
        ("unknown-field", "Error code: 422"),
        ("no-key", "look into the server's log"),
        ("nobody-behind", "Connection error"),
        ("rate-limit", "mock rate limit error"),
        (
            "not-there-behind",
            "--judge-body '{\"logprobs\": null, \"seed\": null, \"top_logprobs\": null}'",
        ),
    ] {
        let error = play(one(name), None).error();
        assert!(error.contains(hint), "{name}: {error}");
    }
}

/// P(yes) of the replies of vLLM that begin with `Yes`.
fn yes_of_vllm() -> f64 {
    let (yes, no) = ((-0.25f64).exp() + (-5.5f64).exp(), (-1.75f64).exp());
    yes / (yes + no)
}

#[test]
fn vllm_is_understood() {
    let recorded = recorded("vllm");
    let one = |name: &str| &recorded[name][0];
    let no = (-1.0f64).exp() / ((-1.0f64).exp() + (-0.5f64).exp());
    for (name, text, probability, cut) in [
        ("yes", "yes", Some(yes_of_vllm()), false),
        // Read by its letters alone: what is no letter is no claim of the opposite.
        ("bytes-tokens", "yes", Some(yes_of_vllm()), false),
        ("thought-kept", "no", Some(no), false),
        ("thought-taken-out", "no", Some(no), false),
        ("thought-without-marks", "no", None, false),
        ("cut-thought", "No, wait. First I should look", None, true),
        ("empty", "", None, false),
        ("no-content", "", None, true),
    ] {
        let (found, _, found_probability, found_cut) = first(&play(one(name), None));
        assert_eq!((found.as_str(), found_cut), (text, cut), "{name}");
        match (found_probability, probability) {
            // Of an answer that says neither, the first token may still have one.
            (Some(_), None) if text.starts_with("No,") => {}
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() < 1e-12, "{name}: {found}")
            }
            (found, expected) => assert_eq!(found, expected, "{name}"),
        }
    }
    for (name, hint) in [
        ("unauthorized", "refuses the key (401 Unauthorized: Unauthorized)"),
        ("unknown-model", "does not know the model `tiny/vlm`"),
        ("fewer-logprobs", "--judge-body '{\"top_logprobs\": 5}'"),
        ("text-only", "takes no images"),
        ("broken-picture", "cannot take the image"),
        ("too-long", "--max-model-len"),
        ("abort", "finish_reason abort"),
        ("error", "finish_reason error"),
    ] {
        let error = play(one(name), None).error();
        assert!(error.contains(hint), "{name}: {error}");
    }
}

#[test]
fn a_judge_says_the_same_behind_a_server_and_here() {
    let recorded = recorded("transformers-serve");
    let place = Place { device: Device::Cpu, dtype: DType::F32 };
    let here = Qwen3VlJudge::load(Qwen3VlOptions::new(fixture("qwen3-vl-untied"), place)).unwrap();
    let mut kinds = Vec::new();
    for exchange in &recorded["whole"] {
        let question = exchange["asked"].as_str().unwrap();
        let ours = ask(&here, "whole", &[question]).remove(0).unwrap();
        let (text, raw, _, cut) = first(&play(exchange, None));
        assert_eq!((&ours.text, &ours.raw, ours.reply_cut), (&text, &raw, cut), "{question}");
        kinds.push(text);
    }
    assert!(kinds.len() == 3 && kinds.contains(&"yes".to_owned()), "{kinds:?}");
    assert!(kinds.iter().any(|text| text != "yes"), "{kinds:?}");
    assert_eq!(here.max_unparsable(), 0.2);
}
