//! In: a CSV or JSON Lines file of answers. Out: the answer to each question of each image. Made for
//! the scripted judge.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Answer;
use crate::results::image_store::hex;

/// Why an answers file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The disk said no.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that is no answer.
    #[error(
        "{path}, line {line}: {reason}; an answer has item, image (a number or `*`), question, answer \
         and, if known, yes_probability"
    )]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Line, from 1, the header included.
        line: u64,
        /// What is wrong.
        reason: LineFault,
    },
}

/// Why a line is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// It is no such row.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// It is no such object.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The image is neither a number nor `*`.
    #[error("the image `{0}` is no number and not `*`")]
    Image(String),
    /// The question is no number.
    #[error("the question `{0}` is no number")]
    Question(String),
    /// The P(yes) is no probability.
    #[error("the yes_probability `{0}` is not in 0..=1")]
    YesProbability(String),
    /// There is a line on the same question of the same image.
    #[error("this question has an answer already")]
    Twice,
}

/// One row. Every cell is text in CSV; JSON may give numbers as numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    item: String,
    image: Cell,
    question: Cell,
    answer: String,
    #[serde(default)]
    yes_probability: Option<Cell>,
}

/// Text, or a number taken as its text.
struct Cell(String);

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(serde::de::Error::custom(format!("`{other}` is no number"))),
        }
    }
}

/// Question number -> answer, for one image.
type ByQuestion = HashMap<u32, Answer>;

/// The answers of a file. `None` as image stands for every image.
#[derive(Debug, Clone)]
pub(crate) struct ScriptedAnswers {
    items: HashMap<String, HashMap<Option<u32>, ByQuestion>>,
    count: usize,
    sha256: String,
}

impl ScriptedAnswers {
    /// Reads a file: JSON Lines where its name ends in `.jsonl`, else CSV with a header.
    ///
    /// # Errors
    /// See [`ScriptError`]; two answers to one question are one of its cases.
    pub(crate) fn read(path: &Path) -> Result<Self, ScriptError> {
        let bytes = std::fs::read(path)
            .map_err(|source| ScriptError::Io { path: path.to_owned(), source })?;
        let mut answers =
            Self { items: HashMap::new(), count: 0, sha256: hex(&Sha256::digest(&bytes)) };
        let is_jsonl = path.extension().is_some_and(|extension| extension == "jsonl");
        let filled = if is_jsonl { answers.add_jsonl(&bytes) } else { answers.add_csv(&bytes) };
        filled.map_err(|(line, reason)| ScriptError::BadLine {
            path: path.to_owned(),
            line,
            reason,
        })?;
        Ok(answers)
    }

    /// Number of answers.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Digest of the file's bytes, as lower-case hex.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The answer to a question.
    ///
    /// # Errors
    /// The file has none; a sentence.
    pub(crate) fn answer(&self, item: &str, image: u32, question: u32) -> Result<Answer, String> {
        let images = self.items.get(item);
        let of = |image: Option<u32>| images?.get(&image)?.get(&question).cloned();
        of(Some(image)).or_else(|| of(None)).ok_or_else(|| {
            format!("the answers file has no answer to {item}, image {image}, question {question}")
        })
    }

    fn add_csv(&mut self, bytes: &[u8]) -> Result<(), (u64, LineFault)> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::Reader::from_reader(bytes);
        let line_of = |error: &csv::Error| error.position().map_or(1, csv::Position::line);
        let headers = reader.headers().map_err(|error| (1, error.into()))?.clone();
        for record in reader.records() {
            let record = record.map_err(|error| (line_of(&error), error.into()))?;
            let line = record.position().map_or(1, csv::Position::line);
            let row = record.deserialize(Some(&headers)).map_err(|error| (line, error.into()))?;
            self.add(row).map_err(|reason| (line, reason))?;
        }
        Ok(())
    }

    fn add_jsonl(&mut self, bytes: &[u8]) -> Result<(), (u64, LineFault)> {
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let number = index as u64 + 1;
            let row = serde_json::from_slice(line).map_err(|error| (number, error.into()))?;
            self.add(row).map_err(|reason| (number, reason))?;
        }
        Ok(())
    }

    fn add(&mut self, row: Row) -> Result<(), LineFault> {
        let image = match row.image.0.trim() {
            "*" => None,
            number => Some(number.parse().map_err(|_| LineFault::Image(number.to_owned()))?),
        };
        let question = row.question.0.trim();
        let question = question.parse().map_err(|_| LineFault::Question(question.to_owned()))?;
        let yes_probability = match row.yes_probability.as_ref().map(|cell| cell.0.trim()) {
            None | Some("") => None,
            Some(text) => Some(
                text.parse()
                    .ok()
                    .filter(|probability| (0.0..=1.0).contains(probability))
                    .ok_or_else(|| LineFault::YesProbability(text.to_owned()))?,
            ),
        };
        let answer = Answer { text: row.answer, yes_probability, ..Answer::default() };
        let questions = self.items.entry(row.item).or_default().entry(image).or_default();
        if questions.insert(question, answer).is_some() {
            return Err(LineFault::Twice);
        }
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<ScriptedAnswers, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        ScriptedAnswers::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn csv_and_jsonl_say_the_same() {
        let csv = "item,image,question,answer,yes_probability\n\"a,b\",0,1,yes,0.75\na,*,2,\"Yes, there\",\na,1,2,no,0\n";
        let jsonl = r#"{"item":"a,b","image":0,"question":1,"answer":"yes","yes_probability":0.75}

            {"item":"a","image":"*","question":"2","answer":"Yes, there"}
            {"item":"a","image":"1","question":2,"answer":"no","yes_probability":0}"#;
        for answers in [
            read("x.csv", csv).unwrap(),
            read("x.csv", &format!("\u{feff}{}", csv.replace('\n', "\r\n"))).unwrap(),
            read("x.jsonl", jsonl).unwrap(),
        ] {
            assert_eq!(answers.len(), 3);
            let first = answers.answer("a,b", 0, 1).unwrap();
            assert_eq!((first.text.as_str(), first.yes_probability), ("yes", Some(0.75)));
            assert_eq!(answers.answer("a", 0, 2).unwrap().text, "Yes, there");
            assert_eq!(answers.answer("a", 1, 2).unwrap().text, "no");
            let error = answers.answer("a,b", 1, 1).unwrap_err();
            assert!(error.contains("a,b, image 1, question 1"), "{error}");
        }
        assert_eq!(read("x.csv", "item,image,question,answer\na,0,1,no\n").unwrap().len(), 1);
    }

    #[test]
    fn a_bad_row_is_named() {
        let header = "item,image,question,answer,yes_probability\n";
        for (rows, expected) in [
            ("a,0,1,yes,\na,x,1,yes,\n", "line 3: the image `x`"),
            ("a,0,one,yes,\n", "line 2: the question `one`"),
            ("a,0,1,yes,1.5\n", "line 2: the yes_probability `1.5`"),
            ("a,0,1,yes,\na,0,1,no,\n", "line 3: this question has an answer already"),
            ("a,0,1\n", "line 2"),
        ] {
            let error = read("x.csv", &format!("{header}{rows}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        for (text, expected) in [
            ("{\"item\":\"a\",\"image\":0,\"question\":1}\n", "line 1: missing field `answer`"),
            (
                "\n{\"item\":\"a\",\"image\":true,\"question\":1,\"answer\":\"yes\"}",
                "line 2: `true`",
            ),
        ] {
            let error = read("x.jsonl", text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read("x.csv", "item,image,answer\na,0,yes\n").is_err());
    }
}
