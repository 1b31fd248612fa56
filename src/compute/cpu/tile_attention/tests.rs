//! In: seeded numbers. Checks: packed keys and values lie where the tiles read them, and attention through the model of the tile
//! instruction is as near to f64 as the parts of its factors allow, at every edge of a block, behind masks and beside biases, with the
//! same bits at any number of threads and in any company.

use candle_core::{Device, Tensor};

use super::super::attention::{Scores, attention, attention_in_groups};
use super::*;
use crate::compute::cpu::tiles::TileKernel;
use crate::compute::golden::{Errors, errors, normal_numbers};
use crate::compute::key_groups::{Group, Source};

/// Relative errors that attention may have, root of the mean square: a quarter more than the largest that was seen, a single query's
/// over 600 keys.
const ONE_PART: f64 = 6e-3;
const TWO_PARTS: f64 = 1.2e-5;
/// What lies between them: no product of one part is as near, none of two as far.
const BETWEEN: f64 = 2e-4;

fn packing(parts: Parts) -> Option<Packing> {
    Some(Packing { kernel: TileKernel::Model, parts })
}

/// Queries, keys and values of `heads` heads.
struct Case {
    queries: usize,
    keys: usize,
    heads: usize,
    head: usize,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(queries: usize, keys: usize, heads: usize, head: usize) -> Self {
        let seed = (queries * 1_000_003 + keys * 1009 + heads * 211 + head) as u64;
        let width = heads * head;
        Self {
            queries,
            keys,
            heads,
            head,
            query: normal_numbers(queries * width, seed),
            key: normal_numbers(keys * width, seed + 1),
            value: normal_numbers(keys * width, seed + 2),
            bias: normal_numbers(heads * queries * keys, seed + 3),
        }
    }

    fn tensor(&self, values: &[f32]) -> Tensor {
        let width = self.heads * self.head;
        let shape = (1, values.len() / width, width);
        Tensor::from_vec(values.to_vec(), shape, &Device::Cpu).unwrap()
    }

    fn bias(&self) -> Tensor {
        let shape = (1, self.heads, self.queries, self.keys);
        Tensor::from_vec(self.bias.clone(), shape, &Device::Cpu).unwrap()
    }

