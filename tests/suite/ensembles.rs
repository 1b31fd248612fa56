//! What several judges score together, in `agreement`, against plain Python (tests/fixtures/make_ensemble.py).

use std::path::{Path, PathBuf};
use std::process::Command;

use dpg_bench::benchmark::{Benchmark, Selection};
use dpg_bench::results::manifest::to_settings;
use dpg_bench::results::{BenchmarkIdentity, RunDirectory};
use serde_json::Value;

use super::small_run::put_picture;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ensemble").join(name)
}

fn dpg_bench(command: &str, run: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    let output = process.arg(command).arg(run).args(more).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A run that the three judges have answered about, with gaps.
fn judged_run(folder: &Path) -> PathBuf {
    let questions = fixture("questions.csv");
    let benchmark = Benchmark::load(&questions, Default::default()).unwrap();
    let identity = BenchmarkIdentity {
        path: questions.display().to_string(),
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
    for name in ["a", "b", "c"] {
        let file = fixture(&format!("{name}.csv"));
        let flags = ["--judge", "scripted", "--judge-name", name, "--judge-answers"];
        let (code, _, said) =
            dpg_bench("judge", &path, &[&flags[..], &[file.to_str().unwrap()]].concat());
        assert_eq!(code, Some(3), "{said}");
    }
    path
}

fn close(found: &Value, expected: &Value) -> bool {
    (found.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-9
}

fn assert_ensemble(found: &Value, expected: &Value, questions: &Value) {
    assert_eq!((&found["answered"], &found["questions"]), (&expected["answered"], questions));
    assert!(close(&found["score"]["mean"], &expected["score"]), "{found}, {expected}");
    let (low, mean) = (found["score"]["low"].as_f64(), found["score"]["mean"].as_f64());
    assert!(low < mean && mean < found["score"]["high"].as_f64());
    let categories = found["l1"].as_array().unwrap();
    assert_eq!(categories.len(), expected["l1"].as_object().unwrap().len());
    for category in categories {
        let (figure, expected) =
            (&category["conditional"], &expected["l1"][category["name"].as_str().unwrap()]);
        assert!(close(&figure["mean"], &expected[0]), "{category}, {expected}");
        assert_eq!(figure["n"], expected[1]);
    }
}

#[test]
fn majority_and_mean_are_those_of_python() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    let golden: Value =
        serde_json::from_slice(&std::fs::read(fixture("golden.json")).unwrap()).unwrap();
    for (judges, name) in [("a,b,c", "abc"), ("a,b", "ab"), ("b,a", "ab")] {
        let (code, text, said) = dpg_bench("agreement", &run, &["--json", "--judges", judges]);
        assert_eq!(code, Some(0), "{said}");
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["format_version"], "1.1");
        let [majority, soft, mean] = report["ensembles"].as_array().unwrap().as_slice() else {
            panic!("{report}")
        };
        let kinds = [majority, soft, mean].map(|one| (&one["rule"], &one["protocol"]));
        let mean_of = Value::from("mean_probability");
        let [words, corrected, by_share] = ["majority", "corrected", "soft"].map(Value::from);
        let expected = [(&words, &corrected), (&mean_of, &by_share), (&mean_of, &corrected)];
        assert_eq!(kinds, expected);
        let golden_of = &golden[name];
        for (found, rule) in [(majority, "majority"), (soft, "soft"), (mean, "mean")] {
            assert_ensemble(found, &golden_of[rule], &golden["questions"]);
        }
        // A tie that counts as yes gives other numbers.
        assert!(!close(&mean["score"]["mean"], &golden_of["twin_mean"]["score"]));
        let is_even = name.len() % 2 == 0;
        let twin = &golden_of["twin_majority"]["score"];
        assert_eq!(close(&majority["score"]["mean"], twin), !is_even);
    }
}

#[test]
fn correlation_and_difference_are_those_of_python() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    let golden: Value =
        serde_json::from_slice(&std::fs::read(fixture("golden.json")).unwrap()).unwrap();
    let (_, text, _) = dpg_bench("agreement", &run, &["--json", "--judges", "a,b"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    let (found, expected) = (&report["pairs"][0]["probabilities"], &golden["pair"]);
    assert_eq!(found["questions"], expected["questions"]);
    for name in ["correlation", "difference"] {
        assert!(close(&found[name], &expected[name]), "{name}: {found}, {expected}");
        let end = |end: &str| found[format!("{name}_{end}")].as_f64().unwrap();
        let value = found[name].as_f64().unwrap();
        assert!(end("low") < value && value < end("high"), "{found}");
    }
    let (_, text, _) = dpg_bench("agreement", &run, &["--judges", "a,b"]);
    let line = format!("P(yes): correlation {:.3} (", expected["correlation"].as_f64().unwrap());
    assert!(text.contains(&line), "{text}");
}

#[test]
fn the_table_and_the_csv_have_the_ensembles_and_go_with_the_agreement() {
    let folder = tempfile::tempdir().unwrap();
    let run = judged_run(folder.path());
    let (_, text, said) = dpg_bench("agreement", &run, &[]);
    assert!(text.contains("all 3 judges answered") && text.contains("mean P(yes), soft"), "{text}");
    assert!(said.contains("agreement-ensembles.csv"), "{said}");
    let table: Vec<&str> = text.lines().take_while(|line| !line.starts_with("over ")).collect();
    let widest = table.iter().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{text}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(run.join("agreement.json")).unwrap()).unwrap();
    let csv = std::fs::read(run.join("agreement-ensembles.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    // The score, and five categories before and after the rule, three times.
    assert_eq!(rows.len(), 3 * (1 + 2 * 5));
    for (rows, one) in rows.chunks(11).zip(report["ensembles"].as_array().unwrap()) {
        let score: f64 = rows[0][5].parse().unwrap();
        assert_eq!(Some(score), one["score"]["mean"].as_f64());
        assert_eq!(rows[2][5].parse().ok(), one["l1"][0]["conditional"]["mean"].as_f64());
        assert_eq!(rows[0][12], one["answered"].to_string());
    }
    let (code, _, said) = dpg_bench("judge", &run, &["--remove", "c"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!run.join("agreement-ensembles.csv").exists());
}
