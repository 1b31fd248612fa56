//! The main job as its user runs it: the binary, real prompts and question graphs, a checkpoint in the
//! published layout, a judge behind HTTP; killed at several points and resumed to the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::loopback::{Loopback, well_behaved};

const DPG_ITEMS: usize = 13;
const DSG_ITEMS: usize = 50;

fn dpg_bench(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-tiny")
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The 13 real DPG items and the first 50 DSG-1k items in one question file.
fn real_questions(folder: &Path) -> Option<PathBuf> {
    let (dpg, dsg) = (shared("dpg_bench/sample13.csv")?, shared("dsg-1k/dsg-1k-anns.csv")?);
    let out = folder.join("real.csv");
    let mut writer = csv::Writer::from_path(&out).unwrap();
    for (path, limit, with_header) in [(dpg, DPG_ITEMS, true), (dsg, DSG_ITEMS, false)] {
        let mut reader = csv::Reader::from_path(path).unwrap();
        if with_header {
            writer.write_byte_record(reader.byte_headers().unwrap()).unwrap();
        }
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for record in reader.byte_records() {
            let record = record.unwrap();
            if seen.last().is_none_or(|last| *last != record[0]) {
                if seen.len() == limit {
                    break;
                }
                seen.push(record[0].to_vec());
            }
            writer.write_byte_record(&record).unwrap();
        }
        assert_eq!(seen.len(), limit);
    }
    writer.flush().unwrap();
    Some(out)
}

/// Every file below `folder` but the manifest, with its bytes.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "manifest.json" {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
}

/// Kills the process (as `kill -9` does) once `journal` has this many lines.
fn kill_at(mut child: Child, journal: &Path, enough: usize) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while lines(journal) < enough {
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            panic!("ended by itself before line {enough}: {status}\n{}", text(&output.stderr));
        }
        assert!(Instant::now() < deadline, "{} never got {enough} lines", journal.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(output: Output) -> String {
    let shown = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{shown}", output.status);
    text(&output.stdout)
}

#[test]
fn a_real_run_killed_in_both_stages_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(questions) = real_questions(folder.path()) else { return };
    let server = Loopback::start(well_behaved);
    let (questions, checkpoint) =
        (questions.display().to_string(), checkpoint().display().to_string());
    let url = server.url();
    let arguments = |out: &'static str| {
        let mut arguments = vec![
            "run",
            "--model",
            "sd15",
            "--weights",
            &checkpoint,
            "--benchmark",
            &questions,
            "--lenient",
            "--steps",
            "2",
            "--images",
            "2",
            "--judge",
            "endpoint",
            "--judge-url",
            &url,
            "--judge-model",
            "loopback",
            "--out",
            out,
        ];
        arguments.extend(["--seed", "7"]);
        arguments
    };

    let whole = succeed(dpg_bench(folder.path(), &arguments("whole")).output().unwrap());
    assert!(whole.contains("entity"), "no table in:\n{whole}");
    let images = (DPG_ITEMS + DSG_ITEMS) * 2;
    assert_eq!(lines(&folder.path().join("whole/images.jsonl")), images + 1);

    let images_journal = folder.path().join("killed/images.jsonl");
    let answers_journal = folder.path().join("killed/answers/endpoint.jsonl");
    for enough in [2, images / 2] {
        let child = dpg_bench(folder.path(), &arguments("killed")).spawn().unwrap();
        kill_at(child, &images_journal, enough);
    }
    for enough in [3, images / 2] {
        let child = dpg_bench(folder.path(), &arguments("killed")).spawn().unwrap();
        kill_at(child, &answers_journal, enough);
    }
    let resumed = succeed(dpg_bench(folder.path(), &arguments("killed")).output().unwrap());
    assert_eq!(resumed, whole);

    let (whole, killed) =
        (files(&folder.path().join("whole")), files(&folder.path().join("killed")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(*bytes == killed[name], "{} differs after the resume", name.display());
    }

    // Once more over a finished run: nothing is asked or made again.
    let asked = server.received().len();
    succeed(dpg_bench(folder.path(), &arguments("whole")).output().unwrap());
    assert_eq!(server.received().len(), asked);

    // Other settings are refused, with the difference named.
    let mut other = arguments("whole");
    other.extend(["--guidance", "3"]);
    let output = dpg_bench(folder.path(), &other).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("guidance"), "{}", text(&output.stderr));
}

