//! In: what made a run and its answers. Out: all of it by name, without nesting, and in what two runs differ. How that
//! is printed is left to `reports`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::summary::{JudgeIdentity, RunIdentity};
use crate::results::Settings;

/// What can make runs differ, by where it was set. No path: where a benchmark lies decides nothing.
pub(crate) fn run_settings(run: &RunIdentity, judge: &JudgeIdentity) -> Settings {
    let nested = |settings: &Settings| Value::Object(settings.clone().into_iter().collect());
    [
        ("benchmark digest", Value::from(run.benchmark.digest.clone())),
        ("images per item", run.images_per_item.into()),
        ("selection", nested(&run.selection)),
        ("generation", run.generation.as_ref().map_or(Value::Null, nested)),
        ("judge", nested(&judge.settings)),
        ("judge name", judge.name.clone().into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Nested objects as `outer.inner`.
pub(crate) fn flattened(settings: &Settings) -> BTreeMap<String, String> {
    fn put(name: String, value: &Value, flat: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(inner) => {
                for (key, value) in inner {
                    put(format!("{name}.{key}"), value, flat);
                }
            }
            Value::Null => {}
            Value::String(text) => {
                flat.insert(name, text.clone());
            }
            other => {
                flat.insert(name, other.to_string());
            }
        }
    }
    let mut flat = BTreeMap::new();
    for (name, value) in settings {
        put(name.clone(), value, &mut flat);
    }
    // What the program calls the kind of thing: beside the name that the user gave, two words for one.
    for (stored, shown) in [("generation.model", "generation.kind"), ("judge.judge", "judge.kind")]
    {
        if let Some(kind) = flat.remove(stored) {
            flat.insert(shown.to_owned(), kind);
        }
    }
    flat
}

/// A setting that is not the same in two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingDifference {
    /// Where it was set, such as `generation.steps`.
    pub name: String,
    /// What the base has; `None` where it does not have the setting.
    pub base: Option<String>,
    /// What the other has.
    pub other: Option<String>,
}

/// The settings in which two runs differ, in the order of their names.
pub(crate) fn differing(base: &Settings, other: &Settings) -> Vec<SettingDifference> {
    let (base, other) = (flattened(base), flattened(other));
    let names: BTreeSet<&String> = base.keys().chain(other.keys()).collect();
    names
        .into_iter()
        .map(|name| SettingDifference {
            name: name.clone(),
            base: base.get(name).cloned(),
            other: other.get(name).cloned(),
        })
        .filter(|found| found.base != found.other)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nested_settings_are_flat_and_kinds_are_called_so() {
        let flat = flattened(&settings(serde_json::json!({
            "judge": {"judge": "mplug", "beam": {"width": 5}},
            "generation": {"model": "sd15", "name": "demo-sd", "ella_tokens": null},
        })));
        let flat: Vec<(&str, &str)> =
            flat.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("generation.kind", "sd15"),
            ("generation.name", "demo-sd"),
            ("judge.beam.width", "5"),
            ("judge.kind", "mplug"),
        ];
        assert_eq!(flat, expected);
    }

    #[test]
    fn only_what_differs_is_told_and_what_is_absent_is_none() {
        let one = settings(serde_json::json!({
            "generation": {"steps": 30, "size": [512, 512], "lora": null}, "images per item": 4,
        }));
        let two = settings(serde_json::json!({
            "generation": {"steps": 50, "size": [512, 512], "lora": "a"}, "images per item": 4,
        }));
        let found = differing(&one, &two);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.name.as_str(), one.base.as_deref(), one.other.as_deref()))
            .collect();
        let expected =
            [("generation.lora", None, Some("a")), ("generation.steps", Some("30"), Some("50"))];
        assert_eq!(found, expected);
        assert!(differing(&one, &one).is_empty());
    }
}
