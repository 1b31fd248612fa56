//! In: low-rank adapter files (LoRA, arXiv 2106.09685) as kohya's scripts, diffusers and PEFT name
//! them. Out: which products are added to which tensors of a checkpoint. Multiplying is left to the
//! weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device};
use serde::Deserialize;

use crate::models::Weights;
use crate::models::ldm_names::unet_module;
use crate::models::recipe::LowRank;
use crate::models::safetensors_file::{FileContents, contents};

/// An adapter and how strongly it counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraFile {
    /// Its safetensors file.
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

/// The tensor names of one component that an adapter may change.
#[derive(Debug)]
pub struct Target {
    /// Folder of the component: `unet`, `text_encoder` ...
    pub component: String,
    /// Names of its tensors.
    pub tensors: Vec<String>,
}

/// Products by component and tensor.
pub type Additions = BTreeMap<String, BTreeMap<String, Vec<LowRank>>>;

/// Role of a tensor in an adapter file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Up,
    Down,
    Alpha,
}

/// How names end, the longer of two before the shorter.
const ENDINGS: [(&str, Role); 11] = [
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    (".alpha", Role::Alpha),
];

/// Adds the products of an adapter file to `additions`. `layers` is the UNet's `layers_per_block`.
///
/// # Errors
/// The file is unreadable, of another kind of adapter, made for another model, or incomplete.
pub fn read_lora(
    lora: &LoraFile,
    targets: &[Target],
    layers: usize,
    additions: &mut Additions,
) -> Result<()> {
    let path = &lora.file;
    let found = contents(path)?;
    let mut modules: BTreeMap<&str, BTreeMap<Role, &str>> = BTreeMap::new();
    for name in found.shapes.keys() {
        let Some((module, role)) =
            ENDINGS.iter().find_map(|(ending, role)| Some((name.strip_suffix(ending)?, *role)))
        else {
            bail!(
                "{}: tensor `{name}` belongs to a kind of adapter that is not supported; LoRA with \
                 linear layers and convolutions is",
                path.display()
            );
        };
        modules.entry(module).or_default().insert(role, name);
    }
    ensure!(!modules.is_empty(), "{} holds no adapter", path.display());
    let index = Index::new(targets);
    let values = Weights::open_file(path, DType::F32, &Device::Cpu)?;
    for (module, roles) in modules {
        let (component, tensor) = index.find(module, layers).with_context(|| {
            format!(
                "{}: `{module}` names nothing in this checkpoint; was the adapter made for another \
                 base model?",
                path.display()
            )
        })?;
        let (Some(up), Some(down)) = (roles.get(&Role::Up), roles.get(&Role::Down)) else {
            bail!("{}: `{module}` lacks one of its two factors", path.display());
        };
        let rank = found.shapes[*down].first().copied().unwrap_or(0);
        ensure!(rank > 0, "{}: `{down}` is empty", path.display());
        let alpha = match roles.get(&Role::Alpha) {
            Some(name) => scalar(&values, name, &found.shapes[*name])?,
            None => noted_alpha(&found, component, path)?.unwrap_or(rank as f64),
        };
        let product = LowRank {
            file: absolute(path)?,
            up: (*up).to_owned(),
            down: (*down).to_owned(),
            scale: lora.weight * alpha / rank as f64,
        };
        let of_component = additions.entry(component.to_owned()).or_default();
        of_component.entry(tensor.to_owned()).or_default().push(product);
    }
    Ok(())
}

/// The path from the root: a recipe is read from another folder.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}

fn scalar(values: &Weights, name: &str, shape: &[usize]) -> Result<f64> {
    let tensor = values.root().tensor(name, shape)?.flatten_all()?;
    let numbers = tensor.to_vec1::<f32>()?;
    ensure!(numbers.len() == 1, "`{name}` is no single number");
    Ok(f64::from(numbers[0]))
}

/// The alpha that diffusers notes in the header where no tensor holds one.
fn noted_alpha(found: &FileContents, component: &str, path: &Path) -> Result<Option<f64>> {
    let Some(text) = found.notes.get("lora_adapter_metadata") else { return Ok(None) };
    let notes: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
        .with_context(|| format!("{}: lora_adapter_metadata", path.display()))?;
    let note = |key: &str| notes.get(&format!("{component}.{key}"));
    for key in ["alpha_pattern", "use_rslora", "use_dora"] {
        let neutral = match note(key) {
            None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => true,
            Some(serde_json::Value::Object(entries)) => entries.is_empty(),
            Some(_) => false,
        };
        ensure!(neutral, "{}: {component}.{key} is not supported", path.display());
    }
    Ok(note("lora_alpha").and_then(serde_json::Value::as_f64))
}

/// Finds the tensor that an adapter's module changes.
struct Index<'t> {
    /// By component and module, with and without dots.
    by_spelling: BTreeMap<(&'t str, String), &'t str>,
}

impl<'t> Index<'t> {
    fn new(targets: &'t [Target]) -> Self {
        let mut by_spelling = BTreeMap::new();
        for target in targets {
            for tensor in &target.tensors {
                let Some(module) = tensor.strip_suffix(".weight") else { continue };
                let module = module.strip_prefix("text_model.").unwrap_or(module);
                let component = target.component.as_str();
                by_spelling.insert((component, module.to_owned()), tensor.as_str());
                by_spelling.insert((component, module.replace('.', "_")), tensor.as_str());
            }
        }
        Self { by_spelling }
    }

    fn find(&self, module: &str, layers: usize) -> Option<(&'static str, &'t str)> {
        const STARTS: [(&str, &str); 7] = [
            ("lora_unet_", "unet"),
            ("lora_te1_", "text_encoder"),
            ("lora_te2_", "text_encoder_2"),
            ("lora_te_", "text_encoder"),
            ("unet.", "unet"),
            ("text_encoder.", "text_encoder"),
            ("text_encoder_2.", "text_encoder_2"),
        ];
        let (component, module) = STARTS
            .iter()
            .find_map(|(start, component)| Some((*component, module.strip_prefix(start)?)))?;
        // Attention processors of older versions of diffusers held the factors themselves.
        let mut module = module.replace(".processor.", ".");
        if component == "unet" && module.ends_with(".to_out") {
            module += ".0";
        } else if component != "unet" {
            module = module.replace("self_attn.to_", "self_attn.");
            for name in ["q", "k", "v", "out"] {
                if module.ends_with(&format!("self_attn.{name}")) {
                    module += "_proj";
                }
            }
        }
        for start in ["text_model.", "text_model_"] {
            if let Some(rest) = module.strip_prefix(start) {
                module = rest.to_owned();
            }
        }
        let spellings = [Some(module.clone()), unet_module(&module, layers)];
        spellings
            .into_iter()
            .flatten()
            .find_map(|spelling| Some((component, *self.by_spelling.get(&(component, spelling))?)))
    }
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
