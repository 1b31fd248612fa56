//! In: hidden states of texts. Out: the keys and values that a UNet's cross-attention layers make of
//! them, computed when the network first meets the texts and kept with them: they depend on neither
//! the latents nor, for a given text, the timestep, so all steps and images that share a text share them.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};

/// A layer's keys and values of a text, each [r, n, channels].
#[derive(Debug, Clone)]
pub(crate) struct KeysAndValues {
    /// What queries are compared with.
    pub(crate) keys: Tensor,
    /// What is mixed.
    pub(crate) values: Tensor,
}

/// Hidden states of texts. Clones share what a network has made of them: of a Stable Diffusion 1.x
/// network 24,960 numbers a token (in f32 7.3 MiB for 77 tokens), of an SDXL one 166,400 (49 MiB).
#[derive(Debug, Clone)]
pub struct TextContext {
    states: Tensor,
    projected: Arc<Mutex<Option<Projected>>>,
}

/// What one network has made of a text, layer by layer in the order of its forward pass.
#[derive(Debug)]
struct Projected {
    network: u64,
    layers: Arc<[KeysAndValues]>,
}

impl TextContext {
    /// Of `states` [r, n, width].
    pub fn new(states: Tensor) -> Self {
        Self { states, projected: Arc::default() }
    }

    /// The hidden states, [r, n, width].
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// Bytes of the keys and values that are kept.
    pub fn kept_bytes(&self) -> usize {
        let projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        projected.iter().flat_map(|projected| projected.layers.iter()).map(bytes).sum()
    }

    /// The layers of `network`, made by `project` where they are not at hand.
    fn layers(
        &self,
        network: u64,
        project: impl FnOnce(&Tensor) -> Result<Vec<KeysAndValues>>,
    ) -> Result<Arc<[KeysAndValues]>> {
        let mut projected = self.projected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Projected { layers, .. }) =
            projected.as_ref().filter(|projected| projected.network == network)
        {
            return Ok(layers.clone());
        }
        let layers: Arc<[KeysAndValues]> = project(&self.states)?.into();
        *projected = Some(Projected { network, layers: layers.clone() });
        Ok(layers)
    }
}

fn bytes(layer: &KeysAndValues) -> usize {
    let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
    size(&layer.keys) + size(&layer.values)
}

/// The texts of one forward pass, handed to the layers one after the other.
pub(crate) struct AttendedTexts {
    texts: Vec<Arc<[KeysAndValues]>>,
    next: usize,
}

impl AttendedTexts {
    /// Of `contexts`, whose rows follow one another; `project` makes a network's layers of one.
    pub(crate) fn new(
        contexts: &[&TextContext],
        network: u64,
        project: impl Fn(&Tensor) -> Result<Vec<KeysAndValues>>,
    ) -> Result<Self> {
        let texts = contexts.iter().map(|context| context.layers(network, &project));
        Ok(Self { texts: texts.collect::<Result<_>>()?, next: 0 })
    }

    /// Keys and values of all texts for the layer whose turn it is: [rows, n, channels].
    pub(crate) fn next_layer(&mut self) -> Result<KeysAndValues> {
        let layers: Option<Vec<&KeysAndValues>> =
            self.texts.iter().map(|layers| layers.get(self.next)).collect();
        self.next += 1;
        match layers.as_deref() {
            Some([only]) => Ok((*only).clone()),
            Some(several) => {
                let join = |part: fn(&KeysAndValues) -> &Tensor| {
                    Tensor::cat(&several.iter().map(|layer| part(layer)).collect::<Vec<_>>(), 0)
                };
                Ok(KeysAndValues {
                    keys: join(|layer| &layer.keys)?,
                    values: join(|layer| &layer.values)?,
                })
            }
            None => candle_core::bail!("the network has more layers than were made of the text"),
        }
    }
}
