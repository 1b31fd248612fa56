//! In: what an adapter's file, or PEFT's `adapter_config.json` beside it, says of the adapter. Out: the alpha of each
//! module, or a refusal of what would need other arithmetic. Products are left to `lora`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::checkpoint::safetensors_file::FileContents;

/// What PEFT writes in front of the names of a network that it has wrapped.
pub(super) const PEFT_START: &str = "base_model.model.";

/// Entries of PEFT's `LoraConfig` that do not change what its tensors mean, whatever they hold.
const NEUTRAL: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "alpha_pattern",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// What is said of an adapter.
pub(super) struct Notes {
    /// Where it stands.
    source: PathBuf,
    entries: Map<String, Value>,
}

impl Notes {
    /// diffusers' entry in the header of the file `path`.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn of_header(found: &FileContents, path: &Path) -> Result<Option<Self>> {
        let Some(text) = found.notes.get("lora_adapter_metadata") else { return Ok(None) };
        let entries = serde_json::from_str(text)
            .with_context(|| format!("{}: lora_adapter_metadata", path.display()))?;
        Ok(Some(Self { source: path.to_path_buf(), entries }))
    }

    /// PEFT's `adapter_config.json` beside the file `path`.
    ///
    /// # Errors
    /// It is missing, or is no JSON object.
    pub(super) fn of_adapter_config(path: &Path) -> Result<Self> {
        let source = path.with_file_name("adapter_config.json");
        let text = std::fs::read(&source).with_context(|| {
            format!(
                "{} is an adapter of PEFT's, whose alpha stands in {}; put that file there",
                path.display(),
                source.display()
            )
        })?;
        let entries = serde_json::from_slice(&text)
            .with_context(|| format!("{}: is no JSON object", source.display()))?;
        Ok(Self { source, entries })
    }

    /// The same where it is there.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn of_adapter_config_if_there(path: &Path) -> Result<Option<Self>> {
        let is_there = path.with_file_name("adapter_config.json").is_file();
        is_there.then(|| Self::of_adapter_config(path)).transpose()
    }

    /// Scale of the product of a module of rank `rank`. `component` is given where the file's names say which
    /// network they are of; then these entries do, too.
    ///
    /// # Errors
    /// An entry asks for other arithmetic, or there is no alpha.
    pub(super) fn scale(&self, component: Option<&str>, module: &str, rank: usize) -> Result<f64> {
        let source = self.source.display();
        let entries: Vec<(&str, &Value)> = self
            .entries
            .iter()
            .filter_map(|(key, value)| match component {
                Some(component) => Some((key.strip_prefix(component)?.strip_prefix('.')?, value)),
                None => Some((key.as_str(), value)),
            })
            .collect();
        for (key, value) in &entries {
            ensure!(is_understood(key, value), "{source}: {key} = {value} is not supported");
        }
        let entry =
            |key: &str| entries.iter().find(|(own, _)| *own == key).map(|(_, value)| *value);
        let alpha = match pattern_alpha(entry("alpha_pattern"), module)? {
            Some(alpha) => Some(alpha),
            None => entry("lora_alpha").and_then(Value::as_f64),
        };
        let Some(alpha) = alpha.filter(|alpha| alpha.is_finite()) else {
            let whose = component.unwrap_or("the adapter");
            bail!("{source}: states no lora_alpha of {whose}, though it describes the adapter");
        };
        let rank = rank as f64;
        let is_rslora = entry("use_rslora").and_then(Value::as_bool).unwrap_or(false);
        Ok(if is_rslora { alpha / rank.sqrt() } else { alpha / rank })
    }
}

fn is_understood(key: &str, value: &Value) -> bool {
    let is_nothing = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(entries) => entries.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match key {
        "peft_type" => value == "LORA",
        "bias" => value == "none",
        // Other ways to begin change the base model's weights as well.
        "init_lora_weights" => value.is_boolean() || value == "gaussian",
        _ => is_nothing || NEUTRAL.contains(&key),
    }
}

/// The alpha that a pattern of module names gives. A pattern is the whole name or its end, from a dot on; `^` in
/// front stands for the whole name.
fn pattern_alpha(patterns: Option<&Value>, module: &str) -> Result<Option<f64>> {
    let mut found = None;
    for (pattern, alpha) in patterns.and_then(Value::as_object).into_iter().flatten() {
        let (whole, plain) = match pattern.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, pattern.as_str()),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let alpha = alpha.as_f64().filter(|_| plain.chars().all(is_plain));
        let alpha = alpha.with_context(|| {
            format!("alpha_pattern `{pattern}` is not supported; plain names of modules are")
        })?;
        let rest = module.strip_suffix(plain);
        if rest.is_some_and(|rest| rest.is_empty() || (!whole && rest.ends_with('.'))) {
            ensure!(
                found.is_none_or(|other| other == alpha),
                "alpha_pattern gives `{module}` more than one alpha"
            );
            found = Some(alpha);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(entries: &str, component: Option<&str>, rank: usize) -> Result<f64> {
        let entries = serde_json::from_str(entries).unwrap();
        let notes = Notes { source: "a.json".into(), entries };
        notes.scale(component, "down.0.to_v", rank)
    }

    #[test]
    fn alpha_is_found_where_it_is_stated() {
        assert_eq!(scale(r#"{"lora_alpha": 6}"#, None, 4).unwrap(), 1.5);
        assert_eq!(scale(r#"{"unet.lora_alpha": 2}"#, Some("unet"), 4).unwrap(), 0.5);
        assert_eq!(scale(r#"{"lora_alpha": 6, "use_rslora": true}"#, None, 4).unwrap(), 3.0);
        for (pattern, wanted) in
            [("to_v", 2.0), ("0.to_v", 2.0), ("^down.0.to_v", 2.0), ("o_v", 1.5), ("^to_v", 1.5)]
        {
            let entries = format!(r#"{{"lora_alpha": 6, "alpha_pattern": {{"{pattern}": 8}}}}"#);
            assert_eq!(scale(&entries, None, 4).unwrap(), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (entries, word) in [
            (r#"{"lora_alpha": 6, "use_dora": true}"#, "use_dora"),
            (r#"{"lora_alpha": 6, "bias": "all"}"#, "bias"),
            (r#"{"lora_alpha": 6, "init_lora_weights": "pissa"}"#, "init_lora_weights"),
            (r#"{"lora_alpha": 6, "unheard_of": 1}"#, "unheard_of"),
            (r#"{"lora_alpha": 6, "alpha_pattern": {".*to_v": 1}}"#, "alpha_pattern"),
            (r#"{"lora_alpha": 6, "alpha_pattern": {"to_v": 1, "0.to_v": 2}}"#, "more than one"),
            (r#"{"r": 6}"#, "lora_alpha"),
        ] {
            let message = scale(entries, None, 4).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        assert!(scale(r#"{"unet.lora_alpha": 6}"#, Some("text_encoder"), 4).is_err());
    }
}
