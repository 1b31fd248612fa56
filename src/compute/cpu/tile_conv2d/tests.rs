//! In: seeded maps. Checks: convolutions through the model of the tile instruction are as near to those in f32 as the parts
//! of their factors allow, for every filter, stride, border and edge of a strip, with the same bits at any number of threads
//! and beside any other entry.

use super::super::conv2d::{InitialOutput, conv2d};
use super::super::tile_packing::Parts;
use super::*;
use crate::compute::golden::{errors, normal_numbers};

/// Of (batch, input channels, output channels, height, width), (side, stride, padding).
type Sizes = ((usize, usize, usize, usize, usize), (usize, usize, usize));

/// Seeded numbers in that shape.
fn random(shape: &[usize], seed: u64) -> Tensor {
    let values = normal_numbers(shape.iter().product(), seed);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

struct Case {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    shift: Tensor,
    shortcut: Tensor,
    stride: usize,
    padding: usize,
}

impl Case {
    fn new(((batch, inputs, outputs, height, width), (side, stride, padding)): Sizes) -> Self {
        let out = |length: usize| (length + 2 * padding - side) / stride + 1;
        Self {
            x: random(&[batch, inputs, height, width], 1),
            weight: random(&[outputs, inputs, side, side], 2),
            bias: random(&[outputs], 3),
            shift: random(&[batch, outputs], 4),
            shortcut: random(&[batch, outputs, out(height), out(width)], 5),
            stride,
            padding,
        }
    }

    fn packed(&self, parts: Parts) -> TileConv2d {
        let packing = Packing { kernel: TileKernel::Model, parts };
        let sizes = (self.stride, self.padding);
        TileConv2d::pack(&self.weight, Some(&self.bias), sizes, packing).unwrap()
    }

    fn run(&self, parts: Parts) -> Tensor {
        self.packed(parts).forward(&self.x, Some(&self.shift), Some(&self.shortcut)).unwrap()
    }

    fn due(&self) -> Tensor {
        let start = InitialOutput {
            bias: Some(&self.bias),
            shift: Some(&self.shift),
            shortcut: Some(&self.shortcut),
        };
        conv2d(&self.x, &self.weight, self.stride, self.padding, start).unwrap()
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn convolutions_are_near_to_those_in_f32() {
    let cases: [Sizes; 11] = [
        ((1, 3, 9, 7, 9), (3, 1, 1)),
        // Channels beyond a block, outputs beyond a panel.
        ((2, 33, 40, 8, 8), (3, 1, 1)),
        ((3, 70, 16, 5, 4), (3, 1, 1)),
        ((2, 300, 33, 6, 6), (1, 1, 0)),
        // Several strips, which end within a row and within an entry.
        ((2, 5, 35, 20, 26), (3, 1, 1)),
        ((1, 20, 700, 4, 4), (3, 1, 1)),
        // Strides.
        ((2, 34, 20, 9, 12), (3, 2, 1)),
        ((1, 6, 20, 8, 8), (1, 2, 0)),
        ((2, 3, 40, 12, 13), (4, 4, 0)),
        // No border, and a wide one.
        ((1, 8, 20, 9, 9), (3, 1, 0)),
        ((2, 4, 20, 6, 7), (5, 1, 2)),
    ];
    for sizes in cases {
        let case = Case::new(sizes);
        for (parts, bound) in [(Parts::One, 4e-3), (Parts::Two, 8e-6)] {
            let found = errors(&format!("{sizes:?} {parts:?}"), &case.run(parts), &case.due());
            assert!(found.within(bound, f64::INFINITY), "{sizes:?} {parts:?}");
        }
    }
}

#[test]
fn the_bounds_see_what_is_missing() {
    let case = Case::new(((2, 33, 40, 8, 8), (3, 1, 1)));
    let packed = case.packed(Parts::Two);
    let (shift, shortcut) = (Some(&case.shift), Some(&case.shortcut));
    for (shift, shortcut) in [(None, shortcut), (shift, None)] {
        let found = packed.forward(&case.x, shift, shortcut).unwrap();
        assert!(!errors("missing", &found, &case.due()).within(4e-3, f64::INFINITY));
    }
    let rounded = errors("one part", &case.run(Parts::One), &case.due());
    assert!(!rounded.within(50.0 * 8e-6, f64::INFINITY));
    // One shift for all entries.
    let shift = case.shift.narrow(0, 1, 1).unwrap().contiguous().unwrap();
    let start = InitialOutput { bias: Some(&case.bias), shift: Some(&shift), shortcut };
    let due = conv2d(&case.x, &case.weight, 1, 1, start).unwrap();
    let found = packed.forward(&case.x, Some(&shift), shortcut).unwrap();
    assert!(errors("one shift", &found, &due).within(8e-6, f64::INFINITY));
    assert!(packed.forward(&random(&[1, 32, 8, 8], 1), None, None).is_err());
    assert!(packed.forward(&case.x, None, Some(&case.shift)).is_err());
}

#[test]
fn bits_are_the_same_at_any_number_of_threads_and_in_any_company() {
    let case = Case::new(((2, 5, 40, 20, 26), (3, 1, 1)));
    for parts in [Parts::One, Parts::Two] {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&case.run(parts)))
        };
        let alone = on(1);
        assert!(on(2) == alone && on(8) == alone);
        let second = |tensor: &Tensor| tensor.narrow(0, 1, 1).unwrap().contiguous().unwrap();
        let (x, shift, shortcut) = (second(&case.x), second(&case.shift), second(&case.shortcut));
        let found = case.packed(parts).forward(&x, Some(&shift), Some(&shortcut)).unwrap();
        assert!(bits(&found) == alone[alone.len() / 2..]);
    }
}
