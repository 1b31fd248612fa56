//! In: queries, keys and values as the linear layers give them. Out: attention, without laying heads
//! out apart and with no more scores at once than the cache holds. The arithmetic of one block of
//! queries stands in `attention_block`.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::Values;
use super::attention_block::{Bias, Block, Keys, Matrix, QUERIES};
use super::matmul::Target;
use super::panel_attention::{self, PanelKeys};
use super::sharing::{PRODUCTS_A_STEP, each_result, each_task, new_pieces};
use super::tile_attention::{self, TileKeys};
use super::tile_packing::Packing;
use crate::compute::key_groups::Group;
use crate::compute::key_groups::Source;

/// Zeros that one thread writes at a time.
const ZEROS: usize = 1 << 14;

/// What becomes of the products of queries and keys before the softmax.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scores<'a> {
    /// Their factor; one over the root of the head size where it is `None`.
    pub(crate) scale: Option<f64>,
    /// Whether a query sees only the keys up to its own position.
    pub(crate) causal: bool,
    /// What is added to them, [b, heads, n, m] or anything that broadcasts to it. Minus infinity hides
    /// a key; a query must see one.
    pub(crate) bias: Option<&'a Tensor>,
    /// How both products are made by the processor's matrix tiles; in f32 where there is nothing.
    pub(crate) packing: Option<Packing>,
}

/// `softmax(scale * q k^T + bias) v` for `query` [b, n, heads * d], `key` and `value` [b, m, heads * d];
/// gives [b, n, heads * d].
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    Scores { scale, causal, bias, packing }: Scores,
) -> Result<Tensor> {
    let (batch, queries, width) = query.dims3()?;
    let keys = key.dim(1)?;
    if key.dims() != [batch, keys, width] || key.dims() != value.dims() {
        let (key, value) = (key.dims(), value.dims());
        candle_core::bail!("queries {:?} do not fit keys {key:?}, values {value:?}", query.dims())
    }
    // Rows of the whole batch, evenly spaced: so lie the thirds of a product, too.
    let query = match query.stride() {
        [entry, row, 1] if *entry == queries * row && queries > 1 => query.clone(),
        _ => query.contiguous()?,
    };
    let (key, value) = (with_contiguous_rows(key)?, with_contiguous_rows(value)?);
    let rows: Vec<usize> = (0..batch * queries).collect();
    let seen: Option<Vec<Range<usize>>> =
        causal.then(|| (0..queries).map(|row| 0..keys.min(row + 1)).collect());
    let entries: Vec<(Tensor, Tensor)> =
        (0..batch).map(|entry| Ok((key.get(entry)?, value.get(entry)?))).collect::<Result<_>>()?;
    let source = |key, value| Source { key, value, seen: seen.as_deref() };
    let groups: Vec<Group> = rows
        .chunks(queries.max(1))
        .zip(&entries)
        .map(|(rows, (key, value))| Group::new(rows, vec![source(key, value)]))
        .collect();
    let bias = bias.map(|bias| bias.broadcast_as((batch, heads, queries, keys))).transpose()?;
    let extras = Extras { scale, bias: bias.as_ref(), packing };
    let result = attention_over(&query, rows.len(), width, heads, &groups, extras)?;
    Tensor::from_vec(result, query.dims(), &Device::Cpu)
}

/// [`crate::compute::attention_groups::attend_in_groups`], which checks the arguments.
pub(crate) fn attention_in_groups(
    query: &Tensor,
    heads: usize,
    groups: &[Group],
    packing: Option<Packing>,
) -> Result<Tensor> {
    let (rows, width) = query.dims2()?;
    let query = with_contiguous_rows(query)?;
    let solid: Vec<Vec<[Tensor; 2]>> = groups
        .iter()
        .map(|group| {
            let solid = |source: &Source| {
                Ok([with_contiguous_rows(source.key)?, with_contiguous_rows(source.value)?])
            };
            group.sources.iter().map(solid).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    let groups: Vec<Group> = groups
        .iter()
        .zip(&solid)
        .map(|(group, solid)| {
            let sources = group
                .sources
                .iter()
                .zip(solid)
                .map(|(source, [key, value])| Source { key, value, seen: source.seen })
                .collect();
            Group::new(group.rows, sources)
        })
        .collect();
    let result = attention_over(
        &query,
        rows,
        width,
        heads,
        &groups,
        Extras { packing, ..Extras::default() },
    )?;
    Tensor::from_vec(result, query.dims(), &Device::Cpu)
}

/// The tensor itself where each row's numbers stand next to each other, else a copy.
fn with_contiguous_rows(tensor: &Tensor) -> Result<Tensor> {
    match tensor.stride() {
        [.., 1] => Ok(tensor.clone()),
        _ => tensor.contiguous(),
    }
}

/// A tensor with solid rows, as matrices of its heads see it.
struct Heads<'a> {
    values: Values<'a>,
    stride: usize,
}

impl<'a> Heads<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        let stride = match (tensor.is_contiguous(), tensor.dims(), tensor.stride()) {
            // The stride of a dimension of size one may be anything.
            (true, [.., width], _) => *width,
            (false, _, [.., stride, _]) => *stride,
            _ => 0,
        };
        Self { values: Values::strided(tensor), stride }
    }

    fn matrix(&self) -> Result<Matrix<'_>> {
        Ok(Matrix { values: self.values.slice()?, stride: self.stride })
    }
}

