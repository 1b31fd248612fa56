//! `import-log` on the detail file that the fixture script writes in the reference script's format
//! (paths and questions with commas and crop boxes, repeated questions, items that the script drops),
//! and on damaged forms of it; the score must be the one that Python printed.

use std::path::Path;
use std::process::{Command, Output};

use dpg_bench::benchmark::{Benchmark, Item};
use dpg_bench::results::{AnswerOutcome, RunDirectory};
use dpg_bench::score::log_line::{LogNoteKind, RecoveredLog};
use dpg_bench::score::reference_log::read_log;

use super::seeded_answers::{answer, benchmark, fixtures};

const SEED: &str = "odd-3";

fn odd() -> Benchmark {
    benchmark("odd").unwrap()
}

fn detail() -> String {
    std::fs::read_to_string(fixtures().join("odd_detail.txt")).unwrap()
}

fn items(benchmark: &Benchmark) -> Vec<&Item> {
    benchmark.items.iter().collect()
}

/// Every recovered answer is the one that was given, and none is missing that `expected` counts.
fn check_answers(log: &RecoveredLog<'_>, expected: usize) {
    let mut count = 0;
    for pass in log.passes_that_count() {
        for (image, answers) in (0_u32..).zip(&pass.answers) {
            for (question, text) in answers {
                assert_eq!(
                    *text,
                    Some(answer(SEED, &pass.item.id, image, *question)),
                    "{}, image {image}, question {question}",
                    pass.item.id
                );
                count += 1;
            }
        }
    }
    assert_eq!(count, expected);
}

