//! A folder with three prompts and a workflow, in which the program asks an image server on loopback.

use std::path::PathBuf;
use std::process::{Command, Output};

use dpg_bench::RunDirectory;
use dpg_bench::results::{ImageOutcome, Settings};

use super::generate_run::files;
use super::image_server::{Kind, Played, WORKFLOW, asked};
use super::loopback::{Loopback, Received, Reply};

/// The prompts.
pub const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
kite,A red kite over a stone house,,1,0,entity,whole,entity - whole (kite),Is there a kite?
cat,A small cat on a wooden chair,,1,0,entity,whole,entity - whole (cat),Is there a cat?
lamp,A brass lamp beside a window,,1,0,entity,whole,entity - whole (lamp),Is there a lamp?
";

/// What `SERVER_KEY` holds.
pub const KEY: &str = "sk-test-0123456789";

/// The folder.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("items.csv", QUESTIONS);
        place.write("flow.json", WORKFLOW);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
        command
            .args(line.split_whitespace())
            .env("SERVER_KEY", KEY)
            .current_dir(self.folder.path());
        command
    }

    /// Two images of each item from the server at `url`.
    pub fn generate(&self, url: &str, out: &str, flags: &str) -> Output {
        let line = format!(
            "generate --model server --server-url {url} --benchmark items.csv --images 2 --out {out} {flags}"
        );
        self.command(&line).output().unwrap()
    }

    /// What is said where it ends with `status`.
    pub fn said(&self, url: &str, out: &str, flags: &str, status: i32) -> String {
        ended(&self.generate(url, out, flags), status)
    }

    pub fn outcomes(&self, out: &str) -> Vec<(String, u32, ImageOutcome)> {
        let records = RunDirectory::open(&self.path(out)).unwrap().read_images().unwrap();
        records.into_iter().map(|record| (record.item, record.image, record.outcome)).collect()
    }

    pub fn reasons(&self, out: &str) -> Vec<String> {
        let failed = |outcome| match outcome {
            ImageOutcome::Failed { reason } => Some(reason),
            ImageOutcome::Done { .. } | ImageOutcome::Filtered { .. } => None,
        };
        self.outcomes(out).into_iter().filter_map(|(.., outcome)| failed(outcome)).collect()
    }

    pub fn settings(&self, out: &str) -> Settings {
        let run = RunDirectory::open(&self.path(out)).unwrap();
        run.manifest().generation.as_ref().unwrap().settings.clone()
    }

    /// The images and their journal.
    pub fn bytes(&self, out: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = files(&self.path(out));
        all.retain(|path, _| path.extension().is_some_and(|end| end == "png" || end == "jsonl"));
        all.into_iter().collect()
    }
}

pub fn ended(output: &Output, status: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    said
}

/// A server as it is documented.
pub fn good(kind: Kind) -> Loopback {
    let played = Played::new(kind);
    Loopback::start(move |request| played.answer(request))
}

/// A vLLM-Omni of which `wrong` answers the requests for images of the cat.
pub fn wrong_about_cats(
    wrong: impl Fn(&Received, &str, u64) -> Reply + Send + Sync + 'static,
) -> Loopback {
    let played = Played::new(Kind::VllmOmni);
    Loopback::start(move |request| match asked(request) {
        Some((prompt, seed)) if prompt.contains("cat") => {
            wrong(request, &prompt, seed.unwrap_or_default())
        }
        _ => played.answer(request),
    })
}

/// The requests for images.
pub fn asked_for(server: &Loopback) -> Vec<(String, Option<u64>)> {
    server.received().iter().filter_map(asked).collect()
}