/// A 2x2 grid of four flat tiles, each of its own colour.
fn write_grid(path: &Path, number: u8) {
    let tile = |x: u32, y: u32| (x / 16 + 2 * (y / 16)) as u8;
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([number, 40 * tile(x, y), 200]))
        .save(path)
        .unwrap();
}

#[test]
fn grids_made_elsewhere_are_imported_judged_and_scored_and_a_gap_withholds_the_score() {
    let folder = tempfile::tempdir().unwrap();
    let Some(questions) = shared("dpg_bench/sample13.csv") else { return };
    let mut items: Vec<String> = csv::Reader::from_path(&questions)
        .unwrap()
        .records()
        .map(|record| record.unwrap()[0].to_owned())
        .collect();
    items.dedup();
    assert_eq!(items.len(), DPG_ITEMS);
    let grids = folder.path().join("grids");
    std::fs::create_dir(&grids).unwrap();
    for (number, item) in items.iter().enumerate() {
        write_grid(&grids.join(format!("{item}.png")), number as u8);
    }
    let questions = questions.display().to_string();
    let step = |arguments: &[&str]| dpg_bench(folder.path(), arguments).output().unwrap();
    let import = ["import", "--images", "grids", "--benchmark", &questions, "--out", "run"];
    let judge = ["judge", "run", "--judge", "scripted", "--judge-rule", "hash:0.8"];

    succeed(step(&import));
    succeed(step(&judge));
    let table = succeed(step(&["score", "run"]));
    assert!(table.contains("52/52"), "no image count in:\n{table}");
    // The first item of the file loses its first question in the reference script, and so itself.
    for line in ["reference: 12 of 13 items scored", "corrected: 13 of 13 items scored"] {
        assert!(table.contains(line), "{table}");
    }
    let third =
        image::open(folder.path().join("run/images").join(&items[2]).join("3.png")).unwrap();
    assert_eq!((third.width(), third.to_rgb8().get_pixel(5, 5).0), (16, [2, 120, 200]));

    // The same with one grid missing: everything is scored, counted, and the headline withheld.
    std::fs::remove_file(grids.join(format!("{}.png", items[5]))).unwrap();
    let import = ["import", "--images", "grids", "--benchmark", &questions, "--out", "gap"];
    let judge = ["judge", "gap", "--judge", "scripted", "--judge-rule", "hash:0.8"];
    assert_eq!(step(&import).status.code(), Some(3));
    assert_eq!(step(&judge).status.code(), Some(3));
    let output = step(&["score", "gap"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("48/52"), "{}", text(&output.stdout));
    assert_eq!(step(&["score", "gap", "--allow-incomplete"]).status.code(), Some(0));

    // A resolution that does not fit is an error, not a silent crop.
    let mut wrong =
        vec!["import", "--images", "grids", "--benchmark", &questions, "--out", "wrong"];
    wrong.extend(["--resolution", "512"]);
    let output = step(&wrong);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("512"), "{}", text(&output.stderr));
}

#[test]
fn a_live_run_tells_the_score_so_far_and_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |out: &str, more: &[&str]| {
        let plain = ["run", "--limit", "2", "--images", "2", "--steps", "1", "--out", out];
        let output = dpg_bench(folder.path(), &[&plain, more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let told = run("live", &["--live"]);
    let lines = |name: &str| told.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    // At the first image and at the last; between the two less than a minute goes by.
    assert!(lines("images: ").contains(&"images: 4/4"), "{told}");
    let judged = lines("demo-judge: ");
    assert!(judged[0].ends_with("; no item is whole yet"), "{told}");
    let last = judged.last().unwrap();
    assert!(
        last.starts_with("demo-judge: 4/4; score so far ") && last.ends_with("(2 items)"),
        "{told}"
    );
    let silent = run("silent", &[]);
    assert!(!silent.contains("score so far"), "{silent}");
    let answers = |out: &str| {
        std::fs::read(folder.path().join(out).join("answers/demo-judge.jsonl")).unwrap()
    };
    assert_eq!(answers("live"), answers("silent"));
}
