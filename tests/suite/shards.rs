//! Many processes, one run: shards as their users run them, merged to the bytes of a single run; killed,
//! given twice, dealt otherwise, and refused where they do not belong together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dpg_bench::results::{RunDirectory, RunLock};
use serde_json::Value;

use super::kept_thumbnails::kept;

/// What a cluster may have set around the tests themselves.
const ENVIRONMENT: [&str; 9] = [
    "SLURM_ARRAY_TASK_STEP",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_MAX",
    "RANK",
    "WORLD_SIZE",
    "JOB_COMPLETION_INDEX",
    "DPG_BENCH_SHARDS",
];

const ITEMS: usize = 5;

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    ENVIRONMENT.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn checkpoint() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/sd15-tiny").display().to_string()
}

/// `command` of a small job with the tiny checkpoint: two steps, three pictures, five items.
fn job(folder: &Path, command: &str, more: &[&str]) -> Command {
    let (weights, limit) = (checkpoint(), ITEMS.to_string());
    let mut arguments = vec![command, "--model", "sd15", "--weights", &weights];
    for (flag, value) in [("--steps", "2"), ("--limit", &limit)] {
        if !more.contains(&flag) {
            arguments.extend([flag, value]);
        }
    }
    arguments.extend(["--images", "3", "--batch", "2", "--benchmark", "demo"]);
    if command == "run" {
        arguments.extend(["--judge", "scripted", "--judge-rule", "hash:0.6"]);
    }
    arguments.extend(more);
    program(folder, &arguments)
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Both streams of a command that ended with `code`.
#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{shown}");
    shown
}

#[track_caller]
fn refused(command: Command, expected: &[&str]) {
    let said = ended(&output(command), 2);
    for part in expected {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

/// Every file below `folder`, but manifests and what is in `shards`, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().unwrap() != "shards" {
                folders.push(path);
            } else if path.is_file() && path.file_name().unwrap() != "manifest.json" {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{} differs", name.display());
    }
}

/// The single run that shards are compared with, with its scores.
fn single(folder: &Path) -> PathBuf {
    ended(&output(job(folder, "run", &["--out", "single"])), 0);
    assert_eq!(kept(&folder.join("single")), 3 * ITEMS);
    folder.join("single")
}

fn shard(folder: &Path, out: &str, shard: &str) -> Output {
    output(job(folder, "run", &["--out", out, "--shard", shard]))
}

fn merge(folder: &Path, arguments: &[&str]) -> Output {
    output(program(folder, &[&["merge"], arguments].concat()))
}

fn score(folder: &Path, run: &str) -> Output {
    output(program(folder, &["score", run]))
}

#[test]
fn any_number_of_shards_merges_to_the_bytes_of_a_single_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    // One, some, and more shards than items.
    for count in [1, 3, 7] {
        let out = format!("of{count}");
        let shards: Vec<_> = (0..count)
            .map(|index| {
                let shard = format!("{index}/{count}");
                job(folder, "run", &["--out", &out, "--shard", &shard]).spawn().unwrap()
            })
            .collect();
        let said: Vec<String> =
            shards.into_iter().map(|shard| ended(&shard.wait_with_output().unwrap(), 0)).collect();
        assert!(
            said[0].contains("by --shard") && said[0].contains("dpg-bench merge of"),
            "{said:?}"
        );
        let idle = said.iter().filter(|said| said.contains("nothing to do")).count();
        assert_eq!(idle, usize::from(count > ITEMS) * (count.max(ITEMS) - ITEMS));

        let looked = output(program(folder, &["watch", &out, "--once"]));
        assert!(ended(&looked, 0).contains("images: 15/15"), "{looked:?}");
        let said = ended(&score(folder, &out), 2);
        assert!(said.contains("not merged yet") && said.contains("dpg-bench merge of"), "{said}");

        let said = ended(&merge(folder, &[&out]), 0);
        assert!(said.contains("15 images and 2 journals") && said.contains("next: "), "{said}");
        ended(&score(folder, &out), 0);
        assert_same(&folder.join(&out), &whole);
    }
}

