//! How often intervals hold the truth and the gate errs, in made-up runs of known truth. Its tables are
//! docs/measurements/coverage.md.
//!
//!     cargo test --release --test suite coverage_study -- --ignored --nocapture

use dpg_bench::statistics::{Bootstrap, ItemRatio, Pair, PermutationTest};

use super::statistics::uniform;

const ITEMS: [usize; 4] = [10, 30, 100, 1065];
const SHARES: [f64; 6] = [0.5, 0.8, 0.9, 0.95, 0.98, 0.995];

/// How the answers about an item come about.
#[derive(Clone, Copy)]
enum Answers {
    /// One, yes with the share's probability: a category of one question an item, whose images all agree.
    One,
    /// 1 to 8 questions about 4 images; items' shares vary with this intra-class correlation.
    Category(f64),
    /// The score of 13 questions about 4 images, likewise.
    Score(f64),
}

struct Random<U>(U);

impl<U: FnMut() -> f64> Random<U> {
    fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - (self.0)(), (self.0)());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Marsaglia and Tsang, ACM Transactions on Mathematical Software 26, 2000.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - (self.0)()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && (1.0 - (self.0)()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (a, b) = (self.gamma(a), self.gamma(b));
        if a + b > 0.0 { a / (a + b) } else { 1.0 }
    }

    /// Yes of `of` answers.
    fn yes(&mut self, share: f64, of: f64) -> f64 {
        (0..of as usize).filter(|_| (self.0)() < share).count() as f64
    }

    /// A run of `items` items and one of the same items whose share is less by `drop`.
    fn runs(&mut self, kind: Answers, items: usize, share: f64, drop: f64) -> [ItemRatio; 2] {
        let mut runs = [ItemRatio::default(), ItemRatio::default()];
        for _ in 0..items {
            let (correlation, answers) = match kind {
                Answers::One => (0.0, 1.0),
                Answers::Category(correlation) => {
                    (correlation, 4.0 * (1.0 + ((self.0)() * 8.0).floor()))
                }
                Answers::Score(correlation) => (correlation, 52.0),
            };
            let own = match correlation {
                // Two models find the same items hard, also where each has one question.
                0.0 if drop >= 0.0 => self.beta(2.0 * share, 2.0 * (1.0 - share)),
                0.0 => share,
                correlation => {
                    let size = 1.0 / correlation - 1.0;
                    self.beta(share * size, (1.0 - share) * size)
                }
            };
            for (run, own) in runs.iter_mut().zip([own, own * (1.0 - drop.max(0.0) / share)]) {
                let yes = self.yes(own, answers);
                let is_score = matches!(kind, Answers::Score(_));
                let (y, x) = if is_score { (yes / answers, 1.0) } else { (yes, answers) };
                run.numerators.push(y);
                run.denominators.push(x);
            }
        }
        // The same number of answers about each item in both runs.
        runs
    }
}

fn rounds(items: usize, most: usize) -> usize {
    if items > 500 { most / 4 } else { most }
}

#[test]
#[ignore = "takes minutes; makes the first table of docs/measurements/coverage.md"]
fn coverage_of_figures() {
    let mut random = Random(uniform(1));
    let kinds = [
        ("one answer an item", Answers::One),
        ("category, correlation 0.1", Answers::Category(0.1)),
        ("category, correlation 0.3", Answers::Category(0.3)),
        ("score, correlation 0.1", Answers::Score(0.1)),
        ("score, correlation 0.3", Answers::Score(0.3)),
    ];
    let (mut cells, mut low, mut worst) = (0, 0, 100.0_f64);
    println!("| answers | items | {} |", SHARES.map(|share| share.to_string()).join(" | "));
    println!("| --- | ---: |{}", " ---: |".repeat(SHARES.len()));
    for (name, kind) in kinds {
        for items in ITEMS {
            let row = SHARES.map(|share| {
                let (rounds, mut held) = (rounds(items, 2000), 0);
                for _ in 0..rounds {
                    // No second run: its drop says that shares do not vary where there is one answer.
                    let [run, _] = random.runs(kind, items, share, -1.0);
                    let interval = run.interval(0.95).unwrap();
                    held += usize::from((interval.low..=interval.high).contains(&share));
                }
                100.0 * held as f64 / rounds as f64
            });
            println!("| {name} | {items} | {} |", row.map(|held| format!("{held:.1}")).join(" | "));
            cells += row.len();
            low += row.iter().filter(|&&held| held < 93.0).count();
            worst = row.into_iter().fold(worst, f64::min);
        }
    }
    println!("{low} of {cells} below 93 %, the lowest {worst:.1} %");
    assert!(low * 12 <= cells && worst > 85.0);
}

