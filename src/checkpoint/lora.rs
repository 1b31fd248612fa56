//! In: low-rank adapters (LoRA, arXiv 2106.09685) as files or folders of kohya's scripts, diffusers and PEFT.
//! Out: which products are added to which tensors of a checkpoint. Multiplying is left to the weights, names to
//! `names`, alpha to `notes`.

mod names;
mod notes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device};
use serde::Deserialize;

use self::names::{Found, Index, PEFT_START, Place, Role, split_name};
use self::notes::Notes;
use super::addon_file::addon_file;
use super::recipe::{ADDON, LowRank, absolute};
use super::safetensors_file::{FileContents, contents_of_any};
use super::weights::Weights;

pub(crate) use self::names::Target;

/// An adapter and how strongly it counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraFile {
    /// Its file, safetensors or PyTorch's, or the folder that it was saved to.
    pub file: PathBuf,
    /// Factor on top of the file's own.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

/// `FILE` or `FILE:WEIGHT`.
impl std::str::FromStr for LoraFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, weight) = match text.rsplit_once(':') {
            Some((file, weight)) => match weight.parse::<f64>() {
                Ok(weight) if weight.is_finite() => (file, weight),
                _ => (text, 1.0),
            },
            None => (text, 1.0),
        };
        if file.is_empty() {
            return Err(format!("`{text}` names no file; use FILE or FILE:WEIGHT"));
        }
        Ok(Self { file: file.into(), weight })
    }
}

/// Products by component and tensor.
pub(crate) type Additions = BTreeMap<String, BTreeMap<String, Vec<LowRank>>>;

/// What an adapter does to a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppliedLora {
    /// As the user named it.
    pub file: PathBuf,
    /// How strongly it counts.
    pub weight: f64,
    /// Tensors that it changes, by component.
    pub changed: BTreeMap<String, usize>,
    /// Tensors to which it adds nothing but zeros.
    pub unchanged: usize,
}

impl AppliedLora {
    /// The adapter, and how many tensors of what it changes.
    pub(crate) fn described(&self) -> String {
        let counts = self.changed.iter().map(|(component, count)| format!("{component} {count}"));
        let counts: Vec<String> = counts.collect();
        let total: usize = self.changed.values().sum();
        let (file, weight) = (self.file.display(), self.weight);
        format!("{file}, weight {weight}: changes {total} tensors ({})", counts.join(", "))
    }

    /// A sentence about an adapter that changes nothing at all.
    pub(crate) fn remark(&self) -> Option<String> {
        let changes = self.changed.values().any(|count| *count > 0);
        let why = if self.weight == 0.0 { "its weight is 0" } else { "its products are all zero" };
        (!changes).then(|| format!("adapter {} changes no tensor: {why}", self.file.display()))
    }
}

/// Adds the products of an adapter to `additions`. `layers` is the UNet's `layers_per_block`.
///
/// # Errors
/// A file is unreadable, of another kind of adapter, made for another model, or incomplete.
pub(crate) fn read_lora(
    lora: &LoraFile,
    targets: &[Target],
    layers: usize,
    additions: &mut Additions,
) -> Result<AppliedLora> {
    let index = Index::new(targets, layers);
    let mut applied = AppliedLora {
        file: lora.file.clone(),
        weight: lora.weight,
        changed: BTreeMap::new(),
        unchanged: 0,
    };
    for (component, path) in files_of(&lora.file, targets)? {
        let adapter = Adapter { path: &path, component, weight: lora.weight };
        adapter.read(&index, additions, &mut applied)?;
    }
    Ok(applied)
}

/// The files of an adapter, with the component that each is for where that is known: the file itself, or in a
/// folder what diffusers or PEFT has saved there, or PEFT in a folder of its own for each network.
fn files_of(path: &Path, targets: &[Target]) -> Result<Vec<(Option<String>, PathBuf)>> {
    if !path.is_dir() {
        return Ok(vec![(None, path.to_path_buf())]);
    }
    if let Some(file) = addon_file(path, &["pytorch_lora_weights", "adapter_model"])? {
        return Ok(vec![(None, file)]);
    }
    let mut files = Vec::new();
    for Target { component, .. } in targets {
        let folder = path.join(component);
        if folder.is_dir()
            && let Some(file) = addon_file(&folder, &["adapter_model", "pytorch_lora_weights"])?
        {
            files.push((Some(component.clone()), file));
        }
    }
    ensure!(
        !files.is_empty(),
        "{} holds no adapter: no pytorch_lora_weights.safetensors, adapter_model.safetensors or other file \
         of tensors",
        path.display()
    );
    Ok(files)
}

/// One file of an adapter.
struct Adapter<'a> {
    path: &'a Path,
    component: Option<String>,
    weight: f64,
}

