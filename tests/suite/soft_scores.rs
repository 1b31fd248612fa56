//! The protocols of P(yes), against NumPy (tests/fixtures/make_soft.py), and what is written of judges that state it for some
//! answers or for none.

use std::path::{Path, PathBuf};

use dpg_bench::Summary;
use dpg_bench::aggregate::Estimate;
use dpg_bench::benchmark::Benchmark;
use dpg_bench::results::{
    AnswerOutcome, AnswerRecord, BenchmarkIdentity, QuestionAnswer, RunDirectory, Settings,
};
use serde_json::{Value, json};

use super::compare::dpg_bench;

const QUESTIONS: &str = include_str!("../fixtures/soft/questions.csv");
const GOLDEN: &str = include_str!("../fixtures/soft/golden.json");

/// An answer as the fixture has it: P(yes), null for none, `unstated` for one without P(yes).
type Answers = dyn Fn(&str, u32, usize) -> Value;

struct Runs {
    folder: tempfile::TempDir,
    benchmark: Benchmark,
    golden: Value,
}

impl Runs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.csv");
        std::fs::write(&path, QUESTIONS).unwrap();
        let benchmark = Benchmark::load(&path, Default::default()).unwrap();
        Self { folder, benchmark, golden: serde_json::from_str(GOLDEN).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run of the fixture.
    fn of_fixture(&self, name: &str) -> PathBuf {
        let answers = self.golden["runs"][name].clone();
        self.run(name, &move |item, image, place| {
            let item: usize = item[1..].parse().unwrap();
            answers[item][image as usize][place].clone()
        })
    }

    fn run(&self, name: &str, answers: &Answers) -> PathBuf {
        let identity = BenchmarkIdentity {
            path: self.path("questions.csv").display().to_string(),
            digest: self.benchmark.digest.clone(),
            official: false,
            items: self.benchmark.items.len() as u64,
            questions: self.benchmark.question_count() as u64,
            lenient: false,
        };
        let images = self.golden["images"].as_u64().unwrap() as u32;
        let path = self.path(name);
        let mut run =
            RunDirectory::open_or_create(&path, identity, Settings::new(), images).unwrap();
        run.begin_judge("made-up", Settings::new(), "none").unwrap();
        let (mut journal, _) = run.open_answers("made-up").unwrap();
        for item in &self.benchmark.items {
            for image in 0..images {
                let said =
                    item.graph.questions().iter().enumerate().filter_map(|(place, asked)| {
                        let (text, yes_probability) = match answers(&item.id, image, place) {
                            Value::Null => return None,
                            Value::Number(p) if p.as_f64() >= Some(0.5) => ("yes", p.as_f64()),
                            Value::Number(p) => ("no", p.as_f64()),
                            _ => ("yes", None),
                        };
                        let outcome = AnswerOutcome::Answered {
                            text: text.into(),
                            raw: None,
                            yes_probability,
                        };
                        Some(QuestionAnswer::new(asked.id, outcome))
                    });
                let answers = said.collect();
                let item = item.id.clone();
                journal
                    .append(&AnswerRecord { item, image, pixels_sha256: None, answers })
                    .unwrap();
            }
        }
        path
    }
}

fn score(run: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    dpg_bench("score", &[run], more)
}

