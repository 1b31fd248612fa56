//! The statistics against NumPy, SciPy and statsmodels (fixtures/statistics, made by
//! make_statistics.py), and against themselves at other numbers of threads.

use dpg_bench::statistics::bootstrap::{expanded_tail, quantile};
use dpg_bench::statistics::power::upper_quantile;
use dpg_bench::statistics::share_interval::{clopper_pearson, effective_size, t_quantile};
use dpg_bench::statistics::{
    Bootstrap, Interval, ItemRatio, Pair, PermutationResult, PermutationTest, PowerAnalysis,
    VarianceSplit, holm,
};
use serde_json::Value;

/// Intervals and p-values come of other random numbers than SciPy's.
const DRAWS: usize = 100_000;

fn golden() -> Value {
    let path = crate::tiny_checkpoint::fixture("statistics/golden.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// The category's share of yes, and the mean of the items' scores.
fn figures(golden: &Value, yes: &str) -> (ItemRatio, ItemRatio, Vec<Vec<f64>>) {
    let (yes, questions) = (rows(&golden[yes]), numbers(&golden["questions"]));
    let ratio = ItemRatio {
        numerators: yes.iter().map(|row| row.iter().sum()).collect(),
        denominators: questions.iter().map(|count| 4.0 * count).collect(),
    };
    let scores: Vec<Vec<f64>> = yes
        .iter()
        .zip(&questions)
        .map(|(row, &count)| match count {
            0.0 => Vec::new(),
            _ => row.iter().map(|yes| yes / count).collect(),
        })
        .collect();
    let mean = |row: &Vec<f64>| (!row.is_empty()).then(|| row.iter().sum::<f64>() / 4.0);
    (ratio, ItemRatio::mean_of(scores.iter().map(mean)), scores)
}

fn close(ours: f64, golden: &Value, tolerance: f64) -> bool {
    let expected = golden.as_f64().unwrap();
    eprintln!("{ours} for {expected}");
    (ours - expected).abs() <= tolerance * expected.abs().max(1e-3)
}

#[test]
fn figures_and_clustered_errors_equal_statsmodels() {
    let golden = golden();
    let (ratio, mean, _) = figures(&golden, "yes");
    for (name, figure) in [("ratio", &ratio), ("mean", &mean)] {
        assert!(close(figure.value().unwrap(), &golden[name]["value"], 1e-12), "{name}");
        assert!(close(figure.standard_error().unwrap(), &golden[name]["error"], 1e-9), "{name}");
    }
    // As if every answer stood alone: too short.
    let (k, n): (f64, f64) = (ratio.numerators.iter().sum(), ratio.denominators.iter().sum());
    let naive = (k / n * (1.0 - k / n) / n).sqrt();
    assert!(!close(naive, &golden["ratio"]["error"], 0.1));
    let one = ItemRatio::mean_of([Some(0.5), None]);
    assert_eq!((one.value(), one.standard_error()), (Some(0.5), None));
    assert_eq!(ItemRatio::mean_of([None]).value(), None);
}

fn same(ours: Interval, golden: &Value, tolerance: f64) -> bool {
    let expected = numbers(golden);
    eprintln!("{ours:?} for {expected:?}");
    let width = expected[1] - expected[0];
    (ours.low - expected[0]).abs() <= tolerance * width
        && (ours.high - expected[1]).abs() <= tolerance * width
}

/// Clopper and Pearson's interval is statsmodels'; with R's effective size it is `svyciprop`'s, written anew
/// in NumPy; the interval of a figure is that of the NumPy beside it.
#[test]
fn intervals_of_shares_equal_statsmodels_and_the_formulas_in_numpy() {
    let golden = golden();
    for case in rows(&golden["clopper_pearson"]) {
        let [k, n, level, low, high] = case[..] else { panic!("{case:?}") };
        let ours = clopper_pearson(k / n, n, level);
        assert!(
            (ours.low - low).abs() < 1e-9 && (ours.high - high).abs() < 1e-9,
            "{case:?} {ours:?}"
        );
    }
    for case in rows(&golden["student"]) {
        let [share, freedom, expected] = case[..] else { panic!("{case:?}") };
        let ours = t_quantile(share, freedom);
        assert!((ours / expected - 1.0).abs() < 1e-9, "{case:?} {ours}");
    }
    for case in golden["svyciprop_beta"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let freedom = [number("answers") - 1.0, number("items") - 1.0];
        let size = effective_size(number("share"), number("variance"), freedom, 0.95);
        // The quantile of 13,000 degrees of freedom has seven digits.
        assert!(close(size, &case["effective"], 2e-6));
        assert!(same(clopper_pearson(number("share"), size, 0.95), &case["interval"], 1e-6));
    }
    for case in golden["share_intervals"].as_array().unwrap() {
        let (numerators, denominators) = (numbers(&case["k"]), numbers(&case["n"]));
        let ours = ItemRatio { numerators, denominators };
        let ours = ours.interval(case["level"].as_f64().unwrap()).unwrap();
        assert!(same(ours, &case["interval"], 1e-8), "{}", case["name"]);
        assert!(0.0 <= ours.low && ours.low < ours.high && ours.high <= 1.0);
    }
    // Nothing to tell a spread from.
    assert_eq!(ItemRatio::mean_of([Some(1.0), None, None]).interval(0.95), None);
    assert_eq!(ItemRatio::default().interval(0.95), None);
}

#[test]
fn expanded_bootstrap_intervals_equal_scipy_within_their_own_noise() {
    let golden = golden();
    let expanded = &golden["expanded"];
    for (items, level) in expanded["levels"].as_object().unwrap() {
        let tail = expanded_tail(0.95, items.parse().unwrap()).unwrap();
        assert!((1.0 - 2.0 * tail - level.as_f64().unwrap()).abs() < 1e-9, "{items}");
    }
    let (mut ratio, ..) = figures(&golden, "yes");
    let bootstrap = Bootstrap { draws: DRAWS, ..Bootstrap::default() };
    let of = |bootstrap: &Bootstrap, figure: &ItemRatio| {
        let columns = [&figure.numerators[..], &figure.denominators];
        let share = |sums: &[f64]| (sums[1] > 0.0).then(|| sums[0] / sums[1]);
        bootstrap.intervals(&[(columns, figure.clusters())], share)[0]
    };
    // 100,000 draws here and 200,000 there differ by up to 2 % of the length at the ends of ten items.
    assert!(same(of(&bootstrap, &ratio).unwrap(), &expanded["ratio"], 0.01));
    let narrow = Bootstrap { level: 0.9, ..bootstrap };
    assert!(!same(of(&narrow, &ratio).unwrap(), &expanded["ratio"], 0.05));
    let kept = (0..ratio.items()).filter(|&item| ratio.denominators[item] > 0.0).take(10);
    let kept: Vec<usize> = kept.collect();
    ratio = ItemRatio {
        numerators: kept.iter().map(|&item| ratio.numerators[item]).collect(),
        denominators: kept.iter().map(|&item| ratio.denominators[item]).collect(),
    };
    assert!(same(of(&bootstrap, &ratio).unwrap(), &expanded["ratio_of_ten"], 0.02));
    assert_eq!(of(&bootstrap, &ItemRatio::mean_of([Some(1.0), None])), None);
    assert_eq!(bootstrap.intervals::<2>(&[], |_| None), []);
}

fn pair<'a>(a: &'a ItemRatio, b: &'a ItemRatio) -> Pair<'a> {
    Pair { a, b, step: 0.1 }
}

fn first(ratio: &ItemRatio, count: usize) -> ItemRatio {
    ItemRatio {
        numerators: ratio.numerators[..count].to_vec(),
        denominators: ratio.denominators[..count].to_vec(),
    }
}

/// The p-values are SciPy's, and the intervals are what halving finds with the test as plain NumPy.
#[test]
fn swap_tests_and_their_intervals_equal_scipy_and_numpy() {
    let golden = golden();
    let (ratio, mean, _) = figures(&golden, "yes");
    let (other, other_mean, _) = figures(&golden, "other_yes");
    let test = PermutationTest { rounds: DRAWS, seed: 3 };
    let found = test.swaps(&[pair(&ratio, &other), pair(&mean, &other_mean)]);
    let [of_ratio, of_mean] = [0, 1].map(|place| found[place].clone().unwrap());
    assert!(close(of_ratio.p(), &golden["p_values"]["ratio"], 0.25));
    assert!(close(of_mean.p(), &golden["p_values"]["mean"], 0.06));
    // Ends that speak against a null are the test's own.
    let level = |swaps: &PermutationResult, level: f64| Interval {
        low: swaps.interval(level, -2.0).low,
        high: swaps.interval(level, 2.0).high,
    };
    assert!(same(level(&of_ratio, 0.95), &golden["inverted"]["ratio"], 0.01));
    assert!(same(level(&of_mean, 0.95), &golden["inverted"]["mean"], 0.01));
    let exact = |a: &ItemRatio, b: &ItemRatio| {
        test.swaps(&[pair(&first(a, 12), &first(b, 12))]).remove(0).unwrap()
    };
    let few = exact(&ratio, &other);
    assert!(close(few.p(), &golden["p_values"]["ratio_exact"], 1e-9));
    assert!(same(level(&few, 0.9), &golden["inverted"]["ratio_exact"][0], 1e-9));
    assert!(same(level(&few, 0.95), &golden["inverted"]["ratio_exact"][1], 1e-9));
    let few = test.swaps(&[pair(&kept(&mean, 12), &kept(&other_mean, 12))]).remove(0).unwrap();
    assert!(same(level(&few, 0.95), &golden["inverted"]["mean_exact"], 1e-9));
    // Pairs that are torn apart are felt.
    let mut torn = other.clone();
    torn.numerators.rotate_left(1);
    torn.denominators.rotate_left(1);
    let torn = test.swaps(&[pair(&ratio, &torn)]).remove(0).unwrap();
    assert!(!same(torn.interval(0.95, 0.0), &golden["inverted"]["ratio"], 0.05));
    // No difference at all, and nothing to compare.
    assert_eq!(exact(&ratio, &ratio).p(), 1.0);
    let nothing = ItemRatio::mean_of([None]);
    assert_eq!(test.swaps(&[pair(&nothing, &nothing)]), [None]);
    assert_eq!(test.swaps(&[]), []);
}

/// The first `count` items that have a share.
fn kept(ratio: &ItemRatio, count: usize) -> ItemRatio {
    let places: Vec<usize> =
        (0..ratio.items()).filter(|&item| ratio.denominators[item] > 0.0).take(count).collect();
    ItemRatio {
        numerators: places.iter().map(|&item| ratio.numerators[item]).collect(),
        denominators: places.iter().map(|&item| ratio.denominators[item]).collect(),
    }
}

/// Where nothing differs, the length is that of Agresti and Min's interval with one answer as the extreme;
/// with items of one answer each it is theirs.
#[test]
fn few_differences_are_given_room() {
    let test = PermutationTest::default();
    let same = ItemRatio { numerators: vec![3.0; 40], denominators: vec![4.0; 40] };
    let swaps = test.swaps(&[Pair { a: &same, b: &same, step: 0.25 }]).remove(0).unwrap();
    let interval = swaps.interval(0.95, 0.0);
    assert_eq!(swaps.p(), 1.0);
    assert!((interval.high - 1.959_963_985 * 0.25 / 42.0).abs() < 1e-9, "{interval:?}");
    assert!((interval.low + interval.high).abs() < 1e-12);
    // One of 20 items lost: (b - c) / (n + 2), Agresti and Min (2005), section 2.
    let a = ItemRatio::mean_of(vec![Some(1.0); 20]);
    let b = ItemRatio::mean_of((0..20).map(|item| Some(f64::from(u8::from(item != 3)))));
    let swaps = test.swaps(&[Pair { a: &a, b: &b, step: 1.0 }]).remove(0).unwrap();
    let (middle, error) = (1.0 / 22.0, ((1.0 + 1.0 - 1.0 / 22.0) / (22.0_f64 * 22.0)).sqrt());
    let theirs = [-1.0, 1.0].map(|sign| middle + sign * 1.959_963_985 * error);
    let interval = swaps.interval(0.95, 0.0);
    assert!((interval.low - theirs[0]).abs() < 1e-9, "{interval:?} for {theirs:?}");
    assert!((interval.high - theirs[1]).abs() < 1e-9, "{interval:?} for {theirs:?}");
    // By the sets alone: as if no other item could move.
    assert_eq!((swaps.interval(0.95, -2.0).low, swaps.p()), (0.0, 1.0));
    assert!((swaps.surely_above(0.025) - interval.low).abs() < 1e-9);
}

/// An interval leaves out no difference exactly where p is below its level, at every number of items; and
/// where a size other than none is asked about as well.
#[test]
fn intervals_and_p_values_do_not_contradict_each_other() {
    let mut uniform = uniform(11);
    let mut told_apart = 0;
    for items in [2, 3, 5, 6, 8, 13, 14, 20, 60] {
        for round in 0..60 {
            let harm = f64::from(round % 4) * 0.15;
            let mut sides = [ItemRatio::default(), ItemRatio::default()];
            for _ in 0..items {
                let questions = (uniform() * 4.0).floor();
                let share = uniform();
                for (side, share) in sides.iter_mut().zip([share, (share - harm).max(0.0)]) {
                    let yes = (0..questions as usize).filter(|_| uniform() < share).count();
                    side.numerators.push(yes as f64);
                    side.denominators.push(questions);
                }
            }
            let test = PermutationTest { rounds: 499, seed: 0 };
            let Some(swaps) = test.swaps(&[pair(&sides[0], &sides[1])]).remove(0) else { continue };
            for level in [0.9, 0.95, 0.99] {
                let Interval { low, high } = swaps.interval(level, 0.0);
                assert!((-1.0..=1.0).contains(&low) && (-1.0..=1.0).contains(&high));
                assert!(low <= swaps.observed() && swaps.observed() <= high);
                let excluded = low > 0.0 || high < 0.0;
                assert_eq!(
                    excluded,
                    swaps.p() < 1.0 - level - 1e-12,
                    "{items} {low} {high} {}",
                    swaps.p()
                );
                told_apart += usize::from(excluded);
                let null = -0.1;
                let about = swaps.interval(level, null);
                let tail = (1.0 - level) / 2.0;
                assert_eq!(about.low > null, swaps.p_above(null) < tail - 1e-12);
                assert_eq!(about.high < null, swaps.p_below(null) < tail - 1e-12);
                assert!(swaps.surely_above(tail) <= about.low + 1e-12);
            }
            if items <= 5 {
                // Of 32 patterns two are as extreme as any.
                assert!(swaps.p() >= 0.0625 && swaps.least_p() >= 1.0 / 32.0);
            }
        }
    }
    assert!(told_apart > 50, "{told_apart}");
}

#[test]
fn corrections_variances_and_quantiles_equal_the_python_libraries() {
    let golden = golden();
    let mut p: Vec<Option<f64>> = numbers(&golden["holm"]["p"]).into_iter().map(Some).collect();
    p.insert(2, None);
    let mut corrected = holm(&p);
    assert_eq!(corrected.remove(2), None);
    for (ours, expected) in corrected.iter().zip(golden["holm"]["corrected"].as_array().unwrap()) {
        assert!(close(ours.unwrap(), expected, 1e-12));
    }
    let (_, _, scores) = figures(&golden, "yes");
    let variance = &golden["variance"];
    let split = VarianceSplit::of(&scores).unwrap();
    assert!(close(split.between_images, &variance["between_images"], 1e-9));
    assert!(close(split.between_items, &variance["between_items"], 1e-9));
    assert_eq!(split.images, 4.0);
    let scored = scores.iter().filter(|row| !row.is_empty()).enumerate();
    let uneven: Vec<&[f64]> = scored.map(|(index, row)| &row[..1 + index % 4]).collect();
    let split = VarianceSplit::of(&uneven).unwrap();
    assert!(close(split.between_images, &variance["uneven"]["between_images"], 1e-9));
    assert!(close(split.between_items, &variance["uneven"]["between_items"], 1e-9));
    assert!(close(split.images, &variance["uneven"]["images"], 1e-12));
    let lone: Vec<[f64; 1]> = vec![[0.0], [1.0], [0.5]];
    assert_eq!(VarianceSplit::of(&lone).unwrap().between_images, 0.0);
    assert!((VarianceSplit::of(&lone).unwrap().of_mean(3.0, 1.0) - 0.25 / 3.0).abs() < 1e-12);

    let mut values = numbers(&golden["quantiles"]["values"]);
    values.sort_by(f64::total_cmp);
    let shares = numbers(&golden["quantiles"]["shares"]);
    for (share, expected) in shares.iter().zip(golden["quantiles"]["expected"].as_array().unwrap())
    {
        assert!(close(quantile(&values, *share).unwrap(), expected, 1e-12));
    }
    let shares = numbers(&golden["normal"]["shares"]);
    for (share, expected) in shares.iter().zip(golden["normal"]["expected"].as_array().unwrap()) {
        assert!(close(upper_quantile(*share), expected, 1e-9));
    }
}

/// 1.96 + 0.84 standard errors; what is found with so many items needs so many.
#[test]
fn power_and_number_of_items_are_each_others_inverse() {
    let demand = PowerAnalysis::default();
    let difference = demand.smallest_difference(0.25, 1065.0);
    assert!((difference - 2.801_585 * 0.25 / 1065_f64.sqrt()).abs() < 1e-6);
    assert_eq!(demand.items_for(0.25, difference * 0.999_999), Some(1066));
    assert_eq!(demand.items_for(0.25, difference * 1.000_001), Some(1065));
    assert_eq!(demand.items_for(0.25, 0.0), None);
    let one_sided = PowerAnalysis { two_sided: false, ..demand };
    assert!(one_sided.smallest_difference(0.25, 1065.0) < difference);
}

/// A study of the method itself: of 400 made-up runs, about 95 % of the intervals hold the truth; more where
/// the answers are too few to do otherwise. The whole study is `coverage_study.rs`.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let mut uniform = uniform(7);
    for (items, answers, truth, expected) in
        [(80, 20, 0.6, 370..=392), (10, 1, 0.95, 380..=400), (200, 1, 0.995, 376..=400)]
    {
        let (mut held, mut naive_held) = (0, 0);
        for _ in 0..400 {
            let mut figure = ItemRatio::default();
            for _ in 0..items {
                // Of many answers each item has its own probability, 0.6 on average.
                let share = if answers == 1 { truth } else { 0.2 + 0.8 * uniform() };
                let yes = (0..answers).filter(|_| uniform() < share).count();
                figure.numerators.push(yes as f64);
                figure.denominators.push(f64::from(answers));
            }
            let interval = figure.interval(0.95).unwrap();
            held += usize::from((interval.low..=interval.high).contains(&truth));
            let value = figure.value().unwrap();
            let naive = 1.96 * (value * (1.0 - value) / f64::from(items * answers)).sqrt();
            naive_held += usize::from((value - truth).abs() <= naive);
        }
        eprintln!("{held} and {naive_held} of 400");
        assert!(expected.contains(&held));
        assert!(naive_held < 320);
    }
}

/// Numbers in 0..1, by SplitMix64.
pub fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn resampling_is_the_same_at_any_number_of_threads() {
    let golden = golden();
    let (ratio, ..) = figures(&golden, "yes");
    let (other, ..) = figures(&golden, "other_yes");
    let columns = [&ratio.numerators[..], &ratio.denominators];
    let share = |sums: &[f64]| (sums[1] > 0.0).then(|| sums[0] / sums[1]);
    let drawn = |seed| {
        let bootstrap = Bootstrap { draws: 1_000, seed, ..Bootstrap::default() };
        bootstrap.intervals(&[(columns, ratio.clusters())], share)
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let test = PermutationTest { rounds: 1_000, seed: 0 };
        pool.install(|| (drawn(0), test.swaps(&[pair(&ratio, &other)])))
    };
    assert_eq!(run(1), run(16));
    assert_ne!(drawn(0), drawn(1));
}
