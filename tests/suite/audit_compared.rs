//! Labelled runs on the command line: compared with each other, judged again since, and with images that were changed.

use dpg_bench::audit::AuditSample;
use serde_json::{Value, json};

use super::audit_fixture::label;
use super::words::{Place, words};
use super::words_shown::{with_gate, with_run};

/// Writes the labels of `annotator` for the audit `audit` of a run: by the place of a question in the sample.
fn give(place: &Place, run: &str, annotator: &str, says: impl Fn(usize, &str) -> bool) {
    let folder = place.path(run).join("audits/audit");
    let sample = AuditSample::read(&folder.join("sample.json")).unwrap();
    let header =
        json!({ "format_version": "1.0", "kind": "audit labels", "sample": sample.sha256 });
    let mut text = format!("{header}\n");
    for at in 0..sample.questions.len() {
        let word = if says(at, &sample.questions[at].item) { "yes" } else { "no" };
        let record = label(&sample, at, annotator, word);
        text += &format!("{}\n", serde_json::to_string(&record).unwrap());
    }
    place.write(&format!("{run}/audits/audit/labels/{annotator}.jsonl"), text);
}

/// [`with_gate`] with 120 labels of `good` and of `near`.
fn with_labels() -> Place {
    let place = with_gate();
    for run in ["good", "near"] {
        place.quietly(&format!("audit {run} --labels-wanted 120"));
    }
    give(&place, "good", "ann", |at, _| at % 8 != 0);
    give(&place, "near", "ann", |at, _| at % 6 != 0);
    place
}

fn printed(place: &Place, line: &str, code: i32) -> Value {
    let output = place.output(line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is left out is counted, p is corrected, and what makes the runs differ is allowed or refused as it is without labels.
#[test]
fn labelled_runs_are_compared() {
    let place = with_labels();
    give(&place, "near", "ANN", |at, _| at % 6 != 0);
    words!("shown_audit_compared", place, ["compare good near --audit"]);
    let found = printed(&place, "compare good near near --audit --json", 0);
    assert_eq!(found.as_array().unwrap().len(), 2);
    let of = |name: &str| found[0][name].as_array().unwrap().clone();
    assert_eq!((&found[0]["base"], &found[0]["other"]), (&json!("good"), &json!("near")));
    assert_eq!(of("figures").len() + of("left_out").len(), 12);
    assert!(of("left_out").iter().all(|one| one["base"]["labels"].as_u64().unwrap() < 30
        || one["other"]["labels"].as_u64().unwrap() < 30));
    let told = place.transcript(&["compare good near --audit --draws 200"]);
    assert!(told.contains("cannot be used with '--draws <N>'"), "{told}");

    // Two images an item.
    let import = "import --images pictures --benchmark demo --model painter";
    for entry in std::fs::read_dir(place.path("pictures")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".png").unwrap();
        for image in 0..2 {
            place.picture(&format!("twice/{stem}_{image}.png"), 8, 8, 40 + image);
        }
    }
    place.quietly(&format!(
        "{} --images-per-item 2 --out two",
        import.replace("--images pictures", "--images twice")
    ));
    place.quietly("judge two --judge scripted --judge-rule hash:0.5");
    // A part of the items, and another benchmark.
    place.quietly(&format!("{import} --images-per-item 1 --limit 60 --out part"));
    place.quietly("judge part --judge scripted --judge-rule hash:0.9");
    let questions = include_str!("../../benchmark/demo/dpg_bench.csv");
    place.write("other.csv", questions.replacen("Is there", "Can you see", 1));
    place.quietly("import --images pictures --images-per-item 1 --benchmark other.csv --out other");
    place.quietly("judge other --judge scripted --judge-rule hash:0.9");
    for run in ["two", "part", "other"] {
        place.quietly(&format!("audit {run} --labels-wanted 120"));
        give(&place, run, "ann", |at, _| at % 8 != 0);
    }
    words!(
        "refused_audit_compared",
        place,
        ["compare good two --audit", "compare good other --audit --allow images"]
    );
    for (line, note) in [
        ("compare good two --audit --allow images", "good has 1 image an item and two 2"),
        ("compare good other --audit --allow benchmark", "whose questions are not the same"),
        ("compare good part --audit", "good has 12 items that the other has not"),
        // Labels correct another judge as well.
        ("compare good two --audit --allow images", "labels correct both towards what people say"),
    ] {
        let told = place.transcript(&[line]);
        assert!(told.contains("exit code 0") && told.contains(note), "{told}");
    }
}

/// Whoever comes back to an audit of answers that are there no more hears that first, whatever they ask for.
#[test]
fn a_run_that_was_judged_again_is_told_before_anything_else() {
    let place = with_run();
    place.quietly("audit run --judge yes --labels-wanted 8");
    give(&place, "run", "ann", |at, _| at % 2 == 0);
    std::fs::remove_file(place.path("run/answers/yes.jsonl")).unwrap();
    place.quietly("judge run --judge scripted --judge-rule yes --judge-name yes");
    place.quietly("audit run --judge yes --labels-wanted 8");
    place.replace("run/answers/yes.jsonl", "\"yes\"", "\"no\"");
    words!(
        "refused_audit_judged_again",
        place,
        [
            "audit run --judge yes --labels-wanted 8",
            "audit run --judge yes --labels-wanted 9 --seed 4",
            "audit run --labels",
            "audit run --serve",
            "compare run run --audit",
        ]
    );
}

/// An image that was changed under its labels is refused, as `judge` refuses it; one that is gone is counted.
#[test]
fn a_changed_image_whose_labels_count_is_refused() {
    let place = with_labels();
    let sample = AuditSample::read(&place.path("good/audits/audit/sample.json")).unwrap();
    let asked = &sample.questions[0];
    let path = format!("good/images/{}/{}.png", asked.item, asked.image);
    let masks: &[(&str, &str)] = &[("[IMAGE]", r"good/images/\S+\.png\b")];
    let lines = ["audit good --labels", "compare near good --audit"];
    let before = std::fs::read(place.path(&path)).unwrap();
    place.picture(&path, 8, 8, 200);
    words!("refused_audit_changed", place, masks: masks, [lines[0], lines[1]]);
    place.write(&path, b"no image");
    words!("refused_audit_damaged", place, masks: masks, ["audit good --labels"]);
    // The same pixels in another file are the same image.
    let pixels = image::load_from_memory(&before).unwrap().to_rgb8();
    pixels.save(place.path(&path)).unwrap();
    let told = place.transcript(&["audit good --labels"]);
    assert!(told.contains("exit code 0") && !told.contains("warning"), "{told}");
    std::fs::remove_file(place.path(&path)).unwrap();
    let told = place.transcript(&lines);
    let images = sample.images();
    let sentence = format!("1 of the {images} labelled images are not on the disk");
    assert_eq!(told.matches(&sentence).count(), 2, "{told}");
    // Nobody labelled an image that is not asked about.
    let is_asked = |item: &str| sample.questions.iter().any(|asked| asked.item == item);
    let other = std::fs::read_dir(place.path("good/images")).unwrap();
    let mut names = other.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    if let Some(name) = names.find(|name| !is_asked(name)) {
        place.write(&path, &before);
        place.picture(&format!("good/images/{name}/0.png"), 8, 8, 200);
        let told = place.transcript(&["audit good --labels"]);
        assert!(told.contains("exit code 0") && !told.contains("warning"), "{told}");
    }
}