fn kinds(log: &RecoveredLog<'_>) -> Vec<LogNoteKind> {
    let mut kinds: Vec<_> = log.notes.iter().map(|note| note.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn every_answer_comes_back_through_commas_boxes_and_repeats() {
    let benchmark = odd();
    let text = detail();
    let log = read_log(&text, &items(&benchmark));
    check_answers(&log, text.lines().count());
    assert_eq!((log.images, log.resolution, log.interleaved), (4, 512, false));
    // The three items that the script drops end after an image; nothing else is to be said.
    assert_eq!(kinds(&log), [LogNoteKind::CutShort]);
    assert_eq!(log.notes.len(), 3);
}

#[test]
fn line_ends_of_windows_change_nothing() {
    let benchmark = odd();
    let text = detail().replace('\n', "\r\n");
    let log = read_log(&text, &items(&benchmark));
    check_answers(&log, text.lines().count());
    assert_eq!(kinds(&log), [LogNoteKind::CutShort]);
}

#[test]
fn lines_of_two_processes_may_alternate() {
    let benchmark = odd();
    let text = detail();
    let lines: Vec<&str> = text.lines().collect();
    let half = lines.iter().position(|line| line.contains("repeats.1.png")).unwrap();
    let (mut first, mut second) = (lines[..half].iter(), lines[half..].iter());
    let mut mixed = String::new();
    loop {
        let pair = [first.next(), second.next(), second.next()];
        if pair.iter().all(Option::is_none) {
            break;
        }
        for line in pair.into_iter().flatten() {
            mixed.push_str(line);
            mixed.push('\n');
        }
    }
    let log = read_log(&mixed, &items(&benchmark));
    assert!(log.interleaved);
    check_answers(&log, lines.len());
    assert_eq!(kinds(&log), [LogNoteKind::CutShort]);
}

#[test]
fn a_torn_last_line_is_left_out_and_named() {
    let benchmark = odd();
    let text = detail();
    let torn = text.trim_end().strip_suffix('s').unwrap_or(text.trim_end());
    let log = read_log(torn, &items(&benchmark));
    let lines = text.lines().count();
    check_answers(&log, lines - 1);
    let note = log.notes.iter().find(|note| note.kind == LogNoteKind::Torn).unwrap();
    assert_eq!(note.lines, [lines]);
}

#[test]
fn an_item_cut_short_and_gone_through_again_counts_once() {
    let benchmark = odd();
    let text = detail();
    // The first seven lines of `repeats` (question 2 and 4, and 1 and 5, have one text), then all.
    let at = text.lines().position(|line| line.contains("repeats.1.png")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for cut in 1..20 {
        let mut again: Vec<&str> = lines[..at + cut].to_vec();
        again.extend(&lines[at..]);
        let joined = again.join("\n") + "\n";
        let log = read_log(&joined, &items(&benchmark));
        check_answers(&log, lines.len());
        let note = log.notes.iter().find(|note| note.kind == LogNoteKind::Repeated).unwrap();
        assert_eq!((note.subject.as_str(), note.lines[0]), ("repeats", at + 1), "cut at {cut}");
        assert!(
            kinds(&log)
                .iter()
                .all(|kind| { matches!(kind, LogNoteKind::Repeated | LogNoteKind::CutShort) })
        );
    }
}

#[test]
fn lost_and_foreign_lines_are_named_by_number() {
    let benchmark = odd();
    let text = detail();
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains("forward.1.png")).unwrap();
    lines.remove(at + 2);
    lines.insert(0, "Traceback (most recent call last):");
    lines.push("x/nobody.png, (0, 0, 512, 512), Is it?, yes");
    lines.push("x/forward.png, (0, 0, 512, 512), Is it something else?, yes");
    lines.push("x/forward.png, (0, 0, 256, 256), Is the cat furry?, yes");
    let joined = lines.join("\n") + "\n";
    let log = read_log(&joined, &items(&benchmark));
    let of = |kind: LogNoteKind| {
        log.notes
            .iter()
            .filter(|note| note.kind == kind)
            .map(|note| note.lines[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(of(LogNoteKind::Unreadable), [1]);
    assert_eq!(of(LogNoteKind::LostLines), [at + 2 + 2]);
    assert_eq!(of(LogNoteKind::UnknownItem), [lines.len() - 2]);
    assert_eq!(of(LogNoteKind::UnknownQuestion), [lines.len() - 1]);
    assert_eq!(of(LogNoteKind::OtherCrop), [lines.len()]);
}

#[test]
fn a_line_with_two_readings_is_not_guessed() {
    let benchmark = odd();
    // Alone, this line may be the second question of image 0 or the first of image 1 of another path.
    let line = "x/commas_2.png, (0, 0, 512, 512), Is it?, yes, (512, 0, 1024, 512), Is it?, no\n";
    let log = read_log(line, &items(&benchmark));
    assert_eq!(kinds(&log), [LogNoteKind::Ambiguous]);
    assert!(log.passes.is_empty());
}

/// The fixture's answers as a script writes them that asks about one file per image: a number, or `None`, in the
/// place of the crop box. `name` gives the file of an item's image.
fn without_boxes(images: u32, box_or_round: &str, name: impl Fn(&str, u32) -> String) -> String {
    let benchmark = odd();
    let mut text = String::new();
    for item in &benchmark.items {
        for image in 0..images {
            let asked = item.graph.questions().iter().filter(|question| question.row != 1);
            for question in asked {
                text += &format!(
                    "out, 7, x/{}, {}, {}, {}\n",
                    name(&item.id, image),
                    box_or_round.replace('K', &image.to_string()),
                    question.text,
                    answer(SEED, &item.id, image, question.id)
                );
            }
        }
    }
    text
}

#[test]
fn lines_without_crop_boxes_are_images_of_their_own_files() {
    let benchmark = odd();
    for (images, round, text) in [
        (4, "rounds", without_boxes(4, "K", |id, image| format!("{id}_{image}.jpg"))),
        (
            3,
            "one round, images from 1",
            without_boxes(3, "1", |id, k| format!("{id}_{}.png", k + 1)),
        ),
        (
            2,
            "seeds",
            without_boxes(2, "None", |id, image| format!("{id}_{}.png", 1000 + 7 * image)),
        ),
        (1, "whole pictures", without_boxes(1, "None", |id, _| format!("{id}.jpeg"))),
    ] {
        let log = read_log(&text, &items(&benchmark));
        check_answers(&log, text.lines().count());
        assert_eq!((log.images, log.resolution, log.whole_files), (images, 0, true), "{round}");
        assert_eq!(kinds(&log), [], "{round}");
        // In another order of files, as a folder lists them, nothing changes but the order.
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_by_key(|line| {
            line.split(", ").nth(2).map(|path| path.chars().rev().collect::<String>())
        });
        let log = read_log(&(lines.join("\n") + "\n"), &items(&benchmark)).passes.len();
        assert_eq!(log, benchmark.items.len(), "{round}");
    }
}

#[test]
fn a_log_of_whole_files_names_what_is_lost_and_what_is_of_the_other_form() {
    let benchmark = odd();
    let text = without_boxes(2, "K", |id, image| format!("{id}_{image}.jpg"));
    let without_third: Vec<&str> =
        text.lines().enumerate().filter(|(index, _)| *index != 2).map(|(_, line)| line).collect();
    let boxed = detail().lines().next().unwrap().to_owned();
    let damaged = format!("{}\n{boxed}\nx/nobody_0.jpg, 0, Is it?, no\n", without_third.join("\n"));
    let log = read_log(&damaged, &items(&benchmark));
    assert_eq!(
        kinds(&log),
        [LogNoteKind::UnknownItem, LogNoteKind::OtherForm, LogNoteKind::LostLines]
    );
    let twice = format!("{text}{text}");
    let log = read_log(&twice, &items(&benchmark));
    check_answers(&log, text.lines().count());
    assert_eq!(kinds(&log), [LogNoteKind::Repeated]);
}

#[test]
fn the_command_says_that_there_are_no_crop_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let detail = folder.path().join("detail.txt");
    std::fs::write(&detail, without_boxes(2, "K", |id, image| format!("{id}_{image}.jpg")))
        .unwrap();
    let output = import(&detail, &folder.path().join("run"), &[]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(told.contains("2 images each, no crop boxes, so each file is one image"), "{told}");
}

fn dpg_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dpg-bench")).args(arguments).output().unwrap()
}

fn import(detail: &Path, out: &Path, more: &[&str]) -> Output {
    let questions = fixtures().join("odd_questions.csv");
    let mut arguments = vec!["import-log", detail.to_str().unwrap(), "--lenient", "--benchmark"];
    arguments.extend([questions.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    arguments.extend(more);
    dpg_bench(&arguments)
}

/// The number that Python printed behind `DPG-Bench score: `, as text.
fn printed_score() -> String {
    let results = std::fs::read_to_string(fixtures().join("odd_results.txt")).unwrap();
    results.lines().find_map(|line| line.strip_prefix("DPG-Bench score: ")).unwrap().to_owned()
}

#[test]
fn the_imported_run_scores_what_python_printed_to_the_last_digit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let results = fixtures().join("odd_results.txt");
    let detail = fixtures().join("odd_detail.txt");
    let output = import(&detail, &out, &["--results", results.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(format!("{:?}", report["overall"].as_f64().unwrap()), printed_score());
    assert_eq!(report["comparison"]["overall_equal"], true);
    assert_eq!(report["comparison"]["items_compared"], 6);
    assert_eq!(report["dropped"].as_array().unwrap().len(), 3);

    let scored = dpg_bench(&["score", out.to_str().unwrap(), "--protocol", "reference", "--json"]);
    assert_eq!(scored.status.code(), Some(0), "{scored:?}");
    let summary: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
    let overall = summary["reference"]["overall"]["mean"].as_f64().unwrap();
    assert_eq!(format!("{overall:?}"), printed_score());
    // Row 1 and the cut images have no answers: the corrected headline is withheld.
    assert_eq!(summary["corrected"]["overall"], serde_json::Value::Null);
    let both = dpg_bench(&["score", out.to_str().unwrap()]);
    assert_eq!(both.status.code(), Some(3), "{both:?}");

    // Importing again changes nothing; another log is refused.
    let journal = out.join("answers/reference-log.jsonl");
    let before = std::fs::read(&journal).unwrap();
    assert_eq!(import(&detail, &out, &[]).status.code(), Some(0));
    assert_eq!(std::fs::read(&journal).unwrap(), before);
    let other = folder.path().join("other_detail.txt");
    std::fs::write(&other, detail_without_the_last_line()).unwrap();
    let refused = import(&other, &out, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("log_sha256"), "{refused:?}");
}

fn detail_without_the_last_line() -> String {
    let text = detail();
    let end = text.trim_end().rfind('\n').unwrap();
    text[..=end].to_owned()
}

#[test]
fn a_changed_answer_is_seen_against_the_result_file() {
    let folder = tempfile::tempdir().unwrap();
    let altered = folder.path().join("detail.txt");
    let text = detail();
    assert!(text.contains("Is the cat furry?, yes\n"));
    std::fs::write(
        &altered,
        text.replacen("Is the cat furry?, yes\n", "Is the cat furry?, no\n", 1),
    )
    .unwrap();
    let results = fixtures().join("odd_results.txt");
    let more = ["--results", results.to_str().unwrap()];
    let output = import(&altered, &folder.path().join("run"), &more);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("score is another") && said.contains("forward:"), "{said}");
}

/// DSG-1k: 8,182 questions, 54 repeated within an item, and every answer comes back.
#[test]
fn all_of_dsg_1k_comes_back() {
    let Some(benchmark) = benchmark("dsg-1k") else { return };
    let mut text = String::new();
    let boxes = ["(0, 0, 64, 64)", "(64, 0, 128, 64)", "(0, 64, 64, 128)", "(64, 64, 128, 128)"];
    for item in &benchmark.items {
        for (image, corners) in (0_u32..).zip(boxes) {
            for question in item.graph.questions().iter().filter(|question| question.row != 1) {
                let said = answer(SEED, &item.id, image, question.id);
                text.push_str(&format!(
                    "g/{}.png, {corners}, {}, {said}\n",
                    item.id, question.text
                ));
            }
        }
    }
    let log = read_log(&text, &items(&benchmark));
    assert_eq!(log.notes, []);
    check_answers(&log, text.lines().count());
}

#[test]
fn the_run_keeps_the_order_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_eq!(import(&fixtures().join("odd_detail.txt"), &out, &[]).status.code(), Some(0));
    let run = RunDirectory::open(&out).unwrap();
    let records = run.read_answers("reference-log").unwrap();
    let mut order: Vec<&str> = records.iter().map(|record| record.item.as_str()).collect();
    order.dedup();
    let mut in_log: Vec<String> = detail()
        .lines()
        .map(|line| line.split("v1/a.b/").nth(1).unwrap().split('.').next().unwrap().to_owned())
        .collect();
    in_log.dedup();
    assert_eq!(order, in_log);
    assert!(records.iter().all(|record| record.pixels_sha256.is_none()));
    assert!(
        records
            .iter()
            .flat_map(|record| &record.answers)
            .all(|answer| { matches!(answer.outcome, AnswerOutcome::Answered { .. }) })
    );
}
