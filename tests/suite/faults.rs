//! Faults of machine and disk, on the program as a process: signals, a full disk, torn and edited files. What
//! is finished stays, a sentence says what is wrong, and the same command goes on to the same bytes. Kills at
//! random places, file systems that fail and clocks that go backwards: `scripts/fault_check.py`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::generate_run::files;
use crate::loopback::{Loopback, Reply, well_behaved};

/// A job of a few seconds; its settings stand for all of the tests here.
const JOB: [&str; 9] = ["run", "--limit", "3", "--images", "2", "--steps", "2", "--out", "run"];

struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the job to its end.
    fn finish(&self) {
        let output = self.command(&JOB).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    /// The job, undisturbed.
    fn undisturbed() -> Self {
        let job = Self::new();
        job.finish();
        assert_eq!(job.pictures(), 6);
        job
    }

    fn pictures(&self) -> usize {
        files(&self.run())
            .keys()
            .filter(|name| name.extension().is_some_and(|e| e == "png"))
            .count()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
}

fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(300);
    while !is_so() {
        assert!(Instant::now() < end, "it never came to that");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_signal_lets_the_image_in_hand_be_finished_and_says_how_to_go_on() {
    let whole = files(&Job::undisturbed().run());
    for (name, lines_before) in [("-INT", 1), ("-TERM", 2)] {
        let job = Job::new();
        // Slow steps: the signal comes within an image.
        let slow = ["run", "--limit", "3", "--images", "2", "--steps", "40", "--out", "slow run"];
        let child = job.command(&slow).spawn().unwrap();
        let journal = job.folder.path().join("slow run/images.jsonl");
        until(|| lines(&journal) > lines_before);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let told = said(&output);
        let made = lines(&journal) - 1;
        assert!((lines_before..6).contains(&made), "{made} images; {told}");
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains(&format!("SIG{}: the image in hand", &name[1..])), "{told}");
        let (_, command) = told.split_once("to go on:\n").unwrap();
        assert!(command.trim_end().ends_with("--out 'slow run'"), "{told}");
        assert!(!job.folder.path().join("slow run/answers").exists(), "it went on to judge");

        // The same in the quick job, which is then finished by the command that was printed.
        let child = job.command(&JOB).spawn().unwrap();
        until(|| lines(&job.run().join("images.jsonl")) > lines_before);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            continue; // It was done before the signal came.
        }
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let told = said(&output);
        let command = told.split_once("to go on:\n").unwrap().1.lines().next().unwrap().trim();
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(job.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {}", said(&output));
        assert!(files(&job.run()) == whole);
    }
}

#[test]
fn a_judge_is_stopped_between_images_and_a_second_signal_ends_at_once() {
    static HANGS: AtomicBool = AtomicBool::new(false);
    let server = Loopback::start(|request| match HANGS.load(Ordering::SeqCst) {
        false => Reply::Late(Duration::from_millis(30), Box::new(well_behaved(request))),
        true => Reply::Never,
    });
    let url = server.url();
    let judging = |out| {
        [
            "judge",
            out,
            "--judge",
            "endpoint",
            "--judge-url",
            &url,
            "--judge-model",
            "m",
            "--judge-concurrency",
            "1",
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let job = Job::new();
    for out in ["whole", "stopped"] {
        let generate = ["generate", "--limit", "4", "--images", "2", "--steps", "1", "--out", out];
        let output = job.command(&generate).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let judge = |out: &'static str| {
        let arguments = judging(out);
        job.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(judge("whole").output().unwrap().status.success());
    let journal = job.folder.path().join("stopped/answers/endpoint.jsonl");
    let child = judge("stopped").spawn().unwrap();
    until(|| lines(&journal) > 1);
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let judged = lines(&journal) - 1;
    assert!((1..8).contains(&judged), "{judged} of 8 images");
    assert!(said(&output).contains(&format!("{judged} of 8 images judged")), "{}", said(&output));
    assert!(said(&output).contains(&format!("{} images left", 8 - judged)), "{}", said(&output));

    // A server that never answers: the image in hand is never finished.
    HANGS.store(true, Ordering::SeqCst);
    let asked = server.received().len();
    let child = judge("stopped").spawn().unwrap();
    until(|| server.received().len() > asked);
    let before = std::fs::read(&journal).unwrap();
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(said(&output).contains("ended by SIGINT; nothing finished is lost; to go on:\n"));
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    HANGS.store(false, Ordering::SeqCst);
    assert!(judge("stopped").output().unwrap().status.success());
    let folder = |name: &str| files(&job.folder.path().join(name));
    assert!(folder("stopped") == folder("whole"));
}

/// A limit on the size of files stands for a disk that fills up while a file is written. The checkpoint is one on
/// disk: the shipped one is unpacked, which would be the first to meet the limit.
#[test]
fn a_disk_that_fills_up_is_named_and_the_run_goes_on_when_there_is_room() {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-tiny");
    let weights = weights.display().to_string();
    let job: Vec<&str> =
        "run --model sd15 --benchmark demo --limit 3 --images 6 --steps 1 --width 16 --height 16 \
                          --judge scripted --judge-rule hash:0.7 --out run --weights"
            .split_whitespace()
            .chain([weights.as_str()])
            .collect();
    for (when, least) in [("off", 4), ("on", 3)] {
        let job = [&job[..], &["--judge-while-generating", when]].concat();
        let stopped_in = fill_up(&job);
        assert!(stopped_in.len() >= least, "{when}: {stopped_in:?}");
    }
}

/// Does the job under limits of several sizes, and once more without. Returns where they stopped it.
fn fill_up(job: &[&str]) -> BTreeSet<&'static str> {
    let finish = |place: &Job| {
        let output = place.command(job).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        files(&place.run())
    };
    let whole = finish(&Job::new());
    let mut stopped_in = BTreeSet::new();
    // Blocks of 512 bytes.
    for blocks in [0, 3, 4, 6, 8, 12, 30] {
        let place = Job::new();
        let command = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$0\" \"$@\"");
        // Two sittings under the limit, so that the second meets what the first has left.
        for _ in 0..2 {
            let output = Command::new("sh")
                .args(["-c", &command, env!("CARGO_BIN_EXE_dpg-bench")])
                .args(job)
                .current_dir(place.folder.path())
                .output()
                .unwrap();
            let told = said(&output);
            assert_eq!(output.status.code(), Some(2), "{blocks} blocks: {told}");
            let errors: Vec<&str> =
                told.lines().filter(|line| line.starts_with("error: ")).collect();
            let [error] = errors[..] else { panic!("{told}") };
            assert!(error.contains("File too large"), "{told}");
            let names =
                ["manifest.json", ".png", "images.jsonl", "answers/", "scores/", "summary/"];
            stopped_in.extend(names.into_iter().filter(|name| error.contains(name)));
            for journal in ["images.jsonl", "answers/scripted.jsonl"] {
                let bytes = std::fs::read(place.run().join(journal)).unwrap_or_default();
                assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "half a line is left");
            }
        }
        assert!(finish(&place) == whole, "{blocks} blocks");
    }
    stopped_in
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let job = Job::new();
    std::fs::write(job.folder.path().join("file"), "").unwrap();
    let mut places = vec!["file/run"];
    if Path::new("/sys/kernel").is_dir() {
        // Nobody makes folders there, not even root.
        places.push("/sys/kernel/dpg-bench-run");
    }
    for place in places {
        let mut arguments = JOB.to_vec();
        arguments[8] = place;
        let output = job.command(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(place), "{}", said(&output));
    }
}

#[test]
fn torn_lines_half_pictures_and_left_overs_are_mended_by_the_same_command() {
    let job = Job::undisturbed();
    let whole = files(&job.run());
    let cut = |name: &Path, keep: usize| {
        let path = job.run().join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..keep.min(bytes.len() - 1)]).unwrap();
    };
    let pictures: Vec<&PathBuf> =
        whole.keys().filter(|name| name.extension().is_some_and(|e| e == "png")).collect();
    for fault in 0..6 {
        match fault {
            0 => cut(Path::new("images.jsonl"), whole[Path::new("images.jsonl")].len() - 20),
            1 => cut(
                Path::new("answers/demo-judge.jsonl"),
                whole[Path::new("answers/demo-judge.jsonl")].len() / 2,
            ),
            2 => cut(pictures[1], 700),
            3 => cut(pictures[2], 0),
            4 => {
                std::fs::write(job.run().join(pictures[3]).with_file_name(".writing-0.png"), "half")
                    .unwrap()
            }
            _ => std::fs::remove_file(job.run().join(pictures[4])).unwrap(),
        }
        if fault == 4 {
            // It is taken over by the next writing of that picture.
            std::fs::remove_file(job.run().join(pictures[3]).with_file_name("0.png")).unwrap();
        }
        job.finish();
        assert!(files(&job.run()) == whole, "fault {fault}");
    }
}

