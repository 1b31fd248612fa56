//! In: a flag as clap knows it, and a TOML value. Out: the words that say the same on the command line, or why the flag
//! does not take it.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Arg, ArgAction, Command};
use serde_json::{Map, Value};
use toml::de::{DeInteger, DeValue};

use crate::checkpoint::embeddings::EmbeddingFile;
use crate::checkpoint::lora::LoraFile;
use crate::cli::args::local_judge::JudgeWeights;
use crate::session::benchmarks::DEMO;
use crate::session::fetched::is_hub_name;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value.
    Switch,
    /// An integer.
    Whole,
    /// A number.
    Real,
    /// `true` or `false`.
    Bool,
    /// A JSON object.
    Object,
    /// Anything else.
    Text,
}

impl Kind {
    /// What `arg` takes, or each of its values.
    pub(super) fn of(arg: &Arg) -> Self {
        let of_value = arg.get_value_parser().type_id();
        let is_one_of = |types: &[TypeId]| types.iter().any(|one| of_value == *one);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            Self::Switch
        } else if is_one_of(&[TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()]) {
            Self::Whole
        } else if is_one_of(&[TypeId::of::<f64>()]) {
            Self::Real
        } else if is_one_of(&[TypeId::of::<bool>()]) {
            Self::Bool
        } else if is_one_of(&[TypeId::of::<Map<String, Value>>()]) {
            Self::Object
        } else {
            Self::Text
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Switch | Self::Bool => "`true` or `false`",
            Self::Whole => "a whole number",
            Self::Real => "a number",
            Self::Object => "a table, or a JSON object as text",
            Self::Text => "text in quotes",
        }
    }
}

/// The words `--flag=VALUE` of a value, one for each element of an array. Relative paths begin at `folder`.
///
/// # Errors
/// The flag does not take the value.
pub(super) fn words(
    arg: &Arg,
    value: &DeValue<'_>,
    folder: &Path,
) -> Result<Vec<OsString>, String> {
    let kind = Kind::of(arg);
    let long = arg.get_long().unwrap_or_default();
    let word = |value: &DeValue<'_>| {
        let text = text(kind, value)
            .ok_or_else(|| format!("it takes {}, not {}", kind.in_words(), in_words(value)))?;
        let mut word = OsString::from(format!("--{long}="));
        word.push(rooted(arg, text, folder));
        Ok::<_, String>(word)
    };
    let words = match (kind, value) {
        (Kind::Switch, DeValue::Boolean(true)) => vec![OsString::from(format!("--{long}"))],
        (Kind::Switch, DeValue::Boolean(false)) => Vec::new(),
        (_, DeValue::Array(values)) if matches!(arg.get_action(), ArgAction::Append) => {
            values.iter().map(|value| word(value.get_ref())).collect::<Result<_, _>>()?
        }
        _ => vec![word(value)?],
    };
    refusal(arg, &words).map_or(Ok(words), Err)
}

/// A value as it would be typed; `None` where it is of another type.
fn text(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        (Kind::Whole | Kind::Real, DeValue::Integer(number)) => Some(decimal(number)),
        (Kind::Real, DeValue::Float(number)) => Some(number.as_str().to_owned()),
        (Kind::Bool, DeValue::Boolean(is_true)) => Some(is_true.to_string()),
        (Kind::Text | Kind::Object, DeValue::String(text)) => Some(text.as_ref().to_owned()),
        (Kind::Object, DeValue::Table(_)) => json(value).map(|value| value.to_string()),
        _ => None,
    }
}

fn in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Digits to the base of 10; what has too many stays as it is, for clap to refuse.
fn decimal(number: &DeInteger<'_>) -> String {
    let text = number.as_str();
    i128::from_str_radix(text, number.radix())
        .map_or_else(|_| text.to_owned(), |whole| whole.to_string())
}

/// `None` where JSON has no such value: numbers that are not finite.
fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => serde_json::from_str(&decimal(number)).ok()?,
        DeValue::Float(number) => {
            serde_json::Number::from_f64(number.as_str().parse().ok()?)?.into()
        }
        DeValue::Boolean(is_true) => Value::from(*is_true),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(values) => {
            values.iter().map(|value| json(value.get_ref())).collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.as_ref().to_owned(), json(value.get_ref())?))
            };
            Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// A path that begins at `folder`; what is no path, as it is.
fn rooted(arg: &Arg, text: String, folder: &Path) -> OsString {
    if folder.as_os_str().is_empty() {
        return text.into();
    }
    let of_value = arg.get_value_parser().type_id();
    // A path may have a weight or a word behind it: `FILE:0.7`.
    let is_path =
        [TypeId::of::<PathBuf>(), TypeId::of::<LoraFile>(), TypeId::of::<EmbeddingFile>()];
    let is_path = is_path.iter().any(|path| of_value == *path);
    // A model of Hugging Face's cache, unless there is such a folder.
    let weights = |path: &Path| match folder.join(path) {
        there if there.exists() || !is_hub_name(path) => there,
        _ => path.to_owned(),
    };
    match arg.get_id().as_str() {
        "benchmark" if text == DEMO => text.into(),
        "weights" if is_path => weights(Path::new(&text)).into(),
        _ if of_value == TypeId::of::<JudgeWeights>() => {
            let JudgeWeights { judge, path } = OsString::from(text).into();
            let mut word = judge.map_or_else(OsString::new, |judge| format!("{judge}=").into());
            word.push(weights(&path));
            word
        }
        _ if is_path => folder.join(text).into(),
        _ => text.into(),
    }
}

/// What clap has against the words, where the flag stands alone.
fn refusal(arg: &Arg, words: &[OsString]) -> Option<String> {
    let alone = arg.clone().required(false);
    let alone = alone.conflicts_with(Resettable::Reset).requires(Resettable::Reset);
    let command = Command::new("settings").no_binary_name(true);
    let command = command.disable_help_flag(true).disable_version_flag(true).arg(alone);
    command.try_get_matches_from(words).err().map(|error| in_a_line(&error))
}

/// What clap says, without usage and advice.
pub(super) fn in_a_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let told = text.split("\n\n").next().unwrap_or_default();
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}
