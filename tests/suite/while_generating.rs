//! `run --judge-while-generating`, as a process: every file is the same whenever the judges answer; killed,
//! stopped by a signal and by an error of either stage, it goes on to the same bytes in either way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::generate_run::files;
use super::loopback::{Loopback, Received, Reply, well_behaved};

const IMAGES: usize = 15;

/// A place for runs of five items with three pictures each.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn job(&self, out: &str, when: &str, more: &[&str]) -> Command {
        let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-tiny");
        let weights = weights.display().to_string();
        let mut arguments = vec!["run", "--model", "sd15", "--weights", &weights, "--limit", "5"];
        arguments.extend(["--images", "3", "--batch", "2", "--steps", "8", "--benchmark", "demo"]);
        arguments.extend(["--out", out, "--judge-while-generating", when, "--shard", "none"]);
        // A later flag of the same name would be refused.
        if let Some(at) = more.iter().position(|flag| *flag == "--shard") {
            arguments.truncate(arguments.len() - 2);
            arguments.extend(&more[at..at + 2]);
            arguments.extend(more[..at].iter().chain(&more[at + 2..]));
        } else {
            arguments.extend(more);
        }
        self.command(&arguments)
    }

    fn assert_same(&self, one: &str, other: &str) {
        let (one, other) = (files(&self.path(one)), files(&self.path(other)));
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        for (name, bytes) in &one {
            assert!(other[name] == *bytes, "{} differs", name.display());
        }
    }

    fn lines(&self, file: &str) -> usize {
        std::fs::read(self.path(file))
            .map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

/// The only error that is told.
#[track_caller]
fn error(output: &Output) -> String {
    let told = ended(output, 2);
    let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{told}") };
    error.to_owned()
}

fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(300);
    while !is_so() {
        assert!(Instant::now() < end, "it never came to that");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Answers late, and refuses some questions about some pictures, the same ones each time.
fn choosy(request: &Received) -> Reply {
    let reply = match request.draw() {
        ..0.1 => Reply::Status(422, vec![], "{\"error\": \"I would rather not\"}".to_owned()),
        _ => well_behaved(request),
    };
    Reply::Late(Duration::from_millis(3), Box::new(reply))
}

fn endpoint(url: &str) -> Vec<&str> {
    let mut flags = vec!["--judge", "endpoint", "--judge-url", url, "--judge-model", "m"];
    flags.extend(["--judge-concurrency", "2", "--judge-retries", "0"]);
    flags
}

const SCRIPTED: [&str; 4] = ["--judge", "scripted", "--judge-rule", "hash:0.6"];

#[test]
fn every_file_is_the_same_whenever_the_judges_answer() {
    let place = Place::new();
    let several =
        ["--judge", "demo-judge,scripted", "--judge-rule", "hash:0.6", "--judge-batch", "2"];
    let two_devices = [&SCRIPTED[..], &["--devices", "cpu,cpu"]].concat();
    let jobs = [("s", &SCRIPTED[..]), ("b", &several[..]), ("d", &two_devices[..])];
    let mut outputs = Vec::new();
    for (name, judge) in jobs {
        for when in ["off", "on", "auto"] {
            let out = format!("{name}-{when}");
            let output = place.job(&out, when, judge).output().unwrap();
            ended(&output, 0);
            outputs.push((name, text(&output.stdout).replace(&out, "RUN")));
        }
        place.assert_same(&format!("{name}-off"), &format!("{name}-on"));
        place.assert_same(&format!("{name}-off"), &format!("{name}-auto"));
    }
    place.assert_same("s-off", "d-off");
    for (name, output) in &outputs {
        let first = outputs.iter().find(|(of, _)| of == name).unwrap();
        assert_eq!(*output, first.1, "{name}");
    }
}

#[test]
fn a_server_is_asked_the_same_and_as_often_while_pictures_are_made() {
    let place = Place::new();
    let journal: &'static Mutex<PathBuf> = Box::leak(Box::default());
    let first_at: &'static Mutex<Option<usize>> = Box::leak(Box::default());
    let server = Loopback::start(move |request| {
        let lines = std::fs::read_to_string(&*journal.lock().unwrap()).unwrap().lines().count();
        first_at.lock().unwrap().get_or_insert(lines - 1);
        choosy(request)
    });
    let url = server.url();
    let mut asked = 0;
    let mut made_before = Vec::new();
    for when in ["off", "auto"] {
        *journal.lock().unwrap() = place.path(when).join("images.jsonl");
        let told = ended(&place.job(when, when, &endpoint(&url)).output().unwrap(), 3);
        assert!(told.contains(" failed (the same command asks again)"), "{told}");
        made_before.extend(first_at.lock().unwrap().take());
        let received = server.received().len() - asked;
        asked = server.received().len();
        assert_eq!(received, place_questions(&place));
    }
    assert_eq!(made_before[0], IMAGES);
    assert!((3..IMAGES).contains(&made_before[1]), "{made_before:?}");
    place.assert_same("off", "auto");
    // A further sitting asks the failed questions once more, and nothing else.
    let failed = place.path("off").join("answers/endpoint.jsonl");
    let failed = std::fs::read_to_string(failed).unwrap().matches("\"failed\"").count();
    assert!(failed > 0);
    for when in ["auto", "off"] {
        let before = server.received().len();
        ended(&place.job(when, when, &endpoint(&url)).output().unwrap(), 3);
        assert_eq!(server.received().len() - before, failed);
    }
    place.assert_same("off", "auto");
}

/// Questions about all images of the job, as its answers have them.
fn place_questions(place: &Place) -> usize {
    let answers =
        std::fs::read_to_string(place.path("off").join("answers/endpoint.jsonl")).unwrap();
    answers.matches("\"question\":").count()
}

#[test]
fn killed_again_and_again_it_goes_on_to_the_same_bytes_in_either_way() {
    let server = Loopback::start(choosy);
    let url = server.url();
    let judge = endpoint(&url);
    let place = Place::new();
    ended(&place.job("whole", "off", &judge).output().unwrap(), 3);
    for (out, ways) in [("x", ["auto", "auto"]), ("y", ["auto", "off"]), ("z", ["off", "on"])] {
        let kills = [("images.jsonl", 2), ("answers/endpoint.jsonl", 3), ("images.jsonl", 11)];
        for (number, (journal, enough)) in kills.into_iter().enumerate() {
            let mut child = place.job(out, ways[number % 2], &judge).spawn().unwrap();
            let journal = format!("{out}/{journal}");
            until(|| place.lines(&journal) >= enough || child.try_wait().unwrap().is_some());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ended(&place.job(out, ways[1], &judge).output().unwrap(), 3);
        place.assert_same(out, "whole");
    }
}

#[test]
fn a_signal_lets_both_stages_finish_what_they_have_in_hand() {
    let server = Loopback::start(choosy);
    let url = server.url();
    let judge = endpoint(&url);
    let place = Place::new();
    ended(&place.job("whole", "off", &judge).output().unwrap(), 3);
    let child = place.job("run", "auto", &judge).spawn().unwrap();
    until(|| place.lines("run/answers/endpoint.jsonl") > 1);
    let made = place.lines("run/images.jsonl");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let told = ended(&output, 3);
    // Where it had not come to its end already.
    if made < IMAGES {
        assert!(told.contains("SIGTERM: the image in hand"), "{told}");
        assert!(told.contains("nothing finished is lost; to go on:"), "{told}");
        let (made, judged) =
            (place.lines("run/images.jsonl") - 1, place.lines("run/answers/endpoint.jsonl") - 1);
        assert!(judged <= made && made < IMAGES, "{judged} of {made}: {told}");
        assert!(told.contains(&format!("{made}/{IMAGES} images in run")), "{told}");
        assert!(told.contains(&format!("of {IMAGES} images judged")), "{told}");
        assert!(told.contains(&format!("{} images missing", IMAGES - made)), "{told}");
        assert!(!place.path("run/summary").exists());
    }
    ended(&place.job("run", "auto", &judge).output().unwrap(), 3);
    place.assert_same("run", "whole");
}

#[test]
fn an_error_of_either_stage_stops_the_other_and_nothing_finished_is_lost() {
    static REFUSES: AtomicBool = AtomicBool::new(false);
    let server = Loopback::start(|request| match REFUSES.load(Ordering::SeqCst) {
        true => Reply::Status(401, vec![], "{}".to_owned()),
        false => choosy(request),
    });
    let url = server.url();
    let judge = endpoint(&url);
    let place = Place::new();
    ended(&place.job("whole", "off", &judge).output().unwrap(), 3);
    let whole = files(&place.path("whole"));
    let third = String::from_utf8(whole[Path::new("images.jsonl")].clone()).unwrap();
    let third: serde_json::Value = serde_json::from_str(third.lines().nth(7).unwrap()).unwrap();
    let third = format!("images/{}", third["item"].as_str().unwrap());
    let stopped = |out: &str, judge: &[&str], expected: &str, least: usize| {
        let told = error(&place.job(out, "auto", judge).output().unwrap());
        assert!(told.contains(expected), "{told}");
        let made = place.lines(&format!("{out}/images.jsonl"));
        assert!((least..=IMAGES).contains(&made), "{made} lines: {told}");
        for journal in ["images.jsonl", "answers/endpoint.jsonl"] {
            let there = std::fs::read(place.path(out).join(journal)).unwrap_or_default();
            assert!(whole[Path::new(journal)].starts_with(&there), "{journal}");
        }
    };
    let goes_on = |out: &str| {
        ended(&place.job(out, "auto", &judge).output().unwrap(), 3);
        place.assert_same(out, "whole");
    };

    // There is no server.
    let nowhere = endpoint("http://127.0.0.1:9/v1");
    stopped("no-server", &nowhere, "check --judge-url and that the server runs", 4);
    goes_on("no-server");

    // The key is refused from now on.
    REFUSES.store(true, Ordering::SeqCst);
    stopped("no-key", &judge, "refuses the key", 4);
    REFUSES.store(false, Ordering::SeqCst);
    goes_on("no-key");

    // The answers cannot be written.
    std::fs::create_dir(place.path("no-answers")).unwrap();
    std::fs::write(place.path("no-answers/answers"), "in the way").unwrap();
    let told = error(&place.job("no-answers", "auto", &judge).output().unwrap());
    assert!(told.contains("answers/endpoint.jsonl"), "{told}");
    assert!(place.lines("no-answers/images.jsonl") < IMAGES, "{told}");
    std::fs::remove_file(place.path("no-answers/answers")).unwrap();
    goes_on("no-answers");

    // A picture cannot be written.
    std::fs::create_dir_all(place.path("no-pictures/images")).unwrap();
    let in_the_way = place.path("no-pictures").join(&third);
    std::fs::write(&in_the_way, "in the way").unwrap();
    stopped("no-pictures", &judge, &third, 7);
    assert_eq!(place.lines("no-pictures/images.jsonl"), 7);
    std::fs::remove_file(&in_the_way).unwrap();
    goes_on("no-pictures");
}

#[test]
fn a_judge_that_cannot_go_on_with_its_answers_is_refused_before_a_picture_is_made() {
    let place = Place::new();
    ended(&place.job("run", "auto", &SCRIPTED).output().unwrap(), 0);
    let journal = place.path("run/images.jsonl");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let cut = whole.lines().take(IMAGES - 2).map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&journal, &cut).unwrap();
    let other = ["--judge", "scripted", "--judge-rule", "no"];
    for (when, there) in [("auto", &cut), ("off", &whole)] {
        let told = error(&place.job("run", when, &other).output().unwrap());
        assert!(told.contains("--judge-name files these answers"), "{told}");
        assert!(std::fs::read_to_string(&journal).unwrap() == *there, "{when}");
    }
}

#[test]
fn shards_and_what_is_made_after_a_merge_end_in_the_same_bytes() {
    let place = Place::new();
    ended(&place.job("single", "off", &SCRIPTED).output().unwrap(), 0);
    let merge = |out: &str, code| ended(&place.command(&["merge", out]).output().unwrap(), code);
    for (shard, when) in [("0/2", "on"), ("1/2", "off")] {
        let flags = [&SCRIPTED[..], &["--shard", shard]].concat();
        ended(&place.job("dealt", when, &flags).output().unwrap(), 0);
    }
    merge("dealt", 0);
    ended(&place.command(&["score", "dealt"]).output().unwrap(), 0);
    let without_shards = |out: &str| {
        let _ = std::fs::remove_dir_all(place.path(out).join("shards"));
    };
    without_shards("dealt");
    place.assert_same("dealt", "single");

    // The second shard is merged first: what is made then belongs before it.
    let flags = [&SCRIPTED[..], &["--shard", "1/2"]].concat();
    ended(&place.job("part", "on", &flags).output().unwrap(), 0);
    merge("part", 3);
    ended(&place.job("part", "on", &SCRIPTED).output().unwrap(), 0);
    without_shards("part");
    place.assert_same("part", "single");
}

#[test]
fn a_live_run_tells_of_both_stages() {
    let place = Place::new();
    let live = [&SCRIPTED[..], &["--live"]].concat();
    let told = ended(&place.job("run", "auto", &live).output().unwrap(), 0);
    let of = |name: &str| told.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    assert!(of("images: ").contains(&"images: 15/15"), "{told}");
    assert!(of("scripted: ")[0].ends_with("; no item is whole yet"), "{told}");
    let last = of("scripted: ").pop().unwrap().to_owned();
    assert!(last.starts_with("scripted: 15/15; score so far ") && last.ends_with("(5 items)"));
}
