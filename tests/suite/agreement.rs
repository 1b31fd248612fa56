//! `dpg-bench agreement`: what it counts against plain Python and scikit-learn (fixtures/agreement,
//! made by make.py), what it writes, and what it refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dpg_bench::benchmark::{Benchmark, Selection, Strictness};
use dpg_bench::results::RunDirectory;
use dpg_bench::results::manifest::{BenchmarkIdentity, to_settings};
use serde_json::Value;

use super::benchmark_commands::natural;
use super::small_run::put_picture;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/agreement").join(name)
}

fn dpg_bench(command: &str, run: &Path, more: &[&str]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    process.arg(command).arg(run).args(more).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A run over twelve items, two pictures an item, answered by the two judges of the fixture.
fn judged_run(folder: &Path) -> PathBuf {
    let demo = natural();
    let benchmark = Benchmark::load(&demo, Strictness::Strict).unwrap();
    let identity = BenchmarkIdentity {
        path: demo.display().to_string(),
        digest: benchmark.digest.clone(),
        official: false,
        items: benchmark.items.len() as u64,
        questions: benchmark.question_count() as u64,
        lenient: false,
    };
    let path = folder.join("run");
    let selection = to_settings(&Selection::default()).unwrap();
    let run = RunDirectory::open_or_create(&path, identity, selection, 2).unwrap();
    for (shade, item) in benchmark.items.iter().enumerate() {
        for image in 0..2 {
            put_picture(&run, &item.id, image, shade as u8);
        }
    }
    for (name, code) in [("first", 0), ("second", 3)] {
        let file = fixture(&format!("{name}.csv"));
        let file = file.to_str().unwrap();
        let flags = ["--judge", "scripted", "--judge-name", name, "--judge-answers", file];
        let output = dpg_bench("judge", &path, &flags);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    }
    path
}

/// The figures of a pair as the fixture has them: by category, and the items in dispute.
fn figures(pair: &Value) -> Value {
    let rows = std::iter::once(&pair["overall"]).chain(pair["l1"].as_array().unwrap());
    let categories: serde_json::Map<String, Value> = rows
        .map(|row| {
            let counts: Vec<&Value> =
                ["yes_yes", "yes_no", "no_yes", "no_no"].map(|name| &row[name]).into();
            let figures = serde_json::json!({
                "answered": row["answered"],
                "unparsable": row["unparsable"],
                "counts": counts,
                "agreed": row["agreement"]["k"],
                "kappa": (row["kappa"].as_f64().unwrap() * 1e12).round() / 1e12,
            });
            (row["name"].as_str().unwrap().to_owned(), figures)
        })
        .collect();
    let worst: Vec<Value> = pair["worst"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| serde_json::json!([item["item"], item["disagreed"], item["compared"]]))
        .collect();
    serde_json::json!({"categories": categories, "worst": worst})
}

fn expected() -> Value {
    let mut expected: Value =
        serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    for (_, row) in expected["categories"].as_object_mut().unwrap() {
        row["kappa"] = ((row["kappa"].as_f64().unwrap() * 1e12).round() / 1e12).into();
    }
    expected
}

#[test]
fn counts_and_kappas_equal_those_of_python() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    let output = dpg_bench("agreement", &run, &["--json", "--worst", "100"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [pair] = report["pairs"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!((&pair["first"], &pair["second"]), (&"first".into(), &"second".into()));
    assert_eq!(figures(pair), expected());
    assert_eq!(pair["items_in_dispute"], expected()["worst"].as_array().unwrap().len());

    // The other way round: what only the first said yes to, only the second does.
    let output = dpg_bench("agreement", &run, &["--json", "--judges", "second,first"]);
    let turned: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(turned["pairs"][0]["first"], "second");
    assert_ne!(figures(&turned["pairs"][0]), expected());
    assert_eq!(turned["pairs"][0]["overall"]["yes_no"], pair["overall"]["no_yes"]);
    assert_eq!(turned["pairs"][0]["worst"].as_array().unwrap().len(), 5);
}

#[test]
fn scores_are_those_of_score_and_a_withheld_one_has_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    let scored = dpg_bench("score", &run, &["--judge", "first,second", "--json"]);
    assert_eq!(scored.status.code(), Some(3), "{}", said(&scored));
    let summaries: Value = serde_json::from_slice(&scored.stdout).unwrap();
    let report = dpg_bench("agreement", &run, &["--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    for (judge, summary) in
        report["judges"].as_array().unwrap().iter().zip(summaries.as_array().unwrap())
    {
        assert_eq!(judge["judge"], summary["judge"]);
        for protocol in ["reference", "corrected"] {
            assert_eq!(judge[protocol], summary[protocol]["overall"]);
        }
    }
    assert!(report["judges"][0]["corrected"]["mean"].is_f64());
    // The second judge lacks answers.
    assert!(report["judges"][1]["corrected"].is_null());
    assert_eq!(report["pairs"][0]["score_differences"], serde_json::json!({}));

    let all = dpg_bench("agreement", &run, &["--json", "--allow-incomplete"]);
    let all: Value = serde_json::from_slice(&all.stdout).unwrap();
    let mean = |judge: usize| all["judges"][judge]["corrected"]["mean"].as_f64().unwrap();
    let difference = &all["pairs"][0]["score_differences"]["corrected"];
    let number = |key: &str| difference[key].as_f64().unwrap();
    assert_eq!(number("points"), mean(0) - mean(1));
    assert!(number("low") <= number("points") && number("points") <= number("high"));
    assert_eq!(number("low") > 0.0 || number("high") < 0.0, number("p") < 0.05);
}

#[test]
fn the_table_the_csv_and_the_json_file_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    let output = dpg_bench("agreement", &run, &["--worst", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = expected();
    let all = &expected["categories"]["all"];
    assert!(text.contains("first / second") && text.contains("withheld"), "{text}");
    assert!(text.contains("231/295") && text.contains("0.547"), "{text}");
    assert_eq!(
        (&all["agreed"], &all["counts"]),
        (&231.into(), &serde_json::json!([147, 41, 23, 84]))
    );
    let worst = &expected["worst"][0];
    let line = format!("{}: {} of {} answers", worst[0].as_str().unwrap(), worst[1], worst[2]);
    assert!(text.contains(&line) && text.matches(" answers\n").count() == 1, "{text}");

    let bytes = std::fs::read(run.join("agreement.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1 + 5);
    assert_eq!(
        rows[0].iter().take(8).collect::<Vec<_>>(),
        ["first", "second", "overall", "all", "321", "26", "295", "231"]
    );
    let kappa: f64 = rows[0][9].parse().unwrap();
    assert!((kappa - all["kappa"].as_f64().unwrap()).abs() < 1e-12);

    let file = std::fs::read(run.join("agreement.json")).unwrap();
    let again = dpg_bench("agreement", &run, &["--worst", "1", "--json"]);
    assert_eq!(again.stdout, file);
    assert_eq!(std::fs::read(run.join("agreement.csv")).unwrap(), bytes);
    // The ends of the intervals are those of the JSON, around their figures.
    let report: Value = serde_json::from_slice(&file).unwrap();
    let pair = &report["pairs"][0];
    let of_json = std::iter::once(&pair["overall"]).chain(pair["l1"].as_array().unwrap());
    for (row, json) in rows.iter().zip(of_json) {
        let (share, kappa) = (&json["agreement"], &json["kappa"]);
        let ends = [&share["low"], &share["high"], &json["kappa_low"], &json["kappa_high"]];
        let of_csv: Vec<Option<f64>> = row.iter().skip(14).map(|cell| cell.parse().ok()).collect();
        assert_eq!(of_csv, ends.map(Value::as_f64));
        let ends = ends.map(|end| end.as_f64().unwrap());
        let within =
            |value: &Value, low: f64, high: f64| (low..high).contains(&value.as_f64().unwrap());
        assert!(
            within(&share["mean"], ends[0], ends[1]) && within(kappa, ends[2], ends[3]),
            "{json}"
        );
    }
}

#[test]
fn one_judge_alone_strangers_and_other_pictures_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    for (judges, expected) in [
        ("first", "two judges are needed to compare them; there are answers of first, second"),
        ("first,nobody", "no answers of `nobody`"),
        ("first,first", "names `first` twice"),
    ] {
        let output = dpg_bench("agreement", &run, &["--judges", judges]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    // A third one has failed throughout: no figure is made of nothing.
    let none = folder.path().join("none.csv");
    std::fs::write(&none, "item,image,question,answer\nbakery_window,0,999,yes\n").unwrap();
    let none = none.to_str().unwrap();
    let flags = ["--judge", "scripted", "--judge-name", "third", "--judge-answers", none];
    assert_eq!(dpg_bench("judge", &run, &flags).status.code(), Some(3));
    let output = dpg_bench("agreement", &run, &["--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<(&str, &str)> = report["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair["first"].as_str().unwrap(), pair["second"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [("first", "second"), ("first", "third"), ("second", "third")]);
    assert!(report["pairs"][1]["overall"]["kappa"].is_null());
    assert!(report["pairs"][1]["overall"]["agreement"].is_null());

    let journal = run.join("answers/second.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let at = text.find("\"pixels_sha256\":\"").unwrap() + "\"pixels_sha256\":\"".len();
    let changed = format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..]);
    std::fs::write(&journal, changed).unwrap();
    let output = dpg_bench("agreement", &run, &["--judges", "first,second"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains(
            "bakery_window, image 0: `first` and `second` answered about different images"
        ),
        "{}",
        said(&output)
    );
}
