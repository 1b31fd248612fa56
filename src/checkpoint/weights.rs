//! In: the files of one component (`unet/`, `vae/`, `text_encoder/`). Out: tensors by
//! name, checked against the shape that the network expects. What a tensor means is left to the
//! networks.
//!
//! Files are read tensor by tensor, so loading needs no more memory than the network itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::file_digest::hex;
use super::file_fault::FileFault;
use super::float8;
use super::made_up::MadeUp;
use super::model_error::ModelError;
use super::pickle_file::{StateDictLayout, TensorLocation};
use super::recipe::{ADDON, LowRank, Recipe, Table};
use super::safetensors_file::TensorFile;
use super::weight_files;
use super::weight_files::find_files;

/// The weight files of one component.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    shards: Vec<TensorFile>,
    /// Which shard holds which tensor, and under what name.
    holders: BTreeMap<String, (usize, String)>,
    /// Names that were asked for.
    taken: Mutex<BTreeSet<String>>,
    /// What is added to the tensors.
    recipe: Recipe,
    /// Files of the additions.
    extra: BTreeMap<PathBuf, TensorFile>,
    sha256: String,
    dtype: DType,
    device: Device,
    /// See [`Weights::allowing_tf32`].
    tf32: bool,
    /// In place of files, for measurements.
    made_up: Option<MadeUp>,
}

impl Weights {
    /// Opens the weights called `stem` (`diffusion_pytorch_model` or `model`) in `folder`: one file
    /// or several with an index, plain or `.fp16.`, or what a [`Recipe`] names. Of the first two, f16
    /// prefers `.fp16.` and every other `dtype` the plain one; pickles are read where there are no safetensors.
    /// Tensors come out as `dtype` on `device`.
    ///
    /// # Errors
    /// There is no such file, or one is truncated or not in the format that its name says.
    pub fn open(
        folder: &Path,
        stem: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        match Recipe::read(folder, stem)? {
            Some(recipe) => {
                let files = recipe.tensor_files(stem, dtype)?;
                Self::of_recipe(folder, recipe, &files, dtype, device)
            }
            None => Self::of_files(folder, &find_files(folder, stem, dtype)?, dtype, device),
        }
    }

