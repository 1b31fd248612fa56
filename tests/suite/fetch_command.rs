//! `dpg-bench fetch` as a user runs it, and the commands that find what it got.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::file_server::{FileServer, Repository};
use super::loopback::{Reply, Then};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The program in `folder`, with all caches there.
fn command(folder: &Path, server: &str, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.args(arguments.split_whitespace()).current_dir(folder);
    for name in [
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "HF_TOKEN_PATH",
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
    ] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", folder.join("hf"))
        .env("MODELSCOPE_CACHE", folder.join("scope"))
        .env("HF_ENDPOINT", server)
        .env("MODELSCOPE_ENDPOINT", server)
        .env("DPG_BENCH_GITHUB_RAW", server)
        .env("HF_TOKEN", "hf_hush_hush_hush");
    command
}

fn run(folder: &Path, server: &str, arguments: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(folder, server, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(!stdout.contains("hush") && !stderr.contains("hush"), "{stdout}{stderr}");
    (status.code().unwrap(), stdout, stderr)
}

const SDXL: &str = "stabilityai/stable-diffusion-xl-base-1.0";
const SDXL_COMMIT: &str = "462165984030d82259a11f4367a4eed129e94a7b";
const BLIP: &str = "Salesforce/blip-vqa-base";
const BLIP_COMMIT: &str = "787b3d35d57e49572baabd22884b3d5a05acf072";
const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite,,1,0,entity,whole,entity - whole (kite),Is there a kite?
";

#[test]
fn a_fetched_model_and_judge_need_no_flags() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(here.join("items.csv"), QUESTIONS).unwrap();
    let generate = "generate --model sdxl --benchmark items.csv --images 1 --steps 1 --width 32 \
                    --height 32 --device cpu --out run";
    let judge = "judge run --judge blip-vqa";
    let (status, _, stderr) = run(here, "http://127.0.0.1:1", generate);
    assert!(status == 2 && stderr.contains("`dpg-bench fetch sdxl` gets it"), "{stderr}");

    let models = FileServer::good(Repository::new(SDXL, SDXL_COMMIT).folder(&fixture("sdxl-tiny")));
    let (status, stdout, stderr) = run(here, &models.server.origin(), "fetch sdxl");
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("licence: test-licence") && stdout.contains(SDXL_COMMIT), "{stderr}");
    let (status, _, stderr) = run(here, "http://127.0.0.1:1", generate);
    assert!(status == 0 && stderr.contains("1/1 image in"), "{stderr}");

    let (status, _, stderr) = run(here, "http://127.0.0.1:1", judge);
    assert!(status == 2 && stderr.contains("`dpg-bench fetch blip-vqa` gets it"), "{stderr}");
    let judges =
        FileServer::good(Repository::new(BLIP, BLIP_COMMIT).folder(&fixture("blip-vqa-tiny")));
    let (status, stdout, stderr) = run(here, &judges.server.origin(), "fetch blip-vqa --json");
    assert_eq!(status, 0, "{stderr}");
    let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let part = &told[0]["parts"][0];
    assert_eq!((part["role"].as_str(), part["here"].as_bool()), (Some("judge"), Some(true)));
    // Of the two kinds of weights the safe one comes, alone.
    let folder = Path::new(part["folder"].as_str().unwrap());
    assert!(
        folder.join("model.safetensors").is_file() && !folder.join("pytorch_model.bin").exists()
    );
    let (status, _, stderr) = run(here, "http://127.0.0.1:1", judge);
    assert!(status == 0 && stderr.contains("1 of 1 image judged"), "{stderr}");
}

#[test]
fn what_is_here_is_told_without_asking_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = "http://127.0.0.1:1";
    let (status, stdout, _) = run(folder.path(), nobody, "fetch blip-vqa sd15 --offline");
    assert_eq!(status, 1);
    assert!(stdout.contains("missing; `dpg-bench fetch sd15` gets it"), "{stdout}");
    let (status, stdout, _) = run(folder.path(), nobody, "fetch --list");
    assert_eq!(status, 0);
    for words in ["ella-sd15", "CreativeML OpenRAIL++-M", "ModelScope iic/mplug_visual"] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
    let (status, _, stderr) = run(folder.path(), nobody, "fetch sd4");
    assert!(status == 2 && stderr.contains("nothing called `sd4`"), "{stderr}");
    let (status, _, stderr) = run(folder.path(), nobody, "fetch");
    assert!(status == 2 && stderr.contains("<NAME>"), "{stderr}");
    let (status, _, stderr) = run(folder.path(), nobody, "fetch blip-vqa --failures 1");
    assert!(status == 2 && stderr.contains("no connection to the server"), "{stderr}");
}

const MPLUG: &str = "iic/mplug_visual-question-answering_coco_large_en";
const MPLUG_COPY: &str = "diffusion-bench/mplug_visual-question-answering_coco_large_en";

/// mPLUG's files as both publishers have them.
fn mplug(name: &'static str, weights: &[u8]) -> FileServer {
    let mut repository = Repository::new(name, BLIP_COMMIT).folder(&fixture("mplug-tiny/large"));
    repository.files.remove("model.safetensors");
    repository.large.clear();
    FileServer::good(repository.large("pytorch_model.bin", weights))
}

