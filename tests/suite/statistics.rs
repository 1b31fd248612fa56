//! The statistics against NumPy, SciPy and statsmodels (fixtures/statistics, made by
//! make_statistics.py), and against themselves at other numbers of threads.

use dpg_bench::statistics::bootstrap::quantile;
use dpg_bench::statistics::power::upper_quantile;
use dpg_bench::statistics::{
    Bootstrap, Demand, Interval, ItemRatio, SwapTest, VarianceSplit, holm,
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

fn same(ours: Option<Interval>, golden: &Value, tolerance: f64) -> bool {
    let ours = ours.unwrap();
    let expected = numbers(golden);
    eprintln!("{ours:?} for {expected:?}");
    let width = expected[1] - expected[0];
    (ours.low - expected[0]).abs() <= tolerance * width
        && (ours.high - expected[1]).abs() <= tolerance * width
}

#[test]
fn bootstrap_intervals_equal_scipy_within_their_own_noise() {
    let golden = golden();
    let (ratio, mean, _) = figures(&golden, "yes");
    let (other, ..) = figures(&golden, "other_yes");
    let bootstrap = Bootstrap { draws: DRAWS, ..Bootstrap::default() };
    let both = bootstrap.intervals(&[&ratio, &mean]);
    assert!(same(both[0], &golden["ratio"]["interval"], 0.01));
    assert!(same(both[1], &golden["mean"]["interval"], 0.01));
    let pairs = ([&ratio], [&other]);
    let difference = bootstrap.difference_intervals(&pairs.0, &pairs.1);
    assert!(same(difference[0], &golden["difference"]["interval"], 0.01));
    // Another level is felt, and so is a difference whose pairs are torn apart.
    let narrow = Bootstrap { level: 0.9, ..bootstrap }.intervals(&pairs.0);
    assert!(!same(narrow[0], &golden["ratio"]["interval"], 0.05));
    let mut torn = other.clone();
    torn.numerators.rotate_left(1);
    torn.denominators.rotate_left(1);
    let torn = bootstrap.difference_intervals(&pairs.0, &[&torn]);
    assert!(!same(torn[0], &golden["difference"]["interval"], 0.05));
    // Nothing to draw from.
    let lone = ItemRatio::mean_of([Some(1.0), None, None]);
    assert_eq!(bootstrap.intervals(&[&lone]), [None]);
    assert_eq!(bootstrap.intervals(&[]), []);
}

#[test]
fn swap_tests_equal_scipy() {
    let golden = golden();
    let (ratio, mean, _) = figures(&golden, "yes");
    let (other, other_mean, _) = figures(&golden, "other_yes");
    let test = SwapTest { rounds: DRAWS, seed: 3 };
    let p_values = test.p_values(&[&ratio, &mean], &[&other, &other_mean]);
    assert!(close(p_values[0].unwrap(), &golden["p_values"]["ratio"], 0.25));
    assert!(close(p_values[1].unwrap(), &golden["p_values"]["mean"], 0.06));
    let few = |ratio: &ItemRatio| ItemRatio {
        numerators: ratio.numerators[..12].to_vec(),
        denominators: ratio.denominators[..12].to_vec(),
    };
    let exact = test.p_values(&[&few(&ratio)], &[&few(&other)]);
    assert!(close(exact[0].unwrap(), &golden["p_values"]["ratio_exact"], 1e-9));
    // No difference at all, and nothing to compare.
    assert_eq!(test.p_values(&[&few(&ratio)], &[&few(&ratio)]), [Some(1.0)]);
    assert_eq!(
        test.p_values(&[&ItemRatio::mean_of([None])], &[&ItemRatio::mean_of([None])]),
        [None]
    );
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
    let demand = Demand::default();
    let difference = demand.smallest_difference(0.25, 1065.0);
    assert!((difference - 2.801_585 * 0.25 / 1065_f64.sqrt()).abs() < 1e-6);
    assert_eq!(demand.items_for(0.25, difference * 0.999_999), Some(1066));
    assert_eq!(demand.items_for(0.25, difference * 1.000_001), Some(1065));
    assert_eq!(demand.items_for(0.25, 0.0), None);
    let one_sided = Demand { two_sided: false, ..demand };
    assert!(one_sided.smallest_difference(0.25, 1065.0) < difference);
}

/// A study of the method itself: of 400 made-up runs, about 95 % of the intervals hold the truth.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let mut state = 7_u64;
    let mut uniform = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let bootstrap = Bootstrap { draws: 500, ..Bootstrap::default() };
    let (mut held, mut naive_held) = (0, 0);
    for _ in 0..400 {
        let mut figure = ItemRatio::default();
        for _ in 0..80 {
            // Each item has its own probability, 0.6 on average, and 20 answers.
            let share = (0.2 + 0.8 * uniform()).min(1.0);
            let yes = (0..20).filter(|_| uniform() < share).count();
            figure.numerators.push(yes as f64);
            figure.denominators.push(20.0);
        }
        let interval = bootstrap.intervals(&[&figure])[0].unwrap();
        held += usize::from((interval.low..=interval.high).contains(&0.6));
        let value = figure.value().unwrap();
        let naive = 1.96 * (value * (1.0 - value) / 1600.0).sqrt();
        naive_held += usize::from((value - 0.6).abs() <= naive);
    }
    eprintln!("{held} and {naive_held} of 400");
    assert!((370..=392).contains(&held));
    assert!(naive_held < 320);
}

#[test]
fn resampling_is_the_same_at_any_number_of_threads() {
    let golden = golden();
    let (ratio, ..) = figures(&golden, "yes");
    let (other, ..) = figures(&golden, "other_yes");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let bootstrap = Bootstrap { draws: 1_000, ..Bootstrap::default() };
            let (a, b): (&[_], &[_]) = (&[&ratio], &[&other]);
            let test = SwapTest { rounds: 1_000, seed: 0 };
            (bootstrap.intervals(a), bootstrap.difference_intervals(a, b), test.p_values(a, b))
        })
    };
    assert_eq!(run(1), run(16));
    let bootstrap = |seed| Bootstrap { draws: 1_000, seed, ..Bootstrap::default() };
    let with = |seed| bootstrap(seed).intervals(&[&ratio]);
    assert_ne!(with(0), with(1));
}
