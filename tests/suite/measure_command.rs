//! `dpg-bench measure`: its record, what `doctor` makes of one, and the devices that it refuses.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_dpg-bench")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_record_has_every_part_and_is_printed_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/measured.json");
    let shown = path.to_str().unwrap();
    let (status, stdout, stderr) = run(&[
        "measure",
        "--device",
        "cpu",
        "--tiny",
        "--steps",
        "1",
        "--latents",
        "8",
        "--repeats",
        "1",
        "--batch",
        "2",
        "--model",
        "sd15,sdxl,sd3,flux,pixart-sigma,lcm",
        "--network",
        "clip,vae,flux",
        "--json",
        "--out",
        shown,
    ]);
    assert_eq!(status, 0, "{stderr}");
    let record = read(&path);
    assert_eq!(record, serde_json::from_str::<Value>(&stdout).unwrap());
    assert_eq!(record["full_size"], false);
    assert_eq!(record["format_version"], "1.1");
    let names = |part: &str, key: &str| -> Vec<Value> {
        record[part].as_array().unwrap().iter().map(|entry| entry[key].clone()).collect()
    };
    // f32 is the reference itself.
    assert_eq!(names("parity", "network"), ["clip", "clip", "vae", "vae", "flux", "flux"]);
    assert_eq!(names("parity", "dtype"), ["f16", "bf16"].repeat(3));
    let models = ["sd15", "sdxl", "sd3", "flux", "pixart-sigma", "lcm"];
    assert_eq!(names("pictures", "model"), models);
    assert_eq!(names("pictures", "batch"), [2; 6]);
    let published = [Value::Null, Value::Null, "sd35-medium".into(), "flux-dev".into()];
    assert_eq!(names("pictures", "published")[..4], published);
    assert_eq!(names("judges", "pictures"), [2]);
    assert_eq!(names("products", "side"), [256]);

    let (status, stdout, _) =
        run(&["measure", "--device", "cpu", "--tiny", "--part", "parity", "--network", "clip"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("clip") && stdout.contains("bf16") && !stdout.contains("Pictures"));
}

