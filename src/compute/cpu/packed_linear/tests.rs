//! In: weights and rows of odd sizes. Checks: products by packed weights against f64, the same bits at any number of
//! threads and of rows and by either kernel, and what happens to infinities.

use candle_core::{DType, Device, Tensor};

use super::super::linear::linear;
use super::{FEWEST, PackedWeights, PanelKernel};

const KERNELS: [PanelKernel; 3] = [PanelKernel::FewRows, PanelKernel::ManyRows, PanelKernel::Gemm];

/// About uniform in [-1, 1], and the same in every run.
fn random(shape: &[usize]) -> Tensor {
    let mut state = shape.iter().fold(11u64, |seed, side| seed * 1013 + *side as u64);
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| uniform()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

/// Largest error of `ours` against the same in f64, in units of the root of the inner length.
fn error(ours: &Tensor, x: &Tensor, weight: &Tensor, bias: &Tensor, shortcut: &Tensor) -> f64 {
    let (_, input) = weight.dims2().unwrap();
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
    let product = wide(x).matmul(&wide(weight).t().unwrap().contiguous().unwrap()).unwrap();
    let exact = (product.broadcast_add(&wide(bias)).unwrap() + wide(shortcut)).unwrap();
    let largest = (wide(ours) - exact).unwrap().abs().unwrap().max_all().unwrap();
    largest.to_scalar::<f64>().unwrap() / (input as f64).sqrt()
}

/// Whether this processor's products are fused steps in both kernels.
fn is_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let fused = super::super::vector::ALWAYS_FUSED;
    fused
}

#[test]
fn products_equal_those_in_f64_at_any_size() {
    let all_rows = (1..=33).chain([127, 128, 129, 300]);
    for (number, rows) in all_rows.enumerate() {
        let output = [1, 2, 15, 16, 17, 31, 32, 33, 65, 130][number % 10];
        let input = [1, 3, 8, 37, 64, 65, 511, 513, 1030][number % 9];
        let (x, weight) = (random(&[rows, input]), random(&[output, input]));
        let (bias, shortcut) = (random(&[output]), random(&[rows, output]));
        let packed = PackedWeights::pack(&weight).unwrap();
        assert_eq!(packed.dims(), [output, input]);
        for kernel in KERNELS {
            let ours = packed.linear_by(kernel, &x, Some(&bias), Some(&shortcut)).unwrap();
            let case = format!("{rows} x {input} x {output} by {kernel:?}");
            let found = error(&ours, &x, &weight, &bias, &shortcut);
            assert!(found < 1.5e-6, "{case}: {found:e}");
            let without = packed.linear_by(kernel, &x, None, Some(&shortcut)).unwrap();
            assert!(error(&without, &x, &weight, &bias, &shortcut) > 1.5e-6, "{case}, no bias");
            let without = packed.linear_by(kernel, &x, Some(&bias), None).unwrap();
            assert!(error(&without, &x, &weight, &bias, &shortcut) > 1.5e-6, "{case}, no shortcut");
        }
    }
}

