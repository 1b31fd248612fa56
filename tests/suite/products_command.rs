//! Rounded products as a user asks for them: what is recorded, what is refused, and what a machine without matrix tiles
//! does instead.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn dpg_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dpg-bench")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One image in two steps, into `out`.
fn generate(out: &Path, more: &[&str]) -> Output {
    let usual = "generate --model demo-sd --benchmark demo --limit 1 --images 1 --steps 2 --device cpu --out";
    let mut arguments: Vec<&str> = usual.split_whitespace().collect();
    arguments.push(out.to_str().unwrap());
    arguments.extend(more);
    dpg_bench(&arguments)
}

fn manifest(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

/// The pixels of its only image.
fn pixels(run: &Path) -> Vec<u8> {
    let item = std::fs::read_dir(run.join("images")).unwrap().next().unwrap().unwrap().path();
    image::open(item.join("0.png")).unwrap().to_rgb8().into_raw()
}

/// What stands in a record of a stage, after making sure that it fits what was said.
fn recorded(settings: &Value, asked: &str, said: &str) -> bool {
    assert_eq!(settings["products"], asked);
    let ran = settings["products_run"].as_str().unwrap();
    let told = said.contains(&format!("products run in f32, not {asked}: "));
    assert!(["amx", "f32"].contains(&ran) && told == (ran == "f32"), "{ran}: {said}");
    ran == "amx"
}

#[test]
fn what_was_asked_for_and_what_ran_stand_in_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, rounded) = (folder.path().join("plain"), folder.path().join("rounded"));
    let output = generate(&plain, &[]);
    assert!(output.status.success() && !said(&output).contains("products"), "{}", said(&output));
    let output = generate(&rounded, &["--products", "bf16"]);
    assert!(output.status.success(), "{}", said(&output));
    let settings = manifest(&rounded)["generation"]["settings"].clone();
    let has_tiles = recorded(&settings, "bf16", &said(&output));
    let settings = manifest(&plain)["generation"]["settings"].clone();
    assert!(settings.get("products").is_none() && settings.get("products_run").is_none());
    // Without tiles it is the same image.
    assert_eq!(pixels(&plain) == pixels(&rounded), !has_tiles);
    // Products in f32 by name are the default.
    let output = generate(&plain, &["--products", "f32"]);
    assert!(output.status.success(), "{}", said(&output));

    // A run does not go on with others, whichever come first.
    for (run, more) in [
        (&rounded, &[][..]),
        (&rounded, &["--products", "bf16x3"]),
        (&plain, &["--products", "bf16"]),
    ] {
        let output = generate(run, more);
        let said = said(&output);
        assert!(output.status.code() == Some(2) && said.contains("products"), "{more:?}: {said}");
    }

    let judge = |more: &[&str]| {
        let run = rounded.to_str().unwrap();
        dpg_bench(&[&["judge", run, "--judge", "demo-judge", "--device", "cpu"], more].concat())
    };
    let output = judge(&["--products", "bf16x3"]);
    assert!(output.status.success(), "{}", said(&output));
    let settings = manifest(&rounded)["judges"]["demo-judge"]["settings"].clone();
    recorded(&settings, "bf16x3", &said(&output));
    let output = judge(&[]);
    assert!(!output.status.success() && said(&output).contains("under other settings"));
}

#[test]
fn a_model_file_may_ask_for_them_and_doctor_tells() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.toml");
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-tiny");
    let text = format!("name = \"x\"\ncheckpoint = {checkpoint:?}\nproducts = \"bf16x3\"\n");
    std::fs::write(&file, &text).unwrap();
    let doctor = |more: &[&str]| {
        let file = file.to_str().unwrap();
        let usual = ["doctor", "--json", "--quick", "--device", "cpu", "--benchmark", "demo"];
        let output = dpg_bench(&[&usual[..], &["--model-file", file], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let told = |report: &str, asked: &str| {
        let report: Value = serde_json::from_str(report).unwrap();
        report.to_string().contains(&format!("f32, not {asked}: "))
            || report.to_string().contains(&format!("{asked}, by the processor's matrix tiles"))
    };
    assert!(told(&doctor(&[]), "bf16x3"));
    // A model inside the program too.
    let usual =
        "doctor --json --quick --model demo-sd --benchmark demo --device cpu --products bf16";
    let output = dpg_bench(&usual.split_whitespace().collect::<Vec<_>>());
    assert!(told(&String::from_utf8(output.stdout).unwrap(), "bf16"));
    // A flag stands above the file.
    let report = doctor(&["--products", "bf16"]);
    assert!(told(&report, "bf16") && !told(&report, "bf16x3"));
    std::fs::write(&file, text.replace("bf16x3", "bf8")).unwrap();
    let output = dpg_bench(&["generate", "--model-file", file.to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("bf8"), "{}", said(&output));
}

#[test]
fn what_computes_nothing_here_takes_none() {
    let refused = |arguments: &str, due: &str| {
        let output = dpg_bench(&arguments.split_whitespace().collect::<Vec<_>>());
        let said = said(&output);
        assert!(output.status.code() == Some(2) && said.contains(due), "{arguments}: {said}");
    };
    refused("generate --model program --program ./nowhere --products bf16", "--products");
    refused("run --judge scripted --judge-rule yes --judge-products bf16", "--judge-products");
    refused("generate --products bf16x2", "known are `f32`, `bf16x3` and `bf16`");
}
