//! `--model server` against image servers on loopback as they are documented (`image_server`): what is made and recorded,
//! what becomes of seeds and content filters, and what a kill leaves. `server_model_faults` has what goes wrong.

use std::path::PathBuf;
use std::time::Duration;

use dpg_bench::results::ImageOutcome;
use image::ImageFormat;
use serde_json::json;

use super::generate_run::files;
use super::image_server::{
    Kind, Played, WORKFLOW, asked, encoded, file, openai_reply, pixels, png as png_of,
};
use super::kept_thumbnails::kept;
use super::loopback::{Loopback, Received, Reply};
use super::server_place::{KEY, Place, QUESTIONS, asked_for, ended, good, wrong_about_cats};

#[test]
fn a_server_makes_the_images_of_a_run() {
    let place = Place::new();
    let server = good(Kind::VllmOmni);
    let flags = "--server-api auto --server-key-env SERVER_KEY --width 8 --height 6 --steps 4 --negative-prompt blurry \
                 --server-body {\"flow_shift\":3} --server-concurrency 4 --seed 5";
    let said = place.said(&server.origin(), "run", flags, 0);
    assert!(said.contains("speaks vllm-omni, model tiny/model"), "{said}");
    assert!(said.contains("repeats an image when it is sent the same seed"), "{said}");
    assert!(said.contains("time per image: median 0.") && said.contains("(7 images)"), "{said}");
    let outcomes = place.outcomes("run");
    let order: Vec<(&str, u32)> =
        outcomes.iter().map(|(item, image, _)| (item.as_str(), *image)).collect();
    let all = ["kite", "cat", "lamp"].iter().flat_map(|item| [(*item, 0), (*item, 1)]);
    assert_eq!(order, all.collect::<Vec<_>>());
    for (item, image, outcome) in &outcomes {
        let ImageOutcome::Done { width, height, seed, served, .. } = outcome else {
            panic!("{item} {image}: {outcome:?}");
        };
        assert_eq!((*width, *height), (8, 6));
        let served = served.as_ref().unwrap();
        assert_eq!((served.format.as_str(), served.asked, served.seed_told), ("png", None, None));
        let prompt = QUESTIONS.lines().find(|line| line.starts_with(item.as_str())).unwrap();
        let prompt = prompt.split(',').nth(1).unwrap();
        let kept = image::open(place.path(&format!("run/images/{item}/{image}.png"))).unwrap();
        assert_eq!(kept.to_rgb8(), pixels(prompt, seed.unwrap()), "{item} {image}");
    }
    // Six images and one more of the first prompt, to try the seeds.
    assert_eq!(asked_for(&server).len(), 7);
    assert!(server.most_at_one_time() <= 4);
    let request = server.received().into_iter().find(|request| asked(request).is_some()).unwrap();
    assert_eq!(request.authorization, Some(format!("Bearer {KEY}")));
    assert_eq!((&request.body["flow_shift"], &request.body["n"]), (&json!(3), &json!(1)));

    let settings = place.settings("run");
    assert_eq!((&settings["model"], &settings["name"]), (&json!("server"), &json!("tiny/model")));
    assert_eq!(
        (&settings["server_api"], &settings["seeds"]),
        (&json!("vllm-omni"), &json!("repeats"))
    );
    assert_eq!(settings["sent"]["num_inference_steps"], 4);
    assert_eq!(settings["sent"]["flow_shift"], 3);
    assert!(settings["sent"]["prompt"].is_null() && settings["sent"]["seed"].is_null());
    assert_eq!(settings["server_says"]["/v1/models"]["data"][0]["id"], "tiny/model");
    for (path, bytes) in files(&place.path("run")) {
        let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
        assert!(!found, "the key stands in {}", path.display());
    }

    // Given again, even at another address, there is nothing to do; other settings or another model are refused.
    let before = place.bytes("run");
    let elsewhere = good(Kind::VllmOmni);
    let said = place.said(&elsewhere.url(), "run", flags, 0);
    assert!(!said.contains("time per image"), "{said}");
    assert!(asked_for(&elsewhere).is_empty() && place.bytes("run") == before);
    let said = place.said(&server.url(), "run", &flags.replace("steps 4", "steps 5"), 2);
    assert!(said.contains("sent.num_inference_steps"), "{said}");
    let other = good(Kind::Sglang);
    let said = place.said(&other.url(), "run", flags, 2);
    assert!(said.contains("server_api"), "{said}");
    assert!(asked_for(&other).is_empty());
}

