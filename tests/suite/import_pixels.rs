//! Images of memory come into a run one item after the other, as files do; a judge answers about one of no run; and the
//! scores show as HTML.

use std::collections::BTreeMap;
use std::path::Path;

use dpg_bench::{
    Benchmark, Gate, GateFault, ItemImages, JudgeFault, JudgeOptions, LoadedJudge, PixelsFault,
    Protocol, Quiet, Rgb, RgbImage, RunDirectory, Selection, Session, SessionOptions, Strictness,
    Summary, check_run, compare_runs, html_table, load_benchmark, scored_answers,
};

use super::kept_thumbnails::kept;

fn demo() -> Benchmark {
    load_benchmark("demo".as_ref(), Strictness::Strict).unwrap()
}

/// Two images, others for each item.
fn images(item: &str, seed: u8) -> ItemImages {
    let image = |number: u8| {
        RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 ^ seed, y as u8, item.len() as u8 + number]))
    };
    ItemImages { item: item.to_owned(), images: vec![image(0), image(1)] }
}

fn open<'b>(folder: &Path, benchmark: &'b Benchmark) -> Session<'b> {
    let selection = Selection { limit: Some(3), ..Selection::default() };
    let options = SessionOptions { selection, images_per_item: 2, ..SessionOptions::default() };
    Session::open(folder, benchmark, &options, &Quiet).unwrap()
}

fn judge() -> LoadedJudge {
    let mut options = JudgeOptions::new("scripted");
    options.scripted.rule = Some("hash:0.7".parse().unwrap());
    LoadedJudge::load(&options, &Quiet).unwrap()
}

fn scored(session: &mut Session<'_>) -> Summary {
    session.judge(&judge(), &Quiet).unwrap();
    session.score("scripted", false).unwrap()
}

/// The files of a run but the manifest, which has times.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .file_name()
                .is_some_and(|name| name != "manifest.json" && name != "lock.json")
            {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn images_of_memory_make_a_run_that_resumes_in_any_order() {
    let (benchmark, folders) = (demo(), tempfile::tempdir().unwrap());
    let (whole, broken) = (folders.path().join("whole"), folders.path().join("broken"));
    let ids: Vec<&str> = benchmark.items.iter().take(3).map(|item| item.id.as_str()).collect();
    let all = || ids.iter().map(|id| Ok(images(id, 0)));

    let mut session = open(&whole, &benchmark);
    let taken = session.import(Some("mine"), all(), &Quiet).unwrap();
    assert_eq!((taken.done, taken.already_done, taken.stopped), (6, 0, false));
    assert_eq!(kept(&whole), 6);
    let summary = scored(&mut session);
    assert_eq!(summary.run.model.as_deref(), Some("mine"));
    assert_eq!(summary.coverage.images_present, 6);

    let mut session = open(&broken, &benchmark);
    let breaks = [Ok(images(ids[2], 0)), Err(anyhow::anyhow!("the source broke"))];
    let error = session.import(Some("mine"), breaks, &Quiet).unwrap_err();
    assert_eq!(error.to_string(), "the source broke");
    let taken = session.import(Some("mine"), all(), &Quiet).unwrap();
    assert_eq!((taken.done, taken.already_done), (4, 2));
    assert_eq!(scored(&mut session), summary);
    drop(session);
    assert_eq!(contents(&broken), contents(&whole));
}

#[test]
fn images_are_judged_while_they_come_and_leave_the_bytes_of_one_after_the_other() {
    let (benchmark, folders) = (demo(), tempfile::tempdir().unwrap());
    let ids: Vec<&str> = benchmark.items.iter().take(3).map(|item| item.id.as_str()).collect();
    let after = folders.path().join("after");
    let mut session = open(&after, &benchmark);
    session.import(None, ids.iter().map(|id| Ok(images(id, 0))), &Quiet).unwrap();
    let summary = scored(&mut session);
    for (name, order) in [("in order", [0, 1, 2]), ("backwards", [2, 1, 0])] {
        let folder = folders.path().join(name);
        let mut session = open(&folder, &benchmark);
        // The source breaks after its first item, and is asked again.
        let breaks = [Ok(images(ids[order[0]], 0)), Err(anyhow::anyhow!("the source broke"))];
        let error = session.import_and_judge(None, breaks, &judge(), &Quiet).unwrap_err();
        assert_eq!(error.to_string(), "the source broke");
        let all = order.map(|place| Ok(images(ids[place], 0)));
        let (taken, counts) = session.import_and_judge(None, all, &judge(), &Quiet).unwrap();
        assert_eq!((taken.done, taken.already_done, counts.is_complete()), (4, 2, true));
        assert_eq!(session.score("scripted", false).unwrap(), summary);
        drop(session);
        assert_eq!(contents(&folder), contents(&after), "{name}");
    }
    // An item that never came is the next judging's to count.
    let mut session = open(&folders.path().join("gap"), &benchmark);
    let one = [Ok(images(ids[0], 0))];
    let (_, counts) = session.import_and_judge(None, one, &judge(), &Quiet).unwrap();
    assert!(!counts.is_complete());
    assert!(!session.judge(&judge(), &Quiet).unwrap().is_complete());
    let score = session.score("scripted", false).unwrap();
    assert_eq!(score.coverage.images_present, 2);
}

#[test]
fn images_of_a_size_that_the_judge_was_not_made_for_are_refused() {
    let (benchmark, folder) = (demo(), tempfile::tempdir().unwrap());
    let judge = LoadedJudge::load(&JudgeOptions::new("demo-judge"), &Quiet).unwrap();
    let mut session = open(folder.path(), &benchmark);
    let id = &benchmark.items[0].id;
    let large = ItemImages { item: id.clone(), images: vec![RgbImage::new(96, 96); 2] };
    let error = session.import_and_judge(None, [Ok(large)], &judge, &Quiet).unwrap_err();
    assert!(error.to_string().contains("images of 96 x 96 pixels"), "{error}");
}

#[test]
fn images_that_do_not_fit_the_run_are_refused_and_change_nothing() {
    let (benchmark, folder) = (demo(), tempfile::tempdir().unwrap());
    let id = benchmark.items[0].id.as_str();
    let mut session = open(folder.path(), &benchmark);
    session.import(None, [Ok(images(id, 0))], &Quiet).unwrap();
    let before = contents(folder.path());
    let one = ItemImages { images: vec![RgbImage::new(64, 64)], ..images(id, 0) };
    let empty = ItemImages { images: vec![RgbImage::new(0, 64); 2], ..images(id, 0) };
    for (given, expected) in [
        (images("nothing", 0), "the run has no item `nothing`"),
        (one, "1 image given where the run has 2"),
        (empty, "is 0x64 pixels; a side has 1 to"),
        (images(id, 1), "is another one than that in"),
    ] {
        let error = session.import(None, [Ok(given)], &Quiet).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.downcast_ref::<PixelsFault>().is_some());
        assert_eq!(contents(folder.path()), before);
    }
}

