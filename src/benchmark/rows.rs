//! In: the bytes of a question file. Out: its rows, grouped by item, with the problems of single rows
//! and of their order. Prompts from other files and question graphs are left to `load`.

use std::collections::{HashMap, HashSet};

use csv::ByteRecord;

use super::category::Category;
use super::finding::{Finding, FindingKind};
use super::item_id::why_unsafe;
use super::question::{DeclaredParent, Question};

/// One item as the file has it.
pub(super) struct ItemRows {
    pub id: String,
    pub prompt: String,
    /// The first row with another prompt than the item's first row.
    pub other_prompt: Option<Finding>,
    pub questions: Vec<Question>,
    /// Line of each question's row.
    pub lines: Vec<usize>,
    /// Whether rows of the item are missing here because they have problems of their own. Its graph
    /// is not worth checking then: a parent may only seem to be missing.
    pub damaged: bool,
}

impl ItemRows {
    pub(super) fn first_row(&self) -> (usize, usize) {
        (
            self.questions.first().map_or(0, |question| question.row),
            self.lines.first().copied().unwrap_or(0),
        )
    }
}

/// What a question file holds.
#[derive(Default)]
pub(super) struct FileRows {
    pub items: Vec<ItemRows>,
    pub problems: Vec<Finding>,
    pub oddities: Vec<Finding>,
}

const REQUIRED: [&str; 6] =
    ["item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language"];

/// Positions of the columns.
struct Columns {
    names: Vec<String>,
    required: [usize; 6],
    /// `category_broad` and `category_detailed`, which are only compared.
    categories: Option<[usize; 2]>,
}

impl Columns {
    fn of_header(header: &ByteRecord) -> Result<Self, Vec<Finding>> {
        let bad = |message: String| Finding::of_file(FindingKind::BadHeader, message);
        let names: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        if let [line] = names.as_slice()
            && let Some((_, separator)) =
                [('\t', "tabs"), (';', "semicolons")].into_iter().find(|(mark, _)| {
                    line.split(*mark).any(|name| REQUIRED.contains(&name.trim_matches('"')))
                })
        {
            return Err(vec![bad(format!(
                "the columns are separated by {separator}, not by commas; save the file as comma-separated CSV"
            ))]);
        }
        let position = |wanted: &str| names.iter().position(|name| name == wanted);
        let mut problems = Vec::new();
        let required = REQUIRED.map(|wanted| match position(wanted) {
            Some(at) => {
                if names.iter().filter(|name| *name == wanted).count() > 1 {
                    problems
                        .push(bad(format!("the header has the column `{wanted}` twice; keep one")));
                }
                at
            }
            None => {
                problems.push(bad(format!(
                    "the header has no column `{wanted}`; the first line must name {}",
                    REQUIRED.join(", ")
                )));
                0
            }
        });
        let categories = position("category_broad")
            .zip(position("category_detailed"))
            .map(|(broad, detailed)| [broad, detailed]);
        if problems.is_empty() { Ok(Self { names, required, categories }) } else { Err(problems) }
    }
}

/// Reads the whole file. Never fails: what is wrong with it stands in `problems`.
pub(super) fn read_rows(bytes: &[u8]) -> FileRows {
    // Once for the whole file: it is quicker than row by row, and no sound file has one.
    let holds_nul = bytes.iter().fold(false, |found, &byte| found | (byte == 0));
    let mut reading = Reading { holds_nul, ..Reading::default() };
    let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => {
            let message = "the file begins with a byte order mark, which is skipped";
            reading.file.oddities.push(Finding::of_file(FindingKind::ByteOrderMark, message));
            rest
        }
        None => bytes,
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "the file is UTF-16; save it as UTF-8";
        reading.file.problems.push(Finding::of_file(FindingKind::BadText, message));
        return reading.file;
    }
    // Flexible: the check of the field count is ours, so that one bad row does not hide the others.
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(true).from_reader(bytes);
    let columns = match reader.byte_headers().map(Columns::of_header) {
        Ok(Ok(columns)) => columns,
        Ok(Err(problems)) => {
            reading.file.problems = problems;
            return reading.file;
        }
        Err(error) => {
            reading.file.problems.push(Finding::of_file(FindingKind::BadHeader, error.to_string()));
            return reading.file;
        }
    };
    let mut record = ByteRecord::new();
    let mut row = 0;
    loop {
        let (start, line) = (reader.position().byte(), reader.position().line());
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => row += 1,
            // Reading from memory, flexibly, has no errors; should csv find one, it is said.
            Err(error) => {
                reading
                    .file
                    .problems
                    .push(Finding::of_file(FindingKind::BadText, error.to_string()));
                break;
            }
        }
        let line = line as usize + line_ends_at(bytes, start as usize);
        reading.take(&columns, &record, row, line);
    }
    reading.finish()
}

