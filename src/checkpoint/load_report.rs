//! In: what the loaders of a model's parts found in their files. Out: one list for `generate --dry-run`, and the
//! warnings that every run prints. What to do about either is left to the command line.

use std::fmt;

use serde::Serialize;

/// What was understood of a model's files, in the order in which they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// One fact a line.
    pub lines: Vec<Line>,
    /// What may make another picture than the user expects, a sentence each.
    pub warnings: Vec<String>,
}

/// A fact about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is about: `pipeline`, `prediction`, `schedule`, `adapter`, ...
    pub subject: String,
    /// What was understood.
    pub text: String,
}

impl LoadReport {
    /// Adds a fact about `subject`.
    pub fn line(&mut self, subject: &str, text: impl Into<String>) {
        self.lines.push(Line { subject: subject.to_owned(), text: text.into() });
    }

    /// Adds a warning.
    pub(crate) fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// Adds everything that `other` holds.
    pub fn extend(&mut self, other: Self) {
        self.lines.extend(other.lines);
        self.warnings.extend(other.warnings);
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.subject.len()).max().unwrap_or(0);
        for Line { subject, text } in &self.lines {
            writeln!(f, "{subject:width$}  {text}")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

/// `tensors`, which are in no network, in half a sentence.
pub(crate) fn tensors_in_nothing<T: AsRef<str>>(tensors: &[T]) -> Option<String> {
    let named: Vec<String> =
        tensors.iter().take(5).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = if tensors.len() > named.len() { ", ..." } else { "" };
    (!tensors.is_empty()).then(|| {
        format!(
            "{} tensors belong to nothing that is known here and are passed over: {}{more}",
            tensors.len(),
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_in_columns_and_warnings_below() {
        let mut understood = LoadReport::default();
        understood.warn("unknown key `x`");
        understood.line("prediction", "epsilon");
        let mut other = LoadReport::default();
        other.line("unet", "5 tensors");
        understood.extend(other);
        assert_eq!(
            understood.to_string(),
            "prediction  epsilon\nunet        5 tensors\nwarning: unknown key `x`\n"
        );
    }
}
