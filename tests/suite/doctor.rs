//! `dpg-bench doctor`: what it finds, what it says to do about it, and what it says a run costs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::addons::single_file;
use super::file_server::{FileServer, Repository};
use super::tiny_checkpoint::{VAE_FILE, copy_of, fixture};

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite over a house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
kite,A red kite over a house,,2,1,attribute,color,\"attribute - color (kite, red)\",Is the kite red?
kite,A red kite over a house,,3,0,entity,whole,entity - whole (house),Is there a house?
cat,A small cat,,1,0,entity,whole,entity - whole (cat),Is there a cat?
";

/// A folder with a benchmark, and the caches below it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("items.csv"), QUESTIONS).unwrap();
        Self(folder)
    }

    fn run(&self, server: &str, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE"] {
            command.env_remove(name);
        }
        let Output { status, stdout, stderr } = command
            .args(arguments)
            .current_dir(self.0.path())
            .env("HF_HOME", self.0.path().join("hf"))
            .env("MODELSCOPE_CACHE", self.0.path().join("scope"))
            .env("HF_ENDPOINT", server)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status.code().unwrap(), text(&stdout), text(&stderr))
    }

    /// Of `doctor --json` with these flags; its exit status is held against its own verdict.
    fn doctor(&self, arguments: &[&str]) -> Value {
        let arguments = [&["doctor", "--json", "--device", "cpu"], arguments].concat();
        let (status, stdout, stderr) = self.run("http://127.0.0.1:1", &arguments);
        let report: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        assert_eq!(status, i32::from(report["fine"] == false), "{stdout}");
        report
    }
}

