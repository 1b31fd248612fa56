//! `compare`, `baseline` and `check` on made-up runs: 80 items of four questions, whose answers follow from
//! a hash, so that one run can be a little or much worse than another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dpg_bench::benchmark::{Benchmark, Item};
use dpg_bench::results::{
    AnswerOutcome, AnswerRecord, BenchmarkIdentity, QuestionAnswer, RunDirectory, Settings,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const IMAGES: u32 = 4;

const COLUMNS: &str = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n";

/// Items of 1 to 11 questions, so that their scores are no round numbers.
fn uneven_questions(items: usize) -> String {
    let mut text = COLUMNS.to_owned();
    for item in 0..items {
        for number in 1..=1 + item % 11 {
            text += &format!(
                "i{item},A cup.,,{number},0,entity,whole,entity - whole (cup),Is it so in {item}?\n"
            );
        }
    }
    text
}

/// A cup, its colour, where it is, and an awkward category.
fn questions(items: usize) -> String {
    let mut text = COLUMNS.to_owned();
    for item in 0..items {
        for (number, parent, broad, tuple) in [
            (1, 0, "entity", "entity - whole (cup)"),
            (2, 1, "attribute", "\"attribute - color (cup, red)\""),
            (3, 1, "relation", "\"relation - spatial (cup, table, on)\""),
            (4, 0, "other", "other - <b>&%: count (cup)"),
        ] {
            text += &format!(
                "i{item},A red cup.,,{number},{parent},{broad},x,{tuple},Is it so in {item}?\n"
            );
        }
    }
    text
}

pub struct Runs {
    folder: tempfile::TempDir,
    benchmark: Benchmark,
}

impl Runs {
    pub fn new(items: usize) -> Self {
        Self::over(&questions(items))
    }

    pub fn over(questions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.csv");
        std::fs::write(&path, questions).unwrap();
        let benchmark = Benchmark::load(&path, Default::default()).unwrap();
        Self { folder, benchmark }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run in which question `q` is yes with the probability `share(q)`, given an item's own luck.
    pub fn run(&self, name: &str, judge: Value, share: impl Fn(u32) -> f64) -> PathBuf {
        let identity = BenchmarkIdentity {
            path: self.path("questions.csv").display().to_string(),
            digest: self.benchmark.digest.clone(),
            official: false,
            items: self.benchmark.items.len() as u64,
            questions: self.benchmark.question_count() as u64,
            lenient: false,
        };
        let path = self.path(name);
        let mut run =
            RunDirectory::open_or_create(&path, identity, Settings::new(), IMAGES).unwrap();
        let judge: Settings = serde_json::from_value(judge).unwrap();
        run.begin_judge("made-up", judge, "none").unwrap();
        let (mut journal, _) = run.open_answers("made-up").unwrap();
        for item in &self.benchmark.items {
            for image in 0..IMAGES {
                journal.append(&record(item, image, &share)).unwrap();
            }
        }
        path
    }
}

fn record(item: &Item, image: u32, share: &impl Fn(u32) -> f64) -> AnswerRecord {
    let answers = item.graph.questions().iter().map(|question| {
        let digest = Sha256::digest(format!("{}|{image}|{}", item.id, question.id));
        let draw = u64::from_be_bytes(digest[..8].try_into().unwrap()) as f64 / u64::MAX as f64;
        let text = if draw < share(question.id) { "yes" } else { "no" }.to_owned();
        let outcome = AnswerOutcome::Answered { text, raw: None, yes_probability: None };
        QuestionAnswer::new(question.id, outcome)
    });
    AnswerRecord { item: item.id.clone(), image, pixels_sha256: None, answers: answers.collect() }
}

pub fn dpg_bench(command: &str, runs: &[&Path], more: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .arg(command)
        .args(runs)
        .args(more)
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn compared(base: &Path, other: &Path, more: &[&str]) -> Value {
    let (code, json, said) = dpg_bench("compare", &[base, other], &[&["--json"], more].concat());
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str::<Vec<Value>>(&json).unwrap().remove(0)
}

pub fn judge() -> Value {
    json!({"judge": "made-up", "rule": "hash"})
}

fn percent(run: &Path, protocol: &str) -> BTreeMap<String, f64> {
    let (code, json, said) = dpg_bench("score", &[run], &["--json"]);
    assert_eq!(code, Some(0), "{said}");
    let summary: Value = serde_json::from_str(&json).unwrap();
    let figures = &summary[protocol];
    let mut found: BTreeMap<String, f64> =
        [("DPG-Bench score".to_owned(), figures["overall"]["mean"].as_f64().unwrap())].into();
    for level in ["l1", "l2"] {
        for figure in figures[level].as_array().unwrap() {
            let stage = if protocol == "reference" { "raw" } else { "conditional" };
            let name = figure["name"].as_str().unwrap().to_owned();
            found.insert(name, figure[stage]["mean"].as_f64().unwrap());
        }
    }
    found
}

/// Colours are much worse in the other run; all else is the same, answer by answer.
#[test]
fn differences_are_those_of_the_summaries_and_p_values_follow() {
    let runs = Runs::new(80);
    let base = runs.run("base", judge(), |_| 0.8);
    let other = runs.run("other", judge(), |q| if q == 2 { 0.5 } else { 0.8 });
    for protocol in ["reference", "corrected"] {
        let found = compared(&base, &other, &["--protocol", protocol]);
        // The reference script's first row is lost, and with it nothing here but a question.
        let (of_base, of_other) = (percent(&base, protocol), percent(&other, protocol));
        let figures = found["figures"].as_array().unwrap();
        assert_eq!(figures.len(), of_base.len());
        for figure in figures {
            let name = figure["name"].as_str().unwrap();
            let number = |key: &str| figure[key].as_f64().unwrap();
            let expected = of_other[name] - of_base[name];
            assert_eq!(
                figure["base"]["percent"].as_f64(),
                Some(of_base[name]),
                "{protocol} {name}"
            );
            assert_eq!(figure["other"]["percent"].as_f64(), Some(of_other[name]), "{name}");
            assert_eq!(number("difference"), expected, "{protocol} {name}");
            assert!(number("low") <= expected && expected <= number("high"), "{name}");
            assert!(number("p") <= number("p_holm"));
            let differs = name == "DPG-Bench score" || name.starts_with("attribute");
            assert_eq!(number("p_holm") < 0.01, differs, "{name}");
            assert_eq!(number("high") < 0.0, differs, "{name}");
        }
        // The largest loss comes first, and nothing won.
        let items = found["items_by_difference"].as_array().unwrap();
        let difference = |item: &Value| item["difference"].as_f64().unwrap();
        assert!(items.is_sorted_by(|a, b| difference(a) <= difference(b)));
        assert!(difference(&items[0]) < 0.0 && difference(&items[items.len() - 1]) <= 0.0);
    }
    let itself = compared(&base, &base, &[]);
    for figure in itself["figures"].as_array().unwrap() {
        let [difference, low, high, p] =
            ["difference", "low", "high", "p"].map(|key| figure[key].as_f64().unwrap());
        assert_eq!((difference, p), (0.0, 1.0));
        // 80 items that do not differ do not say that none ever would.
        assert!(low < 0.0 && 0.0 < high && high < 1.0, "{figure}");
    }
    // Words for people.
    let (_, table, _) = dpg_bench("compare", &[&base, &other], &["--swings", "3"]);
    for word in ["DPG-Bench score", "attribute", "<0.001", "largest losses:", "80 items"] {
        assert!(table.contains(word), "{word} in {table}");
    }
    assert!(!table.contains("largest gains:"), "{table}");
    let prefix = runs.path("tables");
    let out = ["--out", prefix.to_str().unwrap()];
    let (code, ..) = dpg_bench("compare", &[&base, &other, &base], &out);
    assert_eq!(code, Some(0));
    let csv = std::fs::read_to_string(runs.path("tables.csv")).unwrap();
    // Two comparisons of one overall, four L1 and four L2 figures.
    assert_eq!(csv.lines().count(), 1 + 2 * 9);
    // People are shown a detailed category that is the whole of its broad one by the latter's row alone.
    let markdown = std::fs::read_to_string(runs.path("tables.md")).unwrap();
    assert!(csv.contains("other - <b>&%: count") && !markdown.contains("count"), "{markdown}");

    // The same command again replaces its files; other runs and files of others need --force.
    assert_eq!(dpg_bench("compare", &[&base, &other, &base], &out).0, Some(0));
    let (code, _, said) = dpg_bench("compare", &[&other, &base], &out);
    assert!(code == Some(2) && said.contains("tables.json is the comparison of"), "{said}");
    assert_eq!(std::fs::read_to_string(runs.path("tables.csv")).unwrap(), csv);
    let forced = [&out[..], &["--force"]].concat();
    assert_eq!(dpg_bench("compare", &[&other, &base], &forced).0, Some(0));
    std::fs::remove_file(runs.path("tables.json")).unwrap();
    let (code, _, said) = dpg_bench("compare", &[&other, &base], &out);
    assert!(
        code == Some(2) && said.contains("tables.csv is a file that `dpg-bench compare` did not")
    );
}

#[test]
fn what_must_be_the_same_is_or_the_output_says_so() {
    let runs = Runs::new(12);
    let base = runs.run("base", judge(), |_| 0.8);
    let judged = runs.run("judged", json!({"judge": "made-up", "rule": "other"}), |_| 0.7);
    let (code, _, said) = dpg_bench("compare", &[&base, &judged], &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("rule") && said.contains("--allow judge"), "{said}");
    let (code, table, _) = dpg_bench("compare", &[&base, &judged], &["--allow", "judge"]);
    assert_eq!(code, Some(0));
    assert!(table.contains("note:") && table.contains("with other rule"), "{table}");
    // Of two kinds of judges all settings differ: the kinds say it.
    let settings = json!({"judge": "endpoint", "url": "u", "prompt": "p", "rule": "r"});
    let asked = runs.run("asked", settings, |_| 0.7);
    let (code, _, said) = dpg_bench("compare", &[&base, &asked], &[]);
    assert!(
        code == Some(2) && said.contains("by made-up (endpoint); let one judge, set alike"),
        "{said}"
    );
    assert!(!said.contains("rule") && said.contains("--allow judge"), "{said}");
    // Of one kind the first settings do, and how many there are beside.
    let many = json!({"judge": "made-up", "a": 1, "b": 2, "c": 3, "d": 4, "rule": "hash"});
    let many = runs.run("many", many, |_| 0.7);
    let (_, _, said) = dpg_bench("compare", &[&base, &many], &[]);
    let listed = "with other a (none, 1), b (none, 2), c (none, 3) and 1 more;";
    assert!(said.contains(listed), "{said}");

    // Another benchmark, of which only some items are shared.
    let larger = Runs::new(14);
    let other = larger.run("other", judge(), |_| 0.7);
    let (code, _, said) = dpg_bench("compare", &[&base, &other], &[]);
    assert!(code == Some(2) && said.contains("--allow benchmark"), "{said}");
    let found = compared(&base, &other, &["--allow", "benchmark"]);
    assert_eq!([&found["items"], &found["only_base"], &found["only_other"]], [12, 0, 2]);

    let (code, _, said) = dpg_bench("compare", &[&base], &[]);
    assert!(code == Some(2) && said.contains("--published"), "{said}");
    let nowhere = runs.path("nowhere.json");
    let (code, _, said) = dpg_bench("compare", &[&base, &nowhere], &[]);
    assert!(code == Some(2) && said.contains("nowhere.json"), "{said}");
    for text in ["{", "{}", r#"{"format_version":"1.0","kind":"summary"}"#] {
        std::fs::write(&nowhere, text).unwrap();
        let (code, _, said) = dpg_bench("compare", &[&base, &nowhere], &[]);
        assert!(code == Some(2) && said.contains("dpg-bench baseline"), "{said}");
    }
    std::fs::write(&nowhere, r#"{"format_version":"99.0","kind":"baseline"}"#).unwrap();
    let (_, _, said) = dpg_bench("compare", &[&base, &nowhere], &[]);
    assert!(said.contains("99.0") && said.contains("make the baseline anew"), "{said}");
}

#[test]
fn the_settings_that_differ_are_named_in_every_form() {
    let runs = Runs::new(12);
    let base = runs.run("base", judge(), |_| 0.8);
    let other = runs.run("other", judge(), |_| 0.7);
    let made = |run: &Path, settings: Value| {
        let path = run.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest["generation"] = json!({"settings": settings, "sittings": []});
        std::fs::write(&path, manifest.to_string()).unwrap();
    };
    let weights = "5f3a".repeat(16);
    made(
        &base,
        json!({"model": "sd15", "steps": 30, "scheduler": "ddim", "weights": {"unet": weights}}),
    );
    made(&other, json!({"model": "sd15", "steps": 50, "scheduler": "ddim", "lora": "a|b"}));
    let (code, table, said) =
        dpg_bench("compare", &[&base, &other], &["--out", runs.path("c").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let told = "settings that differ (base, other):\n  \
                generation.lora          –             a|b\n  \
                generation.steps         30            50\n  \
                generation.weights.unet  5f3a5f3a5f3a  –\n";
    assert!(table.contains(told), "{table}");
    let markdown = std::fs::read_to_string(runs.path("c.md")).unwrap();
    assert!(markdown.contains("| generation.steps | 30 | 50 |\n"), "{markdown}");
    assert!(markdown.contains("| generation.lora | – | a\\|b |\n"), "{markdown}");
    let json: Value = serde_json::from_slice(&std::fs::read(runs.path("c.json")).unwrap()).unwrap();
    let found = json[0]["differing_settings"].as_array().unwrap();
    let names: Vec<&str> = found.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["generation.lora", "generation.steps", "generation.weights.unet"]);
    assert_eq!((&found[2]["base"], &found[2]["other"]), (&json!(weights), &Value::Null));

    let (_, table, _) = dpg_bench("compare", &[&base, &base], &[]);
    assert!(table.contains("settings that differ: none\n"), "{table}");
}

#[test]
fn a_baseline_stands_for_its_run() {
    let runs = Runs::new(30);
    let base = runs.run("base", judge(), |_| 0.8);
    let other = runs.run("other", judge(), |_| 0.7);
    for protocol in ["corrected", "reference"] {
        let file = runs.path(&format!("{protocol}.json"));
        let arguments = ["--protocol", protocol, "--out", file.to_str().unwrap()];
        let (code, _, said) = dpg_bench("baseline", &[&base], &arguments);
        assert_eq!(code, Some(0), "{said}");
        let first = std::fs::read(&file).unwrap();
        dpg_bench("baseline", &[&base], &arguments);
        assert_eq!(std::fs::read(&file).unwrap(), first);
        let more = ["--protocol", protocol];
        let mut of_file = compared(&file, &other, &more);
        of_file["base"]["label"] = base.to_str().unwrap().into();
        assert_eq!(of_file, compared(&base, &other, &more));
    }
    // Another run's is not replaced, nor is a file that is no baseline.
    let file = runs.path("corrected.json");
    let (out, first) = (["--out", file.to_str().unwrap()], std::fs::read(&file).unwrap());
    let stranger = runs.run("stranger", json!({"judge": "made-up", "rule": "other"}), |_| 0.7);
    let (code, _, said) = dpg_bench("baseline", &[&stranger], &out);
    assert!(code == Some(2) && said.contains("the baseline of another run (model"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), first);
    let notes = runs.path("notes.json");
    std::fs::write(&notes, "{\"kind\": \"notes\"}").unwrap();
    let out_notes = ["--out", notes.to_str().unwrap()];
    let (code, _, said) = dpg_bench("baseline", &[&base], &out_notes);
    assert!(code == Some(2) && said.contains("`dpg-bench baseline` did not write"), "{said}");
    let forced = [&out_notes[..], &["--force"]].concat();
    assert_eq!(dpg_bench("baseline", &[&base], &forced).0, Some(0));
    assert_eq!(dpg_bench("baseline", &[&base], &out_notes).0, Some(0));
    // Its counts are checked, and its protocol.
    let (corrected, broken) = (runs.path("corrected.json"), runs.path("broken.json"));
    let mut baseline: Value = serde_json::from_slice(&std::fs::read(&corrected).unwrap()).unwrap();
    baseline["items"][3]["counts"][0][1] = 9999.into();
    std::fs::write(&broken, baseline.to_string()).unwrap();
    let (code, _, said) = dpg_bench("compare", &[&broken, &other], &[]);
    assert!(code == Some(2) && said.contains("item i3"), "{said}");
    let (code, _, said) = dpg_bench("compare", &[&corrected, &other], &["--protocol", "reference"]);
    assert!(code == Some(2) && said.contains("`reference`"), "{said}");
    let (code, _, said) = dpg_bench("compare", &[&corrected], &["--published"]);
    assert!(code == Some(2) && said.contains("--protocol reference"), "{said}");
}

#[test]
fn the_gate_fails_passes_or_says_that_it_cannot_tell() {
    let runs = Runs::new(80);
    let base = runs.run("base", judge(), |_| 0.8);
    let check = |run: &Path, more: &[&str]| {
        let baseline = ["--baseline", base.to_str().unwrap()];
        dpg_bench("check", &[run], &[&baseline, more].concat())
    };
    // The same again, and a better one.
    let (code, said, _) = check(&base, &["--max-drop", "0"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("no change shown (90 % interval of the change: -0."), "{said}");
    let better = runs.run("better", judge(), |_| 0.9);
    let (code, said, _) = check(&better, &[]);
    assert!(code == Some(0) && said.contains("rose by"), "{said}");

    let worse = runs.run("worse", judge(), |q| if q == 2 { 0.6 } else { 0.8 });
    let junit = runs.path("check.xml");
    let awkward = "other - <b>&%: count";
    let arguments =
        ["--category", "attribute", "--category", awkward, "--junit", junit.to_str().unwrap()];
    let (code, said, _) = check(&worse, &arguments);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("failed     DPG-Bench score"), "{said}");
    assert!(lines[1].starts_with("failed     attribute"), "{said}");
    assert!(lines[2].starts_with("passed     other"), "{said}");
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("tests=\"3\" failures=\"2\" skipped=\"0\""), "{xml}");
    assert!(xml.contains("name=\"other - &lt;b&gt;&amp;%: count\""), "{xml}");
    // Jenkins shows the attribute, GitLab and GitHub's actions the text.
    let (message, rest) =
        xml.split_once("<failure message=\"").unwrap().1.split_once("\">").unwrap();
    assert!(message.contains("dropped by"), "{xml}");
    assert_eq!(rest.split_once("</failure>").unwrap().0, message);
    // A large drop may be tolerated.
    assert_eq!(check(&worse, &["--max-drop", "20"]).0, Some(0));

    // Six items cannot tell a small loss from noise.
    let few = Runs::new(6);
    let (base, noisy) = (
        few.run("base", judge(), |_| 0.8),
        few.run("noisy", judge(), |q| if q == 3 { 0.55 } else { 0.85 }),
    );
    let baseline = few.path("base.json");
    dpg_bench("baseline", &[&base], &["--out", baseline.to_str().unwrap()]);
    let arguments = ["--baseline", baseline.to_str().unwrap()];
    let (code, said, _) = dpg_bench("check", &[&noisy], &arguments);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("undecided") && said.contains(" can if the rise is truly"), "{said}");
    let (code, ..) =
        dpg_bench("check", &[&noisy], &[&arguments[..], &["--undecided-passes"]].concat());
    assert_eq!(code, Some(0));
    let (_, found, _) = dpg_bench("check", &[&noisy], &[&arguments[..], &["--json"]].concat());
    let found: Value = serde_json::from_str(&found).unwrap();
    assert!(found["figures"][0]["items_needed"].as_u64().unwrap() > 6);

    // Several in one flag, and an L2 by what stands behind its L1.
    let several = [&arguments[..], &["--category", "attribute,color"]].concat();
    let (_, said, _) = dpg_bench("check", &[&noisy], &several);
    assert!(said.contains("attribute: ") && said.contains("attribute - color: "), "{said}");

    for (more, word) in [
        (["--category", "colour"], "(did you mean `attribute - color`?)"),
        (["--max-drop", "nan"], "--max-drop"),
        (["--alpha", "0.7"], "--alpha"),
        (["--alpha", "0.00001"], "--draws 5000"),
    ] {
        let (code, _, said) = dpg_bench("check", &[&noisy], &[&arguments[..], &more].concat());
        assert!(code == Some(2) && said.contains(word), "{said}");
    }
}

#[test]
fn github_gets_annotations_and_a_summary() {
    let runs = Runs::new(80);
    let base = runs.run("base", judge(), |_| 0.8);
    let worse = runs.run("worse", judge(), |_| 0.6);
    let summary = runs.path("summary.md");
    std::fs::write(&summary, "before\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(["check".as_ref(), worse.as_os_str(), "--baseline".as_ref(), base.as_os_str()])
        .args(["--github", "--category", "other - <b>&%: count"])
        .env("GITHUB_STEP_SUMMARY", &summary)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("::error title=dpg-bench DPG-Bench score::"), "{said}");
    assert!(said.contains("title=dpg-bench other - <b>&%25%3A count::"), "{said}");
    let text = std::fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("before\n### dpg-bench check: failed"), "{text}");
    assert!(text.contains("other - \\<b>&%: count"), "{text}");
}

#[test]
fn watch_tells_how_far_a_run_is_and_what_it_scores_so_far() {
    let runs = Runs::new(12);
    let whole = runs.run("whole", judge(), |_| 0.8);
    let score = percent(&whole, "corrected")["DPG-Bench score"];
    let (code, said, _) = dpg_bench("watch", &[&whole], &["--once"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("made-up: 48/48; score so far (corrected) {score:.2} ")),
        "{said}"
    );
    // With the interval of `score`.
    let figure = said
        .split("score so far (corrected) ")
        .nth(1)
        .unwrap()
        .split(" (12 items)")
        .next()
        .unwrap();
    let (_, table, _) = dpg_bench("score", &[&whole], &["--protocol", "corrected"]);
    assert!(table.contains(figure) && figure.contains('±'), "{figure}: {table}");
    // It ends by itself where all is done, and writes nothing.
    assert_eq!(dpg_bench("watch", &[&whole], &["--every", "1"]).0, Some(0));
    // Half of the answers, the last line torn as by a process that is writing it.
    let half = runs.run("half", judge(), |_| 0.8);
    let journal = half.join("answers/made-up.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let torn = lines[..1 + 22].concat() + &lines[23][..40];
    std::fs::write(&journal, &torn).unwrap();
    let (code, said, _) = dpg_bench("watch", &[&half], &["--once"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("made-up: 22/48; score so far") && said.contains("(5 items)"), "{said}");
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), torn);
}

#[test]
fn a_run_stands_among_published_scores_with_what_speaks_against_it() {
    let runs = Runs::new(12);
    let base = runs.run("base", judge(), |_| 0.8);
    let (code, _, said) = dpg_bench("compare", &[&base], &["--published"]);
    assert!(code == Some(2) && said.contains("--allow benchmark"), "{said}");
    let allowed = ["--published", "--allow", "benchmark"];
    let (code, table, said) = dpg_bench("compare", &[&base], &allowed);
    assert_eq!(code, Some(0), "{said}");
    for word in ["ELLA-SDXL", "80.23", "2403.05135", "this run", "official question file", "mPLUG"]
    {
        assert!(table.contains(word), "{word} in {table}");
    }
    let score = format!("{:.2}", percent(&base, "reference")["DPG-Bench score"]);
    let ours = table.lines().find(|line| line.contains("this run")).unwrap();
    assert!(ours.contains(&score) && ours.trim_start().starts_with('>'), "{ours}");
}

/// Wherever a benchmark score stands it has the digits of `score`, which are NumPy's: in a comparison of runs
/// and of baseline files, and in a report's table of differences.
#[test]
fn a_score_has_the_same_digits_everywhere() {
    let runs = Runs::over(&uneven_questions(150));
    let base = runs.run("base", judge(), |_| 0.8);
    let other = runs.run("other", judge(), |_| 0.7);
    let file = runs.path("base.json");
    for protocol in ["reference", "corrected"] {
        let more = ["--protocol", protocol];
        let arguments = [&more[..], &["--out", file.to_str().unwrap()]].concat();
        assert_eq!(dpg_bench("baseline", &[&base], &arguments).0, Some(0));
        let scores = [&base, &other].map(|run| percent(run, protocol)["DPG-Bench score"]);
        // From left to right they would be others.
        for found in [compared(&base, &other, &more), compared(&file, &other, &more)] {
            let figure = &found["figures"][0];
            let percent = [&figure["base"], &figure["other"]].map(|side| side["percent"].as_f64());
            assert_eq!(percent, scores.map(Some), "{protocol}");
        }
        let report = runs.path(&format!("report-{protocol}"));
        let out = [&more[..], &["--out", report.to_str().unwrap()]].concat();
        let (code, _, said) = dpg_bench("report", &[&base, &other], &out);
        assert_eq!(code, Some(0), "{said}");
        let table = std::fs::read(report.join("tables/differences-2.csv")).unwrap();
        let mut reader = csv::Reader::from_reader(table.as_slice());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let row = rows.iter().find(|row| row.iter().any(|cell| cell == "DPG-Bench score")).unwrap();
        for score in scores {
            assert!(row.iter().any(|cell| cell.parse() == Ok(score)), "{score} in {row:?}");
        }
    }
}

/// The reference script never reads the first row: a run over that question alone is complete, and has no score
/// to withhold.
#[test]
fn a_complete_run_of_which_the_rules_drop_all_is_no_incomplete_one() {
    let runs = Runs::over(&uneven_questions(1));
    let run = runs.run("run", judge(), |_| 1.0);
    let (code, table, said) = dpg_bench("score", &[&run], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("no question to score") && !table.contains("withheld"), "{table}");
    assert_eq!(dpg_bench("score", &[&run], &["--protocol", "reference"]).0, Some(0));
    let report = runs.path("report");
    let out = ["--protocol", "reference", "--out", report.to_str().unwrap()];
    assert_eq!(dpg_bench("report", &[&run], &out).0, Some(0));
}
