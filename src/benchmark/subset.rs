//! In: items and how many of them are wanted. Out: which, always the same, with nearly the mix of
//! categories and sources that all of them have.
//!
//! Of many random draws the one is taken whose mix is nearest (rerandomisation: Morgan and Rubin, Annals of
//! Statistics 40, 2012). A draw by rank in one fixed order would be as random, but its mix would be luck.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Item;

/// Draws that are compared.
const DRAWS: u64 = 2_000;

/// Places of `count` of the `items`, in order; all of them where there are no more.
pub(super) fn balanced_subset(items: &[&Item], count: usize) -> Vec<usize> {
    if count >= items.len() {
        return (0..items.len()).collect();
    }
    let features = Features::of(items);
    // An item's luck depends on its id alone, not on its place or its neighbours.
    let luck: Vec<u64> = items.iter().map(|item| digest(&item.id)).collect();
    let draw = |number: u64| -> Vec<usize> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.select_nth_unstable_by_key(count, |&place| (mixed(luck[place], number), place));
        order.truncate(count);
        order
    };
    let distances = (0..DRAWS).map(|number| (features.distance(&draw(number)), number));
    let nearest = distances.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, number)| number);
    let mut chosen = draw(nearest);
    chosen.sort_unstable();
    chosen
}

/// What the mix is made of: questions per broad and per detailed category, items per source.
struct Features {
    /// Per item, its features with their amounts.
    items: Vec<Vec<(usize, f64)>>,
    /// Per feature, its kind and its share of all features of that kind.
    shares: Vec<(usize, f64)>,
}

impl Features {
    fn of(items: &[&Item]) -> Self {
        let mut numbers: BTreeMap<(usize, String), usize> = BTreeMap::new();
        let mut per_item = Vec::new();
        for item in items {
            let categories = item.graph.questions().iter().map(|question| &question.category);
            let names = categories
                .flat_map(|category| [(0, category.l1()), (1, category.l2())])
                .chain([(2, source(&item.id))]);
            let mut amounts: BTreeMap<usize, f64> = BTreeMap::new();
            for (kind, name) in names {
                let next = numbers.len();
                let number = *numbers.entry((kind, name.to_owned())).or_insert(next);
                *amounts.entry(number).or_default() += 1.0;
            }
            per_item.push(amounts.into_iter().collect());
        }
        let mut shares = vec![(0, 0.0); numbers.len()];
        for ((kind, _), number) in numbers {
            shares[number].0 = kind;
        }
        let mut features = Self { items: per_item, shares };
        let all: Vec<usize> = (0..items.len()).collect();
        for (share, found) in features.shares_of(&all).into_iter().enumerate() {
            features.shares[share].1 = found;
        }
        features
    }

    /// Each feature's share among those of its kind.
    fn shares_of(&self, places: &[usize]) -> Vec<f64> {
        let mut amounts = vec![0.0; self.shares.len()];
        let mut totals = [0.0; 3];
        for &place in places {
            for &(feature, amount) in &self.items[place] {
                amounts[feature] += amount;
                totals[self.shares[feature].0] += amount;
            }
        }
        let kinds = self.shares.iter().map(|(kind, _)| *kind);
        amounts
            .into_iter()
            .zip(kinds)
            .map(|(amount, kind)| amount / totals[kind].max(1.0))
            .collect()
    }

    /// How far the mix of these places is from that of all: chi-square of each kind over its number of
    /// features, so that the few broad categories count as much as the many detailed ones.
    fn distance(&self, places: &[usize]) -> f64 {
        let (mut sums, mut counts) = ([0.0_f64; 3], [0.0_f64; 3]);
        for (share, &(kind, expected)) in self.shares_of(places).into_iter().zip(&self.shares) {
            sums[kind] += (share - expected).powi(2) / expected.max(1e-9);
            counts[kind] += 1.0;
        }
        sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1.0)).sum()
    }
}

/// The dataset that an item comes from, as its id begins: `partiprompts97` -> `partiprompts`.
fn source(id: &str) -> &str {
    id.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default()
}

fn digest(id: &str) -> u64 {
    let bytes = Sha256::digest(id.as_bytes());
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// SplitMix64's finisher (Steele, Lea and Flood, 2014).
fn mixed(luck: u64, number: u64) -> u64 {
    let mut z = luck ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
