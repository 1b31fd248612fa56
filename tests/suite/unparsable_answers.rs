//! A judge whose answers are neither yes nor no, as a process: its score is withheld, and nothing compares it.

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
fn a_withheld_score_is_compared_with_nothing() {
    let (good, vague, folder) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, vague) = (judged(good.path(), 0), judged(vague.path(), 12));
    let baseline = folder.path().join("baseline.json").display().to_string();
    let out = folder.path().join("report");
    let why = "answers are neither yes nor no, more than 20 %, so its score is withheld";
    for command in [
        &["baseline", &vague, "--out", &baseline][..],
        &["compare", &good, &vague, "--allow", "judge"],
        &["compare", &vague, &good, "--allow", "judge", "--protocol", "reference"],
        &["check", &vague, "--baseline", &good, "--allow", "judge"],
        &["check", &good, "--baseline", &vague, "--allow", "judge"],
    ] {
        let (code, out, err) = dpg_bench(command);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command:?}: {err}");
        // `reference` does not read all of them.
        let named = ["12 of 36", "8 of 32"].map(|count| format!("{vague}: {count} {why}"));
        assert!(named.iter().any(|named| err.contains(named)), "{command:?}: {err}");
        assert!(err.contains("dpg-bench judge"), "{command:?}: {err}");
    }
    assert!(!Path::new(&baseline).exists());
    // Among published scores it has no row, and the reason stands below.
    let (code, table, err) = dpg_bench(&["compare", &vague, "--published", "--allow", "benchmark"]);
    assert_eq!(code, Some(0), "{err}");
    let words: Vec<&str> = table.split_whitespace().collect();
    assert!(words.join(" ").contains("8 of 32 answers are neither yes nor no"), "{table}");
    assert!(!table.contains("this run"), "{table}");
    // A report has no differences from it, or of it.
    let (code, _, err) = dpg_bench(&["report", &good, &vague, "--out", &out.display().to_string()]);
    assert_eq!(code, Some(3), "{err}");
    assert!(!out.join("tables/differences-2.csv").exists());
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("12 of 36 answers are neither yes nor no, more than 20 %"));
}

/// Earlier versions left such answers out.
#[test]
fn a_baseline_without_them_is_refused() {
    let (run, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = judged(run.path(), 0);
    let path = folder.path().join("baseline.json");
    let baseline = path.display().to_string();
    let (code, _, err) = dpg_bench(&["baseline", &run, "--out", &baseline]);
    assert_eq!(code, Some(0), "{err}");
    let mut stored: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(stored.get("unreadable_answers"), None);
    stored["unreadable_answers"] = 12.into();
    std::fs::write(&path, serde_json::to_vec(&stored).unwrap()).unwrap();
    let (code, _, err) = dpg_bench(&["check", &run, "--baseline", &baseline]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("leaves out 12 answers that are neither yes nor no"), "{err}");
}