#[test]
fn merging_again_changes_nothing_and_the_shards_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    for index in ["0/2", "1/2"] {
        ended(&shard(folder, "run", index), 0);
    }
    ended(&merge(folder, &["run"]), 0);
    let manifest = std::fs::read(folder.join("run/manifest.json")).unwrap();
    let said = ended(&merge(folder, &["run", "--json"]), 0);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["merged"]["pictures"], 0);
    assert_eq!(report["merged"]["journals"], 0);
    assert_eq!(report["progress"]["images"]["done"], 15);
    assert_eq!(std::fs::read(folder.join("run/manifest.json")).unwrap(), manifest);

    let said = ended(&merge(folder, &["run", "--remove-shards"]), 0);
    assert!(said.contains("the shards are removed"), "{said}");
    assert!(!folder.join("run/shards").exists());
    // The pictures are whole although the other name of each is gone; a run goes on from there.
    let said = ended(&output(job(folder, "run", &["--out", "run"])), 0);
    assert!(said.contains("(0 made now, 0 failed)"), "{said}");
    assert_same(&folder.join("run"), &whole);
    // So does a shard that is queued once more, and it leaves nothing new.
    assert!(ended(&shard(folder, "run", "1/2"), 0).contains("6/6 images"));
    let said = ended(&merge(folder, &["run"]), 0);
    assert!(said.contains("nothing new"), "{said}");
    assert_same(&folder.join("run"), &whole);
}

#[test]
fn a_merge_before_all_shards_are_done_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    ended(&shard(folder, "run", "2/3"), 0);
    // Its pictures, but no answers.
    ended(&output(job(folder, "generate", &["--out", "run", "--shard", "0/3"])), 0);
    let said = ended(&merge(folder, &["run", "--remove-shards"]), 3);
    for expected in [
        "images 9/15",
        "judge `scripted` 3/15",
        "missing: shard 0/3: judge `scripted` 0/6",
        "missing: shard 1/3 has not begun",
        "the shards stay",
    ] {
        assert!(said.contains(expected), "`{expected}` is not in: {said}");
    }
    for index in ["1/3", "0/3"] {
        ended(&shard(folder, "run", index), 0);
    }
    ended(&merge(folder, &["run"]), 0);
    ended(&score(folder, "run"), 0);
    assert_same(&folder.join("run"), &whole);
}

#[test]
fn a_merge_that_was_killed_anywhere_ends_in_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    for index in ["0/2", "1/2"] {
        ended(&shard(folder, "run", index), 0);
    }
    ended(&merge(folder, &["run"]), 0);
    let run = folder.join("run");
    // What a kill can leave: pictures without journals, half a picture, one journal without the other,
    // journals without the manifest's entries.
    let pictures_only = || {
        std::fs::remove_file(run.join("images.jsonl")).unwrap();
        std::fs::remove_dir_all(run.join("answers")).unwrap();
        let item = std::fs::read_dir(run.join("images")).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(item.join("1.png")).unwrap();
        std::fs::write(item.join(".writing-1.png"), "half a pic").unwrap();
    };
    let no_answers = || std::fs::remove_dir_all(run.join("answers")).unwrap();
    let old_manifest = || {
        let path = run.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest["generation"] = Value::Null;
        manifest["judges"] = serde_json::json!({});
        std::fs::write(&path, manifest.to_string()).unwrap();
    };
    for damage in [&pictures_only as &dyn Fn(), &no_answers, &old_manifest] {
        damage();
        ended(&merge(folder, &["run"]), 0);
        ended(&score(folder, "run"), 0);
        assert_same(&run, &whole);
    }
}

#[test]
fn a_shard_killed_in_its_work_goes_on_and_the_merged_run_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let journal = folder.join("run/shards/0-of-2/images.jsonl");
    let lines =
        || std::fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count());
    let mut steps = 6;
    let of = |steps: u32, more: &[&str]| {
        job(folder, "run", &[&["--steps", &steps.to_string()], more].concat())
    };
    // Where it was done before it could be killed, it gets more to do.
    loop {
        let mut child = of(steps, &["--out", "run", "--shard", "0/2"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(300);
        while lines() < 4 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no pictures");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if lines() < 10 {
            break;
        }
        assert!(steps < 2_000, "it cannot be killed in its work");
        steps *= 4;
        std::fs::remove_dir_all(folder.join("run")).unwrap();
    }
    ended(&output(of(steps, &["--out", "single"])), 0);
    let of = |index: &str| of(steps, &["--out", "run", "--shard", index]);
    // Its lock stays behind and is nobody's.
    assert!(folder.join("run/shards/0-of-2/lock.json").exists());
    assert_eq!(RunLock::holder(&folder.join("run/shards/0-of-2")), None);
    ended(&output(of("1/2")), 0);
    assert!(ended(&merge(folder, &["run"]), 3).contains("missing: shard 0/2"), "merged too early");
    let said = ended(&output(of("0/2")), 0);
    assert!(!said.contains("(9 made now"), "{said}");
    ended(&merge(folder, &["run"]), 0);
    ended(&score(folder, "run"), 0);
    assert_same(&folder.join("run"), &folder.join("single"));
}

