//! In: a run scored under both protocols. Out: the bytes of `scores/<judge>.parquet`, one row per
//! item, image and question. The only file that knows polars; writing the bytes to disk is left to
//! the caller.
//!
//! Columns: `item`, `image` (from 0), `question` (number inside the item), `l1`, `l2`, `tuple`,
//! `question_text`, `answer`, `raw` (the judge's own words where `answer` is a reading of them),
//! `yes_probability`, `failure` (why the judge has no answer), `seed` (of the image, where known),
//! `raw_reference`, `verdict_reference`, `raw_corrected`, `verdict_corrected` (before and after the
//! dependency rule; null where the protocol does not score the image).
//!
//! Texts are declared `large_string`, as polars' Python package does, and not `string_view`, which many
//! readers cannot work with (docs/measurements/readers.md).

use std::collections::HashMap;

use polars::prelude::*;
use polars_parquet::write::schema_to_metadata_key;

use crate::benchmark::Item;
use crate::results::{AnswerOutcome, FORMAT_VERSION, ImageOutcome, ImageRecord, NewestAnswers};
use crate::score::{RunScore, ScoredItem};

/// Key of the format version in the file's metadata.
pub(crate) const FORMAT_VERSION_KEY: &str = "dpg_bench.format_version";

/// Makes the table. `items` are in row order; `images` may be empty.
///
/// # Errors
/// polars refused (a programming error).
pub fn score_table(
    items: &[&Item],
    images_per_item: u32,
    images: &[ImageRecord],
    answers: &NewestAnswers<'_>,
    reference: &RunScore<'_>,
    corrected: &RunScore<'_>,
) -> PolarsResult<Vec<u8>> {
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
    let (reference, corrected) = (by_id(reference), by_id(corrected));
    for item in items {
        let verdicts = [reference.get(item.id.as_str()), corrected.get(item.id.as_str())];
        for image in 0..images_per_item {
            let seed = seeds.get(&(item.id.as_str(), image)).copied();
            for position in 0..item.graph.len() {
                rows.push(item, image, position, seed, answers, verdicts);
            }
        }
    }
    rows.into_parquet()
}

fn by_id<'s>(score: &'s RunScore<'_>) -> HashMap<&'s str, &'s ScoredItem<'s>> {
    score.items.iter().map(|item| (item.item.id.as_str(), item)).collect()
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

    fn into_parquet(self) -> PolarsResult<Vec<u8>> {
        let [raw_reference, raw_corrected] = self.raw_verdicts;
        let [verdict_reference, verdict_corrected] = self.ruled_verdicts;
        let mut frame = DataFrame::new_infer_height(vec![
            Column::new("item".into(), self.item),
            Column::new("image".into(), self.image),
            Column::new("question".into(), self.question),
            Column::new("l1".into(), self.l1),
            Column::new("l2".into(), self.l2),
            Column::new("tuple".into(), self.tuple),
            Column::new("question_text".into(), self.question_text),
            Column::new("answer".into(), self.answer),
            Column::new("raw".into(), self.raw),
            Column::new("yes_probability".into(), self.yes_probability),
            Column::new("failure".into(), self.failure),
            Column::new("seed".into(), self.seed),
            Column::new("raw_reference".into(), raw_reference),
            Column::new("verdict_reference".into(), verdict_reference),
            Column::new("raw_corrected".into(), raw_corrected),
            Column::new("verdict_corrected".into(), verdict_corrected),
        ])?;
        // The writer adds a schema with `string_view` only where none is given. Parquet itself holds the
        // bytes of both kinds of text in the same way.
        let schema = schema_to_metadata_key(&frame.schema().to_arrow(CompatLevel::oldest()));
        let mut metadata = vec![(FORMAT_VERSION_KEY.to_owned(), FORMAT_VERSION.to_string())];
        metadata.extend(schema.value.map(|value| (schema.key, value)));
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes)
            .with_key_value_metadata(Some(KeyValueMetadata::from_static(metadata)))
            // One thread and one row group: the same bytes on every machine.
            .set_parallel(false)
            .finish(&mut frame)?;
        Ok(bytes)
    }
}
