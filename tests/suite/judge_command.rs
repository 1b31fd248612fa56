//! `dpg-bench judge` as a process: exit codes, what it prints, what it keeps secret, and being killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dpg_bench::benchmark::{Benchmark, Selection, Strictness};
use dpg_bench::results::RunDirectory;
use dpg_bench::results::manifest::{BenchmarkIdentity, to_settings};

use super::loopback::{Loopback, Reply, well_behaved};
use super::small_run::{IMAGES, put_picture};

const KEY: &str = "sk-test-9876543210";

/// A question file of three items and a run about it with all pictures, both in `folder`.
pub fn make_run(folder: &Path) -> PathBuf {
    let mut csv =
        "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,\
                   tuple,question_natural_language\n"
            .to_owned();
    for item in ["first", "second", "third"] {
        for id in [1, 2, 3] {
            csv.push_str(&format!(
                "{item},\"A truck, and a {item} shed\",,{id},0,entity,whole,entity - whole (truck),Is \
                 there a truck {id}?\n"
            ));
        }
    }
    let questions = folder.join("questions.csv");
    std::fs::write(&questions, csv).unwrap();
    let benchmark = Benchmark::load(&questions, Strictness::Strict).unwrap();
    let identity = BenchmarkIdentity {
        path: questions.display().to_string(),
        digest: benchmark.digest.clone(),
        official: false,
        items: 3,
        questions: 9,
        lenient: false,
    };
    let path = folder.join("run");
    let selection = to_settings(&Selection::default()).unwrap();
    let run = RunDirectory::open_or_create(&path, identity, selection, IMAGES).unwrap();
    for (shade, item) in benchmark.items.iter().enumerate() {
        for image in 0..IMAGES {
            put_picture(&run, &item.id, image, shade as u8);
        }
    }
    path
}

pub fn command(run: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.arg("judge").arg(run).args(flags);
    command.env_remove("OPENAI_API_KEY").env("DPG_TEST_KEY", KEY).stdin(Stdio::null());
    command
}

fn judge(run: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(run, flags).output().unwrap();
    assert!(stdout.is_empty(), "results only go to stdout: {}", String::from_utf8_lossy(&stdout));
    (status.code(), String::from_utf8(stderr).unwrap())
}

pub fn endpoint_flags(url: &str) -> Vec<&str> {
    let mut flags = vec!["--judge", "endpoint", "--judge-url", url, "--judge-model", "tiny/vlm"];
    flags.extend(["--judge-key-env", "DPG_TEST_KEY", "--judge-concurrency", "2"]);
    flags
}

#[test]
fn exit_codes_and_the_closing_line_say_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let yes = ["--judge", "scripted", "--judge-rule", "yes"];
    let (code, text) = judge(&run, &yes);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("12 of 12 images judged, 36 answers (0 unparsable)"), "{text}");
    assert!(text.contains("scripted.jsonl"), "{text}");

    let (code, text) = judge(&run, &["--judge", "scripted", "--judge-rule", "no"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--judge-name") && text.contains("rule: \"yes\" in the run"), "{text}");

    let answers = folder.path().join("answers.csv");
    let rows = "first,*,1,yes\nfirst,*,2,no\nfirst,*,3,perhaps\n";
    std::fs::write(&answers, format!("item,image,question,answer\n{rows}")).unwrap();
    let file = answers.to_str().unwrap();
    let from_file = ["--judge", "scripted", "--judge-name", "f", "--judge-answers", file];
    let (code, text) = judge(&run, &from_file);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("4 of 12 images judged, 12 answers (4 unparsable), 24 questions failed"));
    let manifest = RunDirectory::open(&run).unwrap().manifest().clone();
    assert_eq!(manifest.judges["f"].sittings[0].images_done, Some(4));
    assert_eq!(manifest.judges["f"].sittings[0].images_failed, Some(8));

    std::fs::write(folder.path().join("run/images.jsonl"), "").unwrap();
    let (code, text) = judge(&run, &["--judge", "scripted", "--judge-rule", "yes"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("generate or import them first"), "{text}");
    let (code, text) = judge(&run, &[]);
    assert_eq!(code, Some(2));
    assert!(text.contains("scripted:") && text.contains("endpoint:"), "{text}");
    let (code, text) = judge(&folder.path().join("nowhere"), &yes);
    assert_eq!(code, Some(2));
    assert!(text.contains("no run directory"), "{text}");
}

#[test]
fn a_killed_process_goes_on_to_the_bytes_of_an_undisturbed_one_and_leaks_no_key() {
    let late = |request: &super::loopback::Received| {
        Reply::Late(Duration::from_millis(40), Box::new(well_behaved(request)))
    };
    let server = Loopback::start(late);
    let url = server.url();
    let flags = endpoint_flags(&url);
    let journal =
        |run: &Path| std::fs::read(run.join("answers/endpoint.jsonl")).unwrap_or_default();

    let whole = tempfile::tempdir().unwrap();
    let undisturbed = make_run(whole.path());
    let (code, text) = judge(&undisturbed, &flags);
    assert_eq!(code, Some(0), "{text}");
    let expected = journal(&undisturbed);
    let asked_once = server.received().len();
    assert_eq!(asked_once, 36);

    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let mut child = command(&run, &flags).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while server.received().len() < asked_once + 20 {
        assert!(started.elapsed() < Duration::from_secs(60), "the process asks nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let part = journal(&run);
    assert!(expected.starts_with(&part) && part.len() < expected.len());
    assert!(part.iter().filter(|&&byte| byte == b'\n').count() > 1, "killed before any answer");

    let (code, text) = judge(&run, &flags);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(journal(&run), expected);
    assert!(!text.contains(KEY));
    for file in ["manifest.json", "answers/endpoint.jsonl"] {
        assert!(!std::fs::read_to_string(run.join(file)).unwrap().contains(KEY), "{file}");
    }
    let bearer = format!("Bearer {KEY}");
    let received = server.received();
    assert!(received.iter().all(|request| request.authorization.as_deref() == Some(&*bearer)));
}

#[test]
fn a_server_that_refuses_logprobs_can_be_asked_without_them_right_away() {
    let server = Loopback::start(|request| {
        if request.body.get("logprobs").is_some() {
            Reply::Status(400, vec![], "{\"error\": \"logprobs: not supported\"}".to_owned())
        } else {
            well_behaved(request)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let run = make_run(folder.path());
    let url = server.url();
    let mut flags = endpoint_flags(&url);
    let (code, text) = judge(&run, &flags);
    assert_eq!(code, Some(2));
    assert!(text.contains("use --judge-no-logprobs"), "{text}");
    flags.push("--judge-no-logprobs");
    let (code, text) = judge(&run, &flags);
    assert_eq!(code, Some(0), "{text}");
}