#[test]
#[ignore = "takes minutes; makes the second table of docs/measurements/coverage.md"]
fn coverage_of_expanded_percentiles() {
    let mut random = Random(uniform(2));
    println!("| answers | items | {} |", SHARES.map(|share| share.to_string()).join(" | "));
    println!("| --- | ---: |{}", " ---: |".repeat(SHARES.len()));
    let bootstrap = Bootstrap { draws: 1_000, ..Bootstrap::default() };
    for (name, kind) in
        [("one answer an item", Answers::One), ("score, correlation 0.1", Answers::Score(0.1))]
    {
        for items in [10, 30, 100] {
            let row = SHARES.map(|share| {
                let mut held = 0;
                for _ in 0..400 {
                    let [run, _] = random.runs(kind, items, share, -1.0);
                    let columns = [&run.numerators[..], &run.denominators];
                    let ratio = |sums: &[f64]| Some(sums[0] / sums[1]);
                    let interval = bootstrap.intervals(&[(columns, items)], ratio)[0].unwrap();
                    held += usize::from((interval.low..=interval.high).contains(&share));
                }
                format!("{:.1}", held as f64 / 4.0)
            });
            println!("| {name} | {items} | {} |", row.join(" | "));
        }
    }
}

const PAIRS: [(f64, f64); 6] =
    [(0.8, 0.0), (0.8, 0.05), (0.95, 0.0), (0.95, 0.03), (0.995, 0.0), (0.995, 0.01)];

#[test]
#[ignore = "takes minutes; makes the third table of docs/measurements/coverage.md"]
fn coverage_of_differences() {
    let mut random = Random(uniform(3));
    println!("| answers | items | {} |", PAIRS.map(|(s, d)| format!("{s} less {d}")).join(" | "));
    println!("| --- | ---: |{}", " ---: |".repeat(PAIRS.len()));
    let test = PermutationTest { rounds: 1_000, seed: 0 };
    for (name, kind) in [
        ("one answer an item", Answers::One),
        ("category, correlation 0.3", Answers::Category(0.3)),
        ("score, correlation 0.3", Answers::Score(0.3)),
    ] {
        for items in [5, 10, 30, 100, 1065] {
            let row = PAIRS.map(|(share, drop)| {
                let (rounds, mut held) = (rounds(items, 600), 0);
                for _ in 0..rounds {
                    let [base, other] = random.runs(kind, items, share, drop);
                    let step = if matches!(kind, Answers::Score(_)) { 1.0 / 52.0 } else { 0.25 };
                    let step = if matches!(kind, Answers::One) { 1.0 } else { step };
                    let pair = Pair { a: &other, b: &base, step };
                    let swaps = test.swaps(&[pair]).remove(0).unwrap();
                    let interval = swaps.interval(0.95, 0.0);
                    held += usize::from((interval.low..=interval.high).contains(&-drop));
                    let excludes = interval.low > 0.0 || interval.high < 0.0;
                    assert_eq!(excludes, swaps.p() < 0.05);
                }
                let held = 100.0 * held as f64 / rounds as f64;
                assert!(held > 85.0, "{name} {items} {share} {drop}: {held}");
                format!("{held:.1}")
            });
            println!("| {name} | {items} | {} |", row.join(" | "));
        }
    }
}

/// Rates of failing and passing where the true drop is the tolerated one, and where there is none.
#[test]
#[ignore = "takes minutes; makes the fourth table of docs/measurements/coverage.md"]
fn the_gate_at_the_margin() {
    let mut random = Random(uniform(4));
    let test = PermutationTest { rounds: 1_000, seed: 0 };
    println!("| answers | items | tolerated | true drop | failed | passed |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, kind, step) in [
        ("one answer an item", Answers::One, 1.0),
        ("score, correlation 0.3", Answers::Score(0.3), 1.0 / 52.0),
    ] {
        for items in [20, 30, 100, 1065] {
            for (share, tolerated, drop) in [
                (0.8, 0.01, 0.009),
                (0.8, 0.01, 0.01),
                (0.95, 0.03, 0.03),
                (0.995, 0.01, 0.01),
                (0.8, 0.01, 0.0),
                (0.8, 0.01, 0.05),
            ] {
                let (rounds, mut failed, mut passed) = (1000, 0, 0);
                for _ in 0..rounds {
                    let [base, other] = random.runs(kind, items, share, drop);
                    let pair = Pair { a: &other, b: &base, step };
                    let swaps = test.swaps(&[pair]).remove(0).unwrap();
                    failed += usize::from(swaps.p_below(-tolerated) < 0.05);
                    passed += usize::from(swaps.surely_above(0.05) >= -tolerated);
                }
                let percent = |count: usize| 100.0 * count as f64 / rounds as f64;
                let (failed, passed) = (percent(failed), percent(passed));
                println!(
                    "| {name}, {share} | {items} | {:.1} | {:.1} | {failed:.1} % | {passed:.1} % |",
                    100.0 * tolerated,
                    100.0 * drop
                );
                assert!(drop > tolerated || failed < 7.5);
                assert!(drop < tolerated || passed < 12.0);
            }
        }
    }
}
