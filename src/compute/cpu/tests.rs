//! In: the goldens of `tests/fixtures/make_ops.py`, and candle's own operations. Checks: every
//! operation here equals both, at batch two, odd sizes and across every block edge, with the same
//! bits at any number of threads.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::activation::{ActivationKind, activation, gated_sum, geglu};
use super::attention::{Scores, attention};
use super::conv2d::{InitialOutput, conv2d};
use super::group_norm::{FusedActivation, group_norm};
use super::layer_norm::{layer_norm, rms_norm};
use super::linear::linear;
use super::{half_linear, vector};
use crate::compute::golden::{Golden, errors};

/// Bounds on the relative and the largest absolute error for results of order one to ten.
const RELATIVE: f64 = 2e-6;
const ABSOLUTE: f64 = 2e-5;

fn goldens() -> Golden {
    Golden::open("../ops/ops")
}

fn equals(name: &str, ours: &Tensor, golden: &Tensor) -> bool {
    errors(name, ours, golden).within(RELATIVE, ABSOLUTE)
}

/// Runs `operation` on 1, 2, 3 and 5 threads; the bits must not differ.
fn at_any_number_of_threads(operation: impl Fn() -> Result<Tensor> + Sync) -> Tensor {
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| operation().unwrap())
    };
    let alone = on(1);
    for threads in [2, 3, 5] {
        assert!(bits(&on(threads)) == bits(&alone), "other bits on {threads} threads");
    }
    alone
}

