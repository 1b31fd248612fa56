//! A trial that grows into the run: more items, more images, both, judged, killed, and refused where what is there
//! would not be that of a run made at once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dpg_bench::{Strictness, load_benchmark};
use serde_json::Value;

use super::end_to_end::files;

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    for name in ["SLURM_ARRAY_TASK_ID", "RANK", "WORLD_SIZE", "JOB_COMPLETION_INDEX"] {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run in `out` with the tiny checkpoint and the scripted judge.
fn job(folder: &Path, out: &str, steps: &str, more: &str) -> Command {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-tiny");
    let weights = weights.display().to_string();
    let mut arguments = vec!["run", "--model", "sd15", "--weights", &weights, "--device", "cpu"];
    arguments.extend(["--steps", steps, "--benchmark", "demo", "--out", out]);
    arguments.extend(["--judge", "scripted", "--judge-rule", "hash:0.6"]);
    arguments.extend(more.split_whitespace());
    program(folder, &arguments)
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    shown
}

#[track_caller]
fn run(folder: &Path, out: &str, more: &str) -> String {
    ended(&job(folder, out, "2", more).output().unwrap(), 0)
}

#[track_caller]
fn refused(folder: &Path, more: &str, expected: &[&str]) -> String {
    let run = folder.join("run");
    let before = (files(&run), std::fs::read(run.join("manifest.json")).unwrap());
    let said = ended(&job(folder, "run", "2", more).output().unwrap(), 2);
    for part in expected.iter().chain(&["another --out, or delete the folder"]) {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let after = (files(&run), std::fs::read(run.join("manifest.json")).unwrap());
    assert!(before == after, "a refused command changed the run");
    said
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{} differs", name.display());
    }
}

/// Id of an item of the demo, by its place.
fn item(place: usize) -> String {
    let benchmark = load_benchmark("demo".as_ref(), Strictness::Strict).unwrap();
    benchmark.items[place].id.clone()
}

fn manifest(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn more_items_more_images_and_both_end_in_the_bytes_of_a_run_made_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, small, large) in [
        ("items", "--limit 2 --images 2", "--limit 4 --images 2"),
        ("images", "--limit 3 --images 1", "--limit 3 --images 2"),
        // The items that were there first do not stand first.
        ("both", "--items ITEMS --images 1", "--limit 4 --images 2"),
        ("after", "--limit 1 --images 1", "--limit 3 --images 3 --judge-while-generating off"),
    ] {
        run(folder, name, &small.replace("ITEMS", &item(2)));
        let said = run(folder, name, large);
        assert!(said.contains(&format!("{name} grows to ")), "{said}");
        let whole = format!("whole-{name}");
        run(folder, &whole, large);
        assert_same(&folder.join(name), &folder.join(&whole));
        assert_eq!(manifest(&folder.join(name))["grown_from"].as_array().unwrap().len(), 1);
        let again = run(folder, name, large);
        assert!(again.contains("(0 made now, 0 failed)") && !again.contains("grows"), "{again}");
        assert_same(&folder.join(name), &folder.join(&whole));
    }
}

#[test]
fn what_was_computed_of_the_smaller_run_goes_and_its_other_judge_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let other = |out: &str| {
        let judge = ["--judge", "scripted", "--judge-rule", "hash:0.3", "--judge-name", "other"];
        ended(&program(folder, &[&["judge", out], &judge[..]].concat()).output().unwrap(), 0);
        ended(&program(folder, &["score", out, "--judge", "other"]).output().unwrap(), 0);
        ended(&program(folder, &["agreement", out]).output().unwrap(), 0);
    };
    run(folder, "run", "--limit 2 --images 1");
    other("run");
    let derived =
        ["summary/other.json", "summary/other.tex", "scores/other.parquet", "agreement.json"];
    let there = |name: &&str| folder.join("run").join(name).exists();
    assert!(derived.iter().all(there));
    let large = "--limit 3 --images 2";
    run(folder, "run", large);
    assert!(!derived.iter().any(there));
    assert!(folder.join("run/answers/other.jsonl").exists());
    other("run");
    run(folder, "whole", large);
    other("whole");
    assert_same(&folder.join("run"), &folder.join("whole"));
}

#[test]
fn a_growing_run_that_is_killed_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path: PathBuf = folder.join("run");
    let journal = path.join("images.jsonl");
    let lines =
        || std::fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count());
    let (small, large) = ("--limit 2 --images 1", "--limit 4 --images 3");
    let mut steps = 6;
    // Where it was done before it could be killed, it gets more to do.
    loop {
        let of = |more: &str| job(folder, "run", &steps.to_string(), more);
        ended(&of(small).output().unwrap(), 0);
        let mut child = of(large).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(300);
        while lines() < 5 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no images");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if lines() < 12 {
            break;
        }
        assert!(steps < 2_000, "it cannot be killed in its work");
        steps *= 4;
        std::fs::remove_dir_all(&path).unwrap();
    }
    assert!(!path.join("summary/scripted.json").exists());
    let of = |out: &str| ended(&job(folder, out, &steps.to_string(), large).output().unwrap(), 0);
    of("run");
    of("whole");
    assert_same(&path, &folder.join("whole"));

    // Killed when all is made and the journals are not in order yet.
    for name in ["images.jsonl", "answers/scripted.jsonl"] {
        let text = std::fs::read_to_string(path.join(name)).unwrap();
        let (header, records) = text.split_once('\n').unwrap();
        let turned: Vec<&str> = records.lines().rev().collect();
        std::fs::write(path.join(name), format!("{header}\n{}\n", turned.join("\n"))).unwrap();
    }
    of("run");
    assert_same(&path, &folder.join("whole"));
}

#[test]
fn a_smaller_selection_and_other_settings_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(folder, "run", "--limit 3 --images 2");
    let keeps = "a run keeps what it has";
    let fewer = "has 3 items, 1 of them left out of the 2 asked for now";
    refused(
        folder,
        "--limit 2 --images 2",
        &[keeps, fewer, "selection.limit: 3 in the run, 2 now"],
    );
    refused(
        folder,
        "--limit 4 --images 1",
        &[keeps, "has 2 images an item, more than the 1 asked for now"],
    );
    // Nothing is said of a growth that does not come.
    let said = refused(folder, "--limit 4 --images 2 --seed 5", &["seed: 0 in the run, 5 now"]);
    assert!(!said.contains("grows"), "{said}");
    let other_judge = "--limit 4 --images 2 --judge-seed 4";
    refused(
        folder,
        other_judge,
        &["has answered in this run under other settings", "seed: 0 in the run"],
    );
    refused(folder, "--limit 4 --images 2 --shard 0/2", &["shards do not make a run larger"]);
}

#[test]
fn images_that_may_depend_on_others_are_not_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(folder, "run", "--limit 1 --images 1 --batch 2");
    refused(folder, "--limit 1 --images 2 --batch 2", &["were made 2 at a time"]);
    // Items of their own do not depend on it.
    run(folder, "run", "--limit 2 --images 1 --batch 2");
    std::fs::remove_dir_all(folder.join("run")).unwrap();
    run(folder, "run", "--limit 1 --images 1 --seed-mode sequential");
    refused(
        folder,
        "--limit 2 --images 1 --seed-mode sequential",
        &["its seeds are `sequential`", "--seed-mode hashed"],
    );
    std::fs::remove_dir_all(folder.join("run")).unwrap();
    run(folder, "run", "--limit 1 --images 1 --shard 0/1");
    refused(folder, "--limit 2 --images 1", &["it has shards", "merge run --remove-shards"]);
}
