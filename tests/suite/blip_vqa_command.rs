//! `dpg-bench judge --judge blip-vqa` as a process, on the pictures of fixtures/blip-vqa-golden: what it
//! records, how it resumes, and what it refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dpg_bench::benchmark::{Benchmark, Selection, Strictness};
use dpg_bench::results::RunDirectory;
use dpg_bench::results::image_store::{pixels_sha256, write_png};
use dpg_bench::results::manifest::{BenchmarkIdentity, to_settings};
use dpg_bench::results::{AnswerOutcome, ImageOutcome, ImageRecord};
use serde_json::{Value, json};

use super::blip_vqa::expected;
use super::tiny_checkpoint::fixture;

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
window,A photograph of a bakery window.,,1,0,global,,global - (photograph),Is this a photograph?
window,A photograph of a bakery window.,,2,0,entity,whole,entity - whole (window),Is there a bakery window?
window,A photograph of a bakery window.,,3,0,other,text,\"other - text (sign)\",\"Is the sign dark green, with cream letters that read \"\"FRESH BREAD\"\" on it?\"
window,A photograph of a bakery window.,,4,2,entity,state,entity - state (café),Are the cafés signed?
window,A photograph of a bakery window.,,5,2,entity,whole,entity - whole (cat),\"Is 猫 there, or 2 dogs?\"
window,A photograph of a bakery window.,,6,0,entity,whole,entity - whole (it),is it
";

/// A run with the fixture's questions, and `more` of them, about its two pictures.
fn make_run(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("questions.csv");
    std::fs::write(&path, format!("{QUESTIONS}{more}")).unwrap();
    let benchmark = Benchmark::load(&path, Strictness::Strict).unwrap();
    let identity = BenchmarkIdentity {
        path: path.display().to_string(),
        digest: benchmark.digest.clone(),
        official: false,
        items: 1,
        questions: benchmark.question_count() as u64,
        lenient: false,
    };
    let selection = to_settings(&Selection::default()).unwrap();
    let run = RunDirectory::open_or_create(&folder.join("run"), identity, selection, 2).unwrap();
    let (mut journal, _) = run.open_images().unwrap();
    for image in 0..2 {
        let picture = fixture(&format!("blip-vqa-golden/{image}.png"));
        let pixels = image::open(picture).unwrap().to_rgb8();
        write_png(&run.image_path("window", image), &pixels, &[]).unwrap();
        let outcome = ImageOutcome::Done {
            pixels_sha256: pixels_sha256(&pixels),
            width: pixels.width(),
            height: pixels.height(),
            seed: None,
            prompt_tokens: None,
            truncated: None,
            source: None,
            control_sha256: None,
            served: None,
        };
        journal.append(&ImageRecord { item: "window".to_owned(), image, outcome }).unwrap();
    }
    run.path().to_path_buf()
}

fn judge(run: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    let weights = fixture("blip-vqa-tiny");
    command.arg("judge").arg(run).args(["--judge", "blip-vqa"]);
    command.arg("--judge-weights").arg(weights).args(more).output().unwrap()
}

#[test]
fn the_command_records_the_answers_of_transformers_and_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path(), "");
    let output = judge(&run, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("2 of 2 images judged, 12 answers"), "{said}");
    let opened = RunDirectory::open(&run).unwrap();
    let records = opened.read_answers("blip-vqa").unwrap();
    let given: Vec<&AnswerOutcome> = records
        .iter()
        .flat_map(|record| record.answers.iter().map(|answer| &answer.outcome))
        .collect();
    let expected = expected();
    let answers = expected["answers"].as_array().unwrap();
    assert_eq!(given.len(), answers.len());
    for (given, answer) in given.iter().zip(answers) {
        let AnswerOutcome::Answered { text, raw, yes_probability } = given else {
            panic!("{given:?}")
        };
        assert_eq!((text.as_str(), raw), (answer["text"].as_str().unwrap(), &None));
        let probability = answer["yes_probability"].as_f64().unwrap();
        assert!((yes_probability.unwrap() - probability).abs() < 1e-5);
    }
    let settings = serde_json::to_value(&opened.manifest().judges["blip-vqa"].settings).unwrap();
    assert_eq!(settings["search"], json!({"greedy": true, "most_pieces": 20}));
    assert_eq!(settings["tensors_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(settings["files_sha256"].as_object().unwrap().len(), 3);

    let journal = run.join("answers/blip-vqa.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    // A kill tears the last line.
    std::fs::write(&journal, &whole[..whole.len() - 40]).unwrap();
    assert_eq!(judge(&run, &[]).status.code(), Some(0));
    assert_eq!(std::fs::read(&journal).unwrap(), whole);
    // Scored, the summary names them too.
    let scored = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(["score", "--json"])
        .arg(&run)
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&scored.stdout).unwrap();
    assert_eq!(summary["judge"]["settings"], settings);

    let two = judge(&run, &["--judge-device", "cpu,cpu", "--judge-name", "two"]);
    assert_eq!(two.status.code(), Some(0), "{}", String::from_utf8_lossy(&two.stderr));
    assert_eq!(std::fs::read(run.join("answers/two.jsonl")).unwrap(), whole);
    let manifest = RunDirectory::open(&run).unwrap().manifest().clone();
    let device = &manifest.judges["two"].sittings[0].device;
    assert_eq!(device.matches("cpu").count(), 2, "{device}");

    let other = judge(&run, &["--judge-dtype", "bf16"]);
    assert_eq!(other.status.code(), Some(2));
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("dtype: \"f32\" in the run, \"bf16\" now"), "{said}");
    let half =
        judge(&run, &["--judge-dtype", "bf16", "--judge-name", "half", "--judge-revision", "v7"]);
    assert_eq!(half.status.code(), Some(0), "{}", String::from_utf8_lossy(&half.stderr));
    let manifest = RunDirectory::open(&run).unwrap().manifest().clone();
    assert_eq!(manifest.judges["half"].settings["revision"], "v7");
}

#[test]
fn a_question_that_is_too_long_fails_and_leaves_the_others_their_answers() {
    let long = format!(
        "window,A photograph of a bakery window.,,7,0,entity,whole,entity - whole (it),{}it\n",
        "is ".repeat(50)
    );
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path(), &long);
    let output = judge(&run, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("question 7: the question has 53 word pieces"), "{said}");
    let records = RunDirectory::open(&run).unwrap().read_answers("blip-vqa").unwrap();
    let answered = |record: &dpg_bench::results::AnswerRecord| {
        record.answers.iter().filter(|answer| answer.outcome.is_answered()).count()
    };
    assert_eq!(records.iter().map(answered).collect::<Vec<_>>(), [6, 6]);
    // Asked again it fails again, and nothing new is written.
    let journal = run.join("answers/blip-vqa.jsonl");
    let before = std::fs::read(&journal).unwrap();
    assert_eq!(judge(&run, &[]).status.code(), Some(3));
    assert_eq!(std::fs::read(&journal).unwrap(), before);
}
