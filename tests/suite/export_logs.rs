//! `dpg-bench export --to inspect` and `--to lm-eval`: every key is one that these packages know at its place, none that they
//! demand is absent (`fixtures/make_tracker_keys.py`), and the numbers are those of the summary.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::compare::{Runs, dpg_bench, judge};

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trackers/keys.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What is wrong with the keys of `value` for the class `kind`; `more` may be there too.
fn check_keys(kind: &str, value: &Value, more: &[&str]) {
    let keys = fixture();
    let has = |list: &Value, key: &str| list.as_array().unwrap().iter().any(|known| known == key);
    let value = value.as_object().unwrap_or_else(|| panic!("{kind}: {value}"));
    assert!(keys[kind]["known"].is_array(), "{kind}");
    for key in value.keys() {
        assert!(has(&keys[kind]["known"], key) || more.contains(&&**key), "{kind} has no {key}");
    }
    for key in keys[kind]["required"].as_array().unwrap() {
        assert!(value.contains_key(key.as_str().unwrap()), "{kind} lacks {key}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn summary(run: &Path, more: &[&str]) -> Value {
    let (_, json, said) = dpg_bench("score", &[run], &[&["--json"], more].concat());
    serde_json::from_str(&json).unwrap_or_else(|_| panic!("{said}"))
}

fn near(found: f64, percent: &Value) {
    let expected = percent.as_f64().unwrap() / 100.0;
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

/// Mean over the samples of each item, and then over items.
fn mean(scores: &[(String, f64)]) -> f64 {
    let mut items: Vec<(&str, Vec<f64>)> = Vec::new();
    for (item, score) in scores {
        match items.iter_mut().find(|(there, _)| there == item) {
            Some((_, scores)) => scores.push(*score),
            None => items.push((item, vec![*score])),
        }
    }
    let of = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    of(&items.iter().map(|(_, scores)| of(scores)).collect::<Vec<_>>())
}

fn inspect(run: &Path, out: &Path, more: &[&str]) -> (i32, String) {
    let flags = ["--to", "inspect", "--out", out.to_str().unwrap()];
    let (code, _, said) = dpg_bench("export", &[run], &[&flags[..], more].concat());
    (code.unwrap(), said)
}

#[test]
fn a_log_of_inspect_has_its_shape_and_the_summarys_numbers() {
    let runs = Runs::new(12);
    let (run, out) = (runs.run("run", judge(), |_| 0.7), runs.path("logs"));
    let (code, said) = inspect(&run, &out, &[]);
    assert_eq!(code, 0, "{said}");
    let [file] = &files(&out)[..] else { panic!("one file") };
    let text = std::fs::read_to_string(file).unwrap();
    // Readers of the head alone stop at `samples`.
    let mut places: Vec<usize> = [
        "{\"version\":2,",
        "\"status\":\"success\"",
        "\"eval\":{",
        "\"plan\":{",
        "\"results\":{",
        "\"stats\":{",
        "\"invalidated\":false",
        "\"tags\":[]",
        "\"samples\":[{",
        "\"reductions\":[{",
    ]
    .map(|part| text.find(part).unwrap_or_else(|| panic!("{part}")))
    .to_vec();
    // The head has the same metadata once more.
    places.insert(8, text.rfind("\"judge\":\"made-up\"").unwrap());
    assert!(places.is_sorted(), "{places:?}");
    assert!(!text.contains("NaN") && !text.contains("Infinity"));
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(name.split('_').map(str::len).collect::<Vec<_>>(), [25, 9, 27], "{name}");

    let log: Value = serde_json::from_str(&text).unwrap();
    check_keys("EvalLog", &log, &[]);
    check_keys("EvalSpec", &log["eval"], &[]);
    check_keys("EvalDataset", &log["eval"]["dataset"], &[]);
    check_keys("EvalConfig", &log["eval"]["config"], &[]);
    check_keys("EvalScorer", &log["eval"]["scorers"][0], &[]);
    check_keys("EvalPlan", &log["plan"], &[]);
    check_keys("EvalResults", &log["results"], &[]);
    check_keys("EvalStats", &log["stats"], &[]);
    for headline in [&log["results"]["headline"], &log["eval"]["headline_metric"]] {
        check_keys("HeadlineMetric", headline, &[]);
        assert_eq!(
            (&headline["score"], &headline["metric"]),
            (&json!("corrected"), &json!("mean"))
        );
    }
    let samples = log["samples"].as_array().unwrap();
    assert_eq!((samples.len(), &log["results"]["total_samples"]), (48, &json!(48)));
    for sample in samples {
        check_keys("EvalSample", sample, &[]);
        check_keys("ModelOutput", &sample["output"], &[]);
        for score in sample["scores"].as_object().unwrap().values() {
            check_keys("Score", score, &[]);
        }
    }
    let summary = summary(&run, &[]);
    for (place, protocol) in ["reference", "corrected"].into_iter().enumerate() {
        let result = &log["results"]["scores"][place];
        check_keys("EvalScore", result, &[]);
        assert_eq!(result["name"], protocol);
        let own = &summary[protocol];
        for (metric, field) in
            [("mean", "mean"), ("stderr", "standard_error"), ("low", "low"), ("high", "high")]
        {
            check_keys("EvalMetric", &result["metrics"][metric], &[]);
            near(result["metrics"][metric]["value"].as_f64().unwrap(), &own["overall"][field]);
        }
        let stage = if place == 0 { "raw" } else { "conditional" };
        for category in own["l2"].as_array().unwrap() {
            let name = format!("{} mean", category["name"].as_str().unwrap());
            near(result["metrics"][&name]["value"].as_f64().unwrap(), &category[stage]["mean"]);
        }
        let scores: Vec<(String, f64)> = samples
            .iter()
            .filter_map(|sample| {
                let score = sample["scores"][protocol]["value"].as_f64()?;
                Some((sample["id"].as_str().unwrap().to_owned(), score))
            })
            .collect();
        // `reference` drops the item of the first row.
        assert_eq!(scores.len(), if place == 0 { 44 } else { 48 });
        near(mean(&scores), &own["overall"]["mean"]);
        let reduced = &log["reductions"][place];
        check_keys("EvalSampleReductions", reduced, &[]);
        check_keys("EvalSampleScore", &reduced["samples"][0], &[]);
        assert_eq!(reduced["samples"].as_array().unwrap().len(), scores.len() / 4);
    }
    // A question that depends on another: what it counts as stands beside the answer.
    let questions = &samples[0]["metadata"]["questions"];
    assert_eq!(questions[1]["depends_on"], "1");
    assert_eq!(questions[1]["question"], "Is it so in 0?");
    let score = &samples[0]["scores"]["corrected"];
    assert_eq!(score["metadata"]["verdicts"].as_object().unwrap().len(), 4);
    let lines = score["explanation"].as_str().unwrap().lines().count();
    assert_eq!((lines, samples[5]["epoch"].as_u64()), (4, Some(2)));

    // A second export writes the same bytes; a file of somebody else stays.
    assert_eq!(inspect(&run, &out, &[]).0, 0);
    assert_eq!((files(&out).len(), std::fs::read_to_string(file).unwrap()), (1, text));
    std::fs::write(file, "notes").unwrap();
    let (code, said) = inspect(&run, &out, &[]);
    assert!(code == 2 && said.contains("--force"), "{said}");
    assert_eq!(inspect(&run, &out, &["--force"]).0, 0);
}

#[test]
fn an_image_without_answers_is_left_out_and_counted() {
    let runs = Runs::new(5);
    let (run, out) = (runs.run("run", judge(), |_| 0.7), runs.path("logs"));
    let journal = run.join("answers/made-up.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(&journal, format!("{kept}\n")).unwrap();
    let (code, said) = inspect(&run, &out, &[]);
    assert!(code == 2 && said.contains("has no score under reference"), "{said}");
    assert!(!out.exists());
    let (code, said) = inspect(&run, &out, &["--allow-incomplete"]);
    assert!(code == 3 && said.contains("1 image has no score and is left out"), "{said}");
    let log: Value =
        serde_json::from_str(&std::fs::read_to_string(&files(&out)[0]).unwrap()).unwrap();
    let samples = log["samples"].as_array().unwrap();
    assert_eq!((samples.len(), &log["results"]["total_samples"]), (19, &json!(20)));
    assert_eq!(log["results"]["completed_samples"], 19);
    assert_eq!(log["eval"]["metadata"]["coverage"]["images_expected"], 20);
    assert!(log["eval"]["metadata"]["incomplete"]["corrected"].is_string());
    // `reference` scores whole items alone: neither the last item nor that of the first row.
    let of = |protocol: &str| {
        samples.iter().filter(|sample| sample["scores"].get(protocol).is_some()).count()
    };
    assert_eq!((of("reference"), of("corrected")), (12, 19));
}

#[test]
fn files_of_lm_eval_have_its_shape_and_the_summarys_numbers() {
    let runs = Runs::new(12);
    let (run, out) = (runs.run("run", judge(), |_| 0.7), runs.path("logs"));
    let flags = ["--to", "lm-eval", "--out", out.to_str().unwrap()];
    let (code, _, said) = dpg_bench("export", &[&run], &flags);
    assert_eq!(code, Some(0), "{said}");
    let [results_file, samples_file] = &files(&out.join("not stated"))[..] else {
        panic!("two files")
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name(results_file).starts_with("results_20"), "{results_file:?}");
    assert!(name(samples_file).starts_with("samples_dpg_bench_20"), "{samples_file:?}");
    let text = std::fs::read_to_string(results_file).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    check_keys("lm_eval.EvalResults", &results, &["dpg_bench_version"]);
    check_keys("lm_eval._EvalConfig", &results["config"], &[]);
    check_keys("lm_eval._SampleCount", &results["n-samples"]["dpg_bench"], &[]);
    let summary = summary(&run, &[]);
    let group = &results["results"]["dpg_bench"];
    assert_eq!(group, &results["groups"]["dpg_bench"]);
    for protocol in ["reference", "corrected"] {
        let own = &summary[protocol];
        for (metric, field) in [("score", "mean"), ("score_stderr", "standard_error")] {
            near(group[format!("{metric},{protocol}")].as_f64().unwrap(), &own["overall"][field]);
        }
        let stage = if protocol == "reference" { "raw" } else { "conditional" };
        let color = &own["l2"].as_array().unwrap().iter();
        let color = color.clone().find(|category| category["name"] == "attribute - color").unwrap();
        let task = &results["results"]["dpg_bench_attribute_color"];
        assert_eq!(task["alias"], "color");
        near(task[format!("score,{protocol}")].as_f64().unwrap(), &color[stage]["mean"]);
    }
    // Every task hangs below the group, once.
    let below = results["group_subtasks"].as_object().unwrap();
    let listed: Vec<&Value> = below.values().flat_map(|tasks| tasks.as_array().unwrap()).collect();
    assert_eq!(listed.len() + 1, results["results"].as_object().unwrap().len(), "{below:?}");
    assert_eq!(below["dpg_bench_attribute"], json!(["dpg_bench_attribute_color"]));

    let samples: Vec<Value> = std::fs::read_to_string(samples_file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut hashes = String::new();
    let sha256 = |text: &str| -> String {
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for protocol in ["reference", "corrected"] {
        let of = samples.iter().filter(|sample| sample["filter"] == protocol);
        let mut scores = Vec::new();
        for sample in of {
            check_keys("lm_eval.SampleResult", sample, &["score"]);
            assert_eq!(sample["metrics"], json!(["score"]));
            assert_eq!(sample["target"], "yes yes yes yes");
            assert_eq!(sample["resps"].as_array().unwrap().len(), 4);
            // As lm_eval makes them.
            let doc = serde_json::to_string_pretty(&sample["doc"]).unwrap();
            assert_eq!(sample["doc_hash"], sha256(&doc));
            let prompt = sample["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap();
            assert_eq!(sample["prompt_hash"], sha256(prompt));
            for hash in ["doc_hash", "prompt_hash", "target_hash"] {
                hashes += sample[hash].as_str().unwrap();
            }
            let yes = sample["filtered_resps"].as_array().unwrap();
            let share = yes.iter().filter(|verdict| *verdict == "yes").count() as f64 / 4.0;
            assert_eq!(sample["score"], share);
            scores.push((sample["doc"]["item"].as_str().unwrap().to_owned(), share));
        }
        near(mean(&scores), &summary[protocol]["overall"]["mean"]);
    }
    assert_eq!(results["task_hashes"]["dpg_bench"], sha256(&hashes));
    let last = samples.last().unwrap();
    assert_eq!((&last["doc_id"], &last["doc"]["image"]), (&json!(47), &json!(3)));
    // A second export writes the same bytes.
    assert_eq!(dpg_bench("export", &[&run], &flags).0, Some(0));
    assert_eq!(std::fs::read_to_string(results_file).unwrap(), text);
    assert_eq!(files(&out.join("not stated")).len(), 2);
}