#[test]
fn each_api_is_spoken_as_it_is_documented() {
    let place = Place::new();
    for (kind, flags, base, api, seeds) in [
        (Kind::OpenAi, "", "/v1", "openai", "has no seed"),
        (Kind::VllmOmni, "--server-api vllm-omni", "/v1", "vllm-omni", "repeats"),
        (Kind::Sglang, "--server-api auto", "", "sglang", "repeats"),
        (
            Kind::LocalAi,
            "--server-api localai --server-model tiny/model",
            "/v1",
            "localai",
            "repeats",
        ),
        (Kind::SdApi, "--server-api auto", "", "sdapi", "repeats"),
        (Kind::SdCpp, "--server-api auto", "", "sdcpp", "repeats"),
        (Kind::ComfyUi, "--server-api auto --server-workflow flow.json", "", "comfyui", "repeats"),
        (Kind::Xdit, "--server-api xdit", "", "xdit", "repeats"),
        (Kind::HuggingFace, "--server-api hf --server-model tiny/model", "", "hf", "repeats"),
    ] {
        let server = good(kind);
        let url = format!("{}{base}", server.origin());
        let said = place.said(&url, api, &format!("{flags} --limit 1"), 0);
        assert_eq!(place.reasons(api), [""; 0], "{api}: {said}");
        let settings = place.settings(api);
        assert_eq!((&settings["server_api"], &settings["seeds"]), (&json!(api), &json!(seeds)));
        for (_, image, outcome) in place.outcomes(api) {
            let ImageOutcome::Done { seed, served, .. } = outcome else { panic!("{api}") };
            assert_eq!(served.unwrap().format, "png");
            assert_eq!(seed.is_some(), kind != Kind::OpenAi, "{api}");
            let Some(seed) = seed else { continue };
            assert!(asked_for(&server).iter().any(|(_, sent)| *sent == Some(seed)), "{api}");
            let kept = image::open(place.path(&format!("{api}/images/kite/{image}.png"))).unwrap();
            assert_eq!(kept.to_rgb8(), pixels("A red kite over a stone house", seed), "{api}");
        }
    }
    // stable-diffusion.cpp's server speaks this one too, whatever the URL ends in.
    let server = good(Kind::SdCpp);
    place.said(&server.url(), "second", "--server-api sdapi --limit 1", 0);
    assert_eq!(place.settings("second")["server_api"], "sdapi");
    // The images of an API without seeds tell of none.
    let without = std::fs::read(place.path("openai/images/kite/0.png")).unwrap();
    assert!(!contains(&without, b"iTXtseed\0"));
    let with = std::fs::read(place.path("sglang/images/kite/0.png")).unwrap();
    assert!(contains(&with, b"iTXtseed\0"));
}

