//! In: the rows and bytes of a question file. Out: two fingerprints, one of what is asked and one of
//! the file itself.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::question::Question;

/// Git blob id of the question file published with ELLA (`dpg_bench/dpg_bench.csv`, commit 3c228f1).
pub const OFFICIAL_BLOB_ID: &str = "98457fc9901943f51ff9a30367250fc292533bed";

/// What `git hash-object` prints for a file with these bytes.
pub fn git_blob_id(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// SHA-256 over what a benchmark asks, whatever the quoting, line ends, column order and unused
/// columns of its file.
///
/// Hashed are UTF-8 strings, each as its length in bytes (decimal), `:`, its bytes and `,`:
/// first `dpg-bench benchmark 1`; then for each item, in file order, `item`, its id and its prompt;
/// then for each of its rows, in file order, `question`, number, parents, tuple and question. The
/// parents are the entries of the `dependency` cell, trimmed, integers in plain decimal, joined by `,`.
/// Rows that a lenient load leaves out are hashed too.
#[derive(Debug)]
pub struct BenchmarkDigest(TextHasher);

impl BenchmarkDigest {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(TextHasher::beginning_with("dpg-bench benchmark 1"))
    }

    /// Adds an item and its rows.
    pub fn add_item(&mut self, id: &str, prompt: &str, questions: &[Question]) {
        for text in ["item", id, prompt] {
            self.0.put(text);
        }
        self.0.put_questions(questions);
    }

    /// The digest in lower-case hex.
    pub fn finish(self) -> String {
        self.0.finish()
    }
}

impl Default for BenchmarkDigest {
    fn default() -> Self {
        Self::new()
    }
}

/// As [`BenchmarkDigest`] without the prompts: the first string is `dpg-bench questions 1`, and after
/// `item` only the id comes.
#[derive(Debug)]
pub(super) struct QuestionsDigest(TextHasher);

impl QuestionsDigest {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self(TextHasher::beginning_with("dpg-bench questions 1"))
    }

    /// Adds an item's rows.
    pub(super) fn add_item(&mut self, id: &str, questions: &[Question]) {
        for text in ["item", id] {
            self.0.put(text);
        }
        self.0.put_questions(questions);
    }

    /// The digest in lower-case hex.
    pub(super) fn finish(self) -> String {
        self.0.finish()
    }
}

/// Bytes that are put together before they are hashed: a call for every string takes longer than the hashing.
const HASHED_AT_ONCE: usize = 16 << 10;

/// SHA-256 over strings that cannot run into each other.
#[derive(Debug)]
struct TextHasher {
    hasher: Sha256,
    /// What is not hashed yet.
    waiting: Vec<u8>,
}

impl TextHasher {
    fn beginning_with(text: &str) -> Self {
        let waiting = Vec::with_capacity(2 * HASHED_AT_ONCE);
        let mut hasher = Self { hasher: Sha256::new(), waiting };
        hasher.put(text);
        hasher
    }

    fn put(&mut self, text: &str) {
        put_decimal(&mut self.waiting, text.len());
        self.waiting.push(b':');
        self.waiting.extend_from_slice(text.as_bytes());
        self.waiting.push(b',');
        if self.waiting.len() >= HASHED_AT_ONCE {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    fn put_questions(&mut self, questions: &[Question]) {
        for question in questions {
            self.put("question");
            self.put(&question.id.to_string());
            self.put(&question.dependency());
            self.put(&question.tuple);
            self.put(&question.text);
        }
    }

    fn finish(mut self) -> String {
        self.hasher.update(&self.waiting);
        hex(&self.hasher.finalize())
    }
}

/// The number in plain decimal. Formatting takes several times as long, and there is one for every string.
fn put_decimal(bytes: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        put_decimal(bytes, number / 10);
    }
    bytes.push(b'0' + (number % 10) as u8);
}
