//! In: `<stem>.safetensors.recipe.json` of a component's folder. Out: where its tensors really lie and
//! what is added to them, for `weights`. Who writes it, and why, is left to `assembled`.
//!
//! So a checkpoint in another layout, a replaced part or a low-rank adapter loads like any folder, and
//! no network knows of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::file_fault::FileFault;
use super::model_error::ModelError;
use super::pickle_file::StateDictLayout;
use super::weight_files::find_files;

/// Where PyTorch's files of adapters and embeddings keep their tensors: at the top, or behind one of these keys.
pub(crate) const ADDON: StateDictLayout =
    StateDictLayout { keys: &["state_dict", "string_to_param"], removed: "" };

/// How a component's weights are put together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Folder that holds the tensors, in the files that suit the number format; or else
    pub folder: Option<PathBuf>,
    /// the safetensors files that hold them.
    pub files: Vec<PathBuf>,
    /// The network's names of the tensors with those in the files; empty where they are the same.
    pub names: BTreeMap<String, String>,
    /// Tensors that are stored otherwise than the network takes them, by the network's names.
    pub forms: BTreeMap<String, Form>,
    /// Low-rank products that are added to a tensor, by the network's names.
    pub additions: BTreeMap<String, Vec<LowRank>>,
    /// Tables that grow, by the network's names.
    pub tables: BTreeMap<String, Table>,
}

/// A matrix of which the first rows are kept and others are put below them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// How many rows are kept.
    pub kept: usize,
    /// What is put below them, in order.
    pub rows: Vec<Rows>,
}

/// How a stored tensor becomes the network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Form {
    /// Of rows that are divided into parts of equal size, some that follow one another.
    Part {
        /// The first of them, from 0.
        first: usize,
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
    },
    /// A matrix, stored with rows and columns exchanged.
    Transposed,
    /// Rows, of which the second half is stored first.
    SwappedHalves,
    /// The identity, where the file has no matrix: as wide as the stored vector is long.
    Identity,
}

impl Form {
    /// Part `number` of `of`.
    pub(crate) fn part(number: usize, of: usize) -> Self {
        Self::Part { first: number, count: 1, of }
    }

    /// The network's tensor from the stored one.
    ///
    /// # Errors
    /// The stored one cannot be divided so, or is no matrix or vector.
    pub(crate) fn apply(self, stored: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Part { first, count, of } => {
                let part = parts_of(stored, of)?;
                stored.narrow(0, first * part, count * part)?.contiguous()
            }
            Self::Transposed => stored.t()?.contiguous(),
            Self::SwappedHalves => {
                let half = parts_of(stored, 2)?;
                Tensor::cat(&[stored.narrow(0, half, half)?, stored.narrow(0, 0, half)?], 0)
            }
            Self::Identity => Tensor::eye(stored.dims1()?, stored.dtype(), stored.device()),
        }
    }
}

/// Rows of one of `of` parts of equal size.
fn parts_of(stored: &Tensor, of: usize) -> candle_core::Result<usize> {
    let rows = stored.dim(0)?;
    if of == 0 || rows % of != 0 {
        candle_core::bail!("{rows} rows are not {of} tensors of equal size");
    }
    Ok(rows / of)
}

/// `scale * up @ down`, each taken as a matrix: `up` [out, rank, ...] after `rows`, `down` [rank, in, ...].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowRank {
    /// The adapter as the user named it: the file, or a folder around it.
    pub adapter: PathBuf,
    /// The adapter's file, safetensors or PyTorch's.
    pub file: PathBuf,
    /// Name of the left factor there.
    pub up: String,
    /// Which rows of it, where one layer of the adapter is several here, or in what order.
    pub rows: Option<Form>,
    /// Name of the right factor there.
    pub down: String,
    /// Weight of the product.
    pub scale: f64,
}

/// Rows `[n, width]` or one row `[width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Their file, safetensors or PyTorch's.
    pub file: PathBuf,
    /// Their tensor there.
    pub tensor: String,
}

impl Recipe {
    /// Where the recipe of the weights called `stem` stands in `folder`.
    pub fn path(folder: &Path, stem: &str) -> PathBuf {
        folder.join(format!("{stem}.safetensors.recipe.json"))
    }

    /// The recipe of the weights called `stem` in `folder`, where there is one.
    ///
    /// # Errors
    /// It cannot be read or is not in this form.
    pub fn read(folder: &Path, stem: &str) -> Result<Option<Self>, ModelError> {
        let path = Self::path(folder, stem);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(|source| ModelError::unreadable(&path, source))?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| ModelError::broken(&path, FileFault::NoRecipe(error)))
    }

    /// The files of the tensors called `stem`, for networks in `dtype`.
    ///
    /// # Errors
    /// The folder has none.
    pub(crate) fn tensor_files(
        &self,
        stem: &str,
        dtype: DType,
    ) -> Result<Vec<PathBuf>, ModelError> {
        match &self.folder {
            Some(folder) => find_files(folder, stem, dtype),
            None => Ok(self.files.clone()),
        }
    }

    /// Files beside those of the tensors themselves, each once, in name order.
    pub(crate) fn extra_files(&self) -> Vec<&PathBuf> {
        let mut files: Vec<&PathBuf> = self
            .additions
            .values()
            .flatten()
            .map(|addition| &addition.file)
            .chain(self.tables.values().flat_map(|table| &table.rows).map(|rows| &rows.file))
            .collect();
        files.sort();
        files.dedup();
        files
    }

    /// What is done to which tensor, without the files' names: a folder may move.
    pub(crate) fn described(&self) -> String {
        let mut text = String::new();
        for (name, additions) in &self.additions {
            for LowRank { up, rows, down, scale, .. } in additions {
                let rows = rows.map_or(String::new(), |rows| format!(" {rows:?}"));
                text += &format!("{name} += {scale} * {up}{rows} @ {down}\n");
            }
        }
        for (name, Table { rows, .. }) in &self.tables {
            for Rows { tensor, .. } in rows {
                text += &format!("{name} below it {tensor}\n");
            }
        }
        text
    }
}

/// The tensors of `files` as they lie there.
pub(crate) fn of_files(files: Vec<PathBuf>) -> anyhow::Result<Recipe> {
    let files = files.iter().map(|file| absolute(file)).collect::<anyhow::Result<_>>()?;
    Ok(Recipe { files, ..Default::default() })
}

/// The path from the root: a recipe is read from another folder.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}