/// Lines that end at `offset`, before the first character of the next row.
fn line_ends_at(bytes: &[u8], offset: usize) -> usize {
    let rest = bytes.get(offset..).unwrap_or_default();
    let ends = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    ends.filter(|&&byte| byte == b'\n').count()
}

/// The state of reading: the item that the rows are in, and the ids met before.
#[derive(Default)]
struct Reading {
    file: FileRows,
    /// Whether there is a NUL byte in the file.
    holds_nul: bool,
    ids: HashSet<String>,
    folded_ids: HashMap<String, String>,
    /// The categories met before, by name: their rows share the texts.
    categories: HashMap<String, Category>,
    /// Set while the rows belong to an item that has been refused as a whole.
    refused: Option<String>,
}

impl Reading {
    fn take(&mut self, columns: &Columns, record: &ByteRecord, row: usize, line: usize) {
        if let Err(problem) = self.try_take(columns, record, row, line) {
            self.file.problems.push(*problem);
        }
    }

    fn try_take(
        &mut self,
        columns: &Columns,
        record: &ByteRecord,
        row: usize,
        line: usize,
    ) -> Result<(), Box<Finding>> {
        let raw_id = record
            .get(columns.required[0])
            .and_then(|id| str::from_utf8(id).ok())
            .unwrap_or_default();
        // Until the row proves good, its item counts as damaged.
        let same_item = self.file.items.last_mut().filter(|item| item.id == raw_id);
        let was_damaged = same_item.map(|item| std::mem::replace(&mut item.damaged, true));
        let text = checked_text(columns, record, self.holds_nul, row, line)?;
        let cell = |column| record.range(column).map_or("", |place| &text[place]);
        let [id, prompt, number, dependency, tuple, question] = columns.required.map(cell);
        if self.refused.as_deref() == Some(id) {
            return Ok(());
        }
        if was_damaged.is_none() {
            self.begin_item(id, prompt, row, line)?;
        }
        let Some(item) = self.file.items.last_mut() else { return Ok(()) };
        let bad = |kind, column: &str, value: &str, message: &str| {
            Finding::in_row(kind, row, line, message).item(id).cell(column, value)
        };
        let number_read = number.trim().parse::<u32>().ok().filter(|&number| number > 0).ok_or_else(|| {
            let message = "a question's number must be an integer from 1 on, as `dependency` refers to it";
            bad(FindingKind::BadQuestionId, "proposition_id", number, message)
        })?;
        if question.trim().is_empty() {
            let message = "there is no question to ask; write one or remove the row";
            let column = "question_natural_language";
            return Err(bad(FindingKind::EmptyQuestion, column, question, message).into());
        }
        let category = self.categories.get(Category::name_in(tuple)).cloned();
        let category = category.unwrap_or_else(|| {
            let category = Category::from_tuple(tuple);
            self.categories.insert(category.l2().to_owned(), category.clone());
            category
        });
        if category.l1().is_empty() {
            let message = "no category can be read; write it like `entity - whole (truck)`";
            return Err(bad(FindingKind::NoCategory, "tuple", tuple, message).into());
        }
        if item.other_prompt.is_none() && prompt.trim() != item.prompt {
            let message =
                "the prompt differs from the one in the item's first row; make them equal";
            item.other_prompt =
                Some(bad(FindingKind::PromptDiffersBetweenRows, "text", prompt, message));
        }
        if let Some([broad, detailed]) = columns.categories {
            let (broad, detailed) = (cell(broad).trim(), cell(detailed).trim());
            let of_tuple = category.l2().split_once('-').map_or("", |(_, detail)| detail.trim());
            if broad != category.l1() || detailed != of_tuple {
                let message =
                    format!("category_broad and category_detailed say `{broad} - {detailed}`");
                let finding = bad(FindingKind::CategoryDisagrees, "tuple", tuple, &message);
                self.file.oddities.push(finding);
            }
        }
        item.questions.push(Question {
            id: number_read,
            text: question.to_owned(),
            tuple: tuple.to_owned(),
            category,
            declared_parents: DeclaredParent::parse_cell(dependency),
            row,
        });
        item.lines.push(line);
        item.damaged = was_damaged.unwrap_or(false);
        Ok(())
    }