#[test]
fn a_rows_bits_are_the_same_with_any_rows_beside_it_and_on_any_number_of_threads() {
    let (rows, input, output) = (261, 1100, 75);
    let (x, weight) = (random(&[rows, input]), random(&[output, input]));
    let packed = PackedWeights::pack(&weight).unwrap();
    let (bias, shortcut) = (random(&[output]), random(&[rows, output]));
    let with = |kernel| packed.linear_by(kernel, &x, Some(&bias), Some(&shortcut)).unwrap();
    assert!(bits(&with(PanelKernel::ManyRows)) == bits(&with(PanelKernel::FewRows)));
    let by = |kernel, x: &Tensor| packed.linear_by(kernel, x, None, None).unwrap();
    let all = by(PanelKernel::FewRows, &x);
    for (first, count) in [(0, 1), (7, 1), (3, 2), (100, 5), (128, 7), (5, 33), (1, 128), (2, 259)]
    {
        let some = by(PanelKernel::FewRows, &x.narrow(0, first, count).unwrap());
        let due = all.narrow(0, first, count).unwrap();
        assert!(bits(&some) == bits(&due), "{count} rows from {first}");
        let some = by(PanelKernel::ManyRows, &x.narrow(0, first, count).unwrap());
        assert!(bits(&some) == bits(&due), "{count} rows from {first}, many");
    }
    if is_fused() {
        assert!(bits(&by(PanelKernel::Gemm, &x)) == bits(&all), "other bits by gemm");
        // As without packing, but for single rows.
        let (x, weight) = (random(&[9, 500]), random(&[output, 500]));
        let packed = PackedWeights::pack(&weight).unwrap();
        let plain = linear(&x, &weight, None, None).unwrap();
        assert!(bits(&packed.linear(&x, None, None).unwrap()) == bits(&plain));
    }
    for threads in [1, 2, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for kernel in KERNELS {
            let again = || {
                let packed = PackedWeights::pack(&weight).unwrap();
                packed.linear_by(kernel, &x, None, None).unwrap()
            };
            let alone = by(kernel, &x);
            assert!(bits(&pool.install(again)) == bits(&alone), "{threads} threads, {kernel:?}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    let (rows, input, output) = (14, 70, 37);
    let mut numbers = values(&random(&[rows, input]));
    numbers[3 * input + 5] = f32::INFINITY;
    numbers[8 * input + 69] = f32::NAN;
    let x = Tensor::from_vec(numbers, (rows, input), &Device::Cpu).unwrap();
    let mut weights = values(&random(&[output, input]));
    // Outputs 2 and 36 take nothing from the number that is infinite, and 0 times infinity is not a number.
    weights[2 * input + 5] = 0.0;
    weights[36 * input + 5] = 0.0;
    weights[4 * input + 5] = -1.0;
    let zeros = Tensor::zeros((output, input), DType::F32, &Device::Cpu).unwrap();
    let weight = Tensor::from_vec(weights, (output, input), &Device::Cpu).unwrap();
    for kernel in KERNELS {
        let packed = PackedWeights::pack(&weight).unwrap();
        let ours = packed.linear_by(kernel, &x, None, None).unwrap();
        let ours = ours.to_vec2::<f32>().unwrap();
        for (number, row) in ours.iter().enumerate() {
            match number {
                3 => {
                    assert!(row[2].is_nan() && row[36].is_nan());
                    assert_eq!(row[4], f32::NEG_INFINITY);
                    assert!(
                        row.iter().enumerate().all(|(i, y)| i == 2 || i == 36 || y.is_infinite())
                    );
                }
                8 => assert!(row.iter().all(|y| y.is_nan())),
                _ => assert!(row.iter().all(|y| y.is_finite()), "row {number}"),
            }
        }
        let none = PackedWeights::pack(&zeros).unwrap();
        let x = random(&[rows, input]);
        let bias = random(&[output]);
        let ours = none.linear_by(kernel, &x, Some(&bias), None).unwrap();
        let due = bias.broadcast_as((rows, output)).unwrap();
        assert_eq!(values(&ours), values(&due.contiguous().unwrap()));
    }
}

#[test]
fn views_are_read_as_they_lie_and_what_does_not_fit_is_refused() {
    let (input, output) = (41, 50);
    let weight = random(&[output, input]);
    let packed = PackedWeights::pack(&weight).unwrap();
    let turned = random(&[2, input, 140]).transpose(1, 2).unwrap();
    let shortcut = random(&[2, 140, output]);
    for kernel in KERNELS {
        let by = |x: &Tensor| packed.linear_by(kernel, x, None, Some(&shortcut)).unwrap();
        let ours = by(&turned);
        assert_eq!(ours.dims(), [2, 140, output]);
        assert!(bits(&ours) == bits(&by(&turned.contiguous().unwrap())), "{kernel:?}");
        let part = Tensor::cat(&[&turned, &turned], 1).unwrap().narrow(1, 140, 140).unwrap();
        assert!(bits(&ours) == bits(&by(&part)), "{kernel:?}");
        // One number for a whole row.
        let spread = random(&[2, 140, 1]).broadcast_as((2, 140, input)).unwrap();
        assert!(bits(&by(&spread)) == bits(&by(&spread.contiguous().unwrap())), "{kernel:?}");
    }
    // Weights that are a part of others.
    let twice = Tensor::cat(&[&random(&[3, input]), &weight], 0).unwrap();
    let second = PackedWeights::pack(&twice.narrow(0, 3, output).unwrap()).unwrap();
    assert_eq!(second.panels(), packed.panels());
    assert!(packed.linear(&random(&[2, 40]), None, None).is_err());
    assert!(packed.linear(&random(&[2, input]), Some(&random(&[49])), None).is_err());
    assert!(packed.linear(&random(&[2, input]), None, Some(&random(&[3, output]))).is_err());
    let nothing = packed.linear(&random(&[1, input]).narrow(0, 0, 0).unwrap(), None, None).unwrap();
    assert_eq!(nothing.dims(), [0, output]);
}

#[test]
fn many_weights_in_f32_are_packed_and_others_are_not() {
    let weight = Tensor::zeros((FEWEST / 64, 64), DType::F32, &Device::Cpu).unwrap();
    assert!(PackedWeights::of(&weight).is_some());
    assert!(PackedWeights::of(&weight.narrow(0, 1, FEWEST / 64 - 1).unwrap()).is_none());
    assert!(PackedWeights::of(&weight.to_dtype(DType::BF16).unwrap()).is_none());
    // No number more than there were.
    assert_eq!(PackedWeights::of(&weight).unwrap().panels().len(), FEWEST);
}