#[test]
fn what_a_server_changes_is_recorded_and_told() {
    let place = Place::new();
    let larger = |prompt: &str, seed| {
        let image = pixels(prompt, seed);
        image::imageops::resize(&image, 16, 6, image::imageops::FilterType::Nearest)
    };
    let server = wrong_about_cats(move |_, prompt, seed| {
        openai_reply(&encoded(&larger(prompt, seed), ImageFormat::Jpeg))
    });
    let flags = "--server-api vllm-omni --width 8 --height 6";
    let said = place.said(&server.url(), "changed", flags, 0);
    assert!(said.contains("2 images of another size than was asked for"), "{said}");
    assert!(said.contains("2 images that came as JPEG or WebP"), "{said}");
    for (item, _, outcome) in place.outcomes("changed") {
        let ImageOutcome::Done { width, served: Some(served), .. } = outcome else { panic!() };
        let expected = if item == "cat" { (16, "jpeg", Some((8, 6))) } else { (8, "png", None) };
        assert_eq!((width, served.format.as_str(), served.asked), expected);
    }

    assert_eq!(kept(&place.path("changed")), 6);

    // A PNG is kept in the server's own compression, without the server's texts.
    let mut sent = Vec::new();
    let mut encoder = png::Encoder::new(&mut sent, 8, 6);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::NoCompression);
    encoder.add_text_chunk("parameters".to_owned(), "Steps: 4".to_owned()).unwrap();
    encoder.write_header().unwrap().write_image_data(&pixels("cat", 1)).unwrap();
    let stored = idat(&sent);
    let server = wrong_about_cats(move |_, _, _| openai_reply(&sent));
    place.said(&server.url(), "as-it-came", "--server-api vllm-omni", 0);
    let image = std::fs::read(place.path("as-it-came/images/cat/1.png")).unwrap();
    assert_eq!(idat(&image), stored);
    assert!(!contains(&image, b"Steps: 4") && contains(&image, b"iTXtprompt\0"));
    assert_eq!(kept(&place.path("as-it-came")), 6);
    let line = "judge as-it-came --judge scripted --judge-rule yes";
    ended(&place.command(line).output().unwrap(), 0);

    // Another prompt than the benchmark's, and an address in place of the image.
    let played = Played::new(Kind::VllmOmni);
    let server = Loopback::start(move |request| match asked(request) {
        Some((prompt, Some(seed))) if prompt.contains("cat") => {
            let revised = format!("{prompt}, in oil");
            Reply::Json(
                json!({"data": [{"url": format!("/files/{seed}.png"), "revised_prompt": revised}]}),
            )
        }
        _ if request.target().starts_with("/files/") => file(png_of("cat", 1), "image/png"),
        _ => played.answer(request),
    });
    let said = place.said(&server.url(), "revised", "--server-api vllm-omni", 0);
    assert!(said.contains("2 images made of another prompt than the benchmark's"), "{said}");
    let line = "judge revised --judge scripted --judge-rule yes";
    assert!(place.command(line).output().unwrap().status.success());
    let scored = place.command("score revised").output().unwrap();
    let table = String::from_utf8_lossy(&scored.stdout).into_owned();
    assert!(table.contains("2 of 6 images were made of another prompt"), "{table}");
    assert!(table.contains("images of a server (vllm-omni), seeds: repeats"), "{table}");
}

#[test]
fn a_content_filter_is_a_state_of_its_own() {
    let place = Place::new();
    let refuse = |_: &Received, _: &str, _| {
        let error = json!({"code": "moderation_blocked", "message": "Your request was rejected"});
        Reply::Status(400, vec![], json!({ "error": error }).to_string())
    };
    let server = wrong_about_cats(refuse);
    let said = place.said(&server.url(), "run", "--server-api vllm-omni", 3);
    assert!(said.contains("2 refused by a content filter"), "{said}");
    let filtered = |out: &str| {
        let is_filtered = |outcome: &ImageOutcome| matches!(outcome, ImageOutcome::Filtered { reason } if reason.contains("rejected"));
        place.outcomes(out).iter().filter(|(.., outcome)| is_filtered(outcome)).count()
    };
    assert_eq!((filtered("run"), place.reasons("run").len()), (2, 0));
    // They are not asked for again, unless that is wanted.
    let (before, asked_before) = (place.bytes("run"), asked_for(&server).len());
    place.said(&server.url(), "run", "--server-api vllm-omni", 3);
    assert_eq!(asked_for(&server).len(), asked_before);
    place.said(&server.url(), "run", "--server-api vllm-omni --retry-filtered", 3);
    assert_eq!(asked_for(&server).len(), asked_before + 2);
    assert!(place.bytes("run") == before);

    let watched = place.command("watch run --once").output().unwrap();
    let shown = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert!(shown.contains("images: 4/6, 2 refused by a content filter"), "{shown}");
    place.command("judge run --judge scripted --judge-rule yes").output().unwrap();
    let scored = place.command("score run").output().unwrap();
    let table = String::from_utf8_lossy(&scored.stdout).into_owned();
    assert_eq!(scored.status.code(), Some(3), "{table}");
    let wanted = "2 of 6 images missing because a content filter refused the prompt: cat";
    assert!(table.contains(wanted), "{table}");
    assert!(table.contains("4 of 6 images there; 2 images refused by a content filter"), "{table}");

    // A filter that has gone lets them through.
    let server = good(Kind::VllmOmni);
    place.said(&server.url(), "run", "--server-api vllm-omni --retry-filtered", 0);
    let whole = place.outcomes("run");
    assert_eq!(whole.len(), 8);
    assert!(whole[6..].iter().all(|(item, _, outcome)| {
        item == "cat" && matches!(outcome, ImageOutcome::Done { .. })
    }));
    // One that refuses the first prompt: the seeds are tried with the next.
    let played = Played::new(Kind::VllmOmni);
    let server = Loopback::start(move |request| match asked(request) {
        Some((prompt, _)) if prompt.contains("kite") => refuse(request, "", 0),
        _ => played.answer(request),
    });
    place.said(&server.url(), "later", "--server-api vllm-omni", 3);
    assert_eq!(place.settings("later")["seeds"], "repeats");
}

