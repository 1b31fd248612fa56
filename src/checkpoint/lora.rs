//! In: low-rank adapters (LoRA, arXiv 2106.09685) as files or folders of kohya's scripts, diffusers and PEFT.
//! Out: which products are added to which tensors of a checkpoint. Multiplying is left to the weights, one file to
//! `adapter_file`, names to `names` and `flux_layers`, alpha to `notes`.

mod adapter_file;
mod applied;
mod diffusers_reads;
mod flux_layers;
mod names;
mod notes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::Deserialize;

use self::adapter_file::AdapterFile;
use self::names::Index;
use super::addon_file::addon_file;

pub(crate) use self::applied::{Additions, AppliedLora};
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
        warnings: Vec::new(),
    };
    for (component, path) in files_of(&lora.file, targets)? {
        let adapter = AdapterFile { path: &path, component, weight: lora.weight };
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