    /// Opens the one safetensors file `path`; otherwise as [`Weights::open`].
    ///
    /// # Errors
    /// The file is missing, truncated or not in that format.
    pub fn open_file(path: &Path, dtype: DType, device: &Device) -> Result<Self, ModelError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::of_files(folder, &[path.to_path_buf()], dtype, device)
    }

    /// Opens the PyTorch checkpoint `path`, whose pickle is read as data; otherwise as
    /// [`Weights::open_file`].
    ///
    /// # Errors
    /// The file is missing, truncated or no such checkpoint, or would call something.
    pub fn open_pickle(
        path: &Path,
        unwrapping: StateDictLayout,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let shard = TensorFile::open_pickle(path, unwrapping)?;
        let sha256 = shard.digest()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::of_shards(folder, vec![shard], sha256, dtype, device)
    }

    /// Opens `path` as [`Weights::open_file`] or as [`Weights::open_pickle`], by what is in it.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open_any(
        path: &Path,
        unwrapping: StateDictLayout,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let shard = TensorFile::open_any(path, unwrapping)?;
        let sha256 = shard.digest()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::of_shards(folder, vec![shard], sha256, dtype, device)
    }

    /// Opens the one safetensors file `path` under the names of `recipe`; otherwise as [`Weights::open_file`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn named(
        path: &Path,
        recipe: Recipe,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::of_recipe(folder, recipe, &[path.to_path_buf()], dtype, device)
    }

    fn of_files(
        folder: &Path,
        files: &[PathBuf],
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let shards: Vec<TensorFile> =
            files.iter().map(|path| weight_files::open(path)).collect::<Result<_, _>>()?;
        let sha256 = match shards.as_slice() {
            [only] => only.digest()?,
            several => {
                let mut digest = Sha256::new();
                for shard in several {
                    digest.update(shard.digest()?);
                }
                hex(digest)
            }
        };
        Self::of_shards(folder, shards, sha256, dtype, device)
    }

    /// Tensors of files that are open; `sha256` stands for what is in them.
    pub(crate) fn of_shards(
        folder: &Path,
        shards: Vec<TensorFile>,
        sha256: String,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut holders = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for tensor in shard.tensors.keys() {
                let holder = (number, tensor.clone());
                if let Some((other, _)) = holders.insert(tensor.clone(), holder) {
                    let other = shards[other].path.clone();
                    let reason = FileFault::TensorTwice { tensor: tensor.clone(), other };
                    return Err(ModelError::broken(&shard.path, reason));
                }
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            shards,
            holders,
            taken: Mutex::default(),
            recipe: Recipe::default(),
            extra: BTreeMap::new(),
            sha256,
            dtype,
            device: device.clone(),
            tf32: false,
            made_up: None,
        })
    }

    /// The same for a network whose convolutions in f32 may round their factors to TF32 (10 bits, f32's range) where
    /// a GPU is quicker so.
    #[must_use]
    pub(crate) fn allowing_tf32(mut self) -> Self {
        self.tf32 = true;
        self
    }

    /// Tensors that are in no file, see [`MadeUp`].
    pub(crate) fn made_up(made_up: MadeUp, dtype: DType, device: &Device) -> Self {
        Self {
            folder: PathBuf::from("made-up weights"),
            shards: Vec::new(),
            holders: BTreeMap::new(),
            taken: Mutex::default(),
            recipe: Recipe::default(),
            extra: BTreeMap::new(),
            sha256: "made up".to_owned(),
            dtype,
            device: device.clone(),
            tf32: false,
            made_up: Some(made_up),
        }
    }

    fn of_recipe(
        folder: &Path,
        recipe: Recipe,
        files: &[PathBuf],
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut weights = Self::of_files(folder, files, dtype, device)?;
        if !recipe.names.is_empty() {
            let stored = std::mem::take(&mut weights.holders);
            for (own, name) in &recipe.names {
                if let Some((shard, _)) = stored.get(name) {
                    weights.holders.insert(own.clone(), (*shard, name.clone()));
                }
            }
        }
        for path in recipe.extra_files() {
            weights.extra.insert(path.clone(), TensorFile::open_any(path, ADDON)?);
        }
        if !weights.extra.is_empty() {
            let mut digest = Sha256::new();
            digest.update(&weights.sha256);
            for shard in weights.extra.values() {
                digest.update(shard.digest()?);
            }
            digest.update(recipe.described());
            weights.sha256 = hex(digest);
        }
        weights.recipe = recipe;
        Ok(weights)
    }

    /// SHA-256 of the file, in hex, as model hubs show it; of the files' digests joined in the
    /// order of their names where there are several, or where a recipe adds to them.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Number format of the tensors that come out.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the tensors that come out.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Names of the tensors that the files hold, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.holders.keys().map(String::as_str)
    }

    /// Names of the tensors that nobody asked for, but for those that begin with one of `known`, and for what
    /// stands beside a network's tensors in many files: scales of eight-bit numbers, and counted positions.
    pub(crate) fn not_taken(&self, known: &[&str]) -> Vec<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.names()
            .filter(|name| {
                !taken.contains(*name) && !known.iter().any(|start| name.starts_with(start))
            })
            .filter(|name| {
                let own = name.rsplit_once('.').map_or(*name, |(_, own)| own);
                own != "position_ids" && !float8::is_scale(own)
            })
            .map(str::to_owned)
            .collect()
    }

    /// All tensors, by their full names.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    fn info(&self, name: &str) -> Option<Stored<'_>> {
        let (shard, stored) = self.holders.get(name)?;
        let shard = &self.shards[*shard];
        Some((shard, stored.as_str(), shard.tensors.get(stored)?))
    }

    fn tensor(&self, name: &str, expected: &[usize]) -> Result<Tensor, ModelError> {
        if let Some(made_up) = &self.made_up {
            let tensor = made_up.tensor(name, expected, self.dtype, &self.device);
            return tensor.map_err(|source| self.root().refused(name, source));
        }
        let Some(stored) = self.info(name) else {
            // With several files there is no saying which of them should have held it.
            let path = if self.shards.len() == 1 { &self.shards[0].path } else { &self.folder };
            return Err(ModelError::MissingTensor { path: path.clone(), tensor: name.into() });
        };
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        let table = self.recipe.tables.get(name);
        let additions = self.recipe.additions.get(name).map_or(&[][..], Vec::as_slice);
        let tensor = if table.is_none() && additions.is_empty() {
            self.stored(name, stored, Some(expected))?
        } else {
            self.put_together(name, stored, expected, table, additions)?
        };
        tensor
            .to_dtype(self.dtype)
            .and_then(|tensor| tensor.to_device(&self.device))
            .map_err(|source| stored.0.refused(name, source))
    }

    /// A tensor in the network's form; in any shape where none is `expected`.
    fn stored(
        &self,
        name: &str,
        (shard, stored, place): Stored<'_>,
        expected: Option<&[usize]>,
    ) -> Result<Tensor, ModelError> {
        let Some(form) = self.recipe.forms.get(name) else {
            return shard.tensor(name, (stored, place), expected.unwrap_or(&place.info.shape));
        };
        let tensor = form
            .apply(&shard.tensor(name, (stored, place), &place.info.shape)?)
            .map_err(|source| shard.refused(name, source))?;
        match expected {
            Some(expected) if tensor.dims() != expected => {
                Err(shard.wrong_shape(name, expected, tensor.dims()))
            }
            _ => Ok(tensor),
        }
    }

    /// A tensor with its recipe's rows and products, in f32.
    fn put_together(
        &self,
        name: &str,
        stored: Stored<'_>,
        expected: &[usize],
        table: Option<&Table>,
        additions: &[LowRank],
    ) -> Result<Tensor, ModelError> {
        let shard = stored.0;
        let mut first = self.stored(name, stored, None)?;
        if let Some(Table { kept, .. }) = table {
            let rows = first.dims().first().copied().unwrap_or(0);
            if rows < *kept {
                let reason = FileFault::FewRows { tensor: name.to_owned(), rows, tokens: *kept };
                return Err(ModelError::broken(&shard.path, reason));
            }
            first = first.narrow(0, 0, *kept).map_err(|source| shard.refused(name, source))?;
        }
        let mut pieces = vec![first];
        for rows in table.iter().flat_map(|table| &table.rows) {
            let tensor = self.extra_tensor(&rows.file, &rows.tensor)?;
            let width = tensor.dims().last().copied().unwrap_or(1).max(1);
            let count = tensor.elem_count() / width;
            let matrix = tensor.reshape((count, width));
            pieces.push(matrix.map_err(|source| shard.refused(name, source))?);
        }
        let whole = pieces
            .iter()
            .map(|piece| piece.to_dtype(DType::F32))
            .collect::<candle_core::Result<Vec<_>>>()
            .and_then(|pieces| Tensor::cat(&pieces, 0))
            .map_err(|source| shard.refused(name, source))?;
        if whole.dims() != expected {
            return Err(shard.wrong_shape(name, expected, whole.dims()));
        }
        additions.iter().try_fold(whole, |sum, addition| {
            let up = self.extra_tensor(&addition.file, &addition.up)?;
            let down = self.extra_tensor(&addition.file, &addition.down)?;
            let rows = addition.rows.map_or(Ok(up.clone()), |rows| rows.apply(&up));
            let added = rows.and_then(|rows| add_product(&sum, &rows, &down, addition.scale));
            added.map_err(|_| {
                let reason = FileFault::NoProduct {
                    up: addition.up.clone(),
                    up_shape: up.dims().to_vec(),
                    down: addition.down.clone(),
                    down_shape: down.dims().to_vec(),
                    tensor: name.to_owned(),
                    expected: expected.to_vec(),
                };
                ModelError::broken(&addition.file, reason)
            })
        })
    }

    /// A tensor of an addition's file, as it is stored.
    fn extra_tensor(&self, file: &Path, name: &str) -> Result<Tensor, ModelError> {
        let missing =
            || ModelError::MissingTensor { path: file.to_path_buf(), tensor: name.to_owned() };
        let shard = self.extra.get(file).ok_or_else(missing)?;
        let place = shard.tensors.get(name).ok_or_else(missing)?;
        shard.tensor(name, (name, place), &place.info.shape)
    }
}