impl Adapter<'_> {
    fn read(
        &self,
        index: &Index<'_>,
        additions: &mut Additions,
        applied: &mut AppliedLora,
    ) -> Result<()> {
        let path = self.path;
        let found = contents_of_any(path, ADDON)?;
        let modules = modules(&found, path)?;
        let values = Weights::open_any(path, ADDON, DType::F32, &Device::Cpu)?;
        let is_peft = modules.keys().any(|module| module.starts_with(PEFT_START));
        let notes = if is_peft {
            Some(Notes::of_adapter_config(path)?)
        } else {
            Notes::of_header(&found, path)?
        };
        for (module, roles) in modules {
            let place = self.place(index, module)?;
            let (Some(up), Some(down)) = (roles.get(&Role::Up), roles.get(&Role::Down)) else {
                bail!("{}: `{module}` lacks one of its two factors", path.display());
            };
            let rank = found.shapes[*down].first().copied().unwrap_or(0);
            ensure!(rank > 0, "{}: `{down}` is empty", path.display());
            let scale = match (roles.get(&Role::Alpha), &notes) {
                (Some(name), _) => scalar(&values, name, &found.shapes[*name])? / rank as f64,
                (None, Some(notes)) => {
                    let named = place.is_named.then_some(place.component);
                    notes.scale(named, &place.module, rank)?
                }
                (None, None) => 1.0,
            };
            let scale = self.weight * scale;
            let is_zero = |name: &str| all_zero(&values, name, &found.shapes[name]);
            if scale == 0.0 || is_zero(up)? || is_zero(down)? {
                applied.unchanged += 1;
            } else {
                *applied.changed.entry(place.component.to_owned()).or_default() += 1;
            }
            let product = LowRank {
                adapter: applied.file.clone(),
                file: absolute(path)?,
                up: (*up).to_owned(),
                down: (*down).to_owned(),
                scale,
            };
            let of_component = additions.entry(place.component.to_owned()).or_default();
            of_component.entry(place.tensor.to_owned()).or_default().push(product);
        }
        Ok(())
    }

    fn place<'t>(&self, index: &Index<'t>, module: &str) -> Result<Place<'t>> {
        let path = self.path.display();
        match index.find(module, self.component.as_deref()) {
            Found::One(place) => Ok(place),
            Found::Nowhere => bail!(
                "{path}: `{module}` names nothing in this checkpoint; was the adapter made for another base \
                 model?"
            ),
            Found::Several(components) => bail!(
                "{path}: `{module}` may be of {}; put the file into a folder of that name and give the folder \
                 around it as --lora",
                components.join(" or ")
            ),
        }
    }
}

/// The tensors of each module, by their roles.
fn modules<'f>(
    found: &'f FileContents,
    path: &Path,
) -> Result<BTreeMap<&'f str, BTreeMap<Role, &'f str>>> {
    let mut modules: BTreeMap<&str, BTreeMap<Role, &str>> = BTreeMap::new();
    let mut adapters: BTreeSet<&str> = BTreeSet::new();
    for name in found.shapes.keys() {
        let spelled = split_name(name).with_context(|| {
            format!(
                "{}: tensor `{name}` belongs to a kind of adapter that is not supported; LoRA with linear \
                 layers and convolutions is",
                path.display()
            )
        })?;
        adapters.extend(spelled.adapter);
        modules.entry(spelled.module).or_default().insert(spelled.role, name);
    }
    ensure!(!modules.is_empty(), "{} holds no adapter", path.display());
    ensure!(
        adapters.len() < 2,
        "{} holds several adapters ({}); save each to a file of its own",
        path.display(),
        adapters.into_iter().collect::<Vec<_>>().join(", ")
    );
    Ok(modules)
}

fn scalar(values: &Weights, name: &str, shape: &[usize]) -> Result<f64> {
    let tensor = values.root().tensor(name, shape)?.flatten_all()?;
    let numbers = tensor.to_vec1::<f32>()?;
    ensure!(numbers.len() == 1, "`{name}` is no single number");
    Ok(f64::from(numbers[0]))
}

fn all_zero(values: &Weights, name: &str, shape: &[usize]) -> Result<bool> {
    let numbers = values.root().tensor(name, shape)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(numbers.iter().all(|number| *number == 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_stand_behind_a_colon() {
        let parsed = |text: &str| text.parse::<LoraFile>().unwrap();
        assert_eq!(parsed("a.safetensors"), LoraFile { file: "a.safetensors".into(), weight: 1.0 });
        assert_eq!(parsed("a.safetensors:-0.5").weight, -0.5);
        assert_eq!(parsed("c:/a.safetensors").file, PathBuf::from("c:/a.safetensors"));
        assert!("".parse::<LoraFile>().is_err() && ":1".parse::<LoraFile>().is_err());
    }
}
