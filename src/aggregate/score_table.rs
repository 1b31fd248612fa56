//! In: a run scored under both protocols. Out: the bytes of `scores/<judge>.parquet`, one row per
//! item, image and question, or the same table in memory as a stream of Arrow's. The only file that knows
//! polars, of which it uses the crates of arrays and Parquet alone; writing the bytes to disk is left to the
//! caller.
//!
//! Columns: `item`, `image` (from 0), `question` (number inside the item), `l1`, `l2`, `tuple`,
//! `question_text`, `answer`, `raw` (the judge's own words where `answer` is a reading of them),
//! `yes_probability`, `failure` (why the judge has no answer), `seed` (of the image, where known),
//! `raw_reference`, `verdict_reference`, `raw_corrected`, `verdict_corrected` (before and after the
//! dependency rule; null where the protocol does not score the image).
//!
//! Texts are declared `large_string`, as polars' Python package does, and not `string_view`, which many
//! readers cannot work with (docs/measurements/readers.md). In memory they are that, too.

use std::collections::HashMap;

use polars_arrow::array::{
    Array, ArrayRef, DictionaryArray, PrimitiveArray, StructArray, Utf8Array, Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field};
use polars_arrow::ffi::{ArrowArrayStream, export_iterator};
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::write::{
    CompressionOptions, FileWriter, KeyValue, StatisticsOptions, Version, WriteOptions,
    get_dtype_encoding, row_group_iter, schema_to_metadata_key,
};

use crate::benchmark::Item;
use crate::results::{AnswerOutcome, FORMAT_VERSION, ImageOutcome, ImageRecord, NewestAnswers};
use crate::score::{RunScore, ScoredItem};

/// Key of the format version in the file's metadata.
pub(crate) const FORMAT_VERSION_KEY: &str = "dpg_bench.format_version";

