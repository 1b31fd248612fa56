//! `dpg-bench history`: the score against the steps of a training, on made-up runs.

use std::path::Path;

use serde_json::Value;

use super::compare::{Runs, dpg_bench, judge};

fn history(runs: &[&Path], more: &[&str]) -> Value {
    let (code, json, said) = dpg_bench("history", runs, &[&["--json"], more].concat());
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&json).unwrap()
}

/// Every change is the one that `compare` finds, and the p-values are corrected for their number.
#[test]
fn scores_stand_in_the_order_of_their_steps_and_changes_are_those_of_compare() {
    let runs = Runs::new(60);
    let steps = [(500, 0.4), (1000, 0.7), (1500, 0.7), (10_000, 0.72)];
    let paths: Vec<_> = steps
        .iter()
        .map(|(step, share)| runs.run(&format!("step-{step}"), judge(), |_| *share))
        .collect();
    let path = |place: usize| paths[place].as_path();
    // Neither the order of the arguments nor that of their names as text counts.
    let found = history(&[path(3), path(0), path(2), path(1)], &[]);
    let points = found["points"].as_array().unwrap();
    let stepped: Vec<u64> = points.iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(stepped, [500, 1000, 1500, 10_000]);
    assert!(points[0]["change"].is_null());
    let mut p_values = Vec::new();
    for (place, point) in points.iter().enumerate().skip(1) {
        let (code, json, _) = dpg_bench("compare", &[path(place - 1), path(place)], &["--json"]);
        assert_eq!(code, Some(0));
        let compared: Value = serde_json::from_str(&json).unwrap();
        let (figure, change) = (&compared[0]["figures"][0], &point["change"]);
        assert_eq!(change["difference"], figure["difference"]);
        assert_eq!(
            change["interval"],
            Value::from(vec![figure["low"].clone(), figure["high"].clone()])
        );
        assert_eq!(change["p"], figure["p"]);
        assert_eq!(point["score"], figure["other"]["percent"]);
        p_values.push(figure["p"].as_f64().unwrap());
    }
    // Holm: the smallest p-value times three; no later one is below an earlier one.
    let corrected: Vec<f64> =
        (1..4).map(|at| points[at]["change"]["p_holm"].as_f64().unwrap()).collect();
    assert_eq!(corrected[0], 3.0 * p_values[0]);
    assert!(corrected[0] < 0.05 && corrected[1] == 1.0 && corrected[2] >= p_values[2]);
    let noise: Vec<bool> =
        (1..4).map(|at| points[at]["change"]["more_than_noise"].as_bool().unwrap()).collect();
    assert_eq!(noise, [true, false, corrected[2] < 0.05]);
    assert_eq!(found["whole"]["more_than_noise"], true);
    // The interval is that of the score itself.
    let (_, json, _) = dpg_bench("score", &[path(1)], &["--json"]);
    let summary: Value = serde_json::from_str(&json).unwrap();
    let overall = &summary["corrected"]["overall"];
    let ends = Value::from(vec![overall["low"].clone(), overall["high"].clone()]);
    assert_eq!((&points[1]["interval"], &points[1]["score"]), (&ends, &overall["mean"]));

    // Baseline files do as well, and steps by a flag.
    let baseline = runs.path("first.json");
    let out = ["--out", baseline.to_str().unwrap()];
    assert_eq!(dpg_bench("baseline", &[path(0)], &out).0, Some(0));
    let again = history(&[&baseline, path(1)], &["--steps", "500,1000"]);
    assert_eq!(again["points"][1]["change"]["p"], points[1]["change"]["p"]);
    assert!(again["whole"].is_null());
}

#[test]
fn its_files_hold_the_table_and_a_chart_and_grow_with_the_training() {
    let runs = Runs::new(12);
    let paths =
        [1, 2, 3].map(|step| runs.run(&format!("s{step}"), judge(), |_| 0.5 + 0.1 * step as f64));
    let [first, second, third] = paths.each_ref().map(|path| path.as_path());
    let prefix = runs.path("history");
    let out = ["--out", prefix.to_str().unwrap()];
    let (code, table, said) = dpg_bench("history", &[first, second], &out);
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("only 12 items: below 30"), "{table}");
    // A later call with one more checkpoint replaces them.
    assert_eq!(dpg_bench("history", &[first, second, third], &out).0, Some(0));
    let csv = std::fs::read_to_string(runs.path("history.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    let markdown = std::fs::read_to_string(runs.path("history.md")).unwrap();
    assert!(markdown.contains("from the first to the last"), "{markdown}");
    let svg = std::fs::read_to_string(runs.path("history.svg")).unwrap();
    assert!(svg.contains("training step") && svg.contains("Judge: made-up"), "{svg}");
    let picture =
        image::load_from_memory(&std::fs::read(runs.path("history.png")).unwrap()).unwrap();
    assert!(picture.width() >= 760 && picture.height() > 300);
    // Files of others stay.
    std::fs::write(runs.path("history.json"), "{}").unwrap();
    let (code, _, said) = dpg_bench("history", &[first, second], &out);
    assert!(code == Some(2) && said.contains("--force"), "{said}");
}
