//! In: hidden states of texts. Out: the keys and values that a UNet's cross-attention layers make of
//! them, computed when the network first meets the texts and kept with them: they depend on neither
//! the latents nor, for a given text, the timestep, so all steps and images that share a text share them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};

/// The number of the next network to be loaded.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A number that tells a network from every other of the process.
pub(crate) fn next_network() -> u64 {
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A layer's keys and values of a text, each [r, n, channels].
#[derive(Debug, Clone)]
pub(crate) struct KeysAndValues {
    /// What queries are compared with.
    pub(crate) keys: Tensor,
    /// What is mixed.
    pub(crate) values: Tensor,
}

/// What layers of keys and values made of a text, of which each attention has two that follow one another.
pub(crate) fn pairs(parts: Vec<Tensor>) -> Vec<KeysAndValues> {
    let pairs = parts.chunks_exact(2);
    pairs.map(|pair| KeysAndValues { keys: pair[0].clone(), values: pair[1].clone() }).collect()
}

/// Hidden states of texts. Clones share what a network has made of them: of a Stable Diffusion 1.x
/// network 24,960 numbers a token (in f32 7.3 MiB for 77 tokens), of an SDXL one 166,400 (49 MiB). The last of
/// several that go through it together keeps them joined as well, for the next step.
#[derive(Debug, Clone)]
pub struct TextContext {
    states: Tensor,
    joins: bool,
    /// By the network, the newest last.
    projected: Arc<Mutex<Vec<Projected>>>,
}

/// Networks whose share of a text is kept: a UNet, and a ControlNet beside it.
const NETWORKS: usize = 2;

/// What one network has made of a text, layer by layer in the order of its forward pass.
#[derive(Debug)]
struct Projected {
    network: u64,
    layers: Arc<[KeysAndValues]>,
    joined: Option<Joined>,
}

/// Texts that went through a network together, this text last, with their rows one after the other.
#[derive(Debug)]
struct Joined {
    texts: Vec<Arc<[KeysAndValues]>>,
    layers: Arc<[KeysAndValues]>,
}

impl TextContext {
    /// Of `states` [r, n, width].
    pub fn new(states: Tensor) -> Self {
        Self { states, joins: true, projected: Arc::default() }
    }

    /// Of `states` that serve one step alone, as an adapter's do: they are not kept joined to others.
    pub(crate) fn of_one_step(states: Tensor) -> Self {
        Self { joins: false, ..Self::new(states) }
    }

    /// The hidden states, [r, n, width].
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// Rows of all of `contexts`, which are one text at least, all of one length and `width` wide; `None` where they are not.
    pub(crate) fn rows(contexts: &[&Self], width: usize) -> Option<usize> {
        let length = contexts.first()?.states.dim(1).ok()?;
        let rows = contexts.iter().map(|context| match *context.states.dims() {
            [rows, own, wide] if own == length && wide == width => Some(rows),
            _ => None,
        });
        rows.sum::<Option<usize>>().filter(|rows| *rows > 0)
    }

    /// Bytes of the keys and values that are kept.
    pub fn cached_bytes(&self) -> usize {
        let projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        let joined =
            |projected: &Projected| projected.joined.as_ref().map(|joined| joined.layers.clone());
        let all = projected.iter().flat_map(|projected| {
            [Some(projected.layers.clone()), joined(projected)].into_iter().flatten()
        });
        all.map(|layers| layers.iter().map(bytes).sum::<usize>()).sum()
    }

    /// The layers of `network`, made by `project` where they are not at hand.
    fn layers(
        &self,
        network: u64,
        project: impl FnOnce(&Tensor) -> Result<Vec<KeysAndValues>>,
    ) -> Result<Arc<[KeysAndValues]>> {
        let mut projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Projected { layers, .. }) =
            projected.iter().find(|projected| projected.network == network)
        {
            return Ok(layers.clone());
        }
        let layers: Arc<[KeysAndValues]> = project(&self.states)?.into();
        if projected.len() == NETWORKS {
            projected.remove(0);
        }
        projected.push(Projected { network, layers: layers.clone(), joined: None });
        Ok(layers)
    }

    /// The layers of `texts` in `network`, the last of which is this one's, joined: made once for
    /// all steps of a picture.
    fn joined(
        &self,
        network: u64,
        texts: Vec<Arc<[KeysAndValues]>>,
    ) -> Result<Arc<[KeysAndValues]>> {
        let mut projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        let own = projected.iter_mut().find(|projected| projected.network == network);
        let kept = own.as_ref().and_then(|projected| projected.joined.as_ref());
        let same = |joined: &&Joined| {
            joined.texts.len() == texts.len()
                && joined.texts.iter().zip(&texts).all(|(kept, text)| Arc::ptr_eq(kept, text))
        };
        if let Some(joined) = kept.filter(same) {
            return Ok(joined.layers.clone());
        }
        let count = texts.iter().map(|layers| layers.len()).min().unwrap_or(0);
        let join = |number: usize, part: fn(&KeysAndValues) -> &Tensor| {
            Tensor::cat(&texts.iter().map(|layers| part(&layers[number])).collect::<Vec<_>>(), 0)
        };
        let layers = (0..count).map(|number| {
            let keys = join(number, |layer| &layer.keys)?;
            Ok(KeysAndValues { keys, values: join(number, |layer| &layer.values)? })
        });
        let layers: Arc<[KeysAndValues]> = layers.collect::<Result<Vec<_>>>()?.into();
        if let Some(projected) = own.filter(|_| self.joins) {
            projected.joined = Some(Joined { texts, layers: layers.clone() });
        }
        Ok(layers)
    }
}