#[test]
fn each_rounding_of_products_has_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("measured.json");
    let usual =
        "measure --device cpu --tiny --steps 1 --latents 8 --repeats 1 --batch 1 --model sd15";
    let own = "--part product,pictures,judge --products f32,bf16 --out";
    let arguments: Vec<&str> = usual.split(' ').chain(own.split(' ')).collect();
    let (status, stdout, stderr) = run(&[&arguments[..], &[path.to_str().unwrap()]].concat());
    assert_eq!(status, 0, "{stderr}");
    let record = read(&path);
    for part in ["products", "pictures", "judges"] {
        let [plain, rounded] = record[part].as_array().unwrap().as_slice() else {
            panic!("{record}")
        };
        assert!(plain.get("products").is_none() && plain.get("products_run").is_none(), "{plain}");
        assert_eq!(rounded["products"], "bf16");
        let ran = rounded["products_run"].as_str().unwrap();
        let told = if ran == "amx" { "" } else { ", which ran in f32" };
        for line in [
            format!("Products of 256 x 256 in f32, products bf16{told}: "),
            format!("  with products bf16{told}\n"),
        ] {
            assert!(["amx", "f32"].contains(&ran) && stdout.contains(&line), "{stdout}");
        }
        assert_eq!(stderr.contains("products run in f32, not bf16: "), ran == "f32", "{stderr}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_sentence() {
    for (arguments, expected) in [
        (vec!["--device", "cuda"], "device `cuda`"),
        (vec!["--device", "cuda:3"], "device `cuda:3`"),
        (vec!["--network", "gpt"], "no network `gpt`"),
        (vec!["--model", "sd4"], "no model `sd4`"),
        (vec!["--network", "unet-sd3"], "no network `unet-sd3`"),
        (vec!["--dtype", "int8", "--device", "cpu"], "int8"),
        (vec!["--batch", "0", "--device", "cpu"], "--batch"),
        (vec!["--products", "bf8", "--device", "cpu"], "known are `f32`, `bf16x3` and `bf16`"),
    ] {
        let (status, stdout, stderr) =
            run(&[&["measure", "--tiny"], arguments.as_slice()].concat());
        assert_eq!(status, 2, "{arguments:?} {stderr}");
        assert!(stderr.contains(expected) && stdout.is_empty(), "{arguments:?} {stderr}");
    }
}

#[test]
fn doctor_takes_times_from_a_record_of_full_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpu.json");
    let shown = path.to_str().unwrap();
    let picture = |batch: u32, per_picture: f64| {
        json!({
            "model": "sd15", "dtype": "f16", "batch": batch, "steps": 50, "side": 512, "text": 0.4,
            "seconds": per_picture * f64::from(batch), "per_picture": per_picture, "decode": 0.2,
            "tera": 90.0,
        })
    };
    let mut record = json!({
        "format_version": "1.0", "version": "0.1.0", "git_commit": null, "features": ["cuda"],
        "device": "cuda:0, A GPU", "full_size": true,
        "pictures": [picture(4, 1.3), picture(1, 2.0)],
        "judges": [{
            "judge": "mplug", "dtype": "f16", "pictures": 1, "questions": 14, "seconds": 0.27,
            "per_second": 51.9, "one_question": 0.14,
        }],
    });
    let doctor = |record: &Value| {
        std::fs::write(&path, record.to_string()).unwrap();
        let flags = ["--device", "cpu", "--model", "sd15", "--judge", "mplug", "--json"];
        let limits = [
            "--benchmark",
            "demo",
            "--limit",
            "2",
            "--images",
            "3",
            "--steps",
            "100",
            "--measured",
            shown,
        ];
        run(&[&["doctor"], &flags[..], &limits[..]].concat())
    };
    let (_, stdout, stderr) = doctor(&record);
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
    let stages = &report["cost"]["stages"];
    assert_eq!(
        (&stages[0]["basis"], &stages[1]["basis"]),
        (&json!("recorded"), &json!("recorded"))
    );
    // Of the batch of four: 1.0 s of calls for 50 steps, 2.0 for 100; 0.2 for decoding, 0.4 for a prompt.
    let seconds = stages[0]["seconds"].as_f64().unwrap();
    assert!((seconds - (2.0 * 0.4 + 6.0 * 2.2)).abs() < 1e-9, "{seconds}");
    // 0.01 s for each further question, 0.13 for the picture.
    let answers = report["cost"]["counts"]["answers"].as_f64().unwrap();
    let seconds = stages[1]["seconds"].as_f64().unwrap();
    assert!((seconds - (6.0 * 0.13 + answers * 0.01)).abs() < 1e-9, "{seconds}");
    assert!(stages[0]["how"].as_str().unwrap().contains("A GPU"));

    // Only times with the products that are asked for.
    let of = |products: &str, per_picture: f64| {
        let mut picture = picture(4, per_picture);
        picture["products"] = products.into();
        picture["products_run"] = "amx".into();
        picture
    };
    let mut rounded = record.clone();
    rounded["pictures"] = json!([picture(1, 2.0), of("bf16", 1.3)]);
    let report: Value = serde_json::from_str(&doctor(&rounded).1).unwrap();
    let seconds = report["cost"]["stages"][0]["seconds"].as_f64().unwrap();
    // 1.4 s of calls for 50 steps, 2.8 for 100.
    assert!((seconds - (2.0 * 0.4 + 6.0 * 3.0)).abs() < 1e-9, "{seconds}");

    // Another published size of the model, another number of texts and another size of image go by counted operations.
    let of_model = |model: &str, flags: &[&str]| {
        let usual =
            ["doctor", "--device", "cpu", "--judge", "mplug", "--json", "--benchmark", "demo"];
        let own = ["--images", "1", "--limit", "1", "--measured", shown, "--model", model];
        let report: Value =
            serde_json::from_str(&run(&[&usual[..], &own[..], flags].concat()).1).unwrap();
        let stage = &report["cost"]["stages"][0];
        (stage["seconds"].as_f64().unwrap(), stage["how"].as_str().unwrap().to_owned())
    };
    let newer = |model: &str, published: Value, side: u32, steps: u32| {
        json!({
            "model": model, "published": published, "dtype": "f16", "batch": 1, "steps": steps,
            "side": side, "text": 0.25, "seconds": 4.0, "per_picture": 4.0, "decode": 0.75, "tera": 9.0,
        })
    };
    let mut models = record.clone();
    models["pictures"] = json!([
        newer("sd3", "sd35-medium".into(), 1024, 28),
        newer("flux", "flux-dev".into(), 1024, 28),
        newer("sdxl", Value::Null, 1024, 30),
        newer("pixart-sigma", Value::Null, 1024, 20),
    ]);
    std::fs::write(&path, models.to_string()).unwrap();
    // 3 s of calls, 0.25 for the text, 0.75 for decoding.
    let near = |found: (f64, String), seconds: f64, words: &str| {
        assert!((found.0 - seconds).abs() < 2e-3 * seconds, "{found:?} {seconds}");
        assert!(found.1.contains(words), "{found:?}");
    };
    near(of_model("sd3", &[]), 4.0, "A GPU: 4.000 s each with 28 steps");
    near(of_model("sd3", &["--guidance", "1"]), 2.5, "by counted operations");
    near(of_model("sd3", &["--width", "512", "--height", "1024"]), 2.125, "by counted operations");
    near(of_model("flux", &["--steps", "14"]), 2.5, "with 28 steps");
    near(of_model("playground-v2", &[]), 1.0 + 3.0 * 50.0 / 30.0, "of Stable Diffusion XL base");
    near(of_model("pixart-alpha", &[]), 4.0, "of PixArt-Sigma of 1024 pixels");
    let large = folder.path().join("large/transformer");
    std::fs::create_dir_all(&large).unwrap();
    let config = json!({"num_layers": 38, "qk_norm": "rms_norm"});
    std::fs::write(large.join("config.json"), config.to_string()).unwrap();
    let weights = folder.path().join("large");
    let found = of_model("sd3", &["--weights", weights.to_str().unwrap()]);
    // 31.12 of 11.25 operations.
    near(found, 1.0 + 3.0 * 31.1211 / 11.2496, "of Stable Diffusion 3.5 medium, by counted");

    // A judge that the record lacks is unknown, not guessed from this machine.
    record["judges"] = json!([]);
    let report: Value = serde_json::from_str(&doctor(&record).1).unwrap();
    assert_eq!(report["cost"]["stages"][1]["basis"], "unknown");
    assert_eq!(report["cost"]["seconds"], Value::Null);
    record["full_size"] = json!(false);
    let (status, _, stderr) = doctor(&record);
    assert_eq!(status, 2);
    assert!(stderr.contains("tiny") && stderr.contains("gpu.json"), "{stderr}");
}
