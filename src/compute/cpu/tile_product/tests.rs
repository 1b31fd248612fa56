//! In: seeded numbers. Checks: packed factors lie where the tiles read them, and products through the model of the
//! tile instruction are as near to f64 as their parts allow, at every edge of a block, with the same bits at any
//! number of threads and beside any other rows.

use half::bf16;

use super::super::tile_packing::{Parts, remainder, rounded};
use super::*;
use crate::compute::golden::normal_numbers;

/// Relative errors, root of the mean square, that products may have.
const ONE_PART: f64 = 4e-3;
const TWO_PARTS: f64 = 8e-6;

/// A product's operands.
struct Case {
    rows: usize,
    inner: usize,
    outputs: usize,
    x: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    shortcut: Vec<f32>,
}

impl Case {
    fn new(rows: usize, inner: usize, outputs: usize) -> Self {
        let seed = (rows * 1_000_003 + inner * 1009 + outputs) as u64;
        Self {
            rows,
            inner,
            outputs,
            x: normal_numbers(rows * inner, seed),
            weights: normal_numbers(outputs * inner, seed + 1),
            bias: normal_numbers(outputs, seed + 2),
            shortcut: normal_numbers(rows * outputs, seed + 3),
        }
    }

    fn operand(&self) -> Operand<'_> {
        Operand { values: &self.x, row_stride: self.inner, column_stride: 1 }
    }

    fn added(&self) -> Added<'_> {
        Added { bias: &self.bias, shortcut: &self.shortcut }
    }

    fn packed(&self, parts: Parts) -> TileMatrix {
        TileMatrix::pack(&self.weights, self.outputs, self.inner, parts)
    }

    fn product(&self, parts: Parts, added: Added) -> Vec<f32> {
        let mut result = vec![f32::NAN; self.rows * self.outputs];
        let weights = self.packed(parts);
        multiply(TileKernel::Model, self.operand(), self.rows, &weights, added, &mut result);
        result
    }

    /// The error of `result` against f64, relative to the size that sums of such products have.
    fn error(&self, result: &[f32], added: Added) -> f64 {
        let (mut wrong, mut all) = (0.0, 0.0);
        for row in 0..self.rows {
            let x = &self.x[row * self.inner..][..self.inner];
            for output in 0..self.outputs {
                let weights = &self.weights[output * self.inner..][..self.inner];
                let products = x.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let product: f64 = products.clone().sum();
                let at = row * self.outputs + output;
                let of = |values: &[f32], at: usize| values.get(at).map_or(0.0, |v| f64::from(*v));
                let due = product + of(added.bias, output) + of(added.shortcut, at);
                wrong += (f64::from(result[at]) - due).powi(2);
                all += products.map(|product| product.powi(2)).sum::<f64>();
            }
        }
        (wrong / all).sqrt()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn parts_are_as_near_as_they_can_be() {
    let mut values = normal_numbers(1000, 1);
    values.extend(normal_numbers(1000, 2).iter().map(|value| value * 1e-30));
    values.extend([0.0, -0.0, 1.0, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY]);
    for value in values {
        let high = rounded(value);
        assert_eq!(high, bf16::from_f32(value).to_bits(), "{value}");
        let low = bf16::from_bits(remainder(value, high)).to_f64();
        let sum = bf16::from_bits(high).to_f64() + low;
        let is_near = (sum - f64::from(value)).abs() <= f64::from(value).abs() / 65536.0;
        assert!(is_near || (value.is_infinite() && low == 0.0), "{value} {sum}");
    }
    for (value, due) in [(1e-40, 0x0000), (-1e-40, 0x8000), (f32::MAX, 0x7f80)] {
        assert_eq!(rounded(value), due, "{value}");
        assert_eq!(remainder(value, due) & 0x7fff, 0, "{value}");
    }
    assert!(bf16::from_bits(rounded(f32::NAN)).is_nan());
    assert!(bf16::from_bits(rounded(f32::from_bits(0x7f80_0001))).is_nan());
}

/// Part `part` of `value`.
fn part_of(value: f32, part: usize) -> u16 {
    let high = rounded(value);
    if part == 0 { high } else { remainder(value, high) }
}

#[test]
fn packed_weights_lie_in_pairs() {
    let sizes = [(1, 1), (31, 32), (32, 33), (33, 70), (65, 31)];
    for (outputs, inner) in sizes {
        for parts in [Parts::One, Parts::Two] {
            let case = Case::new(0, inner, outputs);
            let packed = case.packed(parts);
            let (steps, count) = (inner.div_ceil(32), parts.count());
            let panels = outputs.div_ceil(32);
            assert_eq!(packed.part(panels - 1, 0, steps).len(), steps * count * 32);
            for output in 0..panels * 32 {
                for (at, part) in (0..steps * 32).flat_map(|at| (0..count).map(move |p| (at, p))) {
                    let (step, pair) = (at / 32, at % 32 / 2);
                    let lines = packed.part(output / 32, step, step + 1);
                    let line = &lines[(part * 2 + output % 32 / 16) * 16 + pair];
                    let due = match output < outputs && at < inner {
                        true => part_of(case.weights[output * inner + at], part),
                        false => 0,
                    };
                    assert_eq!(line.0[output % 16 * 2 + at % 2], due, "{outputs} x {inner}");
                }
            }
        }
    }
}

#[test]
fn packed_rows_lie_in_lines() {
    for (count, inner) in [(1, 1), (16, 33), (17, 64), (32, 95)] {
        for parts in [Parts::One, Parts::Two] {
            let case = Case::new(count + 2, inner, 0);
            let steps = inner.div_ceil(32);
            // What stood there before must be gone.
            let mut lines = vec![Line([7; 32]); parts.count() * steps * 32];
            pack_panel_of_rows(case.operand(), 2, count, inner, parts, &mut lines);
            for (number, line) in lines.iter().enumerate() {
                let (part, step, row) = (number / 32 / steps, number / 32 % steps, number % 32);
                for (column, found) in line.0.iter().enumerate() {
                    let at = step * 32 + column;
                    let due = match row < count && at < inner {
                        true => part_of(case.x[(row + 2) * inner + at], part),
                        false => 0,
                    };
                    assert_eq!(*found, due, "{count} x {inner}");
                }
            }
        }
    }
}

fn within_bounds(case: &Case) {
    for (parts, bound) in [(Parts::One, ONE_PART), (Parts::Two, TWO_PARTS)] {
        for added in [Added::default(), case.added()] {
            let error = case.error(&case.product(parts, added), added);
            let Case { rows, inner, outputs, .. } = case;
            assert!(error <= bound, "{rows} x {inner} x {outputs}, {parts:?}: {error:e}");
        }
    }
}

#[test]
fn products_are_near_to_f64_at_every_edge() {
    for outputs in 1..=33 {
        within_bounds(&Case::new(3, 40, outputs));
    }
    let cases = [
        (1, 32, 1),
        (16, 64, 31),
        (17, 33, 5),
        (31, 1, 32),
        (33, 300, 64),
        // Several parts of the inner length, the last ones shorter.
        (45, 1000, 17),
        (14, 577, 70),
        // Several groups of rows, and tasks for parts of the outputs.
        (257, 65, 40),
        (600, 32, 99),
        (40, 48, 700),
    ];
    for (rows, inner, outputs) in cases {
        within_bounds(&Case::new(rows, inner, outputs));
    }
}

/// The bounds tell the parts apart, and see bias and shortcut.
#[test]
fn the_bounds_see_what_is_missing() {
    let case = Case::new(33, 100, 40);
    let of = |parts| case.product(parts, case.added());
    assert!(case.error(&of(Parts::One), case.added()) > 50.0 * TWO_PARTS);
    let Added { bias, shortcut } = case.added();
    for missing in [Added { bias, shortcut: &[] }, Added { bias: &[], shortcut }] {
        assert!(case.error(&case.product(Parts::Two, missing), case.added()) > 10.0 * ONE_PART);
    }
}

#[test]
fn more_rows_than_are_packed_at_a_time() {
    let case = Case::new(GROUPS_AT_ONCE * GROUP * PANEL + 20, 5, 3);
    within_bounds(&case);
}

#[test]
fn without_inner_length_what_is_added_stands_alone() {
    let case = Case::new(3, 0, 5);
    let sums: Vec<f32> = (0..15).map(|at| 0.0 + case.bias[at % 5] + case.shortcut[at]).collect();
    assert_eq!(case.product(Parts::Two, case.added()), sums);
    assert!(Case::new(0, 4, 5).product(Parts::One, Added::default()).is_empty());
    assert!(Case::new(4, 4, 0).product(Parts::One, Added::default()).is_empty());
}

#[test]
fn rows_may_be_columns() {
    let case = Case::new(37, 67, 35);
    let mut turned = vec![0.0; case.x.len()];
    for (at, value) in case.x.iter().enumerate() {
        turned[at % case.inner * case.rows + at / case.inner] = *value;
    }
    let rows = Operand { values: &turned, row_stride: 1, column_stride: case.rows };
    let mut result = vec![0.0; case.rows * case.outputs];
    let packed = case.packed(Parts::Two);
    multiply(TileKernel::Model, rows, case.rows, &packed, case.added(), &mut result);
    assert_eq!(bits(&result), bits(&case.product(Parts::Two, case.added())));
}

#[test]
fn bits_are_the_same_at_any_number_of_threads_and_in_any_company() {
    for (rows, inner, outputs) in [(300, 300, 70), (20, 700, 600)] {
        let case = Case::new(rows, inner, outputs);
        let on = |threads: usize, parts: Parts| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&case.product(parts, case.added())))
        };
        for parts in [Parts::One, Parts::Two] {
            let alone = on(1, parts);
            assert_eq!((on(2, parts), on(8, parts)), (alone.clone(), alone.clone()));
            // One row for itself.
            let row = 17;
            let rows = Operand { values: &case.x[row * inner..], ..case.operand() };
            let shortcut = &case.shortcut[row * outputs..][..outputs];
            let added = Added { bias: &case.bias, shortcut };
            let mut result = vec![0.0; outputs];
            multiply(TileKernel::Model, rows, 1, &case.packed(parts), added, &mut result);
            assert_eq!(bits(&result), alone[row * outputs..][..outputs]);
        }
    }
}

/// On a machine with tiles; any other has nothing to compare.
#[test]
fn the_processors_tiles_give_the_bits_of_the_model() {
    let Ok(kernel) = TileKernel::of_processor() else { return };
    for (rows, inner, outputs) in [(7, 40, 33), (33, 300, 64), (300, 577, 70)] {
        let case = Case::new(rows, inner, outputs);
        for parts in [Parts::One, Parts::Two] {
            let mut result = vec![0.0; rows * outputs];
            let packed = case.packed(parts);
            multiply(kernel, case.operand(), rows, &packed, case.added(), &mut result);
            assert_eq!(bits(&result), bits(&case.product(parts, case.added())));
        }
    }
}