#[test]
fn what_becomes_of_seeds_is_found_out_once() {
    let place = Place::new();
    type Seed = fn(&Received, u64) -> u64;
    let kinds: [(&str, Seed); 3] = [
        ("repeats", |_, seed| seed),
        ("ignores the seed", |_, _| 7),
        ("differs every time", |request, _| request.index as u64),
    ];
    for (number, (word, of)) in kinds.into_iter().enumerate() {
        let (played, out) = (Played::new(Kind::VllmOmni), format!("run{number}"));
        let server = Loopback::start(move |request| match asked(request) {
            Some((prompt, Some(seed))) => openai_reply(&png_of(&prompt, of(request, seed))),
            _ => played.answer(request),
        });
        place.said(&server.url(), &out, "--server-api vllm-omni --limit 1", 0);
        assert_eq!(place.settings(&out)["seeds"], word);
        // Another seed stands between: servers give their last image again without making it.
        let seeds: Vec<_> = asked_for(&server).into_iter().map(|(_, seed)| seed).collect();
        assert!(seeds.len() == 3 && seeds[0] == seeds[2] && seeds[0] != seeds[1], "{seeds:?}");
        // A larger run in the same folder goes by what is known.
        place.said(&server.url(), &out, "--server-api vllm-omni --limit 2", 0);
        assert_eq!(asked_for(&server).len(), 5);
        place
            .command(&format!("judge {out} --judge scripted --judge-rule hash:0.5"))
            .output()
            .unwrap();
        place.command(&format!("score {out}")).output().unwrap();
    }
    let compared = place.command("compare run0 run1").output().unwrap();
    let shown = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(
        shown.contains("run1: images of a server (vllm-omni), seeds: ignores the seed"),
        "{shown}"
    );
    assert!(!shown.contains("run0: images of a server"), "{shown}");
    let reported = place.command("report run0 run2 --out report").output().unwrap();
    ended(&reported, 0);
    let table = std::fs::read_to_string(place.path("report/tables/settings.csv")).unwrap();
    assert!(table.contains("generation.seeds,run2,differs every time"), "{table}");
    assert!(table.contains("generation.name,run0,tiny/model"), "{table}");
    // A shard goes by what its neighbour knows.
    let server = good(Kind::VllmOmni);
    place.said(&server.url(), "shards", "--server-api vllm-omni --shard 0/2", 0);
    place.said(&server.url(), "shards", "--server-api vllm-omni --shard 1/2", 0);
    assert_eq!(asked_for(&server).len(), 7);
    ended(&place.command("merge shards").output().unwrap(), 0);
    place.said(&server.url(), "whole", "--server-api vllm-omni", 0);
    assert!(merged(&place.bytes("shards")) == place.bytes("whole"));
}

/// Without what the shards keep.
fn merged(bytes: &[(PathBuf, Vec<u8>)]) -> Vec<(PathBuf, Vec<u8>)> {
    bytes.iter().filter(|(path, _)| !path.starts_with("shards")).cloned().collect()
}

