//! Runs whose prompts, item ids, answers and folder names try to leave their place, and reports of them, for the
//! tests of reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dpg_bench::benchmark::{Benchmark, Selection, Strictness};
use dpg_bench::results::manifest::{BenchmarkIdentity, to_settings};
use dpg_bench::results::{AnswerOutcome, AnswerRecord, QuestionAnswer, RunDirectory, Settings};
use serde_json::Value;

use super::small_run::{IMAGES, put_picture};

/// Prompts, one an item.
pub const HOSTILE: [&str; 4] = [
    "</script><script>window.hostile = 1</script><img src=x onerror=\"hostile()\"> a truck",
    "\"quotes\" 'and' &amp; <!-- {{data}} {{script}} \u{2028}",
    "\u{202e}reversed\u{202c} مرحبا بالعالم",
    "plain 🧑‍🚀 words, a few more of them",
];
/// Item ids.
pub const ITEMS: [&str; 4] = ["a&b 'c'", "100% #1", "مرحبا", "plain"];
pub const CATEGORIES: [&str; 5] = [
    "global - (photo)",
    "entity - whole (truck)",
    "attribute - color (truck, red)",
    "relation - spatial (a, b, on)",
    "other - <b>a category with a very long name & no end</b> (x)",
];

/// Writes a question file of four items with five questions; the third depends on the second.
pub fn question_file(folder: &Path) -> PathBuf {
    let path = folder.join("questions.csv");
    let mut writer = csv::Writer::from_path(&path).unwrap();
    let heads = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language";
    writer.write_record(heads.split(',')).unwrap();
    for (item, prompt) in ITEMS.iter().zip(HOSTILE) {
        for (place, category) in CATEGORIES.iter().enumerate() {
            let parents = if place == 2 { "2" } else { "0" };
            let id = (place + 1).to_string();
            let question = format!("Is it so {id}? {prompt}");
            writer
                .write_record([item, prompt, "", &id, parents, "", "", category, &question])
                .unwrap();
        }
    }
    writer.flush().unwrap();
    path
}

/// A run over the question file with pictures and the answers of `answer` (item, image, question);
/// `None`: never asked.
pub fn make_run(
    folder: &Path,
    name: &str,
    judge: &str,
    answer: impl Fn(usize, u32, u32) -> Option<AnswerOutcome>,
) -> PathBuf {
    let questions = question_file(folder);
    let benchmark = Benchmark::load(&questions, Strictness::Strict).unwrap();
    let identity = BenchmarkIdentity {
        path: questions.display().to_string(),
        digest: benchmark.digest.clone(),
        official: false,
        items: benchmark.items.len() as u64,
        questions: benchmark.question_count() as u64,
        lenient: false,
    };
    let path = folder.join(name);
    let selection = to_settings(&Selection::default()).unwrap();
    let mut run = RunDirectory::open_or_create(&path, identity, selection, IMAGES).unwrap();
    let settings = Settings::from([("steps".to_owned(), name.len().into())]);
    run.begin_generation(settings, "cpu").unwrap();
    run.begin_judge(judge, Settings::new(), "cpu").unwrap();
    let (mut journal, _) = run.open_answers(judge).unwrap();
    for (number, item) in benchmark.items.iter().enumerate() {
        for image in 0..IMAGES {
            put_picture(&run, &item.id, image, number as u8);
            let answers = item.graph.questions().iter().filter_map(|question| {
                let outcome = answer(number, image, question.id)?;
                Some(QuestionAnswer::new(question.id, outcome))
            });
            let answers: Vec<QuestionAnswer> = answers.collect();
            let record =
                AnswerRecord { item: item.id.clone(), image, pixels_sha256: None, answers };
            journal.append(&record).unwrap();
        }
    }
    path
}

pub fn said(text: &str) -> Option<AnswerOutcome> {
    let raw = (text.len() > 3).then(|| format!("{text} </script><svg onload=hostile()>"));
    Some(AnswerOutcome::Answered { text: text.into(), raw, yes_probability: Some(0.625) })
}

/// Complete, the second question failing in every second image.
pub fn first(folder: &Path) -> PathBuf {
    make_run(folder, "first", "j", |item, image, question| match (item, question) {
        (_, 2) if image % 2 == 1 => said("no"),
        (1, 4) => said("<img src=x onerror=hostile()>"),
        _ => said("yes"),
    })
}

/// Complete and better.
pub fn second(folder: &Path) -> PathBuf {
    make_run(folder, "second <img src=x>", "j", |item, image, question| {
        said(if (item, image, question) == (0, 0, 5) { "no" } else { "yes" })
    })
}

pub fn report(runs: &[&Path], out: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dpg-bench"));
    command.arg("report").args(runs).arg("--out").arg(out).args(flags);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout) + &text(&stderr))
}

pub fn made(runs: &[&Path], out: &Path, flags: &[&str]) -> String {
    let (code, shown) = report(runs, out, flags);
    assert_eq!(code, Some(0), "{shown}");
    std::fs::read_to_string(out.join("index.html")).unwrap()
}

/// What stands between the last `from` and the `to` behind it.
pub fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let start = text.rfind(from).unwrap_or_else(|| panic!("no {from}")) + from.len();
    &text[start..start + text[start..].find(to).unwrap()]
}

pub fn data(page: &str) -> Value {
    let json = between(page, "<script type=\"application/json\" id=\"data\">", "</script>");
    serde_json::from_str(json).unwrap()
}

pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub fn csv_rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}
