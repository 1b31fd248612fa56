//! In: queries in one matrix, and for each group of them the keys and values that it sees. Out: their
//! attention. So rows of different lengths need no padding, and what many rows share - an image's
//! keys for all questions about it and all ways to continue their answers - is there once.

use candle_core::{Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::attention::{join_heads, split_heads};
use super::cpu::attention::Scores;
use super::key_groups::Group;
use super::products::Packing;
use super::{cpu, cuda};

/// `softmax(q k^T / sqrt(d)) v` for `query` [rows, heads * d], all of whose rows are in `groups`; gives
/// [rows, heads * d]. Scores and sums are f32. `packing` is how the network's products are rounded on the processor, where they are.
///
/// # Errors
/// Shapes that do not fit, a row in no group or in two, a query that sees no key.
pub(crate) fn attend_in_groups(
    query: &Tensor,
    heads: usize,
    groups: &[Group],
    packing: Option<Packing>,
) -> Result<Tensor> {
    check(query, groups)?;
    let sources = || groups.iter().flat_map(|group| &group.sources);
    let fast = sources().all(|source| cpu::apply(&[source.key, source.value]));
    if fast && cpu::apply(&[query]) {
        return cpu::attention::attention_in_groups(query, heads, groups, packing);
    }
    attend_group_by_group(query, heads, groups)
}

fn check(query: &Tensor, groups: &[Group]) -> Result<()> {
    let (rows, width) = query.dims2()?;
    let mut taken = vec![false; rows];
    for group in groups {
        for row in group.rows {
            match taken.get_mut(*row) {
                Some(taken) if !*taken => *taken = true,
                _ => candle_core::bail!("row {row} of {rows} is in two groups, or is none"),
            }
        }
        let mut keys = vec![0; group.rows.len()];
        for source in &group.sources {
            let count = source.key.dim(0)?;
            let fits = source.seen.is_none_or(|seen| {
                seen.len() == group.rows.len() && seen.iter().all(|seen| seen.end <= count)
            });
            if source.key.dims() != [count, width] || source.value.dims() != [count, width] || !fits
            {
                let (key, value) = (source.key.dims(), source.value.dims());
                candle_core::bail!("keys {key:?} and values {value:?} do not fit their queries")
            }
            for (number, keys) in keys.iter_mut().enumerate() {
                *keys += source.seen.map_or(count, |seen| seen[number].len());
            }
        }
        if let Some(blind) = keys.iter().position(|keys| *keys == 0) {
            candle_core::bail!("row {} sees no key", group.rows[blind])
        }
    }
    match taken.iter().position(|taken| !taken) {
        Some(row) => candle_core::bail!("row {row} is in no group"),
        None => Ok(()),
    }
}

fn attend_group_by_group(query: &Tensor, heads: usize, groups: &[Group]) -> Result<Tensor> {
    let (rows, width) = query.dims2()?;
    let device = query.device();
    let scale = ((width / heads) as f64).powf(-0.5);
    let mut places = vec![0; rows];
    let mut parts = Vec::with_capacity(groups.len());
    let mut start = 0;
    for group in groups.iter().filter(|group| !group.rows.is_empty()) {
        for (place, row) in group.rows.iter().enumerate() {
            places[*row] = (start + place) as u32;
        }
        start += group.rows.len();
        let own = group.queries(query)?.unsqueeze(0)?;
        let (key, value) = group.keys_and_values()?;
        let (key, value) = (key.unsqueeze(0)?, value.unsqueeze(0)?);
        let mask = group.mask(key.dim(1)?, device)?;
        if cuda::apply(&[&own, &key, &value]) {
            let scores = Scores { bias: mask.as_ref(), ..Scores::default() };
            if let Some(mixed) = cuda::attention(&own, &key, &value, heads, scores)? {
                parts.push(mixed.squeeze(0)?);
                continue;
            }
        }
        let key = split_heads(&key, heads)?.transpose(1, 2)?.contiguous()?;
        let value = split_heads(&value, heads)?;
        let mut scores = (split_heads(&own, heads)? * scale)?.matmul(&key)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(&mask.squeeze(0)?)?;
        }
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?;
        parts.push(join_heads(&mixed, heads)?.squeeze(0)?);
    }
    let all = match parts.as_slice() {
        [only] => only.clone(),
        parts => Tensor::cat(parts, 0)?,
    };
    let in_order = places.iter().copied().eq(0..rows as u32);
    let all = match in_order {
        true => all,
        false => all.index_select(&Tensor::from_vec(places, rows, device)?, 0)?,
    };
    all.to_dtype(query.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::compute::golden::errors;
    use crate::compute::key_groups::{CachedMask, Source};
    use crate::compute::products::{Products, packing};
    use candle_core::Device;
    use std::ops::Range;

    fn random(rows: usize, width: usize, seed: u64) -> Tensor {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let values: Vec<f32> = (0..rows * width)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
            })
            .collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    /// Rows in two groups: 150 about a first image with 700 keys, of which each also sees a few of 90
    /// own keys; 3 about a second one.
    #[test]
    fn both_ways_to_compute_agree_and_any_order_of_rows_does() {
        let (heads, width) = (3, 24);
        let query = (random(153, width, 1) * 2.0).unwrap();
        // Thirds of a wider product: rows that are not next to each other.
        let wide = random(700, 3 * width, 2);
        let (image_key, image_value) =
            (wide.narrow(1, width, width).unwrap(), wide.narrow(1, 2 * width, width).unwrap());
        let (own_key, own_value) = (random(90, width, 3), random(90, width, 4));
        let first: Vec<usize> = (0..153).rev().filter(|row| row % 60 != 7).collect();
        let second: Vec<usize> = vec![127, 7, 67];
        let seen: Vec<Range<usize>> = first.iter().map(|row| row / 2..row / 2 + row % 5).collect();
        let few = vec![3..4, 600..700, 0..1];
        let groups = [
            Group::new(
                &first,
                vec![
                    Source { key: &own_key, value: &own_value, seen: Some(&seen) },
                    Source { key: &image_key, value: &image_value, seen: None },
                ],
            ),
            Group::new(
                &second,
                vec![Source { key: &image_key, value: &image_value, seen: Some(&few) }],
            ),
        ];
        let plain = attend_group_by_group(&query, heads, &groups).unwrap();
        let ours = attend_in_groups(&query, heads, &groups, None).unwrap();
        assert!(errors("groups", &ours, &plain).within(5e-6, 5e-6));
        // By matrix tiles, each as near as the parts of its factors allow.
        let by_tiles = |products: Products| {
            let packing = products.by_the_model().while_loading(packing);
            attend_in_groups(&query, heads, &groups, packing).unwrap()
        };
        let two = errors("two parts", &by_tiles(Products::Bf16x3), &plain);
        assert!(two.within(2e-5, 2e-4));
        let one = by_tiles(Products::Bf16);
        assert!(errors("one part", &one, &plain).within(1e-2, 0.1));
        assert!(!errors("one part", &one, &plain).within(2e-4, 0.1));
        // One row by hand, in f64: it sees a single key, and so takes over its value.
        let row = ours.get(127).unwrap();
        assert!(errors("one key", &row, &image_value.get(3).unwrap()).within(1e-6, 1e-6));
        let mut other = groups.clone();
        other[0].sources.swap(0, 1);
        let swapped = attend_in_groups(&query, heads, &other, None).unwrap();
        assert!(errors("sources swapped", &swapped, &plain).within(5e-6, 5e-6));
        other[0].sources[1].seen = None;
        let unmasked = attend_in_groups(&query, heads, &other, None).unwrap();
        assert!(!errors("all own keys seen", &unmasked, &plain).within(5e-6, 5e-6));
        // What is at hand already is taken: masks of an earlier call, keys and values that are joined.
        let kept = [CachedMask::default(), CachedMask::default()];
        let key = Tensor::cat(&[&own_key, &image_key], 0).unwrap();
        let value = Tensor::cat(&[&own_value, &image_value], 0).unwrap();
        let [one, two] = groups.clone();
        let groups = [one.with_mask(&kept[0]).joined(&key, &value), two.with_mask(&kept[1])];
        for _ in 0..2 {
            let again = attend_group_by_group(&query, heads, &groups).unwrap();
            assert!(errors("kept", &again, &plain).within(5e-6, 5e-6));
        }
        assert!(kept.iter().all(|mask| mask.0.borrow().is_some()));
        let other = (&value * 2.0).unwrap();
        let groups = [groups[0].clone().joined(&key, &other), groups[1].clone()];
        let doubled = attend_group_by_group(&query, heads, &groups).unwrap();
        assert!(!errors("other values", &doubled, &plain).within(5e-6, 5e-6));
        // Half precision goes the other way.
        let half = |tensor: &Tensor| tensor.to_dtype(DType::F16).unwrap();
        let (key, value) = (half(&image_key), half(&image_value));
        let rows: Vec<usize> = (0..153).collect();
        let source = Source { key: &key, value: &value, seen: None };
        let group = [Group::new(&rows, vec![source])];
        let halved = attend_in_groups(&half(&query), heads, &group, None).unwrap();
        assert_eq!(halved.dtype(), DType::F16);
        let source = Source { key: &image_key, value: &image_value, seen: None };
        let group = [Group::new(&rows, vec![source])];
        let exact = attend_in_groups(&query, heads, &group, None).unwrap();
        assert!(errors("half precision", &halved, &exact).within(5e-3, 5e-3));
    }

    #[test]
    fn groups_that_do_not_fit_are_refused() {
        let (query, key) = (random(2, 4, 1), random(3, 4, 2));
        let run = |rows: &[usize], key: &Tensor, seen: Option<&[Range<usize>]>| {
            let sources = vec![Source { key, value: key, seen }];
            attend_in_groups(&query, 2, &[Group::new(rows, sources)], None)
                .map_err(|e| e.to_string())
        };
        assert!(run(&[1, 0], &key, None).is_ok());
        assert!(run(&[0], &key, None).unwrap_err().contains("row 1 is in no group"));
        assert!(run(&[0, 0], &key, None).unwrap_err().contains("row 0"));
        assert!(run(&[0, 2], &key, None).unwrap_err().contains("row 2"));
        assert!(run(&[0, 1], &random(3, 6, 3), None).unwrap_err().contains("do not fit"));
        assert!(run(&[0, 1], &key, Some(&[0..3, 1..4])).unwrap_err().contains("do not fit"));
        assert!(run(&[0, 1], &key, Some(&[0..3, 1..1])).unwrap_err().contains("row 1 sees no"));
        let source = Source { key: &key, value: &key, seen: None };
        let group = Group::new(&[0, 1], vec![source]);
        assert!(attend_in_groups(&query, 3, &[group], None).is_err());
    }
}
