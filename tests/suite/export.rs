//! `dpg-bench export`: scores in the form of other tools.

use saphyr::{LoadableYamlNode, Yaml};

use super::compare::{Runs, dpg_bench, judge};

#[test]
fn an_event_file_holds_every_number_and_is_the_same_a_second_time() {
    let runs = Runs::new(12);
    let run = runs.run("step-2000", judge(), |_| 0.7);
    let logs = runs.path("logs");
    let flags = ["--to", "tensorboard", "--step", "2000", "--out", logs.to_str().unwrap()];
    let (code, _, said) = dpg_bench("export", &[&run], &flags);
    assert_eq!(code, Some(0), "{said}");
    let file = logs.join("events.out.tfevents.000000002000.made-up.dpg-bench");
    let bytes = std::fs::read(&file).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    for tag in [
        "brain.Event:2",
        "dpg_bench_corrected/overall",
        "dpg_bench_corrected/overall high",
        "dpg_bench_reference/attribute - color",
    ] {
        assert!(holds(tag), "{tag}");
    }
    assert_eq!(dpg_bench("export", &[&run], &flags).0, Some(0));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // The score stands there as a float, right after its tag.
    let (_, json, _) = dpg_bench("score", &[&run], &["--json"]);
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    let score = summary["corrected"]["overall"]["mean"].as_f64().unwrap() as f32;
    let value = [b"dpg_bench_corrected/overall\x15".as_slice(), &score.to_le_bytes()].concat();
    assert!(bytes.windows(value.len()).any(|part| part == value));
    // A file of somebody else stays.
    std::fs::write(&file, "notes").unwrap();
    let (code, _, said) = dpg_bench("export", &[&run], &flags);
    assert!(code == Some(2) && said.contains("--force"), "{said}");
}

#[test]
fn the_files_for_the_hub_are_yaml_with_what_it_demands() {
    let runs = Runs::new(12);
    let run = runs.run("run", judge(), |_| 0.7);
    let (_, json, _) = dpg_bench("score", &[&run], &["--json"]);
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    let score =
        |protocol: &str| format!("{:.2}", summary[protocol]["overall"]["mean"].as_f64().unwrap());
    let export = |flags: &[&str]| {
        let (code, text, said) = dpg_bench("export", &[&run], flags);
        assert_eq!(code, Some(0), "{said}");
        text
    };
    let card = ["--dataset", "me/dpg: bench", "--source-url", "https://example.org/#a"];
    let text = export(&[&["--to", "hugging-face", "--protocol", "reference"], &card[..]].concat());
    let found = &Yaml::load_from_str(&text).unwrap()[0][0];
    assert_eq!(found["dataset"]["id"].as_str(), Some("me/dpg: bench"), "{text}");
    assert_eq!(found["dataset"]["task_id"].as_str(), Some("overall"));
    assert_eq!(found["value"].as_floating_point(), score("reference").parse().ok());
    assert_eq!(found["source"]["url"].as_str(), Some("https://example.org/#a"));
    assert_eq!(found["date"].as_str().map(str::len), Some(10));
    // `reference` drops the item of the first row.
    let notes = found["notes"].as_str().unwrap();
    for word in ["judge made-up", "protocol reference", "11 prompts", "4 images a prompt"] {
        assert!(notes.contains(word), "{notes}");
    }
    let text = export(&[&["--to", "model-index"], &card[..]].concat());
    let found = &Yaml::load_from_str(&text).unwrap()[0]["model-index"][0];
    let result = &found["results"][0];
    assert_eq!(result["task"]["type"].as_str(), Some("text-to-image"), "{text}");
    assert_eq!(result["metrics"][0]["value"].as_floating_point(), score("corrected").parse().ok());
    assert_eq!(result["metrics"][0]["name"].as_str(), Some("DPG-Bench score (corrected)"));
}
