//! The demo from end to end, on a part of it: its judge against PyTorch (tests/fixtures/make_demo_judge.py),
//! true renderings and blank pictures, its models, and the command that does everything.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use candle_core::{DType, Device};
use dpg_bench::checkpoint::shipped::DEMO_JUDGE;
use dpg_bench::compute::device::Place;
use dpg_bench::judge::mplug::{Found, MplugJudge, MplugOptions};
use dpg_bench::judge::pillow_resize::Order;
use image::RgbImage;
use serde::Deserialize;
use serde_json::Value;

use super::generate_run::files;
use super::tiny_checkpoint::fixture;

/// Prompts that the tests here are about.
const SUBSET: &str = "12";

#[derive(Debug, Deserialize)]
struct Golden {
    questions: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    picture: usize,
    question: String,
    #[serde(rename = "true")]
    truth: bool,
    answer: String,
    steps: usize,
    yes_probability: f64,
    wrong_yes_probability: f64,
    hypotheses: Vec<Hypothesis>,
}

#[derive(Debug, Deserialize)]
struct Hypothesis {
    score: f64,
    ids: Vec<u32>,
}

fn goldens() -> Vec<Line> {
    let text = std::fs::read(fixture("demo-judge/golden.json")).unwrap();
    serde_json::from_slice::<Golden>(&text).unwrap().questions
}

/// What the judge inside the program finds for the questions of `goldens`, in their order.
fn found(goldens: &[Line], change: fn(MplugOptions) -> MplugOptions) -> Vec<Found> {
    let place = Place { device: Device::Cpu, dtype: DType::F32 };
    // As the goldens were made: with Pillow 13, and all hypotheses of the original.
    let options =
        MplugOptions { order: Order::Pillow13, early_stopping: false, ..MplugOptions::new(place) };
    let folder = DEMO_JUDGE.unpack().unwrap();
    let judge = MplugJudge::load(folder.path(), change(options)).unwrap();
    let pictures: Vec<RgbImage> = (0..4)
        .map(|number| fixture(&format!("demo-judge/picture_{number}.png")))
        .map(|path| image::open(path).unwrap().to_rgb8())
        .collect();
    let of = |number: usize| -> Vec<&str> {
        let asked = goldens.iter().filter(|line| line.picture == number);
        asked.map(|line| line.question.as_str()).collect()
    };
    let questions: Vec<Vec<&str>> = (0..pictures.len()).map(of).collect();
    judge.hypotheses(&pictures, &questions).unwrap().into_iter().flatten().collect()
}

/// The questions whose hypotheses, steps or probabilities differ.
fn differences(found: &[Found], goldens: &[Line], chance: fn(&Line) -> f64) -> Vec<String> {
    let differs = |found: &Found, golden: &Line| {
        let best = |index: usize| found.hypotheses.get(index);
        found.steps != golden.steps
            || found.hypotheses.len() != golden.hypotheses.len()
            // Those that nobody would give are near ties; the best one is the answer.
            || best(0).map(|h| &h.tokens) != golden.hypotheses.first().map(|h| &h.ids)
            || best(0).is_none_or(|h| (f64::from(h.score) - golden.hypotheses[0].score).abs() > 1e-4)
            || (found.watched - chance(golden)).abs() > 2e-5
    };
    let pairs = found.iter().zip(goldens);
    pairs
        .filter(|(found, golden)| differs(found, golden))
        .map(|(_, g)| g.question.clone())
        .collect()
}

#[test]
fn the_judge_answers_as_pytorch_does() {
    let goldens = goldens();
    assert!(goldens.len() >= 20);
    for answer in ["yes", "no"] {
        assert!(goldens.iter().any(|line| line.answer == answer), "{answer} is never the answer");
    }
    let right = goldens.iter().filter(|line| (line.answer == "yes") == line.truth).count();
    assert!(right * 20 >= goldens.len() * 19, "{right} of {} right", goldens.len());
    let found = found(&goldens, |options| options);
    assert_eq!(differences(&found, &goldens, |line| line.yes_probability), Vec::<String>::new());
}

/// The same check sees a network with another curve in its vision tower, and a search that is greedy.
#[test]
fn the_check_of_the_judge_sees_mistakes() {
    let goldens = goldens();
    let right = found(&goldens, |options| options);
    assert!(!differences(&right, &goldens, |line| line.wrong_yes_probability).is_empty());
    let greedy = found(&goldens, |options| MplugOptions { beam_width: Some(1), ..options });
    assert!(!differences(&greedy, &goldens, |line| line.yes_probability).is_empty());
}

