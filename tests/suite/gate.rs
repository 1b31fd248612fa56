//! The gate's verdicts and advice on made-up items whose drops are known.

use dpg_bench::aggregate::baseline::{Baseline, ItemCounts, KIND};
use dpg_bench::aggregate::{JudgeIdentity, Protocol, RunIdentity};
use dpg_bench::check::{Check, CheckedFigure, Gate, Outcome, Undecided, check};
use dpg_bench::compare::{Labelled, Options, compare};
use dpg_bench::reports::check_reports::{
    check_github_annotations, check_github_summary, check_junit, check_terminal,
};
use dpg_bench::reports::{comparison_csv, comparison_markdown, comparison_terminal};
use dpg_bench::results::{BenchmarkIdentity, FORMAT_VERSION};
use dpg_bench::statistics::PermutationTest;

use super::statistics::uniform;

/// A run with these item scores in points, and as many yes of 100 questions in two categories.
fn run(scores: impl IntoIterator<Item = f64>) -> Labelled {
    let items: Vec<ItemCounts> = scores
        .into_iter()
        .enumerate()
        .map(|(item, score)| {
            let yes = score.round() as u32;
            let counts = [0, 1].map(|category| [category, yes, 100, yes, 100]).to_vec();
            ItemCounts {
                id: format!("i{item}"),
                score: Some(score / 100.0),
                counts,
                sums: Vec::new(),
            }
        })
        .collect();
    let benchmark = BenchmarkIdentity {
        path: "made up".into(),
        digest: "d".into(),
        official: false,
        items: items.len() as u64,
        questions: 0,
        lenient: false,
    };
    let run = RunIdentity {
        model: None,
        generation: None,
        benchmark,
        selection: Default::default(),
        images_per_item: 1,
    };
    Labelled {
        label: "run".into(),
        run: Baseline {
            format_version: FORMAT_VERSION,
            kind: KIND.into(),
            run,
            judge: JudgeIdentity { name: "j".into(), settings: Default::default() },
            protocol: Protocol::Corrected,
            questions_expected: 1,
            questions_answered: 1,
            unreadable_answers: 0,
            dropped_questions: None,
            categories: vec!["entity - whole".into(), "other - count".into()],
            items,
        },
    }
}

/// Checks `items` items that dropped by `drop` points on average, with this standard deviation.
fn checked(items: usize, drop: f64, deviation: f64, gate: &Gate) -> Check {
    let mut uniform = uniform(5);
    let mut moves: Vec<f64> = (0..items).map(|_| uniform() - 0.5).collect();
    let mean = moves.iter().sum::<f64>() / items as f64;
    moves.iter_mut().for_each(|change| *change -= mean);
    let squares = moves.iter().map(|change| change * change).sum::<f64>();
    let scale =
        if squares > 0.0 { deviation * ((items as f64 - 1.0) / squares).sqrt() } else { 0.0 };
    let base = run((0..items).map(|item| 60.0 + (item % 20) as f64));
    let other = run((0..items).map(|item| 60.0 + (item % 20) as f64 - drop + scale * moves[item]));
    let options = Options { test: PermutationTest::default(), level: 0.95, allowed: Vec::new() };
    check(&base, &other, gate, &options).unwrap()
}

fn gate(max_drop: f64) -> Gate {
    Gate { max_drop, alpha: 0.05, categories: Vec::new() }
}

fn score(check: &Check) -> &CheckedFigure {
    &check.figures[0]
}

/// 100 items, standard error 0.5: a drop of 1.2 is no noise (p 0.01), but it may well be one of 1.0.
#[test]
fn a_drop_is_held_against_the_tolerated_one_and_not_against_none() {
    for (drop, expected) in [
        (2.5, Outcome::Failed),
        (1.2, Outcome::Undecided),
        (0.9, Outcome::Undecided),
        (0.0, Outcome::Passed),
        (-1.0, Outcome::Passed),
    ] {
        let found = checked(100, drop, 5.0, &gate(1.0));
        let figure = score(&found);
        assert_eq!((figure.outcome, found.outcome), (expected, expected), "{drop}: {figure:?}");
        assert!((figure.drop - drop).abs() < 1e-9);
        let (least, most) = (figure.least_drop.unwrap(), figure.most_drop.unwrap());
        assert!(least < drop && drop < most);
        assert_eq!(expected == Outcome::Failed, least > 1.0);
        assert_eq!(expected == Outcome::Passed, most < 1.0);
    }
}

