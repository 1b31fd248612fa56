//! A judge whose answers are neither yes nor no, as a process: its score is withheld, and what compares runs takes
//! them for questions without an answer.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::judge_command::make_run;

fn dpg_bench(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A run in which `vague` of the 3 x 12 answers are neither yes nor no, and all others yes.
fn judged(folder: &Path, vague: usize) -> String {
    let run = make_run(folder);
    let mut csv = "item,image,question,answer\n".to_owned();
    let mut left = vague;
    for item in ["first", "second", "third"] {
        for image in 0..4 {
            for question in [1, 2, 3] {
                let answer = if left > 0 { "I would say so" } else { "yes" };
                left = left.saturating_sub(1);
                csv.push_str(&format!("{item},{image},{question},{answer}\n"));
            }
        }
    }
    let answers = folder.join("answers.csv");
    std::fs::write(&answers, csv).unwrap();
    let run = run.display().to_string();
    let answers = answers.display().to_string();
    let (code, _, text) =
        dpg_bench(&["judge", &run, "--judge", "scripted", "--judge-answers", &answers]);
    assert_eq!(code, Some(0), "{text}");
    run
}

#[test]
fn the_score_of_an_unreadable_judge_is_withheld() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged(folder.path(), 36);
    let (code, out, err) = dpg_bench(&["score", &run]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("36 of 36 answers are neither yes nor no, more than 20 %"), "{out}");
    let (code, out, _) = dpg_bench(&["score", &run, "--json"]);
    assert_eq!(code, Some(3));
    let summary: Value = serde_json::from_str(&out).unwrap();
    for protocol in ["reference", "corrected"] {
        assert!(summary[protocol]["overall"].is_null(), "{summary}");
        assert!(summary[protocol]["gap"].as_str().unwrap().contains("neither yes nor no"));
    }
    let (_, out, _) = dpg_bench(&["watch", &run, "--once"]);
    assert!(out.contains("neither yes nor no") && !out.contains("score so far"), "{out}");
    let (code, out, _) = dpg_bench(&["score", &run, "--json", "--allow-incomplete"]);
    assert_eq!(code, Some(0));
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["corrected"]["overall"]["mean"], 0.0);
}

#[test]
fn a_few_unparsable_answers_are_counted_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    // A fifth of 36 is 7.2.
    let run = judged(folder.path(), 7);
    let (code, out, err) = dpg_bench(&["score", &run, "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["coverage"]["questions_unparsable"], 7);
    assert!(summary["corrected"]["gap"].is_null());

    let folder = tempfile::tempdir().unwrap();
    let run = judged(folder.path(), 8);
    let (code, ..) = dpg_bench(&["score", &run]);
    assert_eq!(code, Some(3));
}

#[test]
fn baseline_and_check_take_them_for_questions_without_an_answer() {
    let (good, vague, folder) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, vague) = (judged(good.path(), 0), judged(vague.path(), 12));
    let path = folder.path().join("baseline.json");
    let baseline = path.display().to_string();
    let (code, _, err) = dpg_bench(&["baseline", &vague, "--out", &baseline]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("24 of 36 questions answered"), "{err}");
    let why = "24 of 36 questions have an answer: 12 answers are neither yes nor no, more than 20 %, and left out here";
    assert!(err.contains(why), "{err}");
    let stored: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        (&stored["questions_answered"], &stored["unreadable_answers"]),
        (&24.into(), &12.into())
    );
    // The item with them has no score; it is not one of 0.
    assert_eq!(stored["items"][0]["score"], Value::Null);
    assert_eq!(stored["items"][1]["score"], 1.0);

    let (_, out, err) =
        dpg_bench(&["check", &vague, "--baseline", &good, "--allow", "judge", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!(found["items"], 2);
    let warnings = found["warnings"].to_string();
    assert!(warnings.contains(why), "{warnings}");
}

#[test]
fn the_report_leaves_them_out_of_its_differences_as_compare_does() {
    let (good, vague, folder) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, vague) = (judged(good.path(), 0), judged(vague.path(), 12));
    let out = folder.path().join("report");
    let (code, _, err) = dpg_bench(&["report", &good, &vague, "--out", &out.display().to_string()]);
    assert_eq!(code, Some(3), "{err}");
    let mut table = csv::Reader::from_path(out.join("tables/differences-2.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert!(!rows.is_empty());
    for row in &rows {
        // All answers that can be read are yes.
        assert_eq!((&row[4], &row[5]), ("100", "100"), "{row:?}");
    }
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("over 2 shared items, answers that are neither yes nor no left out"));
}
