//! The `reference` protocol against an independent implementation in Python (pandas, numpy), bit for
//! bit, on DSG-1k, the 13 real DPG items and a file of odd questions. Each check has twins that break
//! one quirk and must fail it.

use std::collections::BTreeMap;

use dpg_bench::aggregate::benchmark_score::benchmark_score;
use dpg_bench::aggregate::{CategoryFigure, Shares, category_figures};
use dpg_bench::benchmark::{Item, QuestionGraph};
use dpg_bench::results::NewestAnswers;
use dpg_bench::score::dependency_rule::in_topological_order;
use dpg_bench::score::{NotScored, Protocol, RunScore, score_run};
use dpg_bench::statistics::{numpy_mean, pairwise_sum};
use serde::Deserialize;

use super::seeded_answers::{benchmark, fixtures, records};

#[derive(Deserialize)]
struct Case {
    file: String,
    seed: String,
    images: u32,
    order: String,
    items: Vec<(String, ItemGolden)>,
    overall: f64,
    l1: BTreeMap<String, (u64, u64, f64)>,
    l2: BTreeMap<String, (u64, u64, f64)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ItemGolden {
    Score(f64),
    Error(String),
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixtures().join("reference_scores.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Everything in which `score` is not the golden case, to the last bit.
fn differences(case: &Case, score: &RunScore<'_>, overall: Option<f64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |what: String, same: bool| {
        if !same {
            found.push(what);
        }
    };
    check("number of items".into(), case.items.len() == score.items.len());
    for ((id, golden), scored) in case.items.iter().zip(&score.items) {
        check(format!("order at {id}"), *id == scored.item.id);
        let same = match (golden, &scored.outcome.score) {
            (ItemGolden::Score(golden), Ok(score)) => golden.to_bits() == score.to_bits(),
            (ItemGolden::Error(error), Err(reason)) => {
                let of_ours = match reason {
                    NotScored::AbsentParent { .. } => "KeyError",
                    _ => "ValueError",
                };
                reason.is_rule() && error == of_ours
            }
            _ => false,
        };
        check(format!("{id}: {:?}", scored.outcome.score), same);
    }
    check("overall".into(), overall.map(f64::to_bits) == Some(case.overall.to_bits()));
    let (l1, l2) = category_figures(&Shares::of(score), 0.95);
    for (golden, ours) in [(&case.l1, &l1), (&case.l2, &l2)] {
        check("category names".into(), golden.len() == ours.len());
        for CategoryFigure { name, raw, conditional } in ours {
            let raw = raw.unwrap();
            let same = golden
                .get(name)
                .is_some_and(|g| (g.0, g.1, g.2.to_bits()) == (raw.k, raw.n, raw.mean.to_bits()));
            check(format!("category {name}: {raw:?}"), same && conditional.is_none());
        }
    }
    found
}

fn overall(score: &RunScore<'_>) -> Option<f64> {
    benchmark_score(score).map(|estimate| estimate.mean)
}

fn in_case_order<'a>(case: &Case, items: &'a [Item]) -> Vec<&'a Item> {
    let by_id: BTreeMap<&str, &Item> = items.iter().map(|item| (item.id.as_str(), item)).collect();
    case.items.iter().map(|(id, _)| by_id[id.as_str()]).collect()
}

/// Runs `check` on every case whose data are there and returns the differences by case.
fn on_every_case(
    check: impl Fn(&Case, &[Item], &NewestAnswers<'_>) -> Vec<String>,
) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for (name, case) in cases() {
        let Some(benchmark) = benchmark(&case.file) else { continue };
        let records = records(&benchmark.items, &case.seed, case.images);
        let answers = NewestAnswers::merge(&records).unwrap();
        found.insert(name, check(&case, &benchmark.items, &answers));
    }
    assert!(found.len() >= 2, "the fixture's own cases need no shared data");
    found
}

#[test]
fn equals_the_reference_to_the_last_bit() {
    let found = on_every_case(|case, items, answers| {
        let items = in_case_order(case, items);
        let score = score_run(&items, answers, case.images, Protocol::Reference);
        differences(case, &score, overall(&score))
    });
    for (case, differences) in found {
        assert!(differences.is_empty(), "{case}: {differences:#?}");
    }
}

#[test]
fn the_golden_cases_hold_every_quirk() {
    let cases = cases();
    let errors = |name: &str, wanted: &str| {
        let is_error = |golden: &ItemGolden| matches!(golden, ItemGolden::Error(e) if e == wanted);
        cases[name].items.iter().filter(|(_, golden)| is_error(golden)).count()
    };
    assert_eq!(errors("odd, 4 images", "KeyError"), 3);
    assert_eq!(
        (errors("dsg-1k, 4 images", "KeyError"), errors("dsg-1k, 4 images", "ValueError")),
        (2, 8)
    );
    let order = |name: &str| cases[name].items.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(cases["odd, log order"].order, "log");
    assert_ne!(order("odd, log order"), order("odd, 4 images"));
}