/// About normal, and the same in every run: sums of twelve numbers of a linear congruential generator.
fn random(shape: &[usize]) -> Tensor {
    let mut state = shape.iter().fold(7u64, |seed, side| seed * 1009 + *side as u64);
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let count = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn gated_sums_equal_candles_own() {
    for shape in [[2, 7, 33], [1, 300, 257], [3, 1, 1]] {
        let (x, y, gate) =
            (random(&shape), random(&[shape[1], shape[0], shape[2]]), random(&shape[2..]));
        let y = y.transpose(0, 1).unwrap();
        let ours = at_any_number_of_threads(|| gated_sum(&x, &y, &gate));
        let due = (&x + y.broadcast_mul(&gate).unwrap()).unwrap();
        assert_eq!(ours.dims(), shape);
        assert!(equals("gated", &ours, &due));
        assert!(!equals("no gate", &ours, &(&x + &y).unwrap()));
        assert!(gated_sum(&x, &y.narrow(1, 0, shape[1] - 1).unwrap(), &gate).is_err());
    }
    assert!(gated_sum(&random(&[2, 3]), &random(&[2, 3]), &random(&[2])).is_err());
}

#[test]
fn convolutions_equal_pytorch() {
    let golden = goldens();
    for (case, stride, padding) in
        [("wide", 1, 1), ("deep", 1, 1), ("halved", 2, 1), ("pointwise", 1, 0)]
    {
        let get = |name: &str| golden.get(&format!("{case}.{name}"));
        let added = (case != "halved").then(|| (get("shift"), get("shortcut")));
        let (x, weight, bias) = (get("x"), get("weight"), get("bias"));
        let start = InitialOutput {
            bias: Some(&bias),
            shift: added.as_ref().map(|(shift, _)| shift),
            shortcut: added.as_ref().map(|(_, shortcut)| shortcut),
        };
        let run = |start| at_any_number_of_threads(|| conv2d(&x, &weight, stride, padding, start));
        assert!(equals(case, &run(start), &get("output")));
        let sabotaged = run(InitialOutput { bias: None, ..start });
        assert!(!equals("no bias", &sabotaged, &get("output")));
        if added.is_some() {
            let sabotaged = run(InitialOutput { shift: None, ..start });
            assert!(!equals("no shift", &sabotaged, &get("output")));
            let sabotaged = run(InitialOutput { shortcut: None, ..start });
            assert!(!equals("no shortcut", &sabotaged, &get("output")));
        }
        // Taps mirrored.
        let mirrored = weight.transpose(2, 3).unwrap().contiguous().unwrap();
        let sabotaged = conv2d(&x, &mirrored, stride, padding, start).unwrap();
        assert_eq!(equals("mirrored", &sabotaged, &get("output")), case == "pointwise");
    }
}

/// Shapes at which a map is cut into parts of its input channels, its output channels and both.
#[test]
fn convolutions_equal_candle_however_they_are_cut() {
    for (x, out, side, stride) in [
        ([2, 300, 16, 16], 70, 3, 1),
        ([1, 130, 33, 31], 150, 3, 1),
        ([2, 64, 40, 41], 64, 3, 2),
        ([2, 300, 23, 29], 130, 1, 1),
        ([1, 3, 8, 600], 5, 3, 1),
        ([3, 4, 1, 1], 6, 3, 1),
    ] {
        let weight = (random(&[out, x[1], side, side]) * 0.1).unwrap();
        let x = random(&x);
        let padding = side / 2;
        let plain = x.conv2d(&weight, padding, stride, 1, 1).unwrap();
        let start = InitialOutput::default();
        let ours = at_any_number_of_threads(|| conv2d(&x, &weight, stride, padding, start));
        assert!(errors("conv2d", &ours, &plain).within(2e-6, 1e-4));
        // A view of a larger tensor.
        let wider = Tensor::cat(&[&x, &x], 3).unwrap();
        let view = wider.narrow(3, x.dim(3).unwrap(), x.dim(3).unwrap()).unwrap();
        let of_view = conv2d(&view, &weight, stride, padding, start).unwrap();
        assert!(errors("view", &of_view, &ours).within(0.0, 0.0));
    }
}

#[test]
fn attention_equals_pytorch() {
    let golden = goldens();
    for (case, heads, causal) in [("cross", 3, false), ("causal", 2, true)] {
        let get = |name: &str| golden.get(&format!("{case}.{name}"));
        let (query, key, value) = (get("query"), get("key"), get("value"));
        let run = |heads: usize, causal: bool| {
            at_any_number_of_threads(|| {
                attention(&query, &key, &value, heads, Scores { causal, ..Scores::default() })
            })
        };
        assert!(equals(case, &run(heads, causal), &get("output")));
        assert!(!equals("heads", &run(1, causal), &get("output")));
        if causal {
            assert!(!equals("no mask", &run(heads, false), &get("output")));
        }
    }
}

#[test]
fn biased_attention_equals_pytorch() {
    let golden = goldens();
    let get = |name: &str| golden.get(&format!("biased.{name}"));
    let (query, key, value, bias) = (get("query"), get("key"), get("value"), get("bias"));
    let run = |scale: Option<f64>, bias: Option<&Tensor>| {
        let scores = Scores { scale, bias, ..Scores::default() };
        at_any_number_of_threads(|| attention(&query, &key, &value, 3, scores))
    };
    let output = get("output");
    assert!(equals("biased", &run(Some(1.0), Some(&bias)), &output));
    assert!(!equals("divided", &run(None, Some(&bias)), &output));
    assert!(!equals("no bias", &run(Some(1.0), None), &output));
    // One bias for all entries, and one in another layout.
    let first = bias.narrow(0, 0, 1).unwrap();
    let shared = run(Some(1.0), Some(&first));
    assert!(equals("first", &shared.get(0).unwrap(), &output.get(0).unwrap()));
    assert!(!equals("second", &shared.get(1).unwrap(), &output.get(1).unwrap()));
    let turned = bias.transpose(2, 3).unwrap().contiguous().unwrap().transpose(2, 3).unwrap();
    assert!(equals("turned", &run(Some(1.0), Some(&turned)), &output));
    assert!(
        attention(&query, &key, &value, 3, Scores { bias: Some(&query), ..Scores::default() })
            .is_err()
    );
}

/// Sizes of the UNet's and CLIP's heads, and scores so large that a naive softmax overflows.
#[test]
fn attention_equals_candle_at_any_size() {
    for (batch, queries, keys, heads, head, scale) in [
        (2, 77, 77, 3, 64, 1.0),
        (1, 300, 77, 2, 40, 3.0),
        (2, 1, 1030, 1, 80, 6.0),
        (1, 129, 513, 1, 160, 0.1),
    ] {
        let width = heads * head;
        let query = (random(&[batch, queries, width]) * scale).unwrap();
        let key = (random(&[batch, keys, width]) * scale).unwrap();
        // Another seed than the keys'.
        let value = random(&[keys, batch, width]).reshape((batch, keys, width)).unwrap();
        let split = |x: &Tensor| {
            let x = x.to_dtype(DType::F64).unwrap().reshape((batch, (), heads, head)).unwrap();
            x.transpose(1, 2).unwrap().contiguous().unwrap()
        };
        let (q, k, v) = (split(&query), split(&key), split(&value));
        let scores = q.matmul(&k.transpose(2, 3).unwrap().contiguous().unwrap()).unwrap();
        let scores = (scores / (head as f64).sqrt()).unwrap();
        let mixed = softmax_last_dim(&scores).unwrap().matmul(&v).unwrap();
        let plain = mixed.transpose(1, 2).unwrap().reshape((batch, queries, width)).unwrap();
        let ours = attention(&query, &key, &value, heads, Scores::default()).unwrap();
        assert!(errors("attention", &ours, &plain).within(5e-6, 5e-5));
        let shifted =
            attention(&query, &(key * 1.01).unwrap(), &value, heads, Scores::default()).unwrap();
        if (0.5..4.0).contains(&scale) {
            assert!(!errors("louder keys", &shifted, &plain).within(5e-6, 5e-5));
        }
    }
}

#[test]
fn gates_and_curves_equal_pytorch() {
    let golden = goldens();
    let x = golden.get("geglu.x");
    let ours = at_any_number_of_threads(|| geglu(&x));
    assert!(equals("geglu", &ours, &golden.get("geglu.output")));
    assert!(!equals("geglu tanh", &ours, &golden.get("geglu.tanh")));
    assert!(geglu(&random(&[2, 7])).is_err());
    let x = golden.get("curves.x");
    let names = [
        (ActivationKind::Gelu, "gelu"),
        (ActivationKind::GeluTanh, "gelu_tanh"),
        (ActivationKind::QuickGelu, "quick_gelu"),
    ];
    for (curve, own) in names {
        let ours = at_any_number_of_threads(|| activation(&x, curve));
        for (_, name) in names {
            let golden = golden.get(&format!("curves.{name}"));
            assert_eq!(equals(&format!("{own} as {name}"), &ours, &golden), own == name);
        }
    }
}

#[test]
fn norms_equal_pytorch() {
    let golden = goldens();
    let get = |name: &str| golden.get(&format!("group_norm.{name}"));
    let (x, weight, bias) = (get("x"), get("weight"), get("bias"));
    for (then, name, other) in
        [(FusedActivation::Plain, "output", "silu"), (FusedActivation::Silu, "silu", "output")]
    {
        let run = |groups: usize, eps: f64| {
            at_any_number_of_threads(|| group_norm(&x, &weight, &bias, groups, eps, then))
        };
        assert!(equals(name, &run(4, 1e-5), &get(name)));
        assert!(!equals("other end", &run(4, 1e-5), &get(other)));
        assert!(!equals("groups", &run(3, 1e-5), &get(name)));
        assert!(!equals("eps", &run(4, 1e-3), &get(name)));
    }
    assert!(group_norm(&x, &weight, &bias, 5, 1e-5, FusedActivation::Plain).is_err());

    let get = |name: &str| golden.get(&format!("layer_norm.{name}"));
    let (x, weight, bias) = (get("x"), get("weight"), get("bias"));
    let run = |eps: f64| at_any_number_of_threads(|| layer_norm(&x, &weight, &bias, eps));
    assert!(equals("layer_norm", &run(1e-5), &get("output")));
    assert!(!equals("eps", &run(1e-3), &get("output")));

    let get = |name: &str| golden.get(&format!("rms_norm.{name}"));
    let (x, weight) = (get("x"), get("weight"));
    let run = |eps: f64| at_any_number_of_threads(|| rms_norm(&x, &weight, eps));
    assert!(equals("rms_norm", &run(1e-6), &get("output")));
    assert!(!equals("eps", &run(1e-1), &get("output")));

    // A mean a hundred times the deviation leaves five digits, not two.
    let far = (random(&[4, 700]) + 100.0).unwrap();
    let (ones, zeros) =
        (Tensor::ones(700, DType::F32, &Device::Cpu), Tensor::zeros(700, DType::F32, &Device::Cpu));
    let ours = layer_norm(&far, &ones.unwrap(), &zeros.unwrap(), 1e-5).unwrap();
    let wide = far.to_dtype(DType::F64).unwrap();
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1).unwrap()).unwrap();
    let variance = centred.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
    let exact = centred.broadcast_div(&(variance + 1e-5).unwrap().sqrt().unwrap()).unwrap();
    assert!(errors("far from zero", &ours, &exact).within(2e-5, 5e-5));
}