fn bytes(layer: &KeysAndValues) -> usize {
    let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
    size(&layer.keys) + size(&layer.values)
}

/// The texts of one forward pass, handed to the layers one after the other.
pub(crate) struct CrossAttentionTexts {
    layers: Arc<[KeysAndValues]>,
    next: usize,
}

impl CrossAttentionTexts {
    /// Of `contexts`, whose rows follow one another; `project` makes a network's layers of one.
    pub(crate) fn new(
        contexts: &[&TextContext],
        network: u64,
        project: impl Fn(&Tensor) -> Result<Vec<KeysAndValues>>,
    ) -> Result<Self> {
        let Some(last) = contexts.last() else {
            candle_core::bail!("a network attends to one text at least")
        };
        // On a GPU products of a few rows take no longer for more of them, and joining takes launches.
        if contexts.len() > 1 && !last.joins && last.states.device().is_cuda() {
            let states: Vec<&Tensor> = contexts.iter().map(|context| context.states()).collect();
            return Ok(Self { layers: project(&Tensor::cat(&states, 0)?)?.into(), next: 0 });
        }
        let texts = contexts.iter().map(|context| context.layers(network, &project));
        let texts: Vec<_> = texts.collect::<Result<_>>()?;
        let layers = match texts.as_slice() {
            [only] => only.clone(),
            _ => last.joined(network, texts)?,
        };
        Ok(Self { layers, next: 0 })
    }

    /// Keys and values of all texts for the layer whose turn it is: [rows, n, channels].
    pub(crate) fn next_layer(&mut self) -> Result<KeysAndValues> {
        let layer = self.layers.get(self.next).cloned();
        self.next += 1;
        match layer {
            Some(layer) => Ok(layer),
            None => candle_core::bail!("the network has more layers than were made of the text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_layers_keys_come_before_its_values() {
        let part = |value: f32| Tensor::full(value, (2, 3, 1), &Device::Cpu).unwrap();
        let layers = pairs([50.0, 52.0, 54.0, 57.0].map(part).to_vec());
        let first =
            |tensor: &Tensor| tensor.flatten_all().unwrap().get(0).unwrap().to_scalar().unwrap();
        let found: Vec<(f32, f32)> =
            layers.iter().map(|layer| (first(&layer.keys), first(&layer.values))).collect();
        assert_eq!(found, [(50.0, 52.0), (54.0, 57.0)]);
    }
}
