//! The commands on the official question file, where it is there, with no flag beyond those of the README:
//! validate, show, run (killed, in shards), import of all its grids, import-log, score, compare, check, report.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::benchmark::shared_data;
use super::end_to_end::files;
use super::official_file::{official, with_prompt_files};
use super::seeded_answers::answer;
use super::tiny_checkpoint::fixture;

fn dpg_bench(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output of a command that must end with `code`.
#[track_caller]
fn ended(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output: Output = dpg_bench(folder, arguments).output().unwrap();
    let (out, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{said}");
    out.into_owned()
}

/// `benchmark/dpg` below `folder`, as `fetch benchmark` leaves it.
fn fetched(folder: &Path) -> Option<()> {
    with_prompt_files(&folder.join("benchmark/dpg")).map(|_| ())
}

#[test]
fn validate_names_it_first_and_lists_its_oddities_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = fetched(folder.path()) else { return };
    let known = "\noddities of the file as published (all of them with --json):\n";
    for (path, kinds) in [("benchmark/dpg/dpg_bench.csv", 8), ("benchmark/dpg", 9)] {
        let said = ended(folder.path(), &["validate", path], 0);
        assert!(said.starts_with("the official question file\n"), "{said}");
        let (_, oddities) = said.split_once(known).unwrap();
        // And the last line, after an empty one.
        assert_eq!(oddities.lines().count(), 2 * kinds + 2, "{said}");
        assert!(
            oddities.contains("  questions that depend on themselves (it changes nothing): 47\n"),
            "{said}"
        );
        let json: Value =
            serde_json::from_str(&ended(folder.path(), &["validate", path, "--json"], 0)).unwrap();
        assert_eq!((&json["valid"], &json["official"]), (&true.into(), &true.into()));
        let strict = ended(folder.path(), &["validate", path, "--strict"], 1);
        let problems = json["oddities"].as_array().unwrap().len();
        let told = format!("has {problems} oddities, which --strict does not accept:\n");
        assert!(strict.contains(&told), "{strict}");
        let last = format!("no errors, {problems} oddities: ");
        assert!(strict.contains(&last) && said.contains(&last), "{strict}");
    }
    // A copy with a prompt that nobody published, and one that has lost an item.
    std::fs::write(folder.path().join("benchmark/dpg/prompts/8.txt"), "Another one.").unwrap();
    let said = ended(folder.path(), &["validate", "benchmark/dpg"], 0);
    assert!(said.starts_with("the questions of the official question file, about other prompts\n"));
    std::fs::write(folder.path().join("benchmark/dpg/prompts/extra.txt"), "Nobody's.").unwrap();
    let said = ended(folder.path(), &["validate", "benchmark/dpg"], 0);
    assert!(
        said.contains("\noddities (all of them with --json):\n  prompt files without an item: 1\n"),
        "{said}"
    );
    let shown = ended(folder.path(), &["show", "partiprompts33", "--json"], 0);
    let json: Value = serde_json::from_str(&shown).unwrap();
    let parents = |at: usize| json["questions"][at]["parents"].clone();
    assert_eq!((parents(1), parents(2)), (serde_json::json!([3]), serde_json::json!([])));
}

#[test]
fn a_run_is_killed_resumed_and_dealt_out_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = fetched(folder.path()) else { return };
    let weights = fixture("sd15-tiny").display().to_string();
    let job = |out: &'static str| {
        let job = ["run", "--model", "sd15", "--weights", &weights, "--judge", "scripted"];
        let rest = ["--judge-rule", "hash:0.8", "--subset", "12", "--images", "2", "--steps", "1"];
        [&job[..], &rest[..], &["--out", out]].concat().into_iter().map(str::to_owned).collect()
    };
    let run = |out: &'static str, more: &[&str], code: i32| {
        let job: Vec<String> = job(out);
        let arguments: Vec<&str> =
            job.iter().map(String::as_str).chain(more.iter().copied()).collect();
        ended(folder.path(), &arguments, code)
    };
    let table = run("whole", &[], 0);
    assert!(table.contains("official question file"), "{table}");
    let journal = folder.path().join("killed/images.jsonl");
    let job: Vec<String> = job("killed");
    let arguments: Vec<&str> = job.iter().map(String::as_str).collect();
    let mut child = dpg_bench(folder.path(), &arguments).spawn().unwrap();
    let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    while lines() < 8 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A run begun by an earlier program, which had to be told to be lenient, goes on as well.
    assert_eq!(run("killed", &["--lenient"], 0), table);
    for shard in ["0/3", "1/3", "2/3"] {
        run("dealt", &["--shard", shard], 0);
    }
    ended(folder.path(), &["merge", "dealt"], 0);
    assert_eq!(ended(folder.path(), &["score", "dealt"], 0), table);
    let whole = files(&folder.path().join("whole"));
    for other in ["killed", "dealt"] {
        let mut other = files(&folder.path().join(other));
        other.retain(|path, _| !path.starts_with("shards"));
        assert_eq!(whole.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        assert!(whole.iter().all(|(path, bytes)| other[path] == *bytes));
    }
}

