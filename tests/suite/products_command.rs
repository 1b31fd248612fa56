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

/// Replaces what ran in the settings that `stage` finds in a run's manifest, as if another machine had begun. Returns what
/// stood there, and what does now.
fn begun_elsewhere(run: &Path, stage: impl Fn(&mut Value) -> &mut Value) -> (String, String) {
    let mut manifest = manifest(run);
    let ran = &mut stage(&mut manifest)["settings"]["products_run"];
    let here = ran.as_str().unwrap().to_owned();
    let elsewhere = if here == "amx" { "f32" } else { "amx" }.to_owned();
    *ran = elsewhere.clone().into();
    std::fs::write(run.join("manifest.json"), manifest.to_string()).unwrap();
    (here, elsewhere)
}

/// What a sitting says of its products.
fn of_sitting(stage: &Value, sitting: usize) -> [&str; 2] {
    let products = &stage["sittings"][sitting]["products"];
    ["asked", "ran"].map(|key| products[key].as_str().unwrap())
}

fn ended(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
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

const ALLOW: &str = "--allow-other-products";

#[test]
fn a_run_goes_on_where_products_run_otherwise_if_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let path = run.to_str().unwrap();
    let generate = |limit: &str, more: &[&str]| {
        let usual = "generate --model demo-sd --benchmark demo --images 1 --steps 2 --device cpu --products bf16";
        let usual: Vec<&str> = usual.split_whitespace().collect();
        dpg_bench(&[&usual[..], &["--out", path, "--limit", limit], more].concat())
    };
    ended(&generate("1", &[]), 0);
    let (here, elsewhere) = begun_elsewhere(&run, |manifest| &mut manifest["generation"]);
    let difference = format!("products_run: \"{elsewhere}\" in the run, \"{here}\" now");
    let refused = ended(&generate("2", &[]), 2);
    assert!(refused.contains(&difference) && refused.contains(ALLOW), "{refused}");
    // Anything else stays a difference.
    let refused = ended(&generate("2", &[ALLOW, "--seed", "5"]), 2);
    assert!(refused.contains("seed: 0 in the run, 5 now") && !refused.contains(ALLOW), "{refused}");

    ended(&generate("2", &[ALLOW]), 0);
    let generation = manifest(&run)["generation"].clone();
    assert_eq!(generation["settings"]["products_run"], "amx, f32");
    assert_eq!(generation["settings"]["products"], "bf16");
    assert_eq!(of_sitting(&generation, 0), ["bf16", &elsewhere]);
    assert_eq!(of_sitting(&generation, 1), ["bf16", &here]);
    assert_eq!(generation["sittings"][1]["images_done"], 1);
    assert!(ended(&generate("2", &[]), 2).contains(ALLOW));

    let judge = |more: &[&str]| {
        let usual = ["judge", path, "--judge", "demo-judge", "--device", "cpu"];
        dpg_bench(&[&usual[..], more].concat())
    };
    ended(&judge(&["--products", "bf16x3"]), 0);
    let (_, elsewhere) = begun_elsewhere(&run, |manifest| &mut manifest["judges"]["demo-judge"]);
    let refused = ended(&judge(&["--products", "bf16x3"]), 2);
    assert!(refused.contains("under other settings") && refused.contains(ALLOW), "{refused}");
    ended(&judge(&["--products", "f32", ALLOW]), 0);
    let judge = manifest(&run)["judges"]["demo-judge"].clone();
    assert_eq!(judge["settings"]["products"], "bf16x3, f32");
    assert_eq!(of_sitting(&judge, 0), ["bf16x3", &elsewhere]);
    assert_eq!(of_sitting(&judge, 1), ["f32", "f32"]);
}

#[test]
fn shards_of_machines_that_differ_are_joined_if_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let path = run.to_str().unwrap();
    let shard = |shard: &str, more: &[&str]| {
        let usual =
            "generate --model demo-sd --benchmark demo --limit 2 --images 1 --steps 2 --device cpu";
        let usual: Vec<&str> = usual.split_whitespace().collect();
        let own = ["--products", "bf16", "--out", path, "--shard", shard];
        dpg_bench(&[&usual[..], &own, more].concat())
    };
    let merge = |more: &[&str]| dpg_bench(&[&["merge", path], more].concat());
    ended(&shard("0/2", &[]), 0);
    let first = run.join("shards/0-of-2");
    let (here, elsewhere) = begun_elsewhere(&first, |manifest| &mut manifest["generation"]);
    assert!(ended(&shard("1/2", &[]), 2).contains(ALLOW));
    ended(&shard("1/2", &[ALLOW]), 0);
    let refused = ended(&merge(&[]), 2);
    assert!(refused.contains("products_run") && refused.contains(ALLOW), "{refused}");
    // Twice is no other than once.
    for _ in 0..2 {
        ended(&merge(&[ALLOW]), 0);
        let generation = manifest(&run)["generation"].clone();
        assert_eq!(generation["settings"]["products_run"], "amx, f32");
        assert_eq!(generation["sittings"].as_array().unwrap().len(), 2);
        for (sitting, ran) in [(0, &elsewhere), (1, &here)] {
            let from = &generation["sittings"][sitting]["merged_from"];
            assert_eq!(*from, format!("{sitting}-of-2"));
            assert_eq!(of_sitting(&generation, sitting), ["bf16", ran]);
        }
    }
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