/// What else becomes of the scores.
#[derive(Clone, Copy, Default)]
struct Extras<'a> {
    scale: Option<f64>,
    /// [groups, heads, rows, keys] over groups of one size and one source.
    bias: Option<&'a Tensor>,
    packing: Option<Packing>,
}

/// A block of queries and what it sees.
struct Queries<'a> {
    rows: &'a [usize],
    keys: Vec<Keys<'a>>,
    group: usize,
    /// The first one's place in the group.
    first: usize,
    /// The place of its group's first source among all.
    first_source: usize,
}

fn attention_over(
    query: &Tensor,
    rows: usize,
    width: usize,
    heads: usize,
    groups: &[Group],
    Extras { scale, bias, packing }: Extras,
) -> Result<Vec<f32>> {
    if heads == 0 || !width.is_multiple_of(heads) {
        candle_core::bail!("rows of {width} numbers cannot be cut into {heads} heads")
    }
    let head = width / heads;
    let scale = scale.unwrap_or_else(|| (head as f64).powf(-0.5));
    let bias_values = bias.map(Values::strided);
    let bias = match (bias, &bias_values) {
        (Some(bias), Some(values)) => Some((values.slice()?, bias.stride())),
        _ => None,
    };
    let held: Vec<Vec<(Heads, Heads)>> = groups
        .iter()
        .map(|group| group.sources.iter().map(|s| (Heads::of(s.key), Heads::of(s.value))).collect())
        .collect();
    // Every block of queries, with what its group sees.
    let (mut blocks, mut sources) = (Vec::new(), Vec::new());
    // Of each source, whether it pays to pack it.
    let mut pay = Vec::new();
    for (number, (group, held)) in groups.iter().zip(&held).enumerate() {
        let first_source = sources.len();
        // In windows the panels' steps are not those of blocks, and text by text most of a step would be seen by nobody.
        let sees_beginnings = |source: &Source| {
            source.seen.is_none_or(|seen| seen.iter().all(|seen| seen.start == 0))
        };
        let pays = packing.is_none()
            && PanelKeys::pay_for(group.rows.len())
            && group.sources.iter().all(sees_beginnings);
        for (source, (key, value)) in group.sources.iter().zip(held) {
            let (key, value, count) = (key.matrix()?, value.matrix()?, source.key.dim(0)?);
            sources.push(Keys { key, value, count, seen: None });
            pay.push(pays);
        }
        for first in (0..group.rows.len()).step_by(QUERIES) {
            let rows = &group.rows[first..(first + QUERIES).min(group.rows.len())];
            let sources = group.sources.iter().zip(&sources[first_source..]);
            let keys = sources.map(|(source, keys)| Keys {
                seen: source.seen.map(|seen| &seen[first..first + rows.len()]),
                ..*keys
            });
            let keys = keys.collect();
            blocks.push(Queries { rows, keys, group: number, first, first_source });
        }
    }
    let packed = packing.map(|packing| TileKeys::pack_all(&sources, heads, head, packing.parts));
    let paying = sources.iter().zip(&pay).filter(|(_, pays)| **pays);
    let steps = paying.map(|(keys, _)| keys.count).sum::<usize>() * width;
    let in_panels = each_result(sources.len() * heads, steps, |number| {
        let source = sources[number / heads].from(number % heads * head);
        if pay[number / heads] { PanelKeys::of(source, head) } else { Ok(None) }
    })?;
    let query = Heads::of(query);
    let query = query.matrix()?;
    let mut result = new_pieces(rows * width, ZEROS, rows * width, |_, _| {});
    let target = Target::new(&mut result);
    let seen = |queries: &Queries| {
        queries.rows.len() * queries.keys.iter().map(|keys| keys.count).sum::<usize>()
    };
    // A score is two products of a head's length and a power.
    let steps = blocks.iter().map(seen).sum::<usize>() * heads * (2 * head / PRODUCTS_A_STEP + 2);
    each_task(blocks.len() * heads, steps, |task| {
        let Queries { rows, keys, group, first, first_source } = &blocks[task / heads];
        let number = task % heads;
        let offset = number * head;
        let keys: Vec<Keys> = keys.iter().map(|keys| keys.from(offset)).collect();
        let bias = bias.map(|(values, stride)| {
            let start = group * stride[0] + number * stride[1] + first * stride[2];
            Bias { values: &values[start..], query_stride: stride[2], key_stride: stride[3] }
        });
        let block = Block { rows, head, query: query.from(offset), keys: &keys, scale, bias };
        // SAFETY (of the writes inside): no two blocks share a row, no two heads a column.
        match (packing, &packed) {
            (Some(packing), Some(packed)) => {
                let of_source = |source| &packed[(first_source + source) * heads + number];
                let packed: Vec<&TileKeys> = (0..keys.len()).map(of_source).collect();
                tile_attention::attend(&block, packing, &packed, target.from(offset), width)
            }
            _ => {
                let of_source = |source: usize| {
                    in_panels.get((first_source + source) * heads + number)?.as_ref()
                };
                let packed: Option<Vec<&PanelKeys>> = (0..keys.len()).map(of_source).collect();
                match packed {
                    Some(packed) => {
                        panel_attention::attend(&block, &packed, target.from(offset), width)
                    }
                    None => block.attend(target.from(offset), width),
                }
            }
        }
    })?;
    Ok(result)
}