/// What the checks called `name` found, in their states.
fn found(report: &Value, name: &str, state: &str) -> String {
    let checks = report["checks"].as_array().unwrap().iter();
    let ours = checks.filter(|check| check["name"] == name && check["state"] == state);
    let texts: Vec<String> =
        ours.map(|check| format!("{} -> {}", check["found"], check["advice"])).collect();
    texts.join("\n")
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_run_that_can_be_made_is_measured() {
    let place = Place::new();
    let (model, judge) = (fixture("sd15-tiny"), fixture("blip-vqa-tiny"));
    let report = place.doctor(&[
        "--model",
        "sd15",
        "--weights",
        path(&model),
        "--width",
        "64",
        "--height",
        "48",
        "--steps",
        "7",
        "--images",
        "3",
        "--judge",
        "blip-vqa",
        "--judge-weights",
        path(&judge),
        "--benchmark",
        "items.csv",
        "--limit",
        "1",
    ]);
    assert_eq!(report["fine"], true, "{report:#}");
    assert!(found(&report, "model", "fine").contains("3 weight files"), "{report:#}");
    assert!(found(&report, "benchmark", "note").contains("fetch benchmark"), "{report:#}");
    let cost = &report["cost"];
    let counts = &cost["counts"];
    assert_eq!(
        (&counts["items"], &counts["images"], &counts["answers"]),
        (&1.into(), &3.into(), &9.into())
    );
    let number = |value: &Value| value.as_f64().unwrap();
    let mut sum = 0.0;
    for stage in cost["stages"].as_array().unwrap() {
        assert_eq!(stage["basis"], "measured", "{stage:#}");
        let due = number(&stage["per_item"])
            + 3.0 * number(&stage["per_image"])
            + 9.0 * number(&stage["per_answer"]);
        assert!(due > 0.0 && (number(&stage["seconds"]) - due).abs() < 1e-9 * due, "{stage:#}");
        sum += due;
    }
    assert!((number(&cost["seconds"]) - sum).abs() < 1e-9 * sum);
    let how = cost["stages"][0]["how"].as_str().unwrap();
    // PNDM asks the network once more than it has steps.
    assert!(how.starts_with("64 x 48, 8 calls of"), "{how}");
    // 1.6 bytes a pixel, 500 an image, 130 an answer.
    assert_eq!(cost["disk_bytes"], (3.0 * (64.0 * 48.0 * 1.6 + 500.0) + 9.0 * 130.0) as u64);
    let whole = &report["cost_of_all"];
    assert_eq!((&whole["benchmark"], &whole["counts"]["images"]), (&"items.csv".into(), &6.into()));
    assert!(number(&whole["seconds"]) > number(&cost["seconds"]));
    // Nothing was written.
    assert!(!place.0.path().join("results").exists());
}

/// A judge that works while pictures are made takes no time of its own; one on the model's device does.
#[test]
fn judges_beside_the_model_do_not_add_up() {
    let place = Place::new();
    let (model, judge) = (fixture("sd15-tiny"), fixture("blip-vqa-tiny"));
    let line = "--model sd15 --width 32 --height 32 --steps 2 --judge blip-vqa,scripted --judge-rule yes \
                --benchmark items.csv --weights";
    let told = |more: &[&str]| -> (Vec<bool>, [f64; 2]) {
        let arguments: Vec<&str> = line.split_whitespace().chain([path(&model)]).collect();
        let judge = ["--judge-weights", path(&judge)];
        let report = place.doctor(&[&arguments[..], &judge, more].concat());
        let cost = &report["cost"];
        let stages = cost["stages"].as_array().unwrap();
        let seconds: Vec<f64> =
            stages.iter().map(|stage| stage["seconds"].as_f64().unwrap()).collect();
        let beside: Vec<bool> =
            stages.iter().map(|stage| stage["beside"].as_bool().unwrap()).collect();
        let mut due = [seconds[0], 0.0];
        for (seconds, beside) in seconds.iter().zip(&beside).skip(1) {
            if *beside { due[0] = due[0].max(*seconds) } else { due[1] += seconds }
        }
        (beside, [due.iter().sum(), cost["seconds"].as_f64().unwrap()])
    };
    for (more, expected) in [
        (&[][..], [false, false, true]),
        (&["--judge-while-generating", "off"], [false, false, false]),
        // It would take its time from the model.
        (&["--judge-while-generating", "on"], [false, false, true]),
    ] {
        let (beside, [due, found]) = told(more);
        assert_eq!(beside, expected, "{more:?}");
        assert!((found - due).abs() < 1e-9 * due, "{more:?}: {found} for {due}");
    }
}

#[test]
fn what_is_missing_is_told_with_the_command_that_gets_it() {
    let place = Place::new();
    let report =
        place.doctor(&["--model", "ella-sd15", "--judge", "mplug", "--benchmark", "items.csv"]);
    assert_eq!(report["fine"], false);
    let model = found(&report, "model", "problem");
    assert!(model.contains("`dpg-bench fetch ella-sd15` gets it"), "{report:#}");
    assert!(found(&report, "judge", "problem").contains("`dpg-bench fetch mplug` gets it"));
    let stages = report["cost"]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    for stage in stages {
        assert_eq!(stage["basis"], "estimate", "{stage:#}");
        assert!(stage["seconds"].as_f64().unwrap() > 0.1, "{stage:#}");
    }

    let report = place.doctor(&["--model", "sd15", "--quick"]);
    assert!(found(&report, "judge", "problem").contains("--judge mplug"), "{report:#}");
    let report = place.doctor(&["--benchmark", "nowhere.csv"]);
    assert!(found(&report, "benchmark", "problem").contains("name a question file"), "{report:#}");
    assert_eq!(report["cost"], Value::Null);
    let report = place.doctor(&["--items", "nobody"]);
    assert!(found(&report, "items", "problem").contains("nobody"), "{report:#}");
}

#[test]
fn an_endpoint_is_not_asked_and_hides_the_sum() {
    let place = Place::new();
    let report = place.doctor(&[
        "--judge",
        "endpoint",
        "--judge-url",
        "http://127.0.0.1:1",
        "--judge-model",
        "m",
        "--judge-key-env",
        "",
        "--benchmark",
        "items.csv",
        "--images",
        "1",
    ]);
    assert_eq!(report["fine"], true, "{report:#}");
    assert_eq!(report["cost"]["stages"][1]["basis"], "unknown");
    assert_eq!(report["cost"]["seconds"], Value::Null);
}

#[test]
fn a_truncated_weight_file_is_a_problem() {
    let place = Place::new();
    let copy = copy_of("sd15-tiny");
    let vae = copy.path().join(VAE_FILE);
    let bytes = std::fs::read(&vae).unwrap();
    std::fs::write(&vae, &bytes[..bytes.len() - 100]).unwrap();
    let arguments = [
        "--model",
        "sd15",
        "--weights",
        path(copy.path()),
        "--judge",
        "scripted",
        "--judge-rule",
        "yes",
        "--benchmark",
        "items.csv",
    ];
    let report = place.doctor(&arguments);
    let told = found(&report, "model", "problem");
    assert!(told.contains("truncated") && told.contains("vae"), "{report:#}");
    // Its networks were not tried, and nobody published such small ones.
    assert_eq!(report["cost"]["stages"][0]["basis"], "unknown");
}

#[test]
fn a_lora_that_is_not_there_is_a_problem_of_a_quick_look_too() {
    let place = Place::new();
    let copy = copy_of("sd15-tiny");
    let arguments = [
        "--model",
        "sd15",
        "--weights",
        path(copy.path()),
        "--lora",
        "nothere.safetensors",
        "--quick",
    ];
    let more = ["--judge", "scripted", "--judge-rule", "yes", "--benchmark", "items.csv"];
    let report = place.doctor(&[&arguments[..], &more].concat());
    let told = found(&report, "model", "problem");
    assert!(told.contains("nothere.safetensors"), "{report:#}");
}

#[test]
fn a_single_file_without_configurations_is_a_problem_of_a_quick_look_too() {
    let place = Place::new();
    let single = single_file(place.0.path(), |_| ()).checkpoint;
    let arguments = ["--model", "sd15", "--weights", path(&single), "--quick", "--judge"];
    let more = ["scripted", "--judge-rule", "yes", "--benchmark", "items.csv"];
    let told =
        |more: &[&str]| found(&place.doctor(&[&arguments[..], more].concat()), "model", "problem");
    let without = told(&more);
    assert!(without.contains("add --tokenizer DIR") && without.contains("--base DIR"), "{without}");
    let base = fixture("sd15-tiny");
    assert_eq!(told(&[&more[..], &["--base", path(&base)]].concat()), "");
}

/// Bytes that changed behind a sound header are found by reading everything, and not otherwise.
#[test]
fn verify_reads_every_byte_of_what_was_fetched() {
    let place = Place::new();
    let commit = "462165984030d82259a11f4367a4eed129e94a7b";
    let repository = Repository::new("stabilityai/stable-diffusion-xl-base-1.0", commit);
    let server = FileServer::good(repository.folder(&fixture("sdxl-tiny")));
    let (status, _, stderr) = place.run(&server.server.origin(), &["fetch", "sdxl"]);
    assert_eq!(status, 0, "{stderr}");
    let arguments = [
        "--model",
        "sdxl",
        "--judge",
        "scripted",
        "--judge-rule",
        "yes",
        "--width",
        "32",
        "--height",
        "32",
        "--steps",
        "1",
        "--benchmark",
        "items.csv",
        "--verify",
    ];
    let report = place.doctor(&arguments);
    assert_eq!(report["fine"], true, "{report:#}");
    assert!(found(&report, "digests", "fine").contains("every byte"), "{report:#}");
    let shown: PathBuf = place.0.path().join("hf/hub").join(format!(
        "models--stabilityai--stable-diffusion-xl-base-1.0/snapshots/{commit}/{VAE_FILE}"
    ));
    let mut bytes = std::fs::read(&shown).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&shown, bytes).unwrap();
    let report = place.doctor(&arguments[..arguments.len() - 1]);
    assert_eq!(report["fine"], true, "{report:#}");
    let report = place.doctor(&arguments);
    let told = found(&report, "digests", "problem");
    assert!(told.contains(VAE_FILE) && told.contains("fetch sdxl --verify"), "{report:#}");
}