#[test]
fn a_judge_says_of_one_image_what_it_says_in_a_run() {
    let (benchmark, judge) =
        (demo(), LoadedJudge::load(&JudgeOptions::new("demo-judge"), &Quiet).unwrap());
    let item = &benchmark.items[0];
    let questions: Vec<&str> = item.graph.questions().iter().map(|one| one.text.as_str()).collect();
    let image = images(&item.id, 0).images.remove(0);
    let all = judge.answer(&image, &questions).unwrap();
    let texts: Vec<String> = all.into_iter().map(|answer| answer.unwrap().text).collect();
    assert!(
        texts.iter().all(|text| text == "yes" || text == "no") && texts.len() == questions.len()
    );
    let last = judge.answer(&image, &questions[questions.len() - 1..]).unwrap();
    assert_eq!(last[0].as_ref().unwrap().text, texts[texts.len() - 1]);
    let refused = judge.answer(&RgbImage::new(32, 32), &questions).unwrap_err().to_string();
    assert!(refused.contains("images of 32 x 32 pixels"), "{refused}");
}

#[test]
fn the_table_of_answers_is_there_without_its_file() {
    let (benchmark, folder) = (demo(), tempfile::tempdir().unwrap());
    let mut session = open(folder.path(), &benchmark);
    let all = benchmark.items.iter().take(3).map(|item| Ok(images(&item.id, 0)));
    session.import(None, all, &Quiet).unwrap();
    session.judge(&judge(), &Quiet).unwrap();
    drop(session);
    let run = RunDirectory::open(folder.path()).unwrap();
    let table = scored_answers(&run, None, None).unwrap();
    let questions: usize = benchmark.items.iter().take(3).map(|item| item.graph.len()).sum();
    assert_eq!(table.rows(), 2 * questions);
    // Each stream is one of its own, and frees what it holds.
    drop([table.stream(), table.stream()]);
    assert_eq!(table.clone().rows(), table.rows());
    assert!(!folder.path().join("scores").exists());
}

#[test]
fn scores_show_as_html_and_runs_are_checked() {
    let (benchmark, folder) = (demo(), tempfile::tempdir().unwrap());
    let mut session = open(folder.path(), &benchmark);
    let all = benchmark.items.iter().take(3).map(|item| Ok(images(&item.id, 0)));
    session.import(Some("<mine> & yours"), all, &Quiet).unwrap();
    let summary = scored(&mut session);
    drop(session);
    let html = html_table(&summary, &Protocol::ALL);
    let mean = summary.corrected.overall.unwrap().mean;
    assert!(html.starts_with("<table>") && html.contains(&format!("{mean:.2}")), "{html}");
    assert!(html.contains("&lt;mine&gt; &amp; yours") && !html.contains("<mine>"), "{html}");

    let gate = Gate { max_drop: 1.0, alpha: 0.05, categories: Vec::new() };
    let found = check_run(folder.path(), folder.path(), &gate, None).unwrap();
    assert_eq!((found.items, found.figures[0].drop), (3, 0.0));
    let refused =
        |gate: &Gate, judge| check_run(folder.path(), folder.path(), gate, judge).unwrap_err();
    for alpha in [0.7, 0.5, 1.0, 0.0, -0.1, f64::NAN, f64::INFINITY] {
        let error = refused(&Gate { alpha, ..gate.clone() }, None);
        assert!(matches!(error.downcast_ref::<GateFault>(), Some(GateFault::Alpha(_))), "{error}");
    }
    for max_drop in [-0.1, 100.0, f64::NAN, f64::INFINITY] {
        let error = refused(&Gate { max_drop, ..gate.clone() }, None);
        assert!(
            matches!(error.downcast_ref::<GateFault>(), Some(GateFault::MaxDrop(_))),
            "{error}"
        );
    }
    let error = refused(&gate, Some("scriptet"));
    let told = format!("{} has no answers of `scriptet`", folder.path().display());
    assert!(
        matches!(error.downcast_ref::<JudgeFault>(), Some(JudgeFault::Unknown { .. })),
        "{error}"
    );
    assert!(error.to_string().starts_with(&told), "{error}");
    assert!(error.to_string().contains("did you mean `scripted`?"), "{error}");
    let found = compare_runs(folder.path(), folder.path(), Some("scripted")).unwrap();
    assert_eq!((found.base.judge.as_str(), found.figures[0].difference), ("scripted", 0.0));
}