#[test]
fn runs_made_in_several_places_merge_into_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    ended(&shard(folder, "here/run", "0/2"), 0);
    ended(&shard(folder, "there/run", "1/2"), 0);
    refused(program(folder, &["merge", "here/run", "there/run"]), &["with --out"]);
    let said = ended(&merge(folder, &["here/run", "there/run", "--out", "both"]), 0);
    assert!(said.contains("15 images"), "{said}");
    ended(&merge(folder, &["there/run", "here/run", "--out", "both"]), 0);
    ended(&score(folder, "both"), 0);
    assert_same(&folder.join("both"), &whole);
    let manifest = RunDirectory::open(&folder.join("both")).unwrap().manifest().clone();
    let from: Vec<Option<String>> = manifest
        .generation
        .unwrap()
        .sittings
        .into_iter()
        .map(|sitting| sitting.merged_from)
        .collect();
    // The second merge names them in the order in which they were given.
    assert_eq!(from, [Some("run/1-of-2".to_owned()), Some("run (2)/0-of-2".to_owned())]);

    // A part with another seed, one about other items, and a picture that is another one.
    ended(&output(job(folder, "run", &["--out", "other", "--seed", "9"])), 0);
    let apart = program(folder, &["merge", "both", "other", "--out", "all"]);
    refused(apart, &["settings of their images", "seed: 0 in the first, 9 in the other"]);
    ended(&output(job(folder, "run", &["--out", "fewer", "--limit", "2"])), 0);
    let apart = program(folder, &["merge", "both", "fewer", "--out", "all"]);
    refused(apart, &["cannot be merged", "selection.limit: 5 in the first, 2 in the other"]);
    assert!(!folder.join("all").exists());
}

#[test]
fn contradictions_and_damage_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for index in ["0/2", "1/2"] {
        ended(&shard(folder, "run", index), 0);
    }
    let run = RunDirectory::open(&folder.join("run")).unwrap();
    let [first, _] = &run.shards().unwrap()[..] else { panic!("two shards") };
    let item = first.read_images().unwrap()[0].item.clone();
    let picture = first.image_path(&item, 1);
    let good = std::fs::read(&picture).unwrap();

    // The picture of another image in its place; half of it; none.
    let other = std::fs::read(first.image_path(&item, 2)).unwrap();
    for damage in [Some(&other[..]), Some(&good[..good.len() / 2]), None] {
        std::fs::remove_file(&picture).unwrap();
        if let Some(bytes) = damage {
            std::fs::write(&picture, bytes).unwrap();
        }
        let name = format!("shards/0-of-2/images/{item}/1.png");
        refused(program(folder, &["merge", "run"]), &[&name, "makes them anew, then merge again"]);
        assert!(!folder.join("run/images.jsonl").exists());
        // What the sentence says helps.
        ended(&shard(folder, "run", "0/2"), 0);
        assert_eq!(std::fs::read(&picture).unwrap(), good);
    }
    ended(&merge(folder, &["run"]), 0);

    // Two journals that tell different things of the same image.
    let journal = folder.join("run/shards/0-of-2/images.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let line = whole.lines().nth(2).unwrap();
    assert!(line.contains("\"image\":1"), "{line}");
    let at = line.find("sha256\":\"").unwrap() + 9;
    let forged = format!("{}{}{}", &line[..at], "f".repeat(64), &line[at + 64..]);
    std::fs::write(&journal, whole.replace(line, &forged)).unwrap();
    let named = format!("{item}, image 1");
    refused(program(folder, &["merge", "run"]), &["different images of", &named]);
    std::fs::write(&journal, &whole).unwrap();

    let journal = folder.join("run/shards/0-of-2/answers/scripted.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let turned = match whole.find("\"yes\"") {
        Some(_) => whole.replacen("\"yes\"", "\"no\"", 1),
        None => whole.replacen("\"no\"", "\"yes\"", 1),
    };
    std::fs::write(&journal, turned).unwrap();
    refused(program(folder, &["merge", "run"]), &["different answers of `scripted` of"]);
    std::fs::write(&journal, &whole).unwrap();
    assert!(ended(&merge(folder, &["run"]), 0).contains("nothing new"));
}