#[test]
fn the_shipped_run_is_told_in_words() {
    let place = Place::new();
    let (status, stdout, _) = place.run("http://127.0.0.1:1", &["doctor", "--device", "cpu"]);
    assert_eq!(status, 0, "{stdout}");
    for words in
        ["ok       device", "; inside the program", "This run", "measured:", "Nothing stands"]
    {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
}

/// What more than this run is told of is the rest of its own benchmark.
#[test]
fn the_whole_of_the_benchmark_that_would_run_is_told_where_a_run_is_a_part_of_it() {
    let place = Place::new();
    let all = |more: &[&str]| {
        let all = place.doctor(&[&["--quick"], more].concat())["cost_of_all"].clone();
        (all["benchmark"].as_str().map(str::to_owned), all["counts"]["items"].as_u64())
    };
    let named = |name: &str, items| (Some(name.to_owned()), Some(items));
    assert_eq!(all(&[]), (None, None));
    assert_eq!(all(&["--limit", "2"]), named("the demo", 72));
    let own = ["--model", "sd15", "--benchmark", "items.csv"];
    assert_eq!(all(&own), (None, None));
    assert_eq!(all(&[&own[..], &["--limit", "1"]].concat()), named("items.csv", 2));
    // No benchmark is here yet; it will be the official one, but for the demo's models.
    assert_eq!(all(&["--model", "sd15"]), named("DPG-Bench", 1065));
    assert_eq!(all(&["--benchmark", "nowhere.csv"]), (None, None));
}

/// An image of the demo has 64 x 64 pixels, some 6.6 kB; one of 512 x 512 would have 419 kB.
#[test]
fn the_room_of_the_demo_is_that_of_its_small_images() {
    let place = Place::new();
    let cost = place.doctor(&["--quick"])["cost"].clone();
    let count = |what: &str| cost["counts"][what].as_u64().unwrap();
    let due = count("images") * (4096 * 16 + 5000) / 10 + count("answers") * 130;
    assert_eq!(cost["disk_bytes"], due, "{cost}");
}

/// A file system without a free byte.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_problem() {
    let place = Place::new();
    let report = place.doctor(&["--quick", "--out", "/proc/dpg-bench-run"]);
    let told = found(&report, "disk", "problem");
    assert!(told.contains("--out"), "{report:#}");
}