    fn begin_item(
        &mut self,
        id: &str,
        prompt: &str,
        row: usize,
        line: usize,
    ) -> Result<(), Box<Finding>> {
        self.refused = None;
        let bad = |kind, message: String| {
            Finding::in_row(kind, row, line, message).item(id).cell("item_id", id)
        };
        let refusal = if let Some(reason) = why_unsafe(id) {
            let message = format!("the id becomes a folder name, but {reason}; rename the item");
            Some(bad(FindingKind::UnsafeItemId, message))
        } else if self.ids.contains(id) {
            let message =
                "rows of this item stand further up already; put the rows of an item together";
            Some(bad(FindingKind::SplitItem, message.to_owned()))
        } else {
            self.folded_ids.get(&id.to_lowercase()).map(|other| {
                let message = format!(
                    "it differs from `{other}` in upper and lower case only, which some file systems \
                     cannot tell apart; rename one"
                );
                bad(FindingKind::ItemIdsDifferInCase, message)
            })
        };
        if let Some(refusal) = refusal {
            self.refused = Some(id.to_owned());
            return Err(refusal.into());
        }
        self.ids.insert(id.to_owned());
        self.folded_ids.insert(id.to_lowercase(), id.to_owned());
        self.file.items.push(ItemRows {
            id: id.to_owned(),
            prompt: prompt.trim().to_owned(),
            other_prompt: None,
            questions: Vec::new(),
            lines: Vec::new(),
            damaged: true,
        });
        Ok(())
    }

    fn finish(mut self) -> FileRows {
        if self.file.items.is_empty() && self.file.problems.is_empty() {
            let message = "the file has a header but no question; is it the right one?";
            self.file.problems.push(Finding::of_file(FindingKind::NoQuestions, message));
        }
        self.file
    }
}

/// The cells of a row as one text, in which [`ByteRecord::range`] finds each, once field count, UTF-8 and NUL
/// are checked.
fn checked_text<'r>(
    columns: &Columns,
    record: &'r ByteRecord,
    look_for_nul: bool,
    row: usize,
    line: usize,
) -> Result<&'r str, Box<Finding>> {
    if record.len() != columns.names.len() {
        let message = format!(
            "the row has {} fields where the header has {}; look for a comma or quote that is not quoted",
            record.len(),
            columns.names.len()
        );
        let finding = Finding::in_row(FindingKind::WrongFieldCount, row, line, message);
        let first = String::from_utf8_lossy(record.get(0).unwrap_or_default());
        return Err(finding.cell(&columns.names[0], &first).into());
    }
    // All cells at once: a file has several times more cells than rows.
    let whole = record.as_slice();
    if let Ok(text) = str::from_utf8(whole)
        && !(look_for_nul && whole.contains(&0))
        && (0..record.len())
            .all(|cell| record.range(cell).is_none_or(|place| text.is_char_boundary(place.end)))
    {
        return Ok(text);
    }
    let is_bad = |cell: &[u8]| str::from_utf8(cell).is_err() || cell.contains(&0);
    let bad = record.iter().position(is_bad).unwrap_or_default();
    let value = String::from_utf8_lossy(record.get(bad).unwrap_or_default());
    let message = match value.contains('\0') && !value.contains('\u{fffd}') {
        true => "the text holds a NUL byte; remove it",
        false => "the text is not UTF-8; save the file as UTF-8",
    };
    let finding = Finding::in_row(FindingKind::BadText, row, line, message);
    Err(finding.cell(&columns.names[bad], &value).into())
}
