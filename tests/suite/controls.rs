//! `dpg-bench control` and `--drop-questions`, against plain Python (tests/fixtures/make_controls.py), killed and resumed, and what the
//! other commands make of a run with controls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dpg_bench::benchmark::{Derangement, Selection};
use dpg_bench::results::manifest::to_settings;
use dpg_bench::results::{ControlKind, ImageOutcome};
use dpg_bench::session::controls::{ask_control, check_control, control_report};
use dpg_bench::{
    Answer, Benchmark, Judge, JudgeRequest, LoadedJudge, Quiet, RunDirectory, Session, Settings,
};
use serde_json::Value;

use super::judge_command::{endpoint_flags, make_run};
use super::loopback::{Loopback, Received, Reply, well_behaved};
use super::small_run::put_picture;

const QUESTIONS: &str = include_str!("../fixtures/controls/questions.csv");
const GOLDEN: &str = include_str!("../fixtures/controls/golden.json");
const NAME: &str = "coloured";

/// The judge of make_controls.py: it reads the colour of an image, and says yes to some questions whatever that is.
struct Coloured {
    /// It gives up after so many images.
    patience: AtomicUsize,
}

impl Coloured {
    fn loaded(patience: usize) -> LoadedJudge {
        LoadedJudge::own(NAME, Self { patience: patience.into() }, "here")
    }
}

impl Judge for Coloured {
    fn settings(&self) -> Settings {
        [("judge".to_owned(), NAME.into())].into()
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        let left = self.patience.load(Ordering::Relaxed);
        anyhow::ensure!(left > 0, "enough for today");
        self.patience.store(left - 1, Ordering::Relaxed);
        let [red, green, _] = request.image.decode()?.get_pixel(0, 0).0.map(u32::from);
        let answers = request.questions.iter().map(|question| {
            let share = match question.text.starts_with("Is it") {
                true => 90,
                false => {
                    let length = question.text.chars().count() as u32;
                    (31 * red + 17 * green + 29 * question.id + 7 * length) % 100
                }
            };
            let text = if share >= 50 { "yes" } else { "no" }.to_owned();
            let yes_probability = Some(f64::from(share) / 100.0);
            Ok(Answer { text, yes_probability, ..Answer::default() })
        });
        Ok(answers.collect())
    }
}

struct Place {
    folder: tempfile::TempDir,
    benchmark: Benchmark,
    golden: Value,
}

