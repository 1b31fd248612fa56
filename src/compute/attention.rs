//! In: queries, keys and values. Out: scaled dot-product attention of many heads, with a bound on
//! the memory that its scores take.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::cpu::attention::{Scores, attention};
use super::products::Packing;
use super::{cpu, cuda};

/// Scores held at once for one batch entry, all heads together: 64 MiB of f32. It does not depend on
/// the batch, so that the batch does not change how an image's rows are split.
const SCORES_AT_ONCE: usize = 1 << 24;

/// Which keys a query may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionMask {
    /// All of them.
    All,
    /// Those up to its own position.
    Causal,
}

/// `softmax(q k^T / sqrt(d)) v` for `query` [b, n, heads * d], `key` and `value` [b, m, heads * d];
/// gives [b, n, heads * d]. Scores and sums are f32, as in PyTorch's kernels, whatever the inputs. `packing` is how the network's
/// products are rounded on the processor, where they are.
pub(crate) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    visible: AttentionMask,
    packing: Option<Packing>,
) -> Result<Tensor> {
    let causal = visible == AttentionMask::Causal;
    let scores = Scores { causal, packing, ..Scores::default() };
    if cpu::apply(&[query, key, value]) {
        return attention(query, key, value, heads, scores);
    }
    #[cfg(feature = "flash-attn")]
    if visible == AttentionMask::All
        && let Some(mixed) = flash(query, key, value, heads)?
    {
        return Ok(mixed);
    }
    if cuda::apply(&[query, key, value])
        && let Some(done) = cuda::attention(query, key, value, heads, scores)?
    {
        return Ok(done);
    }
    if cpu::is_half(query) {
        let (key, value) = (key.to_dtype(DType::F32)?, value.to_dtype(DType::F32)?);
        return cpu::through_f32(query, |query| {
            attend(query, &key, &value, heads, visible, packing)
        });
    }
    attend_in_chunks(query, key, value, heads, visible, SCORES_AT_ONCE)
}

/// `softmax(q k^T + bias) v`, without a factor; the tensors as in [`attend`], and `bias` [b, heads, n,
/// m] in f32, or anything that broadcasts to it. Minus infinity hides a key; a query must see one.
pub(crate) fn attend_with_bias(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    bias: &Tensor,
    packing: Option<Packing>,
) -> Result<Tensor> {
    let scores = Scores { scale: Some(1.0), bias: Some(bias), packing, ..Scores::default() };
    if cpu::apply(&[query, key, value, bias]) {
        return attention(query, key, value, heads, scores);
    }
    if cuda::apply(&[query, key, value])
        && let Some(done) = cuda::attention(query, key, value, heads, scores)?
    {
        return Ok(done);
    }
    if cpu::is_half(query) {
        let (key, value) = (key.to_dtype(DType::F32)?, value.to_dtype(DType::F32)?);
        return cpu::through_f32(query, |query| {
            attend_with_bias(query, &key, &value, heads, bias, packing)
        });
    }
    let (batch, queries, _) = query.dims3()?;
    let keys = key.dim(1)?;
    let scores = split_heads(query, heads)?
        .matmul(&split_heads(key, heads)?.transpose(1, 2)?.contiguous()?)?
        .reshape((batch, heads, queries, keys))?
        .broadcast_add(bias)?
        .reshape((batch * heads, queries, keys))?;
    let mixed = softmax_last_dim(&scores)?.matmul(&split_heads(value, heads)?)?;
    join_heads(&mixed, heads)?.to_dtype(query.dtype())
}

