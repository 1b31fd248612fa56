//! In: a component's `config.json`. Out: the values that its network needs, or a sentence on the
//! key that this build cannot honour. A key that changes the arithmetic is never passed over.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::file_fault::{FileFault, UNSET, UnsetKeysFault};
use super::model_error::ModelError;

/// A component's `config.json`.
#[derive(Debug)]
pub(crate) struct Config {
    path: PathBuf,
    /// Where `values` stand in the file: `text_config.`, or nothing.
    place: String,
    values: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` of `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, ModelError> {
        Self::read_file(folder.join("config.json"))
    }

    /// Reads `config.json` of `folder`, a component of diffusers: see [`drop_unset`].
    pub(crate) fn read_component(folder: &Path) -> Result<Self, ModelError> {
        let mut config = Self::read(folder)?;
        drop_unset(&mut config.values).map_err(|fault| ModelError::broken(&config.path, fault))?;
        Ok(config)
    }

    /// Reads a JSON file of another name.
    pub(crate) fn read_file(path: PathBuf) -> Result<Self, ModelError> {
        let text = std::fs::read(&path).map_err(|source| ModelError::unreadable(&path, source))?;
        let values = serde_json::from_slice(&text)
            .map_err(|error| ModelError::broken(&path, FileFault::NoJsonObject(error)))?;
        log::debug!("opened {}", path.display());
        Ok(Self::of(path, values))
    }

    /// Of values that came from `path` in another format.
    pub(crate) fn of(path: PathBuf, values: Map<String, Value>) -> Self {
        Self { path, place: String::new(), values }
    }