/// Before anything is fetched, each model's time and memory are estimates of its published networks; a folder says which ones.
#[test]
fn every_model_has_an_estimate_of_time_and_memory_before_it_is_fetched() {
    let place = Place::new();
    let memory = |report: &Value| {
        let all = ["fine", "note", "problem"].map(|state| found(report, "memory", state));
        all.join("\n")
    };
    let estimate = |arguments: &[&str]| {
        let usual = ["--quick", "--benchmark", "items.csv", "--judge", "blip-vqa"];
        let report = place.doctor(&[&usual[..], arguments].concat());
        let stage = report["cost"]["stages"][0].clone();
        assert_eq!(stage["basis"], "estimate", "{stage:#}");
        assert!(stage["seconds"].as_f64().unwrap() > 0.0, "{stage:#}");
        (stage["how"].as_str().unwrap().to_owned(), memory(&report))
    };
    for (model, title, work, takes) in [
        ("sd2", "Stable Diffusion 2.1, 768 x 768", "50 steps of 4.30 TFLOP", "5.02 GB as f32"),
        ("sd3", "Stable Diffusion 3.5 medium", "28 steps of 22.50 TFLOP", "32.39 GB as f32"),
        ("flux", "FLUX.1 dev, 1024 x 1024", "28 steps of 74.38 TFLOP", "67.35 GB as f32"),
    ] {
        let (how, memory) = estimate(&["--model", model]);
        assert!(how.contains(title) && how.contains(work), "{how}");
        let published = format!("the published weights of {}", title.split(',').next().unwrap());
        assert!(memory.contains(&published) && memory.contains(takes), "{memory}");
    }
    let (how, memory) = estimate(&["--model", "sd3", "--guidance", "1", "--dtype", "bf16"]);
    assert!(how.contains("28 steps of 11.25 TFLOP"), "{how}");
    assert!(memory.contains("16.20 GB as bf16"), "{memory}");
    let folder = place.0.path().join("known/transformer");
    std::fs::create_dir_all(&folder).unwrap();
    for (model, config, title) in [
        ("sd3", r#"{"num_layers": 38, "qk_norm": "rms_norm"}"#, "of Stable Diffusion 3.5 large,"),
        ("flux", r#"{"num_layers": 19, "num_single_layers": 38}"#, "of FLUX.1 schnell, 1024"),
    ] {
        std::fs::write(folder.join("config.json"), config).unwrap();
        let (how, memory) = estimate(&["--model", model, "--weights", "known"]);
        assert!(how.contains(title), "{how}");
        assert!(memory.contains("the published weights of"), "{memory}");
    }
}