/// A twin must fail the very check that the real thing passes, on the cases named.
fn must_fail(found: &BTreeMap<String, Vec<String>>, cases: &[&str]) {
    for case in cases {
        if let Some(differences) = found.get(*case) {
            assert!(!differences.is_empty(), "{case}: the check does not see the sabotage");
        }
    }
}

#[test]
fn sabotage_reading_the_first_row() {
    let found = on_every_case(|case, items, answers| {
        let moved: Vec<Item> = items.iter().map(one_row_down).collect();
        let items = in_case_order(case, &moved);
        let score = score_run(&items, answers, case.images, Protocol::Reference);
        differences(case, &score, overall(&score))
    });
    must_fail(&found, &["dsg-1k, 4 images", "sample13, 4 images", "odd, 4 images"]);
}

fn one_row_down(item: &Item) -> Item {
    let mut questions = item.graph.questions().to_vec();
    for question in &mut questions {
        question.row += 1;
    }
    Item { graph: QuestionGraph::build(questions).0, ..item.clone() }
}

#[test]
fn sabotage_categories_from_the_first_image() {
    let found = on_every_case(|case, items, answers| {
        let items = in_case_order(case, items);
        let mut score = score_run(&items, answers, case.images, Protocol::Reference);
        for item in &mut score.items {
            item.outcome.images.reverse();
        }
        let overall = overall(&score);
        let found = differences(case, &score, overall);
        assert!(found.iter().all(|difference| difference.starts_with("category")), "{found:?}");
        found
    });
    must_fail(&found, &["dsg-1k, 4 images", "sample13, 4 images", "odd, 4 images"]);
}

#[test]
fn sabotage_adding_from_left_to_right() {
    let found = on_every_case(|case, items, answers| {
        let items = in_case_order(case, items);
        let score = score_run(&items, answers, case.images, Protocol::Reference);
        let scores = score.item_scores();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64 * 100.0;
        let found = differences(case, &score, Some(mean));
        assert!(found.iter().all(|difference| difference == "overall"), "{found:?}");
        found
    });
    must_fail(&found, &["dsg-1k, 4 images"]);
}

#[test]
fn sabotage_ruling_in_topological_order() {
    let found = on_every_case(|case, items, answers| {
        let items = in_case_order(case, items);
        let mut score = score_run(&items, answers, case.images, Protocol::Reference);
        for item in &mut score.items {
            if item.outcome.score.is_err() {
                continue;
            }
            let shares: Vec<f64> = item
                .outcome
                .images
                .iter()
                .map(|image| {
                    let ruled = in_topological_order(&item.item.graph, &image.raw);
                    let counted: Vec<f64> = ruled.iter().filter_map(|v| v.weight()).collect();
                    counted.iter().filter(|&&yes| yes == 1.0).count() as f64 / counted.len() as f64
                })
                .collect();
            item.outcome.score = Ok(shares.iter().fold(0.0, |a, b| a + b) / shares.len() as f64);
        }
        let overall = overall(&score);
        differences(case, &score, overall)
    });
    must_fail(&found, &["dsg-1k, 4 images", "odd, 4 images"]);
}

#[derive(Deserialize)]
struct NumpySums {
    sums: Vec<f64>,
    means: Vec<f64>,
}

/// The values that the fixture's sums are of: splitmix64, its upper 53 bits.
fn unit_doubles(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 * 2.0_f64.powi(-53)
    })
    .take(count)
    .collect()
}

#[test]
fn sums_and_means_round_as_numpy_rounds_them_at_every_size() {
    let text = std::fs::read_to_string(fixtures().join("numpy_sums.json")).unwrap();
    let golden: NumpySums = serde_json::from_str(&text).unwrap();
    let values = unit_doubles(1, golden.sums.len());
    assert_eq!(values.len(), 2000);
    let wrong = |sum: &dyn Fn(&[f64]) -> f64| {
        let differs =
            |size: &usize| sum(&values[..*size]).to_bits() != golden.sums[size - 1].to_bits();
        (1..=values.len()).filter(differs).collect::<Vec<_>>()
    };
    assert_eq!(wrong(&pairwise_sum), [0_usize; 0]);
    for size in 1..=values.len() {
        let mean = numpy_mean(&values[..size]).unwrap();
        assert_eq!(mean.to_bits(), golden.means[size - 1].to_bits(), "{size} values");
    }
    // Sabotage: plain addition, and halves cut in the middle instead of at a multiple of eight.
    assert!(wrong(&|values| values.iter().sum()).len() > 1000);
    fn cut_in_the_middle(values: &[f64]) -> f64 {
        if values.len() <= 128 {
            return pairwise_sum(values);
        }
        let (left, right) = values.split_at(values.len() / 2);
        cut_in_the_middle(left) + cut_in_the_middle(right)
    }
    assert!(wrong(&cut_in_the_middle).len() > 500);
    assert_eq!(numpy_mean(&[]), None);
}
