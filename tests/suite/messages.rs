//! `--quiet`, `--verbose` and `--color`: what is said on stderr beside the result, and where there are colours; what a
//! caller of the library hears of a report.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use dpg_bench::{Listener, ReportOptions, Stage, StageObserver, report_to};

use crate::report_runs::{ITEMS, first};
use crate::small_run::IMAGES;
use crate::words::Place;
use crate::words_shown::{with_pictures, with_run};

const ESCAPE: char = '\u{1b}';

/// Stdout and stderr of the program in `place`, with these variables set.
fn outcome(place: &Place, variables: &[(&str, &str)], arguments: &str) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    let caches = ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_CACHE"];
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"].iter().chain(&caches) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).env("HOME", place.path("home"));
    let output = command.args(arguments.split(' ')).current_dir(place.path(".")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn quiet_leaves_out_notes_and_hints_but_no_warning_error_or_result() {
    let place = with_run();
    let score = |flag: &str| outcome(&place, &[], &format!("score run --judge scripted{flag}"));
    let (table, _) = score("");
    assert_eq!(score(" --quiet").0, table);
    assert!(table.contains("benchmark"), "{table}");

    let judge = "judge run --judge scripted --judge-rule hash:0.7 --judge-name";
    let (_, said) = outcome(&place, &[], &format!("{judge} first"));
    assert!(said.contains("next: dpg-bench score"), "{said}");
    // Also before the command.
    for line in [format!("{judge} second -q"), format!("-q {judge} third")] {
        assert_eq!(outcome(&place, &[], &line), Default::default(), "{line}");
    }
    let (_, said) = outcome(&place, &[], "score nowhere --quiet");
    assert!(said.starts_with("error: "), "{said}");

    // One picture is missing.
    let place = with_pictures();
    std::fs::remove_file(place.path("pictures/cat_1.png")).unwrap();
    let import = "import --images pictures --images-per-item 2 --benchmark items.csv --out run -q";
    let (_, said) = outcome(&place, &[], import);
    assert!(!said.is_empty(), "a missing picture is told");
    assert!(said.lines().all(|line| line.starts_with("warning: ")), "{said}");
}

#[test]
fn verbose_tells_of_files_devices_and_requests() {
    let place = with_run();
    let run = "run --model demo-sd --benchmark demo --limit 1 --images 1 --steps 1 --out made -v";
    let (_, said) = outcome(&place, &[], run);
    let has = |said: &str, words: &[&str]| {
        let is_line =
            |line: &str| line.starts_with('[') && words.iter().all(|word| line.contains(word));
        assert!(said.lines().any(is_line), "no line with {words:?} in\n{said}");
    };
    has(&said, &["dpg-bench 0.", "commit: ", "target: ", " threads, "]);
    has(&said, &["opened ", "unet/diffusion_pytorch_model.safetensors: ", " bytes, ", " tensors"]);
    has(&said, &["opened ", "vae/config.json"]);
    has(&said, &["model demo-sd: cpu, ", " threads, f32"]);
    has(&said, &["judge demo-judge: cpu, "]);

    let judge = "judge run -v --judge endpoint --judge-model some --judge-retries 1 --judge-url \
                 http://127.0.0.1:1/v1?code=hush";
    let (_, said) = outcome(&place, &[], judge);
    let request = "POST http://127.0.0.1:1/v1/chat/completions: ";
    has(&said, &[request, ", question 1: no connection"]);
    has(&said, &[request, "try 2 in "]);
    assert!(!said.contains("hush"), "{said}");

    let (_, said) =
        outcome(&place, &[], "judge run --judge scripted --judge-rule no --judge-name n");
    assert!(!said.lines().any(|line| line.starts_with('[')), "{said}");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let place = Place::new();
    place.write("items.csv", crate::words_shown::ITEMS);
    // The weights are not there.
    let doctor = "doctor --quick --model sd15 --judge mplug --benchmark items.csv --device cpu";
    let (red, green) = ("\u{1b}[1m\u{1b}[31mPROBLEM\u{1b}[0m", "\u{1b}[32mok     \u{1b}[0m");
    let (plain, _) = outcome(&place, &[], doctor);
    assert!(plain.contains("PROBLEM  ") && plain.contains("ok       "), "{plain}");
    let forced = &[("CLICOLOR_FORCE", "1")][..];
    let refused = &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")][..];
    for (variables, flags, is_coloured) in [
        (&[][..], "", false),
        (&[], " --color always", true),
        (forced, "", true),
        (refused, "", false),
        (refused, " --color always", true),
        (forced, " --color never", false),
    ] {
        let (shown, _) = outcome(&place, variables, &format!("{doctor}{flags}"));
        assert_eq!(shown.contains(ESCAPE), is_coloured, "{variables:?}{flags}:\n{shown}");
        let both = shown.contains(red) && shown.contains(green);
        assert_eq!(both, is_coloured, "{variables:?}{flags}:\n{shown}");
        let (_, error) = outcome(&place, variables, &format!("score nowhere{flags}"));
        assert_eq!(error.contains(ESCAPE), is_coloured, "{variables:?}{flags}:\n{error}");
        // What clap refuses, and its help.
        for line in ["score --nowhere", "help run"] {
            let (shown, error) = outcome(&place, variables, &format!("{line}{flags}"));
            assert_eq!((shown + &error).contains(ESCAPE), is_coloured, "{line}{flags}");
        }
        // JSON has none in any case.
        let (json, _) = outcome(&place, variables, &format!("{doctor} --json{flags}"));
        assert!(!json.contains(ESCAPE), "{json}");
    }
}

/// Counts what it hears of thumbnails.
#[derive(Default)]
struct Counter {
    total: AtomicU64,
    done: AtomicU64,
    ended: AtomicU64,
}

struct Heard<'a>(&'a Counter);

impl Listener for Counter {
    fn observe<'a>(&'a self, stage: Stage<'_>) -> Box<dyn StageObserver + 'a> {
        assert_eq!(stage, Stage::Thumbnails);
        Box::new(Heard(self))
    }
}

impl StageObserver for Heard<'_> {
    fn started(&self, total: u64, already_done: u64) {
        assert_eq!(already_done, 0);
        self.0.total.fetch_add(total, Ordering::SeqCst);
    }

    fn image_done(&self, _: &str, _: u32) {
        self.0.done.fetch_add(1, Ordering::SeqCst);
    }

    fn finished(&self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_listener_hears_of_each_thumbnail_of_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let options = ReportOptions::new([first(folder.path())], &folder.path().join("report"));
    let counter = Counter::default();
    report_to(&options, &counter).unwrap();
    let images = ITEMS.len() as u64 * u64::from(IMAGES);
    let heard = [&counter.total, &counter.done, &counter.ended].map(|n| n.load(Ordering::SeqCst));
    assert_eq!(heard, [images, images, 1]);
}
