//! The programs of `examples/`, which use the public face alone: each runs, and does what its head says.

use std::collections::BTreeSet;
use std::path::Path;

use dpg_bench::RunDirectory;

#[path = "../../examples/own_generator.rs"]
#[allow(dead_code)]
mod own_generator;
#[path = "../../examples/own_judge.rs"]
#[allow(dead_code)]
mod own_judge;
#[path = "../../examples/whole_run.rs"]
#[allow(dead_code)]
mod whole_run;

#[test]
fn a_judge_of_ones_own_answers_every_question_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let summary = own_judge::run(folder.path()).unwrap();
    assert_eq!(summary.judge.name, "color");
    assert_eq!(summary.coverage.images_present, 4);
    assert_eq!(summary.coverage.questions_answered, summary.coverage.questions_expected);
    let answers = RunDirectory::open(folder.path()).unwrap().read_answers("color").unwrap();
    let said: BTreeSet<String> = answers
        .iter()
        .flat_map(|record| &record.answers)
        .map(|answer| format!("{:?}", answer.outcome))
        .collect();
    assert!(said.len() > 1, "it says the same to everything: {said:?}");
    // Given again it has nothing to do, and ends in the same score.
    assert_eq!(own_judge::run(folder.path()).unwrap(), summary);
}

#[test]
fn a_generator_of_ones_own_makes_a_run_that_a_judge_scores() {
    let folder = tempfile::tempdir().unwrap();
    let summary = own_generator::run(folder.path()).unwrap();
    assert_eq!(summary.run.model.as_deref(), Some("stripes"));
    assert_eq!(summary.coverage.questions_answered, summary.coverage.questions_expected);
    let run = RunDirectory::open(folder.path()).unwrap();
    assert_eq!(run.manifest().generation.as_ref().unwrap().settings["side"], 64);
    let picture = image::open(run.image_path(&run.read_images().unwrap()[0].item, 0)).unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 64));
}

#[test]
fn a_whole_run_ends_in_a_comparison_and_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let (comparison, page) = whole_run::run(folder.path()).unwrap();
    assert_eq!(comparison.items, 4);
    assert!(page.is_file() && page.starts_with(folder.path().join("report")), "{page:?}");
    assert!(std::fs::read_to_string(page).unwrap().contains("demo-ella"));
}

#[test]
fn examples_are_short_and_use_the_public_face_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let face = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> = face.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    assert!(rooms.len() > 15, "{rooms:?}");
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() < 60, "{}: {} lines", path.display(), text.lines().count());
        for room in &rooms {
            let inside = format!("{}::", room.trim_end_matches(';'));
            assert!(!text.contains(&inside), "{}: {inside}", path.display());
        }
    }
    assert_eq!(count, 3);
}
