//! The `forensics` command on tables as people paste them.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::seeded_answers::fixtures;

fn forensics(text: &str, more: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(["forensics", "-"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn exit_codes_tell_consistent_from_not_and_unreadable() {
    for (text, code) in [
        // 262/329 = 79.635..., 209/250 = 83.6.
        ("Global 79.64 Other 83.60", 0),
        ("Global 80.26 Other 73.91", 1),
        (
            "| Model | Global | Other |\n|---|---|---|\n| a | 79.64 | 83.60 |\n| b | 80.26 | 73.91 |",
            1,
        ),
        // 4918/6190 = 79.4507..., 4919/6190 = 79.4668...
        ("Entity 79.46", 1),
        ("Entity 79.45", 0),
        ("Overall 79.46", 2),
        ("nothing here", 2),
    ] {
        let output = forensics(text, &[]);
        assert_eq!(output.status.code(), Some(code), "{text}: {output:?}");
    }
}

#[test]
fn the_scrambled_runs_of_the_protocol_notes_are_told_by_their_counts() {
    // 896 and 1665 questions pooled into `global`, as published full-precision figures imply.
    for (k, n) in [(713, 896), (1334, 1665)] {
        let text =
            format!("L1 category scores:\n\tglobal: {}\n", f64::from(k) / f64::from(n) * 100.0);
        let output = forensics(&text, &["--json"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let tables: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(tables[0]["findings"][0]["fraction"], serde_json::json!([k, n]));
    }
    let whole = format!("L1 category scores:\n\tglobal: {}\n", 262.0 / 329.0 * 100.0);
    assert_eq!(forensics(&whole, &[]).status.code(), Some(0));
}

#[test]
fn consistent_is_not_oversold() {
    let output = forensics("Global 79.6", &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // At one decimal a third of all figures would pass: 330 of 1,001.
    assert!(said.contains("33 %"), "{said}");
}

#[test]
fn a_result_file_of_the_script_is_read_below_its_picture_lines() {
    let text = std::fs::read_to_string(fixtures().join("odd_results.txt")).unwrap();
    let output = forensics(&text, &["--json"]);
    // Nine odd items are no complete run: 66.67 % of 3 is no count of 250.
    assert_eq!(output.status.code(), Some(1));
    let tables: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let other = tables[0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["category"] == "other")
        .unwrap();
    assert_eq!(other["fraction"], serde_json::json!([2, 3]));
}
