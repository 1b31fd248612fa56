//! `validate`, `show` and `import` as a user runs them: exit status, stdout and stderr.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::tiny_checkpoint::fixture;

fn dpg_bench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Twelve items about everyday scenes, with questions of all categories.
pub fn natural() -> PathBuf {
    fixture("natural")
}

#[test]
fn the_demo_is_clean_and_its_questions_are_of_all_five_broad_categories() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmark/demo");
    let output = dpg_bench(folder.path(), &["validate", &demo.display().to_string(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["oddity_counts"], serde_json::json!({}));
    let items = json["items"].as_u64().unwrap();
    assert!(items >= 60, "{items} items");
    let questions = json["questions"].as_u64().unwrap();
    assert!(questions >= 10 * items && questions <= 16 * items, "{questions} questions");
    let broad = json["categories"].as_array().unwrap().iter().filter(|row| row["l2"].is_null());
    assert_eq!(broad.count(), 5);
    // Each item has its true picture.
    let pictures = std::fs::read_dir(demo.join("true")).unwrap();
    assert_eq!(pictures.count() as u64, items);
}

#[test]
fn validate_says_yes_no_or_cannot_tell() {
    let folder = tempfile::tempdir().unwrap();
    let natural = natural().display().to_string();
    let good = dpg_bench(folder.path(), &["validate", &natural]);
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    let text = stdout(&good);
    for part in [
        "items          12\n",
        "not the official question file",
        "  relation - non-spatial  ",
        "share",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let json: Value =
        serde_json::from_slice(&dpg_bench(folder.path(), &["validate", &natural, "--json"]).stdout)
            .unwrap();
    // All five L1 names and all thirteen L2 names of the reference table.
    assert_eq!(json["categories"].as_array().unwrap().len(), 5 + 13);
    assert!(json["oddity_counts"].get("L2 names outside the 13 of the reference table").is_none());
    let shares: f64 = json["categories"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|category| category["l2"].is_null())
        .map(|category| category["share"].as_f64().unwrap())
        .sum();
    assert!((shares - 1.0).abs() < 1e-12);

    let file = folder.path().join("bad.csv");
    let row = "item_id,text,proposition_id,dependency,tuple,question_natural_language\na,p,1,9,e - w (x),Q?\n";
    std::fs::write(&file, row).unwrap();
    let bad = dpg_bench(folder.path(), &["validate", "bad.csv"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stdout(&bad).contains("row 1 (line 2), item `a`, dependency `9`"), "{}", stdout(&bad));
    assert!(stdout(&bad).contains("--lenient"));
    let json: Value = serde_json::from_slice(
        &dpg_bench(folder.path(), &["validate", "bad.csv", "--json"]).stdout,
    )
    .unwrap();
    assert_eq!(
        (&json["valid"], &json["problems"][0]["kind"]),
        (&Value::from(false), &Value::from("missing_parent"))
    );
    let lenient = dpg_bench(folder.path(), &["validate", "bad.csv", "--lenient"]);
    assert_eq!(lenient.status.code(), Some(0));
    assert!(stdout(&lenient).contains("parents that do not exist (edge ignored): 1\n    row 1\n"));

    // A question that depends on itself is odd and no error, but for those who ask for all that is odd.
    std::fs::write(&file, row.replace(",9,", ",1,")).unwrap();
    assert_eq!(dpg_bench(folder.path(), &["validate", "bad.csv"]).status.code(), Some(0));
    let strict = dpg_bench(folder.path(), &["validate", "bad.csv", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let said = "row 1 (line 2), item `a`, dependency `1`: question 1 depends on itself";
    assert!(stdout(&strict).contains(said), "{}", stdout(&strict));

    let absent = dpg_bench(folder.path(), &["validate", "nothing"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(stderr(&absent).starts_with("error: cannot read nothing: "), "{}", stderr(&absent));
}

#[test]
fn show_prints_a_tree_graphviz_text_or_json() {
    let folder = tempfile::tempdir().unwrap();
    let natural = natural().display().to_string();
    let show = |more: &[&str]| {
        dpg_bench(folder.path(), &[&["show", "--benchmark", &natural], more].concat())
    };
    let shown = show(&["harbour_dawn"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(text.starts_with("harbour_dawn (77 words, 14 questions)\n\nAn oil painting"), "{text}");
    assert!(text.contains(
        "2 Are there boats? (entity - whole)\n├── 3 Are there four boats? (other - count)\n"
    ));
    assert!(text.contains("├── -> 5 (see under 2)\n"), "{text}");
    let dot = stdout(&show(&["harbour_dawn", "--dot"]));
    assert!(
        dot.starts_with("digraph \"harbour_dawn\" {") && dot.contains("  q6 -> q5;\n"),
        "{dot}"
    );
    let json = show(&["harbour_dawn", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["questions"][4]["parents"], serde_json::json!([2, 6]));
    let unknown = show(&["harbor_dawn"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("near it: harbour_dawn"), "{}", stderr(&unknown));
}

#[test]
fn import_reports_what_is_missing_and_ends_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("grids");
    std::fs::create_dir(&images).unwrap();
    for item in ["bakery_window", "harbour_dawn"] {
        image::RgbImage::new(8, 8).save(images.join(format!("{item}.png"))).unwrap();
    }
    let natural = natural().display().to_string();
    let import = |more: &[&str]| {
        let mut arguments = vec!["import", "--images", "grids", "--json", "--benchmark", &natural];
        arguments.extend(more);
        dpg_bench(folder.path(), &arguments)
    };
    let whole =
        import(&["--items", "bakery_window,harbour_dawn", "--out", "whole", "--resolution", "4"]);
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    let json: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((&json["imported"], &json["grid"]), (&Value::from(8), &Value::from(true)));
    assert!(folder.path().join("whole/images/harbour_dawn/3.png").is_file());

    let part = import(&["--limit", "3"]);
    assert_eq!(part.status.code(), Some(3), "{}", stderr(&part));
    let json: Value = serde_json::from_slice(&part.stdout).unwrap();
    assert_eq!(json["run"], Path::new("results").join("grids").display().to_string());
    assert_eq!(json["missing"].as_array().unwrap().len(), 4);

    let wrong = import(&["--out", "wrong", "--resolution", "512"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("nothing is cropped"), "{}", stderr(&wrong));
    assert!(!folder.path().join("wrong").exists());
}
