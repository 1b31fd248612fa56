//! In: nothing. Out: which rows of queries see which keys and values.

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{Device, Result, Tensor};

/// Keys and values that every query of a group sees, or each a part of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// [m, heads * d].
    pub(crate) key: &'a Tensor,
    /// [m, heads * d].
    pub(crate) value: &'a Tensor,
    /// The keys that each query of the group sees, in the order of its rows; all of them where there
    /// is nothing. The others have no weight at all.
    pub(crate) seen: Option<&'a [Range<usize>]>,
}

/// Queries that see the same keys, or parts of them.
#[derive(Debug, Clone)]
pub(crate) struct Group<'a> {
    /// Their rows, in any order; a row belongs to one group.
    pub(crate) rows: &'a [usize],
    /// What they see: one softmax over all of it.
    pub(crate) sources: Vec<Source<'a>>,
    cached_mask: Option<&'a CachedMask>,
    joined: Option<(&'a Tensor, &'a Tensor)>,
}

impl<'a> Group<'a> {
    /// Of `rows` that see `sources`.
    pub(crate) fn new(rows: &'a [usize], sources: Vec<Source<'a>>) -> Self {
        Self { rows, sources, cached_mask: None, joined: None }
    }

    /// With the mask of a group that sees the same in other layers.
    pub(crate) fn with_mask(self, kept: &'a CachedMask) -> Self {
        Self { cached_mask: Some(kept), ..self }
    }

    /// With `key` and `value` [keys of all sources, heads * d], the sources' one after the other, where they are
    /// at hand so.
    pub(crate) fn joined(self, key: &'a Tensor, value: &'a Tensor) -> Self {
        Self { joined: Some((key, value)), ..self }
    }

    /// [1, 1, rows, keys] of what is added to the scores, for `keys` keys on `device`; `None` where all is seen.
    pub(crate) fn mask(&self, keys: usize, device: &Device) -> Result<Option<Tensor>> {
        if self.sources.iter().all(|source| source.seen.is_none()) {
            return Ok(None);
        }
        let shape = (1, 1, self.rows.len(), keys);
        let make = || Tensor::from_vec(mask(self)?, shape, device);
        let Some(CachedMask(kept)) = self.cached_mask else { return make().map(Some) };
        let mut kept = kept.borrow_mut();
        let mask = match kept.take() {
            Some(mask) if mask.dims() == [1, 1, self.rows.len(), keys] => mask,
            _ => make()?,
        };
        Ok(Some(kept.insert(mask).clone()))
    }

    /// The group's queries of `query` [rows, width], in their order.
    pub(crate) fn queries(&self, query: &Tensor) -> Result<Tensor> {
        let (first, count) = (self.rows[0], self.rows.len());
        if self.rows.iter().copied().eq(first..first + count) {
            return query.narrow(0, first, count);
        }
        let numbers: Vec<u32> = self.rows.iter().map(|row| *row as u32).collect();
        query.contiguous()?.index_select(&Tensor::from_vec(numbers, count, query.device())?, 0)
    }

    /// Keys and values of all sources.
    pub(crate) fn keys_and_values(&self) -> Result<(Tensor, Tensor)> {
        if let Some((key, value)) = self.joined {
            return Ok((key.clone(), value.clone()));
        }
        if let [only] = self.sources.as_slice() {
            return Ok((only.key.clone(), only.value.clone()));
        }
        let keys: Vec<&Tensor> = self.sources.iter().map(|source| source.key).collect();
        let values: Vec<&Tensor> = self.sources.iter().map(|source| source.value).collect();
        Ok((Tensor::cat(&keys, 0)?, Tensor::cat(&values, 0)?))
    }
}

/// The mask of a group that sees the same keys in several layers, made in the first of them: for
/// these groups alone, or for others that see what they see.
#[derive(Debug, Default)]
pub(crate) struct CachedMask(pub(crate) RefCell<Option<Tensor>>);

/// What is added to the group's scores, row by row: nothing, or minus infinity.
pub(crate) fn mask(group: &Group) -> Result<Vec<f32>> {
    let mut mask = Vec::new();
    for row in 0..group.rows.len() {
        for source in &group.sources {
            let seen = source.seen.map(|seen| &seen[row]);
            mask.extend((0..source.key.dim(0)?).map(|key| match seen {
                Some(seen) if !seen.contains(&key) => f32::NEG_INFINITY,
                _ => 0.0,
            }));
        }
    }
    Ok(mask)
}