/// Makes the file. `items` are in row order; `images` may be empty.
///
/// # Errors
/// polars refused (a programming error).
pub fn score_table(
    items: &[&Item],
    images_per_item: u32,
    images: &[ImageRecord],
    answers: &NewestAnswers<'_>,
    protocols: [&RunScore<'_>; 2],
) -> anyhow::Result<Vec<u8>> {
    rows_of(items, images_per_item, images, answers, protocols).into_parquet()
}

/// Makes the table in memory, with the values of [`score_table`].
///
/// # Errors
/// As there.
pub(crate) fn answer_table(
    items: &[&Item],
    images_per_item: u32,
    images: &[ImageRecord],
    answers: &NewestAnswers<'_>,
    protocols: [&RunScore<'_>; 2],
) -> anyhow::Result<AnswerTable> {
    rows_of(items, images_per_item, images, answers, protocols).into_memory()
}

/// A judge's answers in a run, one row per item, image and question: the columns of `scores/<judge>.parquet`.
#[derive(Clone)]
pub struct AnswerTable {
    table: StructArray,
}

impl AnswerTable {
    /// Its rows.
    pub fn rows(&self) -> usize {
        self.table.len()
    }

    /// All rows as one batch of a stream of Arrow's C interface, for readers in other languages. Nothing is copied: table and
    /// streams share the columns, which go with the last of them.
    pub fn stream(&self) -> ArrowArrayStream {
        let of_rows = Field::new("".into(), self.table.dtype().clone(), false);
        export_iterator(Box::new(std::iter::once(Ok(self.table.clone().boxed()))), of_rows)
    }
}

/// `protocols` are `reference` and `corrected`.
fn rows_of<'a>(
    items: &[&'a Item],
    images_per_item: u32,
    images: &[ImageRecord],
    answers: &NewestAnswers<'a>,
    protocols: [&RunScore<'_>; 2],
) -> Rows<'a> {
    let seeds: HashMap<(&str, u32), u64> = images
        .iter()
        .filter_map(|record| match record.outcome {
            ImageOutcome::Done { seed: Some(seed), .. } => {
                Some(((record.item.as_str(), record.image), seed))
            }
            _ => None,
        })
        .collect();
    let mut rows = Rows::default();
    let protocols = protocols.map(RunScore::by_id);
    for item in items {
        let verdicts = protocols.each_ref().map(|scored| scored.get(item.id.as_str()));
        for image in 0..images_per_item {
            let seed = seeds.get(&(item.id.as_str(), image)).copied();
            for position in 0..item.graph.len() {
                rows.push(item, image, position, seed, answers, verdicts);
            }
        }
    }
    rows
}

#[derive(Default)]
struct Rows<'a> {
    item: Vec<&'a str>,
    image: Vec<u32>,
    question: Vec<u32>,
    l1: Vec<&'a str>,
    l2: Vec<&'a str>,
    tuple: Vec<&'a str>,
    question_text: Vec<&'a str>,
    answer: Vec<Option<&'a str>>,
    raw: Vec<Option<&'a str>>,
    yes_probability: Vec<Option<f64>>,
    failure: Vec<Option<&'a str>>,
    seed: Vec<Option<u64>>,
    raw_verdicts: [Vec<Option<&'a str>>; 2],
    ruled_verdicts: [Vec<Option<&'a str>>; 2],
}

impl<'a> Rows<'a> {
    fn push(
        &mut self,
        item: &'a Item,
        image: u32,
        position: usize,
        seed: Option<u64>,
        answers: &NewestAnswers<'a>,
        verdicts: [Option<&&ScoredItem<'_>>; 2],
    ) {
        let question = &item.graph.questions()[position];
        self.item.push(&item.id);
        self.image.push(image);
        self.question.push(question.id);
        self.l1.push(question.category.l1());
        self.l2.push(question.category.l2());
        self.tuple.push(&question.tuple);
        self.question_text.push(&question.text);
        self.seed.push(seed);
        let (mut text, mut own_words, mut probability, mut failure) = (None, None, None, None);
        match answers.outcome(&item.id, image, question.id) {
            Some(AnswerOutcome::Answered { text: said, raw, yes_probability }) => {
                text = Some(said.as_str());
                own_words = raw.as_deref();
                probability = *yes_probability;
            }
            Some(AnswerOutcome::Failed { reason }) => failure = Some(reason.as_str()),
            None => {}
        }
        self.answer.push(text);
        self.raw.push(own_words);
        self.yes_probability.push(probability);
        self.failure.push(failure);
        for (protocol, scored) in verdicts.into_iter().enumerate() {
            let image = scored
                .filter(|scored| scored.outcome.score.is_ok())
                .and_then(|scored| scored.outcome.images.get(image as usize));
            self.raw_verdicts[protocol].push(image.map(|image| image.raw[position].name()));
            self.ruled_verdicts[protocol].push(image.map(|image| image.ruled[position].name()));
        }
    }

    /// The columns with their names.
    fn into_columns(self, kind: Texts) -> Vec<(&'static str, ArrayRef)> {
        let [raw_reference, raw_corrected] = self.raw_verdicts;
        let [verdict_reference, verdict_corrected] = self.ruled_verdicts;
        let texts = |values: &[&str]| kind.of(values);
        let optional_texts = |values: &[Option<&str>]| kind.of_optional(values);
        vec![
            ("item", texts(&self.item)),
            ("image", PrimitiveArray::from_vec(self.image).boxed()),
            ("question", PrimitiveArray::from_vec(self.question).boxed()),
            ("l1", texts(&self.l1)),
            ("l2", texts(&self.l2)),
            ("tuple", texts(&self.tuple)),
            ("question_text", texts(&self.question_text)),
            ("answer", optional_texts(&self.answer)),
            ("raw", optional_texts(&self.raw)),
            ("yes_probability", PrimitiveArray::from(self.yes_probability).boxed()),
            ("failure", optional_texts(&self.failure)),
            ("seed", PrimitiveArray::from(self.seed).boxed()),
            ("raw_reference", optional_texts(&raw_reference)),
            ("verdict_reference", optional_texts(&verdict_reference)),
            ("raw_corrected", optional_texts(&raw_corrected)),
            ("verdict_corrected", optional_texts(&verdict_corrected)),
        ]
    }

    fn into_memory(self) -> anyhow::Result<AnswerTable> {
        let rows = self.item.len();
        let columns = self.into_columns(Texts::Large);
        let fields = schema(&columns, ArrowDataType::clone).iter_values().cloned().collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let table = StructArray::try_new(ArrowDataType::Struct(fields), rows, arrays, None)?;
        Ok(AnswerTable { table })
    }

    fn into_parquet(self) -> anyhow::Result<Vec<u8>> {
        let rows = self.item.len();
        let columns = self.into_columns(Texts::Views);
        let schema = schema(&columns, ArrowDataType::clone);
        // The writer adds a schema with `string_view` only where none is given. Parquet itself holds the
        // bytes of both kinds of text in the same way.
        let told = schema_to_metadata_key(&self::schema(&columns, |kind| match kind {
            ArrowDataType::Utf8View | ArrowDataType::Dictionary(..) => ArrowDataType::LargeUtf8,
            other => other.clone(),
        }));
        let version = KeyValue {
            key: FORMAT_VERSION_KEY.to_owned(),
            value: Some(FORMAT_VERSION.to_string()),
        };
        let options = WriteOptions {
            statistics: StatisticsOptions::default(),
            version: Version::V1,
            compression: CompressionOptions::Zstd(None),
            data_page_size: None,
        };
        let mut bytes = Vec::new();
        let mut writer = FileWriter::try_new(&mut bytes, schema.clone(), options)?;
        if rows > 0 {
            let encodings =
                schema.iter_values().map(|field| get_dtype_encoding(&field.dtype)).collect();
            let fields = writer.parquet_schema().fields().to_vec();
            let arrays = columns.into_iter().map(|(_, array)| array).collect();
            let batch = RecordBatchT::try_new(rows, schema.into(), arrays)?;
            // One row group, made by one thread: the same bytes on every machine.
            writer.write(rows as u64, row_group_iter(batch, encodings, fields, options))?;
        }
        writer.end(Some(vec![version, told]))?;
        Ok(bytes)
    }
}

/// How texts are held.
#[derive(Clone, Copy)]
enum Texts {
    /// What the Parquet writer takes.
    Views,
    /// What every reader of arrays works with.
    Large,
}

impl Texts {
    fn of(self, values: &[&str]) -> ArrayRef {
        match self {
            Self::Views => {
                let values: Vec<Option<&str>> = values.iter().copied().map(Some).collect();
                self.of_optional(&values)
            }
            Self::Large => Utf8Array::<i64>::from_slice(values).boxed(),
        }
    }

    fn of_optional(self, values: &[Option<&str>]) -> ArrayRef {
        match self {
            Self::Views => {
                dictionary(values).unwrap_or_else(|| Utf8ViewArray::from_slice(values).boxed())
            }
            Self::Large => Utf8Array::<i64>::from(values).boxed(),
        }
    }
}

/// Each text once, and for each row which; `None` where so many rows have texts of their own that nothing is gained. The
/// writer would make the same of them, in a crate that is built unoptimised (docs/measurements/build.md).
fn dictionary(values: &[Option<&str>]) -> Option<ArrayRef> {
    let (mut texts, mut places) = (Vec::new(), HashMap::new());
    let mut place = |text| {
        *places.entry(text).or_insert_with(|| {
            texts.push(text);
            (texts.len() - 1) as u32
        })
    };
    let keys: Vec<Option<u32>> = values.iter().map(|value| value.map(&mut place)).collect();
    if values.len() > 128 && texts.len() as f64 > 0.75 * values.len() as f64 {
        return None;
    }
    let texts = Utf8ViewArray::from_slice_values(&texts).boxed();
    let array = DictionaryArray::try_from_keys(PrimitiveArray::from(keys), texts, false).ok()?;
    Some(array.boxed())
}

/// Names and kinds of the columns, the kinds as `told`.
fn schema(
    columns: &[(&str, ArrayRef)],
    told: impl Fn(&ArrowDataType) -> ArrowDataType,
) -> ArrowSchema {
    let field = |(name, array): &(&str, ArrayRef)| {
        let name: &str = name;
        (name.into(), Field::new(name.into(), told(array.dtype()), true))
    };
    columns.iter().map(field).collect()
}