/// The same by FlashAttention, where a kernel for it is built: f16, heads of the sizes that
/// scripts/build-cuda compiles. Type-checked and never run: no GPU was at hand (docs/gpu.md).
#[cfg(feature = "flash-attn")]
fn flash(query: &Tensor, key: &Tensor, value: &Tensor, heads: usize) -> Result<Option<Tensor>> {
    let (_, _, width) = query.dims3()?;
    let size = width / heads;
    let is_built = matches!(size.next_multiple_of(32), 64 | 96 | 160) && size.is_multiple_of(8);
    let all_f16 = [query, key, value].iter().all(|tensor| tensor.dtype() == DType::F16);
    if !query.device().is_cuda() || !all_f16 || !is_built {
        return Ok(None);
    }
    let split = |tensor: &Tensor| {
        let (batch, length, _) = tensor.dims3()?;
        tensor.contiguous()?.reshape((batch, length, heads, size))
    };
    let scale = (size as f32).powf(-0.5);
    let (query, key, value) = (split(query)?, split(key)?, split(value)?);
    let mixed = candle_flash_attn::flash_attn(&query, &key, &value, scale, false)?;
    Ok(Some(mixed.flatten_from(2)?))
}

fn attend_in_chunks(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    visible: AttentionMask,
    scores_at_once: usize,
) -> Result<Tensor> {
    let (_, queries, width) = query.dims3()?;
    let keys = key.dim(1)?;
    let scale = ((width / heads) as f64).powf(-0.5);
    let query_heads = (split_heads(query, heads)? * scale)?;
    let key_heads = split_heads(key, heads)?.transpose(1, 2)?.contiguous()?;
    let value_heads = split_heads(value, heads)?;
    let rows = (scores_at_once / (heads * keys).max(1)).clamp(1, queries.max(1));
    let mut parts = Vec::with_capacity(queries.div_ceil(rows));
    for first in (0..queries).step_by(rows) {
        let count = rows.min(queries - first);
        let part = query_heads.narrow(1, first, count)?.contiguous()?;
        let mut scores = part.matmul(&key_heads)?;
        if visible == AttentionMask::Causal {
            scores = scores.broadcast_add(&causal_rows(first, count, keys, query.device())?)?;
        }
        parts.push(softmax_last_dim(&scores)?.matmul(&value_heads)?);
    }
    join_heads(&Tensor::cat(&parts, 1)?, heads)?.to_dtype(query.dtype())
}

/// [b * heads, n, d] to [b, n, heads * d].
pub(crate) fn join_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (rows, length, width) = x.dims3()?;
    x.reshape((rows / heads, heads, length, width))?.transpose(1, 2)?.contiguous()?.reshape((
        rows / heads,
        length,
        heads * width,
    ))
}

/// [b, n, heads * d] to [b * heads, n, d], f32 and contiguous.
pub(crate) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    x.to_dtype(DType::F32)?
        .reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch * heads, length, width / heads))
}

/// Rows `first..first + count` of the causal mask, [1, count, keys].
fn causal_rows(first: usize, count: usize, keys: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (first..first + count)
        .flat_map(|row| (0..keys).map(move |key| if key > row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Tensor::from_vec(mask, (1, count, keys), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::golden::{Golden, errors};

    #[test]
    fn heads_chunks_and_mask_equal_pytorch() {
        let golden = Golden::open("layers");
        let [query, key, value] =
            ["query", "key", "value"].map(|name| golden.get(&format!("attention.{name}")));
        let run = |heads: usize, visible: AttentionMask, scores_at_once: usize, expected: &str| {
            let ours = attend_in_chunks(&query, &key, &value, heads, visible, scores_at_once);
            let name = format!("attention {heads} {visible:?} {scores_at_once} as {expected}");
            let expected = golden.get(&format!("attention.{expected}"));
            errors(&name, &ours.unwrap(), &expected).within(5e-6, 5e-6)
        };
        // 3 heads and 7 keys: all rows at once, three at a time, one at a time.
        for scores_at_once in [SCORES_AT_ONCE, 63, 1] {
            assert!(run(3, AttentionMask::All, scores_at_once, "all"));
            assert!(run(3, AttentionMask::Causal, scores_at_once, "causal"));
        }
        assert!(!run(3, AttentionMask::All, SCORES_AT_ONCE, "causal"));
        assert!(!run(3, AttentionMask::Causal, SCORES_AT_ONCE, "all"));
        assert!(!run(4, AttentionMask::All, SCORES_AT_ONCE, "all"));
    }
}