    fn attend(&self, scores: Scores) -> Tensor {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|x| self.tensor(x));
        attention(&query, &key, &value, self.heads, scores).unwrap()
    }

    /// The same in f64; a query sees the keys that `sees` says.
    fn exact(&self, with_bias: bool, sees: impl Fn(usize, usize) -> bool) -> Tensor {
        let Self { queries, keys, heads, head, .. } = *self;
        let width = heads * head;
        let mut result = vec![0.0; queries * width];
        for (query, number) in (0..queries).flat_map(|query| (0..heads).map(move |n| (query, n))) {
            let part = |values: &[f32], row: usize| -> Vec<f64> {
                let values = &values[row * width + number * head..][..head];
                values.iter().map(|value| f64::from(*value)).collect()
            };
            let own = part(&self.query, query);
            let score = |key: usize| -> f64 {
                let products = own.iter().zip(part(&self.key, key)).map(|(q, k)| q * k);
                let bias = self.bias[(number * queries + query) * keys + key];
                let added = if with_bias { f64::from(bias) } else { 0.0 };
                products.sum::<f64>() / (head as f64).sqrt() + added
            };
            let weights: Vec<f64> = (0..keys)
                .map(|key| if sees(query, key) { score(key).exp() } else { 0.0 })
                .collect();
            let total: f64 = weights.iter().sum();
            for (key, weight) in weights.iter().enumerate() {
                for (at, value) in part(&self.value, key).iter().enumerate() {
                    result[query * width + number * head + at] += weight / total * value;
                }
            }
        }
        Tensor::from_vec(result, (1, queries, width), &Device::Cpu).unwrap()
    }

    fn error(&self, found: &Tensor, exact: &Tensor) -> Errors {
        let Self { queries, keys, heads, head, .. } = self;
        errors(&format!("{queries} x {keys}, {heads} of {head}"), found, exact)
    }

    fn is_near(&self, scores: Scores, exact: &Tensor) {
        for (parts, bound) in [(Parts::One, ONE_PART), (Parts::Two, TWO_PARTS)] {
            let found = self.attend(Scores { packing: packing(parts), ..scores });
            assert!(self.error(&found, exact).relative() <= bound, "{parts:?}");
        }
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn values_lie_as_if_they_had_been_turned() {
    for (count, head) in [(1, 1), (31, 40), (32, 32), (33, 64), (95, 5)] {
        let (stride, first) = (head + 7, 3);
        let rows = normal_numbers(count * stride + first, (count + head) as u64);
        let rows = &rows[first..];
        let mut turned = Vec::new();
        for column in 0..head {
            turned.extend((0..count).map(|row| rows[row * stride + column]));
        }
        for parts in [Parts::One, Parts::Two] {
            let due = TileMatrix::pack(&turned, head, count, parts);
            let found = TileMatrix::pack_columns(rows, stride, head, count, parts);
            assert_eq!((found.outputs(), found.inner()), (head, count));
            for panel in 0..head.div_ceil(PANEL) {
                let all = steps(count);
                assert!(found.part(panel, 0, all) == due.part(panel, 0, all), "{count} x {head}");
            }
        }
    }
}

#[test]
fn attention_is_near_to_f64_at_every_edge() {
    for (queries, keys, heads, head) in [
        // Heads of the UNets, of text and vision, of a decoder and of none of them.
        (40, 77, 2, 40),
        (24, 33, 2, 64),
        (17, 64, 1, 80),
        (33, 31, 1, 160),
        (8, 50, 1, 512),
        (3, 5, 3, 5),
        // A whole block and 8 rows of the next; one row; rows of one tile and of two.
        (136, 40, 1, 40),
        (1, 1, 1, 64),
        (1, 600, 1, 40),
        (16, 32, 1, 32),
        // Several steps of keys, the last ones short.
        (20, 512, 1, 40),
        (9, 513, 1, 64),
        (5, 1100, 2, 8),
    ] {
        let case = Case::new(queries, keys, heads, head);
        case.is_near(Scores::default(), &case.exact(false, |_, _| true));
    }
}

#[test]
fn masks_and_biases_are_kept() {
    for (rows, heads, head) in [(40, 2, 40), (77, 1, 64), (530, 1, 16)] {
        let case = Case::new(rows, rows, heads, head);
        let causal = Scores { causal: true, ..Scores::default() };
        case.is_near(causal, &case.exact(false, |query, key| key <= query));
    }
    for (queries, keys) in [(24, 50), (6, 520)] {
        let case = Case::new(queries, keys, 2, 40);
        let bias = case.bias();
        let biased = Scores { bias: Some(&bias), ..Scores::default() };
        case.is_near(biased, &case.exact(true, |_, _| true));
        let turned = bias.transpose(2, 3).unwrap().contiguous().unwrap().transpose(2, 3).unwrap();
        case.is_near(Scores { bias: Some(&turned), ..biased }, &case.exact(true, |_, _| true));
    }
    // Minus infinity hides a key, also all of a step.
    let mut case = Case::new(5, 600, 1, 40);
    let hidden = |query: usize, key: usize| key < 512 + query;
    for query in 0..5 {
        for key in (0..600).filter(|key| hidden(query, *key)) {
            case.bias[query * 600 + key] = f32::NEG_INFINITY;
        }
    }
    let bias = case.bias();
    let scores = Scores { bias: Some(&bias), ..Scores::default() };
    case.is_near(scores, &case.exact(true, |query, key| !hidden(query, key)));
}

/// Two matrices of keys, of which each query sees parts, in another order than its rows.
#[test]
fn groups_see_what_they_are_to_see() {
    let (heads, head) = (2, 40);
    let width = heads * head;
    let numbers = |rows: usize, seed: u64| {
        let values = normal_numbers(rows * width, seed);
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    };
    let query = numbers(140, 1);
    let [own_key, own_value, key, value] =
        [(90, 2), (90, 3), (600, 4), (600, 5)].map(|(rows, seed)| numbers(rows, seed));
    let first: Vec<usize> = (0..140).rev().filter(|row| row % 20 != 7).collect();
    let second: Vec<usize> = (0..140).filter(|row| row % 20 == 7).collect();
    // Some see none of their own keys; the first step of the image's keys is seen by none of the others.
    let seen: Vec<Range<usize>> = first.iter().map(|row| row / 2..row / 2 + row % 5).collect();
    let late: Vec<Range<usize>> = second.iter().map(|row| 545 + row % 3..590).collect();
    let groups = [
        Group::new(
            &first,
            vec![
                Source { key: &own_key, value: &own_value, seen: Some(&seen) },
                Source { key: &key, value: &value, seen: None },
            ],
        ),
        Group::new(&second, vec![Source { key: &key, value: &value, seen: Some(&late) }]),
    ];
    let with = |packing| attention_in_groups(&query, heads, &groups, packing).unwrap();
    let plain = with(None);
    for (parts, bound) in [(Parts::One, ONE_PART), (Parts::Two, TWO_PARTS)] {
        let found = with(packing(parts));
        assert!(errors("groups", &found, &plain).relative() <= bound);
        let unmasked = [
            groups[0].clone(),
            Group::new(&second, vec![Source { key: &key, value: &value, seen: None }]),
        ];
        let other = attention_in_groups(&query, heads, &unmasked, packing(parts)).unwrap();
        assert!(errors("unmasked", &other, &plain).relative() > 10.0 * bound);
    }
}

/// The bounds tell the parts apart, and see what is missing or wrong.
#[test]
fn the_bounds_see_what_is_missing() {
    let case = Case::new(40, 90, 2, 40);
    let exact = case.exact(true, |_, _| true);
    let bias = case.bias();
    let with = |scores: Scores| case.error(&case.attend(scores), &exact).relative();
    let right = |parts| Scores { packing: packing(parts), bias: Some(&bias), ..Scores::default() };
    assert!(with(right(Parts::One)) > BETWEEN && with(right(Parts::Two)) < BETWEEN);
    for parts in [Parts::One, Parts::Two] {
        assert!(with(Scores { bias: None, ..right(parts) }) > 10.0 * ONE_PART);
        assert!(with(Scores { scale: Some(0.14), ..right(parts) }) > 2.0 * ONE_PART);
        assert!(with(Scores { causal: true, ..right(parts) }) > 10.0 * ONE_PART);
    }
}

#[test]
fn each_of_the_three_products_counts() {
    let case = Case::new(20, 64, 1, 40);
    let exact = case.exact(false, |_, _| true);
    let with = |packing| case.attend(Scores { packing, ..Scores::default() });
    assert!(case.error(&with(packing(Parts::Two)), &exact).relative() <= TWO_PARTS);
    for product in 0..3 {
        let kernel = TileKernel::Lacking(product);
        let lacking = with(Some(Packing { kernel, parts: Parts::Two }));
        let error = case.error(&lacking, &exact).relative();
        assert!(error > BETWEEN, "{product}: {error}");
    }
    // What queries, keys or values lose with their second part is seen, each for itself.
    let rounded = |values: &[f32]| -> Vec<f32> {
        let part = |value: &f32| half::bf16::from_f32(*value).to_f32();
        values.iter().map(part).collect()
    };
    for which in 0..3 {
        let mut lossy = Case::new(20, 64, 1, 40);
        let values = [&mut lossy.query, &mut lossy.key, &mut lossy.value];
        for (number, values) in values.into_iter().enumerate() {
            if number == which {
                *values = rounded(values);
            }
        }
        let found = lossy.attend(Scores { packing: packing(Parts::Two), ..Scores::default() });
        let error = case.error(&found, &exact).relative();
        assert!(error > BETWEEN, "{which}: {error}");
    }
}

#[test]
fn bits_are_the_same_at_any_number_of_threads_and_in_any_company() {
    let case = Case::new(140, 530, 2, 40);
    for parts in [Parts::One, Parts::Two] {
        let scores = Scores { packing: packing(parts), ..Scores::default() };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&case.attend(scores)))
        };
        let alone = on(1);
        assert!((on(2), on(8)) == (alone.clone(), alone.clone()));
        // One query for itself.
        let width = case.heads * case.head;
        for row in [0, 17, 139] {
            let query = case.query[row * width..][..width].to_vec();
            let one = Case { queries: 1, query, key: case.key.clone(), ..Case::new(1, 530, 2, 40) };
            let one = Case { value: case.value.clone(), ..one };
            assert!(bits(&one.attend(scores)) == alone[row * width..][..width], "{row}");
        }
    }
}

/// On a machine with tiles; any other has nothing to compare.
#[test]
fn the_processors_tiles_give_the_bits_of_the_model() {
    let Ok(kernel) = TileKernel::of_processor() else { return };
    for (queries, keys, heads, head) in [(136, 530, 2, 40), (9, 77, 1, 160), (40, 33, 1, 64)] {
        let case = Case::new(queries, keys, heads, head);
        for parts in [Parts::One, Parts::Two] {
            let by = |kernel| {
                let packing = Some(Packing { kernel, parts });
                bits(&case.attend(Scores { packing, causal: true, ..Scores::default() }))
            };
            assert!(by(kernel) == by(TileKernel::Model), "{queries} x {keys}");
        }
    }
}