impl Place {
    /// With a run that the judge has answered about.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.csv");
        std::fs::write(&path, QUESTIONS).unwrap();
        let benchmark = Benchmark::load(&path, Default::default()).unwrap();
        let place = Self { folder, benchmark, golden: serde_json::from_str(GOLDEN).unwrap() };
        place.make_run("run");
        place
    }

    fn make_run(&self, name: &str) {
        let identity = dpg_bench::results::BenchmarkIdentity {
            path: self.path("questions.csv").display().to_string(),
            digest: self.benchmark.digest.clone(),
            official: false,
            items: self.benchmark.items.len() as u64,
            questions: self.benchmark.question_count() as u64,
            lenient: false,
        };
        let selection = to_settings(&Selection::default()).unwrap();
        let images = self.golden["images"].as_u64().unwrap() as u32;
        let path = self.path(name);
        let run = RunDirectory::open_or_create(&path, identity, selection, images).unwrap();
        for (shade, item) in self.benchmark.items.iter().enumerate() {
            for image in 0..images {
                put_picture(&run, &item.id, image, 20 * shade as u8);
            }
        }
        let mut session = Session::of_run(&path, &self.benchmark, None, "test", &Quiet).unwrap();
        session.judge(&Coloured::loaded(usize::MAX), &Quiet).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> RunDirectory {
        RunDirectory::open(&self.path("run")).unwrap()
    }

    fn seed(&self) -> u64 {
        self.golden["seed"].as_u64().unwrap()
    }

    fn ask(&self, kind: ControlKind, patience: usize) -> anyhow::Result<()> {
        let judge = Coloured::loaded(patience);
        ask_control(&self.run(), &self.benchmark, kind, self.seed(), &judge, &Quiet).map(|_| ())
    }

    /// Asks both controls and writes what came of them.
    fn control(&self) -> Value {
        for kind in [ControlKind::Swapped, ControlKind::Grey] {
            self.ask(kind, usize::MAX).unwrap();
        }
        let run = self.run();
        control_report(&run, &self.benchmark, NAME).unwrap().write(&run).unwrap();
        self.json("run/controls/coloured.json")
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn command(&self, line: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        let output =
            command.args(line.split(' ')).current_dir(self.folder.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The JSON that a command prints, which must end well.
    fn printed(&self, line: &str) -> Value {
        let (code, text, said) = self.command(line);
        assert_eq!(code, Some(0), "{line}: {said}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Every file below a folder with its bytes, but for manifests, which alone have times.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let below = files(&path).into_iter();
            let name = PathBuf::from(path.file_name().unwrap());
            found.extend(below.map(|(inner, bytes)| (name.join(inner), bytes)));
        } else if path.file_name().is_some_and(|name| name != "manifest.json") {
            found.insert(path.file_name().unwrap().into(), std::fs::read(&path).unwrap());
        }
    }
    found
}

fn close(found: &Value, expected: &Value) -> bool {
    let [found, expected] = [found, expected].map(|value| value.as_f64().unwrap());
    (found - expected).abs() <= 1e-9
}

/// That rates, counts and scores are those of the fixture.
fn assert_figures(found: &Value, expected: &Value) {
    for score in ["corrected", "soft"] {
        assert!(close(&found[score]["mean"], &expected[score]), "{score}: {found}, {expected}");
        assert!(found[score]["low"].as_f64() < found[score]["mean"].as_f64());
    }
    let categories = found["l1"].as_array().unwrap();
    let rates = categories.iter().map(|row| (row["name"].as_str().unwrap(), &row["yes"]));
    let mut count = 0;
    for (name, rate) in rates.chain([("all", &found["yes"])]) {
        assert_eq!(serde_json::json!([rate["k"], rate["n"]]), expected["yes"][name], "{name}");
        count += 1;
    }
    assert_eq!(count, expected["yes"].as_object().unwrap().len());
    assert_eq!(found["answered"], found["questions"]);
}

#[test]
fn rates_and_scores_of_controls_are_those_of_python() {
    let place = Place::new();
    let report = place.control();
    let golden = &place.golden;
    assert_eq!((&report["kind"], &report["format_version"]), (&"controls".into(), &"1.0".into()));
    assert_eq!(report["judge"]["settings"]["judge"], NAME);
    assert_figures(&report["own"], &golden["own"]);
    let [swapped, grey] = report["controls"].as_array().unwrap().as_slice() else {
        panic!("{report}")
    };
    assert_figures(&swapped["figures"], &golden["swapped"]);
    assert_figures(&grey["figures"], &golden["grey"]);
    assert_eq!((&swapped["kind"], &grey["kind"]), (&"swapped".into(), &"grey".into()));
    assert_eq!((&swapped["seed"], &grey["seed"]), (&golden["seed"], &Value::Null));
    for name in ["alike", "questions", "differing"] {
        assert_eq!(swapped["mixes"][name], golden[name], "{name}");
    }
    // An item that keeps its own questions gives other numbers.
    let fixed = &golden["swapped_with_a_fixed_point"];
    assert!(!close(&swapped["figures"]["corrected"]["mean"], &fixed["corrected"]));
    assert_ne!(golden["swapped"]["yes"], fixed["yes"]);

    let items: Vec<&dpg_bench::Item> = place.benchmark.items.iter().collect();
    let dealt = Derangement::new(&items, place.seed()).unwrap();
    assert_eq!(serde_json::json!(dealt.others), golden["others"]);
    // What was asked about: of each item the other one's images, and never its own.
    let control = place.run().control(ControlKind::Swapped).unwrap().unwrap();
    let images = control.read_images().unwrap();
    assert_eq!(images.len(), 33);
    for record in images {
        let ImageOutcome::Done { source: Some(source), .. } = record.outcome else { panic!() };
        let asked = items.iter().position(|item| item.id == record.item).unwrap();
        let of = items[dealt.images_of()[asked]].id.as_str();
        assert_eq!(source, format!("images/{of}/{}.png", record.image));
        assert_ne!(of, record.item);
        let run = place.run();
        let [one, other] = [&control, &run].map(RunDirectory::path);
        let [one, other] =
            [one.join(format!("images/{}/{}.png", record.item, record.image)), other.join(&source)];
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
    }
}

#[test]
fn questions_with_a_yes_to_every_image_are_listed() {
    let place = Place::new();
    let report = place.control();
    let listed = place.golden["always_yes"].as_array().unwrap();
    assert_eq!(report["always_yes"]["questions"], listed.len());
    assert_eq!(report["always_yes"]["of"], place.golden["questions"]);
    let bytes = place.bytes("run/controls/coloured-always-yes.csv");
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let rows: Vec<Value> = reader
        .records()
        .map(|row| {
            let row = row.unwrap();
            assert_eq!(row.iter().skip(3).collect::<Vec<_>>(), ["3", "3", "1"]);
            serde_json::json!([row[0], row[1].parse::<u32>().unwrap(), row[2]])
        })
        .collect();
    assert_eq!(&rows, listed);
    let (_, table, _) = place.command("score run");
    assert!(table.contains("chance: corrected"), "{table}");
}

#[test]
fn a_control_that_was_broken_off_goes_on_to_the_same_bytes() {
    let undisturbed = Place::new();
    undisturbed.control();
    let place = Place::new();
    for kind in [ControlKind::Swapped, ControlKind::Grey] {
        for patience in [2, 3] {
            let error = place.ask(kind, patience).unwrap_err();
            assert!(format!("{error:#}").contains("enough for today"), "{error:#}");
        }
        // A line that was torn.
        let journal = place.path(&format!("run/controls/{}/answers/coloured.jsonl", kind.name()));
        let mut text = std::fs::read(&journal).unwrap();
        text.truncate(text.len() - 9);
        std::fs::write(&journal, text).unwrap();
    }
    // Images that were not linked yet.
    let record = place.path("run/controls/swapped/images.jsonl");
    let text = std::fs::read_to_string(&record).unwrap();
    let some: Vec<&str> = text.lines().take(5).collect();
    std::fs::write(&record, some.join("\n") + "\n").unwrap();
    place.control();
    let [found, expected] = [&place, &undisturbed].map(|place| {
        let mut found = files(&place.path("run/controls"));
        // The benchmark's path is in it.
        let report = found.remove(Path::new("coloured.json")).unwrap();
        let folder = place.folder.path().to_string_lossy().into_owned();
        let report = String::from_utf8(report).unwrap().replace(&folder, "");
        (report, found)
    });
    assert_eq!(found.0, expected.0);
    let names = |found: &BTreeMap<PathBuf, Vec<u8>>| found.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found.1), names(&expected.1));
    for (name, bytes) in &found.1 {
        assert!(*bytes == expected.1[name], "{} differs", name.display());
    }
    assert!(found.1.len() > 40, "{:?}", names(&found.1));
}

#[test]
fn a_killed_process_goes_on_to_the_same_bytes() {
    let late = |request: &Received| {
        Reply::Late(Duration::from_millis(30), Box::new(well_behaved(request)))
    };
    let server = Loopback::start(late);
    let url = server.url();
    let command = |name: &str, run: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command.arg(name).arg(run).args(endpoint_flags(&url)).env("DPG_TEST_KEY", "sk-test");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let [whole, part] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [undisturbed, run] = [&whole, &part].map(|folder| make_run(folder.path()));
    for run in [&undisturbed, &run] {
        assert_eq!(command("judge", run).status().unwrap().code(), Some(0));
    }
    assert_eq!(command("control", &undisturbed).status().unwrap().code(), Some(0));
    let before = server.received().len();
    let mut child = command("control", &run).spawn().unwrap();
    let started = Instant::now();
    while server.received().len() < before + 12 {
        assert!(started.elapsed() < Duration::from_secs(60), "the process asks nothing");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let journal = "swapped/answers/endpoint.jsonl";
    let [begun, all] =
        [&run, &undisturbed].map(|run| std::fs::read(run.join("controls").join(journal)).unwrap());
    assert!(all.starts_with(&begun) && begun.len() < all.len());
    assert_eq!(command("control", &run).status().unwrap().code(), Some(0));
    let [found, expected] = [&run, &undisturbed].map(|run| {
        let mut found = files(&run.join("controls"));
        // The benchmark's path is in it.
        found.remove(Path::new("endpoint.json"));
        found.retain(|name, _| name.file_name().is_some_and(|name| name != "lock.json"));
        found
    });
    assert!(found == expected, "{:?}, {:?}", found.keys(), expected.keys());
    assert!(found.len() > 15, "{:?}", found.keys());
}

#[test]
fn the_score_names_chance_and_is_the_same_without_a_control() {
    let place = Place::new();
    let plain = place.command("score run");
    assert_eq!(plain.0, Some(0), "{}", plain.2);
    assert!(!plain.1.contains("chance"), "{}", plain.1);
    let before = files(&place.path("run/summary"));
    place.control();
    let expected = &place.golden["swapped"];
    let summary = place.printed("score run --json");
    assert_eq!(summary["chance"]["seed"], place.golden["seed"]);
    assert_figures(&summary["chance"]["figures"], expected);
    let mut other = summary.clone();
    other.as_object_mut().unwrap().remove("chance");
    assert_eq!(
        other,
        serde_json::from_slice::<Value>(&before[Path::new("coloured.json")]).unwrap()
    );

    let (_, table, _) = place.command("score run");
    let line = table.lines().find(|line| line.starts_with("chance: ")).unwrap();
    let shown = |score: &str| format!("{score} {:.2}", expected[score].as_f64().unwrap());
    assert!(line.contains(&shown("corrected")) && line.contains(&shown("soft")), "{line}");
    let (_, soft, _) = place.command("score run --protocol soft");
    assert!(soft.contains(&format!("chance: {}", shown("soft"))), "{soft}");
    for ending in ["md", "tex"] {
        let text =
            String::from_utf8(place.bytes(&format!("run/summary/coloured.{ending}"))).unwrap();
        assert!(text.contains("chance: corrected"), "{text}");
    }
    // The report has a table of it, and none without a control.
    let (code, _, said) = place.command("report run --out page");
    assert_eq!(code, Some(0), "{said}");
    let table = String::from_utf8(place.bytes("page/tables/chance.csv")).unwrap();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((row[0], row[2]), ("run", "corrected"));
    let number = |place: usize| Value::from(row[place].parse::<f64>().unwrap());
    assert!(close(&number(3), &place.golden["own"]["corrected"]));
    assert!(close(&number(4), &expected["corrected"]));
    let page = String::from_utf8(place.bytes("page/index.html")).unwrap();
    assert!(page.contains("Chance: the same images"));

    // Other commands pass the folder over.
    let (code, text, said) = place.command("watch run --once");
    assert_eq!(code, Some(0), "{text}{said}");
    let (code, _, said) = place.command("merge run --out joined");
    assert_eq!(code, Some(0), "{said}");
    assert!(!place.path("joined/controls").exists() && place.path("joined/images.jsonl").exists());

    // With the judge its controls go.
    std::fs::remove_dir_all(place.path("run/controls")).unwrap();
    assert_eq!(place.command("score run"), plain);
    assert_eq!(files(&place.path("run/summary")), before);
    let (_, _, said) = place.command("report run --out page");
    assert!(!place.path("page/tables/chance.csv").exists(), "{said}");
}

#[test]
fn a_removed_judge_takes_its_controls_along() {
    let place = Place::new();
    place.control();
    let (code, _, said) = place.command("judge run --remove coloured");
    assert_eq!(code, Some(0), "{said}");
    let left = files(&place.path("run/controls"));
    let kept = |path: &Path| !path.to_string_lossy().contains("coloured");
    assert!(left.keys().all(|path| kept(path)), "{:?}", left.keys());
    let control = place.run().control(ControlKind::Swapped).unwrap().unwrap();
    assert!(control.judges().is_empty());
}

#[test]
fn chance_of_other_images_or_another_judge_is_not_shown() {
    let place = Place::new();
    place.control();
    let has_chance = || !place.printed("score run --json")["chance"].is_null();
    assert!(has_chance());
    let manifest = place.path("run/controls/swapped/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("\"judge\": \"coloured\"", "\"judge\": \"else\""))
        .unwrap();
    assert!(!has_chance());
    std::fs::write(&manifest, &text).unwrap();
    assert!(has_chance());
    let journal = place.path("run/controls/swapped/images.jsonl");
    let records = std::fs::read_to_string(&journal).unwrap();
    let digest = records.split("\"pixels_sha256\":\"").nth(1).unwrap()[..64].to_owned();
    std::fs::write(&journal, records.replace(&digest, &"0".repeat(64))).unwrap();
    assert!(!has_chance());
    // Asking again finds it, too.
    let error = place.ask(ControlKind::Swapped, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("does not have now; delete that folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_run_is_not_followed() {
    let place = Place::new();
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("run/controls")).unwrap();
    let error = place.ask(ControlKind::Grey, usize::MAX).unwrap_err();
    assert!(format!("{error:#}").contains("controls is a symbolic link"), "{error:#}");
    assert_eq!(std::fs::read_dir(place.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_control_that_cannot_be_made_is_refused() {
    let place = Place::new();
    place.control();
    let judge = Coloured::loaded(usize::MAX);
    let seed = place.seed() + 1;
    let swapped = ControlKind::Swapped;
    let error =
        ask_control(&place.run(), &place.benchmark, swapped, seed, &judge, &Quiet).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("delete") && error.contains("seed: 4 in the run, 5 now"), "{error}");
    let error = check_control(&place.run(), &place.benchmark, ControlKind::True, 0).unwrap_err();
    assert!(error.to_string().contains("only of those of the demo"), "{error}");
}

#[test]
fn dropped_questions_count_nowhere_and_their_children_hang_on_their_parents() {
    let place = Place::new();
    place.control();
    let list = "run/controls/coloured-always-yes.csv";
    place.command("score run");
    let before = files(&place.path("run"));
    let plain = place.printed("score run --json");
    let found = place.printed(&format!("score run --json --drop-questions {list}"));
    let golden = &place.golden["dropped"];
    let mean = |summary: &Value, protocol: &str| summary[protocol]["overall"]["mean"].clone();
    for (protocol, twins) in
        [("corrected", &["twin_counted"][..]), ("soft", &["twin_counted_soft", "twin_above_soft"])]
    {
        assert!(close(&mean(&found, protocol), &golden[protocol]), "{protocol}: {found}");
        for twin in twins {
            assert!(!close(&mean(&found, protocol), &golden[twin]), "{twin}");
        }
        assert!(!close(&mean(&plain, protocol), &golden[protocol]), "{protocol}");
    }
    assert!(close(&found["chance"]["figures"]["corrected"]["mean"], &golden["chance"]));
    let dropped = place.golden["always_yes"].as_array().unwrap().len() as u64;
    let images = place.golden["images"].as_u64().unwrap();
    let asked = |summary: &Value| summary["coverage"]["questions_expected"].as_u64().unwrap();
    assert_eq!(asked(&plain) - asked(&found), dropped * images);
    assert_eq!(found["dropped_questions"]["questions"], dropped);
    assert_eq!(found["dropped_questions"]["of_these_items"], dropped);
    assert!(plain["dropped_questions"].is_null());
    // Told in the table and beside it, and the run's own files are those of all questions.
    let (code, table, said) = place.command(&format!("score run --drop-questions {list}"));
    assert_eq!(code, Some(0), "{said}");
    let words = format!("left out of every number: {dropped} questions (SHA-256 ");
    assert!(table.contains(&words) && said.contains(&words), "{table}{said}");
    assert!(said.contains("nothing is written"), "{said}");
    assert_eq!(files(&place.path("run")), before);
}

#[test]
fn a_comparison_of_a_run_with_dropped_questions_and_one_without_is_refused() {
    let place = Place::new();
    place.control();
    place.make_run("other");
    let drop = "--drop-questions run/controls/coloured-always-yes.csv";
    let (code, _, said) = place.command(&format!("baseline run --out less.json {drop}"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("left out of every number: 12 questions"), "{said}");
    // What it proposes is a check that can be carried out.
    let next = said.lines().find_map(|line| line.strip_prefix("next: dpg-bench "));
    let next = next.unwrap_or_else(|| panic!("{said}")).replace("OTHER_RUN", "run");
    assert_eq!(next, format!("check run --baseline less.json {drop}"));
    let (code, text, said) = place.command(&next);
    assert_eq!(code, Some(3), "no change shown: {text}{said}");
    assert_eq!(place.command("baseline run --out all.json").0, Some(0));
    for (line, code) in [
        ("compare less.json other".to_owned(), 2),
        (format!("compare all.json other {drop}"), 2),
        ("check other --baseline less.json".to_owned(), 2),
        (format!("check other --baseline all.json {drop}"), 2),
        (format!("compare less.json other {drop}"), 0),
        (format!("compare run other {drop}"), 0),
        ("compare all.json other".to_owned(), 0),
    ] {
        let (found, text, said) = place.command(&line);
        assert_eq!(found, Some(code), "{line}: {text}{said}");
        let is_refused = said.contains("leave the same questions out of both");
        assert_eq!(is_refused, code == 2, "{line}: {said}");
        if code == 0 {
            assert_eq!(text.contains("left out of every number"), line.contains("drop"), "{text}");
        }
    }
    let found = place.printed(&format!("compare run other --json {drop}"));
    let score = &found[0]["figures"][0]["base"]["percent"];
    assert!(close(score, &place.golden["dropped"]["corrected"]), "{score}");
    // Another list of as many questions.
    let list = String::from_utf8(place.bytes("run/controls/coloured-always-yes.csv")).unwrap();
    std::fs::write(place.path("again.csv"), list.replace("item,", "\"item\",")).unwrap();
    let (code, _, said) = place.command("compare less.json other --drop-questions again.csv");
    assert_eq!(code, Some(2), "{said}");
}

/// The demo's judge, the run's images of which are what the prompts describe, and the images that are inside the program.
#[test]
fn the_demos_true_images_are_those_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let tool = |words: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        let output = command.args(words).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        output
    };
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/benchmark/demo/true");
    let items = "square_and_diamond,circle_and_star,crosses_and_square";
    let benchmark = ["--benchmark", "demo", "--items", items, "--out", "run"];
    tool(&[&["import", "--images", images, "--images-per-item", "1"][..], &benchmark].concat());
    let rule = ["--judge", "scripted", "--judge-rule", "hash:0.6"];
    tool(&[&["judge", "run"], &rule[..]].concat());
    let output = tool(&[&["control", "run", "--json"], &rule[..]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<&Value> =
        report["controls"].as_array().unwrap().iter().map(|control| &control["kind"]).collect();
    assert_eq!(kinds, ["swapped", "grey", "true"]);
    assert_eq!(report["controls"][2]["figures"], report["own"]);
    let digests = |folder: &str, item: &str| {
        let path = format!("{folder}/images/{item}/0.png");
        let image = image::open(Path::new(&path)).unwrap().into_rgb8();
        dpg_bench::results::image_store::pixels_sha256(&image)
    };
    let run = folder.path().join("run");
    for item in items.split(',') {
        let [own, inside] = [run.clone(), run.join("controls/true")]
            .map(|folder| digests(&folder.to_string_lossy(), item));
        assert_eq!(own, inside, "{item}");
    }
    let grey = image::open(run.join("controls/grey/images/circle_and_star/0.png")).unwrap();
    let grey = grey.into_rgb8();
    assert_eq!(grey.dimensions(), (64, 64));
    assert!(grey.pixels().all(|pixel| pixel.0 == [128; 3]));
}