#[test]
fn shards_that_do_not_fit_together_are_refused_before_they_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ended(&shard(folder, "run", "0/3"), 0);
    let with = |more: &[&str]| job(folder, "run", &[&["--out", "run"], more].concat());
    refused(
        with(&["--shard", "1/3", "--seed", "5"]),
        &["0-of-3 was started with other settings", "seed"],
    );
    refused(with(&["--shard", "1/3", "--limit", "4"]), &["selection.limit: 5 in the run, 4 now"]);
    let other_judge = ["--shard", "1/3", "--judge-seed", "4"];
    let expected = ["0-of-3 was started", "seed: 0 in the run"];
    refused(with(&other_judge), &expected);
    assert!(!folder.join("run/shards/1-of-3/images.jsonl").exists());
    let afterwards = [&other_judge[..], &["--judge-while-generating", "off"]].concat();
    refused(with(&afterwards), &expected);
    // Its images were made before its judge was looked at.
    let merge_first = "dealt otherwise before and has work of shards 0/3, 1/3";
    refused(with(&["--shard", "1/2"]), &[merge_first, "dpg-bench merge run"]);
    refused(with(&[]), &["has work of shards 0/3, 1/3 that is not merged yet"]);
    for command in ["score", "agreement"] {
        refused(program(folder, &[command, "run"]), &["not merged yet"]);
    }
    refused(program(folder, &["report", "run", "--out", "page"]), &["not merged yet"]);
    refused(program(folder, &["compare", "run", "run"]), &["not merged yet"]);
    refused(with(&["--shard", "3/3"]), &["numbered from 0, so 0 to 2"]);
    refused(with(&["--shard", "half"]), &["it reads like 0/4"]);
    refused(program(folder, &["merge", "run/shards/0-of-3"]), &["is a shard"]);
    let inside = job(folder, "run", &["--out", "run/shards/0-of-3"]);
    refused(inside, &["is shard 0/3 of a run", "--shard 0/3"]);
    refused(program(folder, &["merge", "nothing"]), &["is no run directory"]);
}

#[test]
fn work_done_under_one_dealing_is_kept_under_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    ended(&shard(folder, "run", "0/3"), 0);
    ended(&merge(folder, &["run"]), 3);
    // Items 0 and 3 are done; dealt by two, each shard gets one of them.
    let said = ended(&shard(folder, "run", "0/2"), 0);
    assert!(said.contains("; images there already: 3"), "{said}");
    assert!(said.contains("9/9 images") && said.contains("(6 made now, 0 failed)"), "{said}");
    // The rest without shards.
    ended(&merge(folder, &["run"]), 3);
    let said = ended(&output(job(folder, "run", &["--out", "run"])), 0);
    assert!(said.contains("(3 made now, 0 failed)"), "{said}");
    assert_same(&folder.join("run"), &whole);
}

#[test]
fn a_judge_can_be_sharded_over_a_run_that_was_generated_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    ended(&output(job(folder, "generate", &["--out", "run"])), 0);
    let rule = ["--judge", "scripted", "--judge-rule", "hash:0.6"];
    for index in ["0/2", "1/2"] {
        let judge = [&["judge", "run", "--shard", index], &rule[..]].concat();
        ended(&output(program(folder, &judge)), 0);
    }
    let said = ended(&merge(folder, &["run", "--remove-shards"]), 0);
    assert!(said.contains("0 images and 1 journal "), "{said}");
    ended(&score(folder, "run"), 0);
    assert_same(&folder.join("run"), &whole);
}

#[test]
fn the_second_process_on_a_shard_or_run_is_told_who_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ended(&shard(folder, "run", "0/2"), 0);
    let process = format!("process {} on ", std::process::id());
    let held = RunLock::take(&folder.join("run/shards/0-of-2"), "generate").unwrap();
    let again = job(folder, "run", &["--out", "run", "--shard", "0/2"]);
    refused(again, &["0-of-2 is in use by `dpg-bench generate`", &process, " since 20"]);
    // Nor may the run as a whole, or another dealing, begin beside it; the other shard may.
    refused(job(folder, "run", &["--out", "run"]), &["0-of-2 is in use by"]);
    refused(job(folder, "run", &["--out", "run", "--shard", "0/3"]), &["0-of-2 is in use by"]);
    ended(&shard(folder, "run", "1/2"), 0);
    // What is there can be merged and looked at meanwhile, but not removed.
    ended(&merge(folder, &["run"]), 0);
    ended(&score(folder, "run"), 0);
    let said = ended(&merge(folder, &["run", "--remove-shards"]), 2);
    assert!(said.contains("0-of-2 is in use by"), "{said}");
    drop(held);

    let held = RunLock::take(&folder.join("run"), "run").unwrap();
    refused(job(folder, "generate", &["--out", "run"]), &["run is in use by `dpg-bench run`"]);
    refused(job(folder, "run", &["--out", "run", "--shard", "0/2"]), &["run is in use by"]);
    refused(program(folder, &["merge", "run"]), &["run is in use by"]);
    ended(&output(program(folder, &["watch", "run", "--once"])), 0);
    drop(held);
    ended(&merge(folder, &["run", "--remove-shards"]), 0);
    assert!(!folder.join("run/lock.json").exists());
}

