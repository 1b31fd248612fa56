//! `dpg-bench generate` as a user runs it, on the tiny checkpoint.

use crate::generate_run::files;
use crate::tiny_checkpoint::{configure, copy_of};

fn dpg_bench(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
cat,A small cat on a wooden chair,,1,0,entity,whole,entity - whole (cat),Is there a cat?
lamp,A brass lamp beside a window,,1,0,entity,whole,entity - whole (lamp),Is there a lamp?
";

/// Of several mistakes in one command the first is told, in the order model, device, weights, judge, benchmark,
/// wherever the flags stand.
#[test]
fn of_several_mistakes_the_first_is_told() {
    // What is right, what is wrong, and what is said of it.
    let parts: [(&[&str], &[&str], &str); 5] = [
        (
            &["--model", "sd15"],
            &["--model", "SD51"],
            "model `SD51` is unknown (did you mean `sd15`?)",
        ),
        (&["--device", "cpu"], &["--device", "gpu"], "--device gpu: a GPU is `cuda`"),
        (
            &["--weights", "tests/fixtures/sd15-tiny"],
            &["--weights", "nowhere"],
            "nowhere is no folder",
        ),
        (&["--judge", "scripted", "--judge-rule", "yes"], &[], "no judge is named"),
        (
            &["--benchmark", "demo"],
            &["--benchmark", "Demo"],
            "there is no benchmark at Demo (did you mean `demo`?)",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for wrong in 1..1 << parts.len() {
        let is_wrong = |place: usize| wrong >> place & 1 == 1;
        let flags = (0..parts.len()).rev().flat_map(|place| {
            let (right, wrong, _) = parts[place];
            if is_wrong(place) { wrong } else { right }
        });
        let mut arguments = vec!["run", "--limit", "1", "--out", out.to_str().unwrap()];
        arguments.extend(flags);
        let output = dpg_bench(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        let first = (0..parts.len()).find(|place| is_wrong(*place)).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for (place, (_, _, sentence)) in parts.iter().enumerate() {
            assert_eq!(
                said.contains(sentence),
                place == first,
                "{sentence} in {arguments:?}: {said}"
            );
        }
        assert!(!out.exists(), "{arguments:?}");
    }
    // The other flags of the judge too, and a model file's model.
    let file = folder.path().join("model.toml");
    std::fs::write(&file, "name = \"x\"\nmodel = \"sdlx\"\ncheckpoint = \"x\"\n").unwrap();
    for (flags, expected) in [
        (
            &["--judge-device", "tpu", "--judge-dtype", "x", "--model", "kandinsky"][..],
            "model `kandinsky`",
        ),
        (&["--judge-device", "tpu", "--device", "tpu"], "--device tpu: known are"),
        (&["--judge", "blip", "--dtype", "f61"], "--dtype f61: known are"),
        (
            &["--judge", "blip", "--judge-device", "tpu"],
            "no judge `blip` (did you mean `blip-vqa`?)",
        ),
        (&["--judge", "demo-judge", "--judge-device", "tpu"], "--judge-device tpu: known are"),
        (&["--device", "tpu", "--model-file", file.to_str().unwrap()], "model `sdlx` is unknown"),
    ] {
        let output = dpg_bench(&[&["run", "--limit", "1", "--benchmark", "x"], flags].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{flags:?}: {said}");
    }
}

/// The command itself on the tiny checkpoint, killed in the middle and given again.
#[test]
fn a_killed_command_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let benchmark = run("items.csv");
    std::fs::write(&benchmark, QUESTIONS).unwrap();
    let arguments = |out: &str| -> Vec<String> {
        "generate --model sd15 --weights tests/fixtures/sd15-tiny --device cpu --images 2 \
         --steps 3 --width 64 --height 48 --scheduler dpm++ --negative-prompt dark --out"
            .split_whitespace()
            .chain([out, "--benchmark", &benchmark])
            .map(str::to_owned)
            .collect()
    };
    let whole = arguments(&run("whole"));
    let output = dpg_bench(&whole.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("6/6 images") && output.stdout.is_empty(), "{said}");

    let killed = arguments(&run("killed"));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
        .args(&killed)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let journal = folder.path().join("killed/images.jsonl");
    // Two records and the header are there: the third image is in the making.
    for _ in 0..3000 {
        let lines = std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        if lines >= 3 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = std::fs::read_to_string(&journal).unwrap().lines().count();
    eprintln!("killed after {} of 6 images", before - 1);
    let killed: Vec<&str> = killed.iter().map(String::as_str).collect();
    assert!(dpg_bench(&killed).status.success());
    let (whole, resumed) =
        (files(&folder.path().join("whole")), files(&folder.path().join("killed")));
    // Images, their thumbnails and the journal.
    assert_eq!(whole.len(), 13);
    assert!(whole == resumed);
}

/// SDXL from its folder; an absent negative prompt and an empty one are two things.
#[test]
fn sdxl_runs_from_its_folder_and_tells_an_empty_negative_from_none() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = folder.path().join("items.csv");
    std::fs::write(&benchmark, QUESTIONS).unwrap();
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let mut arguments: Vec<&str> =
            "generate --model sdxl --weights tests/fixtures/sdxl-tiny --device cpu --images 1 \
             --steps 2 --limit 1"
                .split_whitespace()
                .collect();
        arguments.extend(["--out", out.to_str().unwrap()]);
        arguments.extend(["--benchmark", benchmark.to_str().unwrap()]);
        let output = dpg_bench(&[&arguments, more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let manifest = std::fs::read(out.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let picture = std::fs::read(out.join("images/kite/0.png")).unwrap();
        (manifest.to_string(), picture)
    };
    let (absent, zeros) = run("absent", &[]);
    let (empty, encoded) = run("empty", &["--negative-prompt", ""]);
    assert!(absent.contains(r#""negative_prompt":null"#), "{absent}");
    assert!(absent.contains(r#""guidance":5.0"#) && absent.contains(r#""width":64"#), "{absent}");
    assert!(empty.contains(r#""negative_prompt":"""#), "{empty}");
    assert_ne!(zeros, encoded);
    let has = |png: &[u8]| png.windows(15).any(|bytes| bytes == b"negative prompt");
    assert!(!has(&zeros) && has(&encoded));
}

/// A model file with parts and settings, flags above it, and a preset below both.
#[test]
fn a_model_file_stands_between_flags_and_preset() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("items.csv"), QUESTIONS.replace("kite over", "<kite> over")).unwrap();
    let fixtures = format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
    let model_file = format!(
        "name = 'tiny-dream'\ncheckpoint = '{fixtures}/sd15-tiny'\n\
         [[loras]]\nfile = '{fixtures}/addons/kohya.safetensors'\nweight = 0.5\n\
         [[embeddings]]\nfile = '{fixtures}/addons/kite.safetensors'\n\
         [settings]\nsteps = 3\nwidth = 64\nheight = 64\nscheduler = 'unipc'\nkarras = true\n"
    );
    std::fs::write(path("model.toml"), &model_file).unwrap();
    let run = |out: &str, more: &str| {
        let mut arguments = vec!["generate", "--device", "cpu", "--images", "1", "--limit", "1"];
        let (out, benchmark, file) = (path(out), path("items.csv"), path("model.toml"));
        arguments.extend(["--out", &out, "--benchmark", &benchmark, "--model-file", &file]);
        arguments.extend(more.split_whitespace());
        let output = dpg_bench(&arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let settings = |out: &str| -> serde_json::Value {
        let text = std::fs::read(folder.path().join(out).join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        manifest["generation"]["settings"].clone()
    };
    let (code, said) = run("flags", "--preset paper --steps 2 --spacing trailing --rng cuda");
    assert_eq!(code, Some(0), "{said}");
    // All that differs from the preset is told; what does not, is not.
    assert!(
        said.contains("steps, width, height, scheduler, spacing, karras, rng stated"),
        "{said}"
    );
    let found = settings("flags");
    let expected = [
        ("name", "\"tiny-dream\""),
        ("preset", "\"paper\""),
        ("steps", "2"),
        ("guidance", "12.0"),
        ("width", "64"),
        ("seed", "1001"),
        ("seed_mode", "\"sequential\""),
        ("rng", "\"cuda\""),
    ];
    for (name, value) in expected {
        assert_eq!(found[name].to_string(), value, "{name}");
    }
    let sampler = found["scheduler"].as_object().unwrap();
    assert_eq!(sampler["class"], "UniPCMultistepScheduler");
    assert_eq!(sampler["timestep_spacing"], "trailing");
    assert_eq!(sampler["use_karras_sigmas"], true);
    assert_eq!(found["loras"][0]["file"], "kohya.safetensors");
    assert_eq!(found["loras"][0]["weight"], 0.5);
    assert_eq!(found["embeddings"][0]["file"], "kite.safetensors");

    // The same again makes nothing; another strength of the adapter is another run.
    let (code, said) = run("flags", "--preset paper --steps 2 --spacing trailing --rng cuda");
    assert!(code == Some(0) && said.contains("0 made now"), "{said}");
    std::fs::write(path("model.toml"), model_file.replace("0.5", "0.6")).unwrap();
    let (code, said) = run("flags", "--preset paper --steps 2 --spacing trailing --rng cuda");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("loras") && said.contains("weights.unet"), "{said}");

    let (code, said) = run("plain", "--karras false");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(settings("plain")["scheduler"]["use_karras_sigmas"], false);
    assert_eq!(settings("plain")["guidance"], 7.5);
    assert!(settings("plain")["preset"].is_null());
    let pixels = |out: &str| {
        image::open(folder.path().join(out).join("images/kite/0.png")).unwrap().to_rgb8()
    };
    assert_ne!(pixels("flags"), pixels("plain"));
    assert!(!folder.path().join("never").exists());
    for (more, word) in [
        ("--scheduler ddim", "--karras"),
        ("--preset papers", "paper"),
        ("--rng gpu", "cuda:THREADS"),
        ("--lora nothing.safetensors", "nothing.safetensors"),
        ("--model sd16", "`sd16`"),
    ] {
        let (code, said) = run("never", more);
        assert!(code == Some(2) && said.contains(word), "{more}: {said}");
        assert!(!folder.path().join("never").exists(), "{more}");
    }
}

/// Single files with adapters, with and without ELLA: a model file says what flags can say, pixel for
/// pixel, and each of its parts is felt.
#[test]
fn model_files_of_every_kind_equal_their_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let fixture = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path("items.csv"), QUESTIONS).unwrap();
    let sd15 = crate::addons::single_file(folder.path(), |_| {}).checkpoint;
    std::fs::rename(sd15, path("sd15.safetensors")).unwrap();
    let sdxl = crate::addons_sdxl::single_file(folder.path(), |_| {}).checkpoint;
    std::fs::rename(sdxl, path("sdxl.safetensors")).unwrap();
    let run = |out: &str, flags: &[&str]| -> (Vec<u8>, serde_json::Value) {
        let (out, benchmark) = (path(out), path("items.csv"));
        let arguments = "generate --device cpu --images 1 --limit 1 --out".split_whitespace();
        let arguments = arguments.chain([out.as_str(), "--benchmark", &benchmark]);
        let output = dpg_bench(&arguments.chain(flags.iter().copied()).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let manifest = std::fs::read(format!("{out}/manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let picture = image::open(format!("{out}/images/kite/0.png")).unwrap().to_rgb8();
        (picture.into_raw(), manifest["generation"]["settings"].clone())
    };
    let mut pictures = Vec::new();
    for (model, base, lora) in [
        ("sd15", "sd15", "addons/kohya"),
        ("ella-sd15", "sd15", "addons/kohya"),
        ("sdxl", "sdxl", "addons-sdxl/kohya"),
        ("ella-sdxl", "sdxl", "addons-sdxl/kohya"),
    ] {
        let (single, tiny) =
            (path(&format!("{base}.safetensors")), fixture(&format!("{base}-tiny")));
        let lora = fixture(&format!("{lora}.safetensors"));
        let connector = fixture(match base {
            "sd15" => "ella-tiny/ella.safetensors",
            _ => "ella-tiny/ella-sdxl.safetensors",
        });
        let (t5, weighted) = (fixture("ella-tiny/text_encoder"), format!("{lora}:0.5"));
        let mut flags = vec!["--model", model, "--weights", &single, "--base", &tiny, "--lora"];
        flags.extend([weighted.as_str(), "--steps", "2", "--scheduler", "unipc"]);
        // Paths beside the model file are relative to it.
        let mut file = format!(
            "name = 'own-{model}'\nmodel = '{model}'\ncheckpoint = '{base}.safetensors'\nbase = '{tiny}'\n"
        );
        if model.starts_with("ella") {
            flags.extend(["--ella", &connector, "--text-encoder", &t5]);
            file += &format!("ella = '{connector}'\ntext_encoder = '{t5}'\n");
        }
        file += &format!(
            "[[loras]]\nfile = '{lora}'\nweight = 0.5\n[settings]\nsteps = 2\nscheduler = 'unipc'\n"
        );
        std::fs::write(path("model.toml"), file).unwrap();
        let (by_flags, flag_settings) = run(&format!("{model}-flags"), &flags);
        let (by_file, mut file_settings) =
            run(&format!("{model}-file"), &["--model-file", &path("model.toml")]);
        assert!(by_flags == by_file, "{model}");
        let settings = file_settings.as_object_mut().unwrap();
        assert_eq!(settings.remove("name").unwrap(), format!("own-{model}"));
        assert_eq!(file_settings, flag_settings, "{model}");
        pictures.push(by_file);
        // Without the adapter it is another picture.
        let at = flags.iter().position(|flag| *flag == "--lora").unwrap();
        let (bare, _) = run(&format!("{model}-bare"), &[&flags[..at], &flags[at + 2..]].concat());
        pictures.push(bare);
    }
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 8);
}

#[test]
fn a_wrong_command_says_what_to_do_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let weights = "tests/fixtures/sd15-tiny";
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--model", "sd9"], &["sd9", "sd15"]),
        (&["--model", "sd15"], &["--weights", "unet/diffusion_pytorch_model.safetensors"]),
        (&["--model", "sd15", "--weights", "tests"], &["tests", "model_index.json"]),
        (&["--model", "sd15", "--weights", weights, "--scheduler", "magic"], &["magic", "dpm++"]),
        (
            &["--model", "sd15", "--weights", weights, "--width", "50"],
            &["--width 50", "multiple of 8"],
        ),
    ];
    for (flags, words) in cases {
        let flags =
            [&["generate", "--benchmark", "demo", "--out", out.to_str().unwrap()], flags].concat();
        let output = dpg_bench(&flags);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!out.exists());
    }
}

/// A dry run loads everything, tells what it understood, and writes nothing.
#[test]
fn a_dry_run_tells_what_was_understood_and_makes_nothing() {
    let folder = copy_of("sd15-tiny");
    let configuration = folder.path().join("scheduler/scheduler_config.json");
    configure(
        &configuration,
        &serde_json::json!({"steps_offset": 0, "strange": 1, "prediction_type": "v_prediction"}),
    );
    let benchmark = folder.path().join("items.csv");
    std::fs::write(&benchmark, QUESTIONS).unwrap();
    let out = folder.path().join("out");
    let run = |more: &[&str]| {
        let mut arguments = vec!["generate", "--model", "sd15", "--device", "cpu", "--steps", "7"];
        arguments.extend(["--weights", folder.path().to_str().unwrap()]);
        arguments.extend(["--benchmark", benchmark.to_str().unwrap()]);
        arguments.extend(["--out", out.to_str().unwrap()]);
        let output = dpg_bench(&[&arguments, more].concat());
        assert!(!out.exists());
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr)
    };
    let (code, told, errors) = run(&["--dry-run"]);
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&errors));
    let lines = [
        ("pipeline", "StableDiffusionPipeline"),
        ("prediction", "v_prediction"),
        (
            "schedule",
            "PNDMScheduler, scaled_linear betas 0.00085 to 0.012 over 1000 steps, leading, offset 1; 7 steps",
        ),
        ("size", "64 x 64"),
        ("mended", "steps_offset: 0 in the file, 1 in StableDiffusionPipeline"),
        (
            "warning:",
            "scheduler/scheduler_config.json: unknown keys, which change nothing: strange = 1",
        ),
    ];
    for (subject, text) in lines {
        let is_told = |line: &str| line.starts_with(subject) && line.ends_with(text);
        assert!(told.lines().any(is_told), "{subject} {text}\n{told}");
    }
    let (code, json, _) = run(&["--dry-run", "--json"]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["lines"][0], serde_json::json!({"subject": "model", "text": "sd15"}));
    assert!(json["warnings"][0].as_str().unwrap().contains("strange = 1"), "{json}");
    // What cannot be loaded is told as in a run.
    configure(&configuration, &serde_json::json!({"trained_betas": [0.5]}));
    let (code, told, errors) = run(&["--dry-run"]);
    assert!(code == Some(2) && told.is_empty(), "{code:?} {told}");
    assert!(String::from_utf8_lossy(&errors).contains("trained_betas"));
}