/// A tensor in a file, by its name there.
type Stored<'w> = (&'w TensorFile, &'w str, &'w TensorLocation);

/// `sum + scale * up @ down` over matrices, in f32, in the shape of `sum`.
fn add_product(
    sum: &Tensor,
    up: &Tensor,
    down: &Tensor,
    scale: f64,
) -> candle_core::Result<Tensor> {
    let rank = down.dim(0)?;
    let matrix = |tensor: &Tensor, rows: usize| {
        tensor.to_dtype(DType::F32)?.reshape((rows, tensor.elem_count() / rows.max(1)))
    };
    if up.dim(0)? != sum.dim(0)? {
        candle_core::bail!("{} rows are added to {}", up.dim(0)?, sum.dim(0)?);
    }
    let (up, down) = (matrix(up, up.dim(0)?)?, matrix(down, rank)?);
    let product = up.contiguous()?.matmul(&down.contiguous()?)?;
    sum + product.affine(scale, 0.0)?.reshape(sum.shape())?
}

/// Tensors whose names begin with a prefix, as a module of the network sees them.
#[derive(Debug, Clone)]
pub struct Scope<'w> {
    weights: &'w Weights,
    prefix: String,
}

impl<'w> Scope<'w> {
    /// The tensors under `name` of this scope.
    pub fn at(&self, name: impl std::fmt::Display) -> Scope<'w> {
        Scope { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Shape of a tensor in the checkpoint, where it has it.
    pub fn shape(&self, name: &str) -> Option<&'w [usize]> {
        let name = format!("{}{name}", self.prefix);
        if let Some(made_up) = &self.weights.made_up {
            return made_up.shape(&name);
        }
        let (_, _, place) = self.weights.info(&name)?;
        Some(&place.info.shape)
    }

    /// The tensor `name`, which must have the shape `expected`.
    ///
    /// # Errors
    /// It is missing, has another shape, holds no floats, or cannot be read.
    pub fn tensor(&self, name: &str, expected: &[usize]) -> Result<Tensor, ModelError> {
        self.weights.tensor(&format!("{}{name}", self.prefix), expected)
    }

    /// See [`Weights::allowing_tf32`].
    pub(crate) fn allows_tf32(&self) -> bool {
        self.weights.tf32
    }

    /// The error for a tensor that the tensor library would not take.
    pub(crate) fn refused(&self, name: &str, source: candle_core::Error) -> ModelError {
        ModelError::Tensor {
            path: self.weights.folder.clone(),
            tensor: format!("{}{name}", self.prefix),
            source: source.into(),
        }
    }
}
