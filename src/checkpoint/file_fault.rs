//! In: what is wrong with a published file or folder. Out: that as data; the sentence, made here, says what to do and
//! goes on after the file's name.

use std::path::PathBuf;

use safetensors::Dtype;
use serde_json::Value;

use super::pickle_file::fault::PickleFault;

/// What is wrong with a file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// There is none.
    #[error("there is no such folder")]
    NoFolder,
    /// A folder without weights.
    #[error(
        "holds no {stem}.safetensors (nor {stem}.fp16.safetensors, nor {pickles}.bin, nor an index)"
    )]
    NoWeights {
        /// What weights are called.
        stem: String,
        /// What they are called in PyTorch's own format.
        pickles: String,
    },
    /// A text instead of the file that it stands for.
    #[error("is a Git LFS pointer, not the weights; run `git lfs pull` there")]
    GitLfsPointer,
    /// The disk said no.
    #[error("cannot be written: {0}")]
    Unwritable(std::io::Error),

    /// A configuration that cannot be parsed.
    #[error("is not a JSON object: {0}")]
    NoJsonObject(serde_json::Error),
    /// A configuration whose list of unset keys is none.
    #[error("{0}")]
    UnsetKeys(#[from] UnsetKeysFault),
    /// A recipe that cannot be parsed.
    #[error("is no recipe: {0}")]
    NoRecipe(serde_json::Error),
    /// An index that cannot be parsed.
    #[error("is not a shard index: {0}")]
    NoIndex(serde_json::Error),
    /// An index of nothing.
    #[error("names no files")]
    EmptyIndex,
    /// An index of a file elsewhere.
    #[error("names `{0}`, which is no plain file")]
    IndexLeavesFolder(String),

    /// Too short for any header; its length in bytes.
    #[error("is only {0} bytes long; download it again")]
    TooShort(u64),
    /// A header of a size that none has.
    #[error("is not a safetensors file (no sensible header length)")]
    HeaderLength,
    /// A file that ends within its header.
    #[error("is truncated: the header needs {needed} bytes of {length}")]
    HeaderCut {
        /// Bytes up to the header's end.
        needed: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// A header that cannot be parsed.
    #[error("is not a safetensors file: {0}")]
    NoHeader(serde_json::Error),
    /// A file of another length than its header implies.
    #[error(
        "{}: {length} bytes where its header implies {expected}; download it again",
        if expected > length { "is truncated" } else { "has bytes left over" }
    )]
    OtherLength {
        /// Bytes of the file.
        length: u64,
        /// Bytes that the header implies.
        expected: u64,
    },
    /// A PyTorch checkpoint that cannot be read.
    #[error("{0}")]
    Pickle(#[from] PickleFault),

    /// Tensors that the file lacks.
    #[error(
        "tensor `{first}` is missing ({missing} of {needed} that the network needs are); is this \
         the right model for the configuration beside it?"
    )]
    MissingTensors {
        /// The first of them.
        first: String,
        /// How many there are.
        missing: usize,
        /// How many tensors the network needs.
        needed: usize,
    },
    /// A single file without a ControlNet.
    #[error(
        "holds no ControlNet: neither middle_block_out.0.weight nor controlnet_mid_block.weight is among its tensors"
    )]
    NoControlNet,
    /// A tensor of a single file that no ControlNet has.
    #[error(
        "tensor `{0}` has no place in a ControlNet; another kind of control (Control-LoRA, T2I adapter) is not built here"
    )]
    UnknownControlTensor(String),
    /// A tensor of two files.
    #[error("tensor `{tensor}` is also in {}; download again", other.display())]
    TensorTwice {
        /// Its name.
        tensor: String,
        /// The other file.
        other: PathBuf,
    },
    /// A tensor of whole numbers where a float is due.
    #[error("tensor `{tensor}` is stored as {dtype:?}, which is no float")]
    NoFloat {
        /// Its name.
        tensor: String,
        /// Its number format.
        dtype: Dtype,
    },
    /// A tensor in a number format that is not read.
    #[error(
        "tensor `{tensor}` is stored as {dtype:?}, which is no float that is read here; get the \
         file in F16 or F32"
    )]
    UnreadFloat {
        /// Its name.
        tensor: String,
        /// Its number format.
        dtype: Dtype,
    },
    /// A scale of a format that needs none.
    #[error(
        "tensor `{tensor}` is stored as {dtype:?} with `{scale}` beside it, a scale whose \
         meaning is not known here; get the file in F16 or F32"
    )]
    NeedlessScale {
        /// The tensor's name.
        tensor: String,
        /// Its number format.
        dtype: Dtype,
        /// The scale's name.
        scale: String,
    },
    /// A scale of a kind that is not read.
    #[error(
        "tensor `{tensor}` is scaled by `{scale}`, which is not known here; get the file in F16 or F32"
    )]
    UnknownScale {
        /// The tensor's name.
        tensor: String,
        /// The scale's name.
        scale: String,
    },
    /// A scale of another shape.
    #[error(
        "tensor `{tensor}` is scaled by `{scale}`, which has neither one number nor one for each row; get \
         the file in F16 or F32"
    )]
    ScaleShape {
        /// The tensor's name.
        tensor: String,
        /// The scale's name.
        scale: String,
    },
    /// A table of embeddings that is too short.
    #[error("tensor `{tensor}` has {rows} rows, fewer than the tokenizer's {tokens} tokens")]
    FewRows {
        /// Its name.
        tensor: String,
        /// Its rows.
        rows: usize,
        /// Tokens of the tokenizer.
        tokens: usize,
    },
    /// An adapter for other tensors.
    #[error(
        "`{up}` {up_shape:?} and `{down}` {down_shape:?} do not multiply to tensor `{tensor}` {expected:?}; \
         was the adapter made for another base model?"
    )]
    NoProduct {
        /// The one factor's name.
        up: String,
        /// Its shape.
        up_shape: Vec<usize>,
        /// The other factor's name.
        down: String,
        /// Its shape.
        down_shape: Vec<usize>,
        /// The tensor that the product is added to.
        tensor: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// What a network asks of its own files beyond that, in that network's words.
    #[error("{0}")]
    Network(String),
}

/// The key of a configuration of diffusers that lists others which nobody set.
pub(super) const UNSET: &str = "_use_default_values";

/// A list of unset keys that is something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{UNSET} = {0} is not supported; a list of keys is needed")]
pub struct UnsetKeysFault(pub Value);