/// A grid of four flat tiles of 16 x 16 pixels.
fn write_grid(path: &Path, number: usize) {
    let tile = |x: u32, y: u32| (x / 16 + 2 * (y / 16)) as u8;
    let (red, green) = ((number % 256) as u8, (number / 256) as u8);
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([red, green, 60 * tile(x, y)]))
        .save(path)
        .unwrap();
}

#[test]
fn all_grids_are_imported_judged_scored_compared_checked_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (Some(benchmark), Some(())) = (official(), fetched(at)) else { return };
    std::fs::create_dir(at.join("grids")).unwrap();
    for (number, item) in benchmark.items.iter().enumerate() {
        write_grid(&at.join(format!("grids/{}.png", item.id)), number);
    }
    for (run, rule) in [("a", "hash:0.80"), ("b", "category:entity=0.9,*=0.8")] {
        ended(at, &["import", "--images", "grids", "--out", run], 0);
        ended(at, &["judge", run, "--judge", "scripted", "--judge-rule", rule], 0);
    }
    let json: Value = serde_json::from_str(&ended(at, &["score", "a", "--json"], 0)).unwrap();
    assert_eq!(json["coverage"]["questions_answered"], 57_568, "{json}");
    assert_eq!(json["reference"]["overall"]["items"], 1_064, "{json}");
    let table = ended(at, &["score", "a", "--wide"], 0);
    for part in ["1064 items", "1065 items", "/329", "/1316", "4260/4260"] {
        assert!(table.contains(part), "`{part}` is not in:\n{table}");
    }
    let compared = ended(at, &["compare", "a", "b", "--allow", "judge"], 0);
    assert!(compared.contains("entity"), "{compared}");
    ended(at, &["baseline", "a", "--out", "baseline.json"], 0);
    ended(at, &["check", "a", "--baseline", "baseline.json"], 0);
    let check =
        ["check", "b", "--baseline", "baseline.json", "--max-drop", "1", "--allow", "judge"];
    ended(at, &check, 0);
    ended(at, &["report", "a", "b", "--out", "report"], 0);
    let page = std::fs::read_to_string(at.join("report/index.html")).unwrap();
    assert!(page.contains("the official question file") && page.contains("partiprompts97"));
    let shown = ended(at, &["compare", "a", "--published"], 0);
    assert!(!shown.contains("not about the official question file"), "{shown}");
}

#[test]
fn a_whole_log_of_the_script_gives_its_score_and_its_true_category_table() {
    let Some(benchmark) = official() else { return };
    let folder = tempfile::tempdir().unwrap();
    let boxes = ["(0, 0, 64, 64)", "(64, 0, 128, 64)", "(0, 64, 64, 128)", "(64, 64, 128, 128)"];
    let mut log = String::new();
    for (number, item) in benchmark.items.iter().enumerate() {
        // The script asks all questions of an image, then fails on the first item: its first question is lost.
        for (image, corners) in (0..).zip(boxes).take(if number == 0 { 1 } else { 4 }) {
            for question in item.graph.questions().iter().filter(|question| question.row != 1) {
                let said = answer("hash", &item.id, image, question.id);
                log.push_str(&format!(
                    "out/{}.png, {corners}, {}, {said}\n",
                    item.id, question.text
                ));
            }
        }
    }
    std::fs::write(folder.path().join("detail.txt"), log).unwrap();
    let file = shared_data("dpg_bench/dpg_bench.csv").unwrap().display().to_string();
    let import = ["import-log", "detail.txt", "--benchmark", &file, "--out", "run", "--json"];
    let json: Value = serde_json::from_str(&ended(folder.path(), &import, 0)).unwrap();
    let golden: Value =
        serde_json::from_str(include_str!("../fixtures/scoring/official_scores.json")).unwrap();
    let golden = &golden["hash"]["reference"];
    assert_eq!(json["overall"], golden["overall"]);
    let score = ["score", "run", "--protocol", "reference", "--json"];
    let json: Value = serde_json::from_str(&ended(folder.path(), &score, 0)).unwrap();
    let figures = json["reference"]["l2"].as_array().unwrap();
    assert_eq!(figures.len(), 13);
    for figure in figures {
        let expected = &golden["l2"][figure["name"].as_str().unwrap()];
        assert_eq!((&figure["raw"]["k"], &figure["raw"]["n"]), (&expected[0], &expected[1]));
    }
}
