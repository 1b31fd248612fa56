//! The panels against the blocks whose bits they have.

use candle_core::{Device, Tensor};

use super::*;
use crate::compute::cpu::attention::attention_in_groups;
use crate::compute::cpu::attention_block::{Bias, Matrix};
use crate::compute::key_groups::{Group, Source};

/// Numbers without a pattern, about one.
fn some(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| (((at + seed) * 7919 % 2003) as f32 - 1001.0) / 613.0).collect()
}

/// Attention of `queries` queries to `keys` keys of the middle one of three heads, by panels and by blocks.
fn both(queries: usize, keys: usize, head: usize, causal: bool, biased: bool) -> [Vec<f32>; 2] {
    let width = 3 * head;
    let (query, key, value) =
        (some(queries * width, 5), some(keys * width, 77), some(keys * width, 901));
    let seen: Vec<Range<usize>> = (0..queries).map(|row| 0..keys.min(9 * row + 1)).collect();
    let bias = some(queries * keys, 31);
    let matrix = |values| Matrix { values, stride: width };
    let all = Keys { key: matrix(&key), value: matrix(&value), count: keys, seen: None };
    let seen = causal.then_some(seen.as_slice());
    // A second source, of which all is seen.
    let sources = [Keys { seen, ..all }.from(head), Keys { count: keys / 2, ..all }.from(head)];
    let rows: Vec<usize> = (0..queries).collect();
    let block = || Block {
        rows: &rows,
        head,
        query: matrix(&query).from(head),
        keys: &sources,
        scale: 0.31,
        bias: biased.then_some(Bias { values: &bias, query_stride: keys, key_stride: 1 }),
    };
    let packed = sources.map(|source| PanelKeys::pack(source, head).unwrap());
    let mut results = [vec![0.0; queries * width], vec![0.0; queries * width]];
    let [panels, blocks] = &mut results;
    let packed: Vec<&PanelKeys> = packed.iter().collect();
    attend(&block(), &packed, Target::new(panels).from(head), width).unwrap();
    block().attend(Target::new(blocks).from(head), width).unwrap();
    results
}

#[test]
fn panels_have_the_bits_of_blocks() {
    let fused = {
        #[cfg(target_arch = "x86_64")]
        let has = is_x86_feature_detected!("fma") && !is_x86_feature_detected!("avx512f");
        #[cfg(not(target_arch = "x86_64"))]
        let has = false;
        has
    };
    for (queries, keys, head) in [
        (1, 1, 1),
        (16, 6, 6),
        (17, 13, 7),
        (128, 77, 64),
        (127, 300, 72),
        (33, 1200, 40),
        (64, 513, 160),
    ] {
        for (causal, biased) in [(false, false), (true, false), (false, true), (true, true)] {
            let [panels, blocks] = both(queries, keys, head, causal, biased);
            let name = format!("{queries} {keys} {head} {causal} {biased}");
            for (ours, due) in panels.iter().zip(&blocks) {
                assert!((ours - due).abs() <= 1e-5, "{ours} {due} of {name}");
                assert!(!fused || ours.to_bits() == due.to_bits(), "{ours} {due} of {name}");
            }
            assert!(panels.iter().any(|value| value.abs() > 1e-3), "{name}");
        }
    }
}

/// Keys that are short of a row are refused.
#[test]
fn keys_beyond_their_matrix_are_refused() {
    let values = some(6 * 8, 1);
    let matrix = Matrix { values: &values, stride: 8 };
    let keys = |count| Keys { key: matrix, value: matrix, count, seen: None };
    assert!(PanelKeys::pack(keys(6), 8).is_ok());
    assert!(PanelKeys::pack(keys(7), 8).is_err());
}

/// A text that lies across the end of a step, among others and alone.
#[test]
fn a_texts_bits_do_not_tell_what_lies_before_it() {
    let (width, length) = (16, 25);
    let rows = 24 * length;
    let tensor = |seed| Tensor::from_vec(some(rows * width, seed), (rows, width), &Device::Cpu);
    let [query, key, value] = [3, 71, 907].map(|seed| tensor(seed).unwrap());
    let windows: Vec<Range<usize>> =
        (0..rows).map(|row| row / length * length).map(|first| first..first + length).collect();
    let all: Vec<usize> = (0..rows).collect();
    let source = Source { key: &key, value: &value, seen: Some(&windows) };
    let among = attention_in_groups(&query, 2, &[Group::new(&all, vec![source])], None).unwrap();
    let first = 500;
    let text = |tensor: &Tensor| tensor.narrow(0, first, length).unwrap();
    let (query, key, value) = (text(&query), text(&key), text(&value));
    let source = Source { key: &key, value: &value, seen: None };
    let group = Group::new(&all[..length], vec![source]);
    let alone = attention_in_groups(&query, 2, &[group], None).unwrap();
    let bits = |tensor: &Tensor| -> Vec<u32> {
        let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        numbers.into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(bits(&text(&among)), bits(&alone));
}