#[test]
fn a_copy_in_other_hands_is_fetched_when_asked_for_and_held_against_the_publishers() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let nobody = "http://127.0.0.1:1";
    let (status, _, stderr) = run(here, nobody, "fetch mplug --failures 1");
    let advice = format!("({MPLUG_COPY}): dpg-bench fetch mplug --from hugging-face");
    assert!(status == 2 && stderr.contains(&advice), "{stderr}");
    let (status, _, stderr) = run(here, nobody, "fetch sd15 --from modelscope");
    assert!(
        status == 2 && stderr.contains("ModelScope has nothing for the checkpoint"),
        "{stderr}"
    );

    let copy = mplug(MPLUG_COPY, b"weights");
    let origin = copy.server.origin();
    let (status, stdout, stderr) = run(here, &origin, "fetch mplug --from hugging-face --json");
    assert_eq!(status, 0, "{stderr}");
    let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let part = &told[0]["parts"][0];
    assert_eq!(part["repository"].as_str(), Some(MPLUG_COPY));
    assert_eq!(part["is_copy"].as_bool(), Some(true));
    let of_copy = Path::new(part["folder"].as_str().unwrap());
    assert!(of_copy.join("pytorch_model.bin").is_file());
    assert!(
        here.join("hf/hub").join(format!("models--{}", MPLUG_COPY.replace('/', "--"))).is_dir()
    );
    // One of the two is enough.
    let (status, stdout, _) = run(here, nobody, "fetch mplug --offline");
    assert!(status == 0 && stdout.contains(&of_copy.display().to_string()), "{stdout}");

    let publisher = mplug(MPLUG, b"weights");
    let (status, _, stderr) = run(here, &publisher.server.origin(), "fetch mplug");
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains(&format!("are the same bytes as in {MPLUG_COPY}")), "{stderr}");

    std::fs::remove_dir_all(here.join("scope")).unwrap();
    let publisher = mplug(MPLUG, b"WEIGHTS");
    let (status, _, stderr) = run(here, &publisher.server.origin(), "fetch mplug");
    assert!(status == 2 && stderr.contains("only one can be the model's"), "{stderr}");
    assert!(stderr.contains("pytorch_model.bin: sha256:"), "{stderr}");
}

#[test]
fn the_python_libraries_way_of_being_offline_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), "http://127.0.0.1:1", "fetch blip-vqa");
    let Output { status, stdout, .. } = command.env("TRANSFORMERS_OFFLINE", "1").output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8_lossy(&stdout).contains("missing"));
}

#[test]
fn a_killed_fetch_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut repository = Repository::new(BLIP, BLIP_COMMIT).folder(&fixture("blip-vqa-tiny"));
    let weights: Vec<u8> = (0..2_000_000_u32).map(|i| (i >> 3) as u8).collect();
    repository.files.insert("model.safetensors".to_owned(), weights.clone());
    let server = FileServer::start(repository, |_, path, before, mut part| {
        if path == "model.safetensors" && before == 0 {
            part.then = Then::Slowly(100_000, Duration::from_millis(50));
        }
        Reply::Part(part)
    });
    let mut child = command(here, &server.server.origin(), "fetch blip-vqa")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let blobs = here.join("hf/hub/models--Salesforce--blip-vqa-base/blobs");
    let digest = server.repository.lock().unwrap().hub_digest("model.safetensors");
    let partial = blobs.join(format!("{digest}.incomplete"));
    for _ in 0..2000 {
        if std::fs::metadata(&partial).is_ok_and(|about| about.len() >= 300_000) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let have = std::fs::metadata(&partial).unwrap().len();
    assert!((300_000..2_000_000).contains(&have), "{have}");
    assert!(!blobs.join(&digest).exists());
    let (status, stdout, _) = run(here, "http://127.0.0.1:1", "fetch blip-vqa --offline");
    assert!(status == 1 && stdout.contains("begun"), "{stdout}");

    let (status, _, stderr) = run(here, &server.server.origin(), "fetch blip-vqa");
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(std::fs::read(blobs.join(&digest)).unwrap(), weights);
    let asked = server.requests("model.safetensors");
    assert_eq!(asked[1].header("range"), Some(format!("bytes={have}-").as_str()));
}

#[test]
fn a_file_that_is_not_the_known_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let commit = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14";
    let name = "stable-diffusion-v1-5/stable-diffusion-v1-5";
    let server = FileServer::good(Repository::new(name, commit).folder(&fixture("sd15-tiny")));
    let (status, _, stderr) = run(folder.path(), &server.server.origin(), "fetch sd15");
    assert!(status == 2 && stderr.contains("but this program says"), "{stderr}");
}

/// The question file comes last and is held against its published blob id; without it the folder is not
/// taken for a benchmark.
#[test]
fn a_benchmark_in_part_is_no_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let server = super::loopback::Loopback::start(|_| {
        Reply::Status(404, vec![], "404: Not Found".to_owned())
    });
    let (status, _, stderr) = run(folder.path(), &server.origin(), "fetch benchmark");
    assert!(status == 2 && stderr.contains("TencentQQGYLab/ELLA prompts/"), "{stderr}");
    let asked = server.received();
    let commit = "3c228f1dc6c4d3cad0a47493816151a419f14db3";
    let start = format!("/TencentQQGYLab/ELLA/{commit}/dpg_bench/prompts/");
    assert!(asked.iter().all(|request| request.target().starts_with(&start)), "{asked:?}");
    assert!(asked.iter().all(|request| request.authorization.is_none()));
    let (status, _, stderr) = run(folder.path(), &server.origin(), "show whoops31");
    assert!(status == 2 && stderr.contains("fetched in part only"), "{stderr}");
}