fn summary(run: &Path) -> Summary {
    score(run, &["--allow-incomplete"]);
    let text = std::fs::read(run.join("summary/made-up.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// As far apart as rounding takes sums in another order.
fn assert_close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
        "{what}: {found}, {expected}"
    );
}

fn assert_estimate(found: Option<Estimate>, expected: &Value, what: &str) {
    let found = found.unwrap_or_else(|| panic!("{what}: no figure"));
    assert_close(found.mean, &expected["mean"], what);
    assert_close(found.standard_error.unwrap(), &expected["standard_error"], what);
    assert_eq!(expected["items"], found.items, "{what}");
    if !expected["n"].is_null() {
        assert_eq!((&expected["k"], &expected["n"]), (&found.k.into(), &found.n.into()), "{what}");
    }
}

#[test]
fn scores_and_categories_are_numpys_and_not_those_of_wrong_rules() {
    let runs = Runs::new();
    for name in ["base", "other"] {
        let found = summary(&runs.of_fixture(name));
        let golden = &runs.golden[name];
        let soft = found.soft.unwrap();
        assert_estimate(soft.overall, &golden["soft"], name);
        let means = found.soft_tifa_gm.unwrap();
        assert_estimate(means.overall, &golden["soft_tifa_gm"], name);
        assert_eq!((means.l1.len(), means.l2.len()), (0, 0));
        for (own, rule) in [(&soft, "soft"), (&means, "soft_tifa_gm")] {
            let twin = golden[rule]["twin"].as_f64().unwrap();
            let score = own.overall.unwrap().mean;
            assert!((score - twin).abs() > 0.01, "{name}, {rule}: a wrong rule gives {twin} too");
        }
        let categories = golden["categories"].as_object().unwrap();
        let figures: Vec<_> = soft.l1.iter().chain(&soft.l2).collect();
        assert_eq!(figures.len(), categories.len());
        for figure in figures {
            let expected = &categories[&figure.name];
            assert_estimate(figure.raw, &expected["raw"], &figure.name);
            assert_estimate(figure.conditional, &expected["conditional"], &figure.name);
        }
    }
}

#[test]
fn differences_their_p_values_and_items_are_numpys() {
    let runs = Runs::new();
    let (base, other) = (runs.of_fixture("base"), runs.of_fixture("other"));
    let prefix = runs.path("both").display().to_string();
    let (_, text, _) = dpg_bench("compare", &[&base, &other], &["--json", "--out", &prefix]);
    let found = json_of(&text);
    let csv = std::fs::read_to_string(format!("{prefix}.csv")).unwrap();
    for (place, rule) in ["soft", "soft_tifa_gm"].into_iter().enumerate() {
        let (own, golden) = (&found[0]["soft"][place], &runs.golden["comparison"][rule]);
        assert_eq!((&own["protocol"], &own["items"]), (&json!(rule), &golden["items"]));
        let score = &own["figures"][0];
        for key in ["difference", "p"] {
            assert_close(score[key].as_f64().unwrap(), &golden[key], rule);
        }
        assert_close(own["detectable"].as_f64().unwrap(), &golden["detectable"], rule);
        assert_eq!(own["items_needed"][0]["soft"], golden["items_needed"], "{rule}");
        // Asked for alone it has the same numbers, intervals and p-values.
        let alone = dpg_bench("compare", &[&base, &other], &["--json", "--protocol", rule]).1;
        assert_eq!(json_of(&alone)[0]["figures"], own["figures"]);
        let rows = csv.lines().filter(|line| line.split(',').nth(2) == Some(rule)).count();
        assert_eq!(rows, own["figures"].as_array().unwrap().len(), "{csv}");
    }
    let (_, text, _) = dpg_bench("compare", &[&base, &other], &[]);
    for part in ["soft: P(yes)", "soft_tifa_gm", "soft: 80 % of comparisons find"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let markdown = std::fs::read_to_string(format!("{prefix}.md")).unwrap();
    assert!(markdown.contains("| **soft\\_tifa\\_gm** |"), "{markdown}");
}

#[test]
fn where_every_probability_is_0_or_1_soft_is_corrected_to_the_last_bit() {
    let runs = Runs::new();
    // Bits of a hash, and some questions without an answer.
    for salt in 0..20_u64 {
        let path = runs.run(&format!("whole-{salt}"), &move |item, image, place| {
            let item: u64 = item[1..].parse().unwrap();
            let bits = (((salt * 41 + item) * 43 + u64::from(image)) * 47 + place as u64)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                >> 56;
            if salt % 2 == 1 && bits < 20 {
                Value::Null
            } else {
                json!(f64::from(u8::from(bits < 180)))
            }
        });
        let found = summary(&path);
        assert!(
            found.corrected.overall.is_some_and(|score| score.mean > 10.0 && score.mean < 95.0)
        );
        assert_eq!(found.soft, Some(found.corrected), "{salt}");
        assert!(found.soft_tifa_gm.unwrap().overall.unwrap().mean < 60.0);
    }
}

#[test]
fn of_a_judge_without_probabilities_nothing_soft_is_written() {
    let runs = Runs::new();
    let path = runs.run("silent", &|_, _, _| json!("unstated"));
    let (code, stdout, stderr) = score(&path, &[]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains("no soft scores: the answers of made-up state no P(yes)"), "{stderr}");
    assert!(!stdout.contains("soft"), "{stdout}");
    for ending in ["json", "csv", "md", "tex", "svg"] {
        let path = path.join("summary/made-up").with_extension(ending);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("soft") && !text.contains("probability"), "{ending}: {text}");
    }
    let stated = runs.of_fixture("other");
    let (code, text, _) = dpg_bench("compare", &[&path, &stated], &["--json"]);
    assert_eq!((code, &json_of(&text)[0]["soft"]), (Some(0), &Value::Null));
    let never = runs.path("never").display().to_string();
    for (command, more) in [
        ("score", &["--protocol", "soft"][..]),
        ("score", &["--protocol", "soft_tifa_gm"]),
        ("report", &["--protocol", "soft", "--out", &never]),
        ("export", &["--to", "tensorboard", "--protocol", "soft", "--out", &never]),
        ("baseline", &["--protocol", "soft", "--out", &never]),
    ] {
        let (code, _, stderr) = dpg_bench(command, &[&path], more);
        assert_eq!(code, Some(2), "{command}: {stderr}");
        assert!(stderr.contains("the answers of `made-up` state no P(yes)"), "{command}: {stderr}");
    }
}

#[test]
fn answers_without_a_probability_count_as_0_and_too_many_withhold_the_score() {
    let runs = Runs::new();
    // The first question of every image is not stated: 36 of 144.
    let path = runs.run("some", &|_, _, place| match place {
        0 => json!("unstated"),
        _ => json!(1.0),
    });
    let (code, stdout, _) = score(&path, &[]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("36 of 144 answers state no P(yes) and count as 0"), "{stdout}");
    assert!(
        stdout.contains("soft: score withheld, 36 of 144 answers state no P(yes), more than 20 %"),
        "{stdout}"
    );
    let found = summary(&path);
    assert_eq!(found.coverage.answers_without_probability, 36);
    // Of the first shape the row that stands first has one question below it; of the second it is above all others.
    let by_hand = 100.0 * (4.0 / 6.0 + 0.0 + 1.0 / 2.0) / 3.0;
    assert!((found.soft.unwrap().overall.unwrap().mean - by_hand).abs() < 1e-12);
    assert_eq!(found.soft_tifa_gm.unwrap().overall.unwrap().mean, 0.0);
    assert_eq!(score(&path, &["--protocol", "soft"]).0, Some(3));
    assert_eq!(score(&path, &["--protocol", "corrected"]).0, Some(0));
    // A difference would say where P(yes) is stated.
    let file = runs.path("soft.json").display().to_string();
    let (code, _, stderr) =
        dpg_bench("baseline", &[&path], &["--protocol", "soft", "--out", &file]);
    assert_eq!(code, Some(2), "{stderr}");
    let why = "36 of 144 answers state no P(yes), more than 20 %, so its score is withheld";
    assert!(stderr.contains(why), "{stderr}");
    // Beside yes and no it is told, and the rest is compared.
    let (code, stdout, stderr) = dpg_bench("compare", &[&path, &path], &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(why) && !stdout.contains("soft_tifa_gm"), "{stdout}{stderr}");
}

#[test]
fn baselines_gates_and_reports_know_the_protocols() {
    let runs = Runs::new();
    let (base, other) = (runs.of_fixture("base"), runs.of_fixture("other"));
    let file = runs.path("soft.json");
    let shown = file.display().to_string();
    let more = ["--protocol", "soft", "--out", &shown];
    let (code, _, stderr) = dpg_bench("baseline", &[&base], &more);
    assert_eq!(code, Some(3), "{stderr}");
    let soft = ["--json", "--protocol", "soft"];
    let of = |base: &Path| {
        json_of(&dpg_bench("compare", &[base, &other], &soft).1)[0]["figures"].clone()
    };
    assert_eq!(of(&file), of(&base));
    for protocol in ["soft", "soft_tifa_gm"] {
        let more = ["--baseline", &base.display().to_string(), "--protocol", protocol, "--json"];
        let found = json_of(&dpg_bench("check", &[&other], &more).1);
        assert_eq!(found["protocol"], protocol);
    }
    // A baseline file names its protocol itself.
    let more = ["--baseline", &shown, "--category", "attribute", "--json"];
    let found = json_of(&dpg_bench("check", &[&other], &more).1);
    assert_eq!(
        (&found["protocol"], &found["figures"][1]["name"]),
        (&json!("soft"), &json!("attribute"))
    );
    let damaged =
        std::fs::read_to_string(&file).unwrap().replacen("\"sums\":[", "\"sums\":[[9.0,9.0],", 1);
    std::fs::write(&file, damaged).unwrap();
    let (code, _, stderr) = dpg_bench("check", &[&other], &["--baseline", &shown]);
    assert!(code == Some(2) && stderr.contains("the counts of item i0 cannot be"), "{stderr}");

    let out = runs.path("report").display().to_string();
    let more = ["--allow-incomplete", "--out", &out];
    let (code, _, stderr) = dpg_bench("report", &[&base, &other], &more);
    assert_eq!(code, Some(0), "{stderr}");
    let read = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).unwrap();
    let score = summary(&other).soft.unwrap().overall.unwrap().mean;
    assert!(read("tables/soft.csv").contains(&format!("other,made-up,soft,{score},")));
    assert!(read("index.html").contains("DPG-Bench score with P(yes) in place of yes and no"));
    let more = ["--allow-incomplete", "--out", &out, "--protocol", "soft"];
    assert_eq!(dpg_bench("report", &[&base, &other], &more).0, Some(0));
    assert!(read("tables/leaderboard.csv").contains(&format!("other,,made-up,soft,{score},")));
}

#[test]
fn exports_have_the_soft_scores_and_the_same_headline() {
    let runs = Runs::new();
    let other = runs.of_fixture("other");
    let out = runs.path("logs");
    let shown = out.display().to_string();
    let (code, _, stderr) = dpg_bench("export", &[&other], &["--to", "inspect", "--out", &shown]);
    assert_eq!(code, Some(0), "{stderr}");
    let file = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let log = json_of(&std::fs::read_to_string(file).unwrap());
    assert_eq!(log["results"]["headline"]["score"], "corrected");
    let scores = log["results"]["scores"].as_array().unwrap();
    let names: Vec<&str> = scores.iter().map(|score| score["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["reference", "corrected", "soft", "soft_tifa_gm"]);
    let mean = scores[2]["metrics"]["mean"]["value"].as_f64().unwrap();
    assert_close(100.0 * mean, &runs.golden["other"]["soft"]["mean"], "mean");
}