#[test]
fn images_of_a_server_are_judged_while_they_are_made() {
    let place = Place::new();
    let server = good(Kind::VllmOmni);
    for when in ["on", "off"] {
        let line = format!(
            "run --model server --server-url {} --server-api vllm-omni --benchmark items.csv --images 2 --out {when} \
             --judge scripted --judge-rule hash:0.5 --judge-while-generating {when}",
            server.url()
        );
        ended(&place.command(&line).output().unwrap(), 0);
    }
    let bytes = place.bytes("on");
    assert!(bytes.iter().any(|(path, _)| path.starts_with("answers")));
    assert!(bytes == place.bytes("off"));
}

#[test]
fn a_killed_run_ends_in_the_same_bytes() {
    let place = Place::new();
    let server = good(Kind::VllmOmni);
    place.said(&server.url(), "whole", "--server-api vllm-omni", 0);
    let played = Played::new(Kind::VllmOmni);
    let slow = Loopback::start(move |request| match asked(request) {
        Some(_) => Reply::Late(Duration::from_millis(60), Box::new(played.answer(request))),
        None => played.answer(request),
    });
    let line = format!(
        "generate --model server --server-url {} --benchmark items.csv --images 2 --out run --server-api vllm-omni",
        slow.url()
    );
    // Once while the seeds are tried, once among the images.
    for wanted in ["run/manifest.json", "run/images/cat/0.png"] {
        let mut child = place.command(&line).stderr(std::process::Stdio::null()).spawn().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !place.path(wanted).exists() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    ended(&place.command(&line).output().unwrap(), 0);
    assert!(place.bytes("run") == place.bytes("whole"));
}

#[test]
fn a_model_file_and_the_doctor_know_servers() {
    let place = Place::new();
    let server = good(Kind::ComfyUi);
    let text = format!(
        "name = 'flow'\nmodel = 'server'\n[server]\nurl = '{}'\napi = 'comfyui'\nworkflow = 'flow.json'\n\
         nodes = ['prompt=6.text', 'seed=3.seed']\n[settings]\nsteps = 7\n",
        server.origin()
    );
    std::fs::create_dir(place.path("models")).unwrap();
    place.write("models/flow.toml", &text);
    place.write("models/flow.json", WORKFLOW);
    let line = "generate --model-file models/flow.toml --benchmark items.csv --limit 1 --images 1";
    ended(&place.command(line).output().unwrap(), 0);
    let settings = place.settings("results/flow");
    assert_eq!(settings["sent"]["steps"], 7);
    assert_eq!(settings["workflow"]["3"]["class_type"], "KSampler");
    assert!(settings["workflow_nodes"].as_array().unwrap().contains(&json!("seed=3.seed")));
    let request = server.received().into_iter().find(|request| asked(request).is_some()).unwrap();
    assert_eq!(request.body["prompt"]["3"]["inputs"]["steps"], 7);
    let png = std::fs::read(place.path("results/flow/images/kite/0.png")).unwrap();
    assert!(!contains(&png, b"CheckpointLoaderSimple") && contains(&png, b"workflow_sha256"));

    let line = "doctor --model-file models/flow.toml --benchmark items.csv --judge scripted --judge-rule yes";
    let doctor = place.command(line).output().unwrap();
    let shown = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(shown.contains("api comfyui") && shown.contains("8 x 6"), "{shown}");
    assert!(shown.contains("measured: "), "{shown}");
    drop(server);
    let doctor = place.command(line).output().unwrap();
    let shown = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(shown.contains("PROBLEM") && shown.contains("no connection to the server"), "{shown}");
}

/// From the first IDAT chunk of a PNG on, without its checksum and what follows; it has one.
fn idat(png: &[u8]) -> Vec<u8> {
    let at = png.windows(4).position(|four| four == b"IDAT").unwrap();
    let length = u32::from_be_bytes(png[at - 4..at].try_into().unwrap()) as usize;
    png[at + 4..at + 4 + length].to_vec()
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