fn program(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeed(output: &Output) -> String {
    let shown = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{shown}", output.status);
    text(&output.stdout)
}

/// Imports the pictures below `images`, has them judged and gives the benchmark score.
fn score_of(folder: &Path, images: &Path, run: &str) -> f64 {
    let images = images.display().to_string();
    let import = [
        "import",
        "--images",
        &images,
        "--images-per-item",
        "1",
        "--benchmark",
        "demo",
        "--subset",
        SUBSET,
    ];
    succeed(&program(folder, &[&import[..], &["--out", run]].concat()));
    succeed(&program(folder, &["judge", run, "--judge", "demo-judge"]));
    let json = succeed(&program(folder, &["score", run, "--json"]));
    let summary: Value = serde_json::from_str(&json).unwrap();
    summary["corrected"]["overall"]["mean"].as_f64().unwrap()
}

#[test]
fn true_renderings_score_high_and_blank_pictures_low() {
    let folder = tempfile::tempdir().unwrap();
    let renderings = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmark/demo/true");
    let blank = folder.path().join("blank");
    for item in std::fs::read_dir(&renderings).unwrap() {
        let item = blank.join(item.unwrap().file_name());
        std::fs::create_dir_all(&item).unwrap();
        RgbImage::from_pixel(64, 64, image::Rgb([255; 3])).save(item.join("0.png")).unwrap();
    }
    let high = score_of(folder.path(), &renderings, "high");
    let low = score_of(folder.path(), &blank, "low");
    println!("true renderings {high:.2}, blank pictures {low:.2}");
    assert!(high >= 95.0, "{high}");
    assert!(low <= 25.0, "{low}");
}

#[test]
fn run_alone_takes_the_demos_model_and_judge_and_ends_with_the_way_to_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let small = ["run", "--limit", "1", "--images", "1", "--steps", "2"];
    let output = program(folder.path(), &small);
    let table = succeed(&output);
    assert!(table.contains("DPG-Bench score"), "{table}");
    let said = text(&output.stderr);
    let last = said.trim_end().lines().last().unwrap();
    assert_eq!(last, "report: dpg-bench report results/demo-ella --out reports/demo-ella");
    let manifest = folder.path().join("results/demo-ella/manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["generation"]["settings"]["name"], "demo-ella", "{manifest}");
    assert_eq!(manifest["benchmark"]["path"], "demo");
    assert!(folder.path().join("results/demo-ella/answers/demo-judge.jsonl").is_file());

    for (flags, expected) in [
        (["--weights", "x"], "model demo-ella has its weights inside; leave out --weights"),
        (["--ella", "x"], "leave out --ella"),
        (["--text-encoder", "x"], "leave out --text-encoder"),
    ] {
        let output = program(folder.path(), &[&small[..], &flags[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

/// What the demo is for: with the whole prompt, the same networks draw what the prompt says.
#[test]
fn demo_ella_follows_prompts_that_demo_sd_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let score = |model: &str| {
        let job = ["run", "--model", model, "--subset", SUBSET, "--images", "1", "--steps", "10"];
        succeed(&program(folder.path(), &[&job[..], &["--out", model]].concat()));
        let json = succeed(&program(folder.path(), &["score", model, "--json"]));
        let summary: Value = serde_json::from_str(&json).unwrap();
        summary["corrected"]["overall"]["mean"].as_f64().unwrap()
    };
    let (short, whole) = (score("demo-sd"), score("demo-ella"));
    println!("demo-sd {short:.2}, demo-ella {whole:.2}");
    // Of all 72 prompts it is 48 points, by four images each and 20 steps.
    assert!(whole - short > 20.0, "{short} and {whole}");
    assert!(whole > 60.0, "{whole}");
}

#[test]
fn the_demo_ends_with_a_report_and_its_steps_are_commands_that_anyone_may_give() {
    let folder = tempfile::tempdir().unwrap();
    let demo = ["demo", "--out", "demo", "--subset", "2", "--images", "1", "--steps", "2"];
    let output = program(folder.path(), &demo);
    let said = text(&output.stderr);
    // Two steps make no pictures: which way the check goes is not asked here.
    assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{said}");
    for part in [
        "demo-sd/summary/demo-judge.json",
        "demo-ella/summary/demo-judge.json",
        "comparison.md",
        "baseline.json",
        "check.xml",
        "report/index.html",
    ] {
        assert!(folder.path().join("demo").join(part).is_file(), "{part} is missing\n{said}");
    }
    assert_eq!(said.trim_end().lines().last(), Some("open demo/report/index.html"));

    // Given again, it makes nothing anew; and so do its steps, one by one.
    let before = files(&folder.path().join("demo"));
    program(folder.path(), &demo);
    let steps: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("$ dpg-bench ")).collect();
    assert_eq!(steps.len(), 6, "{said}");
    for step in steps {
        let output = program(folder.path(), &step.split(' ').collect::<Vec<_>>());
        assert_ne!(output.status.code(), Some(2), "{step}\n{}", text(&output.stderr));
    }
    let after = files(&folder.path().join("demo"));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, bytes) in &before {
        assert!(*bytes == after[path], "{} is not the same", path.display());
    }
}

/// The demo's models make and judge as many images at a time as there are threads.
#[test]
fn every_file_is_the_same_whatever_the_threads_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let command = |threads: &str, out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.current_dir(folder.path()).env("RAYON_NUM_THREADS", threads);
        command.args(["run", "--limit", "3", "--images", "3", "--steps", "4", "--out", out]);
        command
    };
    let lines = |file: &str| {
        std::fs::read_to_string(folder.path().join(file)).map_or(0, |text| text.lines().count())
    };
    for (threads, out) in [("1", "one"), ("5", "five")] {
        succeed(&command(threads, out).output().unwrap());
    }
    let mut killed = 0;
    for file in ["killed/images.jsonl", "killed/answers/demo-judge.jsonl"] {
        let mut job = command("4", "killed").stderr(Stdio::null()).spawn().unwrap();
        while lines(file) < 2 && job.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        killed += u32::from(job.try_wait().unwrap().is_none());
        job.kill().unwrap();
        job.wait().unwrap();
    }
    assert!(killed > 0, "all was over before it was killed");
    succeed(&command("2", "killed").output().unwrap());
    let [one, others @ ..] = ["one", "five", "killed"].map(|out| files(&folder.path().join(out)));
    for other in &others {
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        for (path, bytes) in &one {
            assert!(*bytes == other[path], "{} is not the same", path.display());
        }
    }
}