    /// The object under `key`, a part's configuration within this one, where there is one.
    pub(crate) fn part(&self, key: &str) -> Result<Option<Self>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Self {
                path: self.path.clone(),
                place: format!("{}{key}.", self.place),
                values: values.clone(),
            })),
            Some(_) => Err(self.unsupported(key, "an object is needed")),
        }
    }

    /// The values of `keys`, and `more`.
    pub(crate) fn with_only(&self, keys: &[&str], more: Map<String, Value>) -> Self {
        let is_kept = |(key, _): &(&String, &Value)| keys.contains(&key.as_str());
        let kept = self.values.iter().filter(is_kept);
        let values = kept.map(|(key, value)| (key.clone(), value.clone())).chain(more).collect();
        Self { path: self.path.clone(), place: self.place.clone(), values }
    }

    /// Refuses a class of diffusers that is none of `classes`; a file that states none is taken for the first.
    pub(crate) fn check_class(&self, classes: &[&str]) -> Result<(), ModelError> {
        match self.values.get("_class_name") {
            None => Ok(()),
            Some(Value::String(name)) if classes.contains(&name.as_str()) => Ok(()),
            Some(_) => {
                Err(self.unsupported("_class_name", &format!("only {} is", classes.join(" or "))))
            }
        }
    }

    /// Refuses null for keys that may be absent, but not null.
    pub(crate) fn refuse_null(&self, keys: &[&str]) -> Result<(), ModelError> {
        match keys.iter().find(|key| self.is_null(key)) {
            Some(key) => Err(self.unsupported(key, "leave the key out for its usual value")),
            None => Ok(()),
        }
    }

    /// Refuses `alias`, another name of `key`, with another value.
    pub(crate) fn refuse_unless_same(&self, alias: &str, key: &str) -> Result<(), ModelError> {
        match self.values.get(alias) {
            Some(value) if self.values.get(key) != Some(value) => {
                let hint = format!("it means `{key}`, which the file states otherwise");
                Err(self.unsupported(alias, &hint))
            }
            _ => Ok(()),
        }
    }

    /// A name, where there is one.
    pub(crate) fn name_if_any(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.get(key)
            .map(|value| value.as_str().ok_or_else(|| self.unsupported(key, "text is needed")))
            .transpose()
    }

    /// Whether the key is there and its value is null.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// Whether the key is there and its value is not null.
    pub(crate) fn is_stated(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The keys that are in none of `known`, with their values as JSON. Names that begin with `_` are
    /// notes, and what is null asks for nothing.
    pub(crate) fn unknown_keys(&self, known: &[&[&str]]) -> Vec<String> {
        let is_known = |key: &String| known.iter().any(|keys| keys.contains(&key.as_str()));
        self.values
            .iter()
            .filter(|(key, value)| !key.starts_with('_') && !value.is_null() && !is_known(key))
            .map(|(key, value)| format!("{key} = {value}"))
            .collect()
    }

    /// A value that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// The refusal of `key` as it stands, with a hint on what would be accepted.
    pub(crate) fn unsupported(&self, key: &str, hint: &str) -> ModelError {
        ModelError::Unsupported {
            path: self.path.clone(),
            key: format!("{}{key}", self.place),
            value: self.values.get(key).unwrap_or(&Value::Null).to_string(),
            hint: if hint.is_empty() { String::new() } else { format!("; {hint}") },
        }
    }

    /// Refuses every key whose value is none of those under which it changes nothing. Null and
    /// absence never change anything.
    pub(crate) fn refuse_unless_neutral(&self, keys: &[(&str, &[&str])]) -> Result<(), ModelError> {
        for (key, neutral) in keys {
            let Some(value) = self.get(key) else { continue };
            let text = value.as_str().map_or_else(|| value.to_string(), String::from);
            if !neutral.contains(&text.as_str()) {
                let hint = match neutral {
                    [] => "only null is".to_owned(),
                    values => format!("only {} is", values.join(" or ")),
                };
                return Err(self.unsupported(key, &hint));
            }
        }
        Ok(())
    }

    /// A whole number of at least one.
    pub(crate) fn count(&self, key: &str, absent: Option<usize>) -> Result<usize, ModelError> {
        self.count_from(1, key, absent)
    }

    /// A whole number of at least `least`.
    pub(crate) fn count_from(
        &self,
        least: u64,
        key: &str,
        absent: Option<usize>,
    ) -> Result<usize, ModelError> {
        match (self.get(key), absent) {
            (None, Some(value)) => Ok(value),
            (value, _) => value
                .and_then(Value::as_u64)
                .filter(|number| (least..=1 << 24).contains(number))
                .map(|number| number as usize)
                .ok_or_else(|| {
                    let hint = format!("a whole number of at least {least} is needed");
                    self.unsupported(key, &hint)
                }),
        }
    }

    /// A whole number of at least `least`; `None` where the key is absent or null.
    pub(crate) fn count_if_any(&self, least: u64, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key).map(|_| self.count_from(least, key, None)).transpose()
    }

    /// One whole number for each of `blocks` blocks, written as a list or as one number for all.
    pub(crate) fn counts(
        &self,
        key: &str,
        blocks: usize,
        absent: Option<usize>,
    ) -> Result<Vec<usize>, ModelError> {
        let Some(Value::Array(values)) = self.get(key) else {
            return Ok(vec![self.count(key, absent)?; blocks]);
        };
        numbers_from(values, 1)
            .filter(|numbers| numbers.len() == blocks)
            .ok_or_else(|| self.unsupported(key, &format!("{blocks} whole numbers are needed")))
    }

    /// Height and width, written as a list or as one number for both; `None` where the key is absent or
    /// null.
    pub(crate) fn sides(&self, key: &str) -> Result<Option<(usize, usize)>, ModelError> {
        let Some(Value::Array(values)) = self.get(key) else {
            let side = self.get(key).map(|_| self.count(key, None)).transpose()?;
            return Ok(side.map(|side| (side, side)));
        };
        match numbers_from(values, 1).as_deref() {
            Some(&[height, width]) => Ok(Some((height, width))),
            _ => Err(self.unsupported(key, "one whole number is needed, or height and width")),
        }
    }

    /// One finite number for each of `count` channels; `None` where the key is absent or null.
    pub(crate) fn numbers(&self, key: &str, count: usize) -> Result<Option<Vec<f64>>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_array()
            .and_then(|values| values.iter().map(Value::as_f64).collect::<Option<Vec<_>>>())
            .filter(|numbers| numbers.len() == count)
            .map(Some)
            .ok_or_else(|| self.unsupported(key, &format!("{count} numbers are needed")))
    }

    /// A list of whole numbers, zero among them; none where the key is absent.
    pub(crate) fn indexes(&self, key: &str) -> Result<Vec<usize>, ModelError> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(value) => value
                .as_array()
                .and_then(|values| numbers_from(values, 0))
                .ok_or_else(|| self.unsupported(key, "a list of whole numbers is needed")),
        }
    }

    /// A list of names, where there is one.
    pub(crate) fn names_if_any(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.get(key).map(|_| self.names(key)).transpose()
    }

    /// A list of names, at least one.
    pub(crate) fn names(&self, key: &str) -> Result<Vec<&str>, ModelError> {
        self.get(key)
            .and_then(Value::as_array)
            .and_then(|values| values.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
            .filter(|names| !names.is_empty())
            .ok_or_else(|| self.unsupported(key, "a list of names is needed"))
    }

    /// A name.
    pub(crate) fn name<'c>(&'c self, key: &str, absent: &'c str) -> Result<&'c str, ModelError> {
        match self.get(key) {
            None => Ok(absent),
            Some(value) => value.as_str().ok_or_else(|| self.unsupported(key, "text is needed")),
        }
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str, absent: f64) -> Result<f64, ModelError> {
        Ok(self.number_if_any(key)?.unwrap_or(absent))
    }

    /// A finite number, where there is one.
    pub(crate) fn number_if_any(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let number = |value: &Value| {
            value.as_f64().ok_or_else(|| self.unsupported(key, "a number is needed"))
        };
        self.get(key).map(number).transpose()
    }

    /// Yes or no.
    pub(crate) fn flag(&self, key: &str, absent: bool) -> Result<bool, ModelError> {
        match self.get(key) {
            None => Ok(absent),
            Some(value) => {
                value.as_bool().ok_or_else(|| self.unsupported(key, "true or false is needed"))
            }
        }
    }

    /// Yes or no as diffusers takes it, where null is no and only absence is `absent`.
    pub(crate) fn truth(&self, key: &str, absent: bool) -> Result<bool, ModelError> {
        if self.is_null(key) { Ok(false) } else { self.flag(key, absent) }
    }

    /// Refuses a list that does not repeat one of `neutral`, as JSON; null and absence pass.
    pub(crate) fn refuse_unless_all(&self, key: &str, neutral: &str) -> Result<(), ModelError> {
        let same = |value: &Value| {
            let spelled = value.to_string();
            spelled == neutral
        };
        match self.get(key) {
            None => Ok(()),
            Some(Value::Array(values)) if values.iter().all(same) => Ok(()),
            Some(value) if same(value) => Ok(()),
            Some(_) => Err(self.unsupported(key, &format!("only {neutral} is"))),
        }
    }

    /// Refuses `total` channels that `parts` (named by `key`) do not divide evenly.
    pub(crate) fn divides(&self, key: &str, parts: usize, total: usize) -> Result<(), ModelError> {
        if total.is_multiple_of(parts) {
            return Ok(());
        }
        Err(self.unsupported(key, &format!("{parts} does not divide {total} channels")))
    }
}

/// Takes away the keys that `_use_default_values` lists, and that list: diffusers reads them as if they were absent,
/// whatever stands there.
///
/// # Errors
/// It is no list.
pub(crate) fn drop_unset(values: &mut Map<String, Value>) -> Result<(), UnsetKeysFault> {
    match values.remove(UNSET) {
        None => {}
        Some(Value::Array(unset)) => {
            for key in unset.iter().filter_map(Value::as_str) {
                values.remove(key);
            }
        }
        Some(other) => return Err(UnsetKeysFault(other)),
    }
    Ok(())
}

/// Whole numbers of at least `least`, where all of `values` are.
fn numbers_from(values: &[Value], least: u64) -> Option<Vec<usize>> {
    let whole = |value: &Value| value.as_u64().filter(|n| (least..=1 << 24).contains(n));
    values.iter().map(|value| whole(value).map(|n| n as usize)).collect()
}