#[test]
fn the_environment_of_a_cluster_deals_by_itself_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let array = |task: &str| {
        let mut command = job(folder, "generate", &["--out", "run"]);
        command.env("SLURM_ARRAY_TASK_ID", task).env("SLURM_ARRAY_TASK_COUNT", "2");
        command.env("SLURM_ARRAY_TASK_MIN", "1").env("SLURM_ARRAY_TASK_MAX", "2");
        command
    };
    let said = ended(&output(array("2")), 0);
    let stated = "shard 1/2, by SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT (--shard none";
    assert!(said.contains(stated) && said.contains("in run/shards/1-of-2"), "{said}");
    let mut torn = array("1");
    torn.env("RANK", "1").env("WORLD_SIZE", "2");
    refused(torn, &["make this shard 0/2", "RANK and WORLD_SIZE make it 1/2"]);
    let mut whole = job(folder, "generate", &["--out", "whole", "--shard", "none"]);
    whole.env("JOB_COMPLETION_INDEX", "0").env("DPG_BENCH_SHARDS", "2");
    let said = ended(&output(whole), 0);
    assert!(!said.contains("shard") && said.contains("15/15 images in whole"), "{said}");
    let mut lone = job(folder, "generate", &["--out", "lone"]);
    lone.env("JOB_COMPLETION_INDEX", "0");
    refused(lone, &["set DPG_BENCH_SHARDS to the job's `completions`", "--shard none"]);
}

#[test]
fn several_devices_make_the_bytes_of_one_and_any_number_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = single(folder);
    ended(&output(job(folder, "run", &["--out", "two", "--devices", "cpu,cpu"])), 0);
    assert_same(&folder.join("two"), &whole);

    // As after a kill: the last records are gone, and the pictures of some others.
    let journal = folder.join("two/images.jsonl");
    let lines = std::fs::read_to_string(&journal).unwrap();
    let kept: String = lines.split_inclusive('\n').take(6).collect();
    std::fs::write(&journal, format!("{kept}{{\"item\":\"tor")).unwrap();
    std::fs::remove_file(folder.join("two/answers/scripted.jsonl")).unwrap();
    let said = ended(&output(job(folder, "run", &["--out", "two", "--devices", "cpu,cpu,cpu"])), 0);
    assert!(said.contains("(10 made now, 0 failed)"), "{said}");
    assert_same(&folder.join("two"), &whole);

    let shards = ["--out", "both", "--devices", "cpu,cpu", "--shard"];
    for index in ["0/2", "1/2"] {
        ended(&output(job(folder, "run", &[&shards[..], &[index]].concat())), 0);
    }
    ended(&merge(folder, &["both"]), 0);
    ended(&score(folder, "both"), 0);
    assert_same(&folder.join("both"), &whole);
    refused(job(folder, "run", &["--devices", "cpu,tpu", "--out", "x"]), &["tpu"]);
    refused(job(folder, "run", &["--devices", "cpu", "--device", "cpu"]), &["cannot be used with"]);
}

/// The Kubernetes file's numbers belong together, and its command lines are ones that the program takes.
#[test]
fn the_kubernetes_file_fits_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes.yaml");
    let file = std::fs::read_to_string(path).unwrap();
    let value = |key: &str| {
        let line = file.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
        line.split_once(':').unwrap().1.trim().trim_matches('"').to_owned()
    };
    let shards = file.split("name: DPG_BENCH_SHARDS").nth(1).unwrap();
    let shards = shards.split('"').nth(1).unwrap();
    assert_eq!([value("completions"), value("parallelism")], [shards, shards]);

    let folder = tempfile::tempdir().unwrap();
    let arguments = value("args").trim_matches(['[', ']']).replace(' ', "");
    let arguments: Vec<&str> = arguments.split(',').collect();
    let mut pod = program(folder.path(), &arguments);
    pod.env("JOB_COMPLETION_INDEX", "1").env("DPG_BENCH_SHARDS", shards);
    // As far as the first file that is not there.
    let said = ended(&output(pod), 2);
    assert!(
        said.contains("shard 1/4, by JOB_COMPLETION_INDEX") && !said.contains("Usage"),
        "{said}"
    );
    for command in file.split("dpg-bench ").filter(|part| part.contains("/data/results")).skip(1) {
        assert!(command.starts_with("merge ") || command.starts_with("score "), "{command}");
    }
}
