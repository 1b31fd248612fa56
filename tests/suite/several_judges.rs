//! `--judge a,b`: several judges in one command, each with answers of its own, killed in the second one,
//! and scored together.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dpg_bench::results::{RunDirectory, RunLock};
use serde_json::Value;

use super::judge_command::{command, endpoint_flags, make_run};
use super::loopback::{Loopback, Received, Reply, well_behaved};
use super::tiny_checkpoint::fixture;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `scripted`, then `endpoint`.
fn both(url: &str) -> Vec<&str> {
    let mut flags = endpoint_flags(url);
    flags[1] = "scripted,endpoint";
    flags.extend(["--judge-rule", "hash:0.6", "--judge-name", "dry,server"]);
    flags
}

fn journals(run: &Path) -> [Vec<u8>; 2] {
    ["dry", "server"]
        .map(|name| std::fs::read(run.join(format!("answers/{name}.jsonl"))).unwrap_or_default())
}

#[test]
fn a_run_killed_in_the_second_judge_goes_on_there_to_the_same_bytes() {
    let late = |request: &Received| {
        Reply::Late(Duration::from_millis(30), Box::new(well_behaved(request)))
    };
    let server = Loopback::start(late);
    let url = server.url();
    let whole = tempfile::tempdir().unwrap();
    let undisturbed = make_run(whole.path());
    let output = command(&undisturbed, &both(&url)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("dry.jsonl") && said(&output).contains("server.jsonl"));
    let expected = journals(&undisturbed);
    let asked_once = server.received().len();
    assert_eq!(asked_once, 36);

    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let mut child = command(&run, &both(&url)).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while server.received().len() < asked_once + 15 {
        assert!(started.elapsed() < Duration::from_secs(60), "the process asks nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let [dry, part] = journals(&run);
    assert_eq!(dry, expected[0]);
    assert!(expected[1].starts_with(&part) && part.len() < expected[1].len());

    let output = command(&run, &both(&url)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(journals(&run), expected);
    let sittings =
        |name: &str| RunDirectory::open(&run).unwrap().manifest().judges[name].sittings.len();
    assert_eq!((sittings("dry"), sittings("server")), (2, 2));
}

#[test]
fn a_second_judge_that_cannot_be_made_stops_the_command_before_the_first_one_answers() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let weights = "blip-vqa=no/such/folder";
    let flags = ["--judge", "scripted,blip-vqa", "--judge-rule", "yes", "--judge-weights", weights];
    let output = command(&run, &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no/such/folder: there is no such folder"), "{}", said(&output));
    assert!(RunDirectory::open(&run).unwrap().judges().is_empty());
}

/// Generates, lets three judges answer, two of them with weights of their own, scores and compares them.
#[test]
fn run_scores_every_judge_and_agreement_compares_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let [blip, mplug] = [("blip-vqa", "blip-vqa-tiny"), ("mplug", "mplug-tiny/large")]
        .map(|(judge, weights)| format!("{judge}={}", fixture(weights).display()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder.path()).args(["run", "--limit", "2", "--images", "1", "--out"]);
    command.arg(&out).args(["--steps", "2", "--judge", "scripted,blip-vqa,mplug"]);
    command.args(["--judge-rule", "hash:0.7", "--judge-weights", &blip]);
    command.args(["--judge-weights", &mplug, "--json"]);
    let output = command.output().unwrap();
    // Of random weights `blip-vqa` has answers that are neither yes nor no, so its score is withheld.
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let summaries: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&Value> =
        summaries.as_array().unwrap().iter().map(|summary| &summary["judge"]["name"]).collect();
    assert_eq!(names, ["scripted", "blip-vqa", "mplug"]);
    for name in ["scripted", "blip-vqa", "mplug"] {
        assert!(out.join(format!("summary/{name}.json")).is_file());
        assert!(out.join(format!("scores/{name}.parquet")).is_file());
    }
    let tool = |command: &str, more: &[&str]| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        process.current_dir(folder.path()).arg(command).arg(&out).args(more).output().unwrap()
    };
    // Which of them is asked for where it is not said.
    let unclear = tool("score", &[]);
    assert_eq!(unclear.status.code(), Some(2));
    assert!(
        said(&unclear).contains("answers of blip-vqa, mplug, scripted; choose some with --judge")
    );
    let tables = tool("score", &["--judge", "scripted,blip-vqa"]);
    let text = String::from_utf8_lossy(&tables.stdout).into_owned();
    assert!(text.contains("judge scripted") && text.contains("judge blip-vqa"), "{text}");

    let agreement = tool("agreement", &["--json"]);
    assert_eq!(agreement.status.code(), Some(0), "{}", said(&agreement));
    let report: Value = serde_json::from_slice(&agreement.stdout).unwrap();
    assert_eq!(report["judges"].as_array().unwrap().len(), 3);
    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 3);
    let questions = &summaries[0]["coverage"]["questions_expected"];
    assert!(pairs.iter().all(|pair| &pair["overall"]["answered"] == questions));
}

/// A judge that was never reached stands in nobody's way; `--remove` takes a judge away, and given again it is as new.
#[test]
fn a_judge_without_answers_does_not_count_and_a_judge_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let flags = ["--judge", "scripted", "--judge-rule", "hash:0.6"];
    assert!(command(&run, &flags).output().unwrap().status.success());
    let mut unreached = endpoint_flags("http://127.0.0.1:9");
    unreached.extend(["--judge-retries", "0"]);
    let output = command(&run, &unreached).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let tool = |command: &str, more: &[&str]| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        process.current_dir(folder.path()).arg(command).arg(&run).args(more).output().unwrap()
    };
    let scored = tool("score", &[]);
    assert_eq!(scored.status.code(), Some(0), "{}", said(&scored));
    let watched = tool("watch", &["--once"]);
    let shown = String::from_utf8_lossy(&watched.stdout).into_owned() + &said(&watched);
    assert!(shown.contains("scripted") && !shown.contains("endpoint"), "{shown}");

    // While somebody works in a shard, nothing is removed.
    let journal = run.join("answers/scripted.jsonl");
    let before = std::fs::read(&journal).unwrap();
    let part =
        ["--judge", "scripted", "--judge-rule", "yes", "--judge-name", "part", "--shard", "0/2"];
    let output = command(&run, &part).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let held = RunLock::take(&run.join("shards/0-of-2"), "generate").unwrap();
    let refused = tool("judge", &["--remove", "scripted"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    drop(held);

    // The questions are not needed for it.
    let questions = folder.path().join("questions.csv");
    std::fs::rename(&questions, folder.path().join("away.csv")).unwrap();
    for judge in ["scripted", "endpoint", "part"] {
        let removed = tool("judge", &["--remove", judge]);
        assert_eq!(removed.status.code(), Some(0), "{}", said(&removed));
        let again = tool("judge", &["--remove", judge]);
        assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    }
    std::fs::rename(folder.path().join("away.csv"), &questions).unwrap();
    assert!(RunDirectory::open(&run).unwrap().judges().is_empty());
    for left in ["answers", "scores", "summary"] {
        let there = run.join(left).read_dir().is_ok_and(|mut files| files.next().is_some());
        assert!(!there, "{left}");
    }
    std::fs::remove_dir_all(run.join("shards")).unwrap();
    assert!(command(&run, &flags).output().unwrap().status.success());
    assert_eq!(std::fs::read(&journal).unwrap(), before);
}