#[test]
fn linear_layers_equal_pytorch_from_any_layout() {
    let golden = goldens();
    let get = |name: &str| golden.get(&format!("linear.{name}"));
    let (weight, bias, shortcut) = (get("weight"), get("bias"), get("shortcut"));
    let view = get("x").transpose(1, 2).unwrap();
    let solid = view.contiguous().unwrap();
    let second = Tensor::cat(&[&solid, &solid], 2).unwrap().narrow(2, 21, 21).unwrap();
    let output = get("output");
    for (name, x) in [("view", &view), ("solid", &solid), ("part", &second)] {
        let run = |bias, shortcut| at_any_number_of_threads(|| linear(x, &weight, bias, shortcut));
        let (bias, shortcut) = (Some(&bias), Some(&shortcut));
        assert!(equals(name, &run(bias, shortcut), &output));
        let without = (run(bias, None) + get("shortcut")).unwrap();
        assert!(equals("no shortcut", &without, &output));
        assert!(!equals("no bias", &run(None, shortcut), &output));
        let bare = run(None, None).broadcast_add(&get("bias")).unwrap();
        assert!(equals("bare", &(bare + get("shortcut")).unwrap(), &output));
    }
    assert!(linear(&random(&[2, 3]), &weight, None, None).is_err());
    assert!(linear(&solid, &weight, Some(&random(&[5])), None).is_err());
}