#[test]
fn a_journal_that_was_edited_by_hand_is_found_out() {
    let job = Job::undisturbed();
    let journal = job.run().join("images.jsonl");
    let sound = std::fs::read_to_string(&journal).unwrap();
    let step = |arguments: &[&str]| {
        let output = job.command(arguments).output().unwrap();
        (output.status.code(), said(&output))
    };
    // No JSON any more: the line is named, and nothing is touched.
    let edited = sound.replacen("\"image\":1", "\"image\":one", 1);
    std::fs::write(&journal, &edited).unwrap();
    for arguments in [&JOB[..], &["score", "run"], &["judge", "run", "--judge", "demo-judge"]] {
        let (code, told) = step(arguments);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("images.jsonl, line 3"), "{told}");
    }
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), edited);

    // Another digest: answers and picture no longer belong to what the journal says.
    let at = sound.find("\"pixels_sha256\":\"").unwrap() + 17;
    let digit = if &sound[at..at + 1] == "0" { "1" } else { "0" };
    let edited = format!("{}{digit}{}", &sound[..at], &sound[at + 1..]);
    std::fs::write(&journal, &edited).unwrap();
    let (code, told) = step(&["score", "run"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("another image") && told.contains("image 0"), "{told}");
    let again = ["judge", "run", "--judge", "demo-judge"];
    let (code, told) = step(&again);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("answers for another image of"), "{told}");
    let other = [&again[..], &["--judge-name", "other"]].concat();
    let (code, told) = step(&other);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("is not the image that images.jsonl records"), "{told}");
    // Generation makes the picture anew and says in a further line what it is.
    let (code, told) =
        step(&["generate", "--limit", "3", "--images", "2", "--steps", "2", "--out", "run"]);
    assert_eq!(code, Some(0), "{told}");
    let mended = std::fs::read_to_string(&journal).unwrap();
    assert_eq!(mended, edited + sound.lines().nth(1).unwrap() + "\n");
    let (code, told) = step(&["score", "run", "--judge", "demo-judge"]);
    assert_eq!(code, Some(0), "{told}");
}