/// The advice is for the drop that was seen: so many items as here never "can decide".
#[test]
fn advice_counts_the_drop_that_was_seen() {
    for (drop, expected) in [(1.5, 619), (0.5, 619), (0.3, 316), (3.0, 0), (1.0, 0)] {
        let found = checked(100, drop, 5.0, &gate(1.0));
        let figure = score(&found);
        let needed = figure.items_needed.unwrap_or(0);
        // (1.645 + 0.842)^2 (5 / distance)^2.
        assert!(needed.abs_diff(expected) <= 2, "{drop}: {needed}");
        assert!(needed == 0 || needed > 100);
        let text = check_terminal(&found);
        assert_eq!(text.contains(" can if the drop is truly"), expected > 0, "{text}");
    }
    let found = checked(100, 1.0, 5.0, &gate(1.0));
    assert_eq!(score(&found).undecided, Some(Undecided::AtTheMargin));
    let text = check_terminal(&found);
    assert!(text.contains("hardly decide it, another --max-drop would"), "{text}");
}

#[test]
fn a_few_items_neither_pass_nor_fail_and_are_told_so() {
    // Nothing changed, and a collapse.
    for drop in [0.0, 50.0] {
        let found = checked(4, drop, 0.0, &gate(1.0));
        assert_eq!(score(&found).undecided, Some(Undecided::FewItems));
        let text = check_terminal(&found);
        for word in ["4 items are too few to pass", "smallest possible p is 0.062", "only 4 items"]
        {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(score(&found).items_needed.unwrap() >= 20);
    }
    // Six can fail, but pass as little as nineteen.
    assert_eq!(score(&checked(6, 50.0, 0.0, &gate(1.0))).outcome, Outcome::Failed);
    for (items, outcome) in [(19, Outcome::Undecided), (20, Outcome::Passed)] {
        assert_eq!(score(&checked(items, 0.0, 0.0, &gate(1.0))).outcome, outcome, "{items}");
        assert_eq!(score(&checked(items, 0.0, 0.0, &gate(0.0))).outcome, outcome, "{items}");
    }
    // Nothing tolerated and little changed: more items will not settle it.
    assert_eq!(score(&checked(100, 0.0, 1.0, &gate(0.0))).undecided, Some(Undecided::AtTheMargin));
}

/// Three figures that move together: what is a failure alone may be chance among three.
#[test]
fn several_figures_are_corrected_for_their_number() {
    let mut gate = gate(1.0);
    let alone = checked(100, 1.95, 5.0, &gate);
    assert_eq!(alone.outcome, Outcome::Failed);
    gate.categories = vec!["entity".into(), "other - count".into()];
    let among = checked(100, 1.95, 5.0, &gate);
    assert_eq!(among.figures.len(), 3);
    let figure = score(&among);
    assert_eq!(
        (figure.outcome, figure.undecided),
        (Outcome::Undecided, Some(Undecided::ManyFigures))
    );
    assert_eq!(figure.p, score(&alone).p);
    assert!(figure.p.unwrap() < 0.05 && figure.p_holm.unwrap() > 0.05);
    let text = check_terminal(&among);
    assert!(text.contains("among 3 numbers it may be chance"), "{text}");
    // A real drop still fails, and passing asks for no more than alone.
    assert_eq!(checked(100, 4.0, 5.0, &gate).outcome, Outcome::Failed);
    assert_eq!(checked(100, -1.0, 5.0, &gate).outcome, Outcome::Passed);
}

/// What is no change, or hardly one, in every form in which a check and a comparison are told.
#[test]
fn no_zero_is_printed_with_a_minus() {
    let options = Options { test: PermutationTest::default(), level: 0.95, allowed: Vec::new() };
    let mut near = 0;
    for deviation in [0.0, 0.005, 0.02] {
        let found = checked(100, 0.0, deviation, &gate(0.0));
        let least = score(&found).least_drop.unwrap();
        near += usize::from(least < 0.0 && least > -0.005);
        let base = run((0..100).map(|item| 60.0 + f64::from(item % 20)));
        let moved = |item: i32| deviation * f64::from(item % 3 - 1);
        let other = run((0..100).map(|item| 60.0 + f64::from(item % 20) - moved(item)));
        let compared = compare(&base, &other, &options).unwrap();
        let texts = [
            check_terminal(&found),
            check_junit(&found),
            check_github_summary(&found),
            check_github_annotations(&found),
            serde_json::to_string(&found).unwrap(),
            comparison_terminal(&compared, 5),
            comparison_markdown(&compared, 5),
            String::from_utf8(comparison_csv(std::slice::from_ref(&compared)).unwrap()).unwrap(),
            serde_json::to_string(&compared).unwrap(),
        ];
        for text in texts {
            let numbers = text.split(|c: char| !matches!(c, '-' | '.' | 'e' | '0'..='9'));
            let zeros: Vec<&str> = numbers
                .filter(|number| number.starts_with('-') && number.parse() == Ok(0.0))
                .collect();
            assert_eq!(zeros, [""; 0], "{text}");
        }
    }
    assert!(near > 0, "no interval ends just below zero");
}