/// Rows and outputs on both sides of every cut.
#[test]
fn weights_of_sixteen_bits_equal_candle_with_the_same_weights_in_f32() {
    for (rows, input, output, dtype) in [
        (1, 37, 5, DType::BF16),
        (3, 64, 200, DType::F16),
        (130, 37, 450, DType::BF16),
        (1100, 21, 193, DType::BF16),
    ] {
        let x = random(&[2, rows, input]);
        let exact = (random(&[output, input]) * 0.3).unwrap();
        let stored = exact.to_dtype(dtype).unwrap();
        let (bias, shortcut) = (random(&[output]), random(&[2, rows, output]));
        let product = |weight: &Tensor| {
            let flat = x.reshape((2 * rows, input)).unwrap();
            let product = flat.matmul(&weight.t().unwrap().contiguous().unwrap()).unwrap();
            let product = product.reshape((2, rows, output)).unwrap();
            (product.broadcast_add(&bias).unwrap() + &shortcut).unwrap()
        };
        assert!(half_linear::applies(&x, &stored) && !half_linear::applies(&x, &exact));
        let run = |weight: &Tensor, bias: Option<&Tensor>, shortcut: Option<&Tensor>| {
            at_any_number_of_threads(|| half_linear::linear(&x, weight, bias, shortcut))
        };
        let ours = run(&stored, Some(&bias), Some(&shortcut));
        let widened = product(&stored.to_dtype(DType::F32).unwrap());
        assert!(equals("narrow", &ours, &widened));
        assert!(!equals("as if stored in f32", &ours, &product(&exact)));
        assert!(!equals("no bias", &run(&stored, None, Some(&shortcut)), &widened));
        assert!(!equals("no shortcut", &run(&stored, Some(&bias), None), &widened));
        // A part of a larger matrix.
        let twice = Tensor::cat(&[&stored, &stored], 0).unwrap();
        let second = twice.narrow(0, output, output).unwrap();
        assert!(equals("part", &run(&second, Some(&bias), Some(&shortcut)), &widened));
    }
    let stored = random(&[4, 5]).to_dtype(DType::BF16).unwrap();
    assert!(half_linear::linear(&random(&[2, 4]), &stored, None, None).is_err());
    assert!(half_linear::linear(&random(&[2, 4]), &stored.t().unwrap(), None, None).is_err());
}

#[test]
fn silu_equals_candle() {
    let x = (random(&[3, 1111]) * 5.0).unwrap();
    let ours = at_any_number_of_threads(|| activation(&x, ActivationKind::Silu));
    assert!(equals("silu", &ours, &x.silu().unwrap()));
    let other = activation(&x, ActivationKind::QuickGelu).unwrap();
    assert!(!equals("quick_gelu", &other, &x.silu().unwrap()));
}

/// Fused and plain, so that both kinds of processor are checked on either.
#[test]
fn powers_and_the_error_function_keep_their_digits() {
    for step in -126_000..=126_000 {
        let x = step as f32 / 1000.0;
        let exact = f64::from(x).exp2();
        for ours in [vector::power_of_two::<true>(x), vector::power_of_two::<false>(x)] {
            assert!((f64::from(ours) / exact - 1.0).abs() < 2.5e-7, "2^{x} = {ours}");
        }
    }
    for x in [-127.0, -1000.0, f32::MIN, f32::NEG_INFINITY] {
        assert_eq!(vector::power_of_two::<true>(x), 0.0);
    }
    let golden = goldens();
    let values = |name: &str| -> Vec<f32> { golden.get(name).to_vec1().unwrap() };
    for (x, exact) in values("erf.x").into_iter().zip(values("erf.output")) {
        for ours in [vector::erf::<true>(x), vector::erf::<false>(x)] {
            assert!((ours - exact).abs() <= 5e-7 * exact.abs(), "erf({x}) = {ours}, not {exact}");
        }
    }
}

#[test]
fn the_goldens_are_those_of_their_provenance() {
    use sha2::{Digest, Sha256};
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read(fixtures.join("ops/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let digests = provenance["sha256"].as_object().unwrap();
    assert!(!digests.is_empty());
    for (file, digest) in digests {
        let bytes = std::fs::read(fixtures.join(file)).unwrap();
        let ours: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, digest.as_str().unwrap(), "{file}");
    }
}
