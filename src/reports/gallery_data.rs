//! In: the runs of a report and where their thumbnails are. Out: the data of the page's gallery: every
//! item, image, question and answer, written so compactly that a whole benchmark stays small. The page
//! alone reads it.

use std::collections::HashMap;

use serde::Serialize;

use crate::benchmark::{Item, QuestionGraph};
use crate::results::AnswerOutcome;
use crate::score::Verdict;

use super::report_input::{JudgedRun, ReportInput, ReportRun};
use super::thumbnails::Thumbnails;

/// A judge's own words are cut after this many characters.
const LONGEST_WORDS: usize = 160;

/// All that the gallery shows.
#[derive(Debug, Serialize)]
pub(crate) struct GalleryData<'a> {
    protocol: &'static str,
    runs: Vec<GalleryRun<'a>>,
    categories: Vec<&'a str>,
    /// Answers and the judges' own words, told once each.
    texts: Vec<String>,
    items: Vec<GalleryItem<'a>>,
}

#[derive(Debug, Serialize)]
struct GalleryRun<'a> {
    name: &'a str,
    /// Address of the folder of its full pictures; absent where the page does not link to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pictures: Option<&'a str>,
    judges: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct GalleryItem<'a> {
    id: &'a str,
    prompt: &'a str,
    questions: Vec<GalleryQuestion<'a>>,
    /// One per run; null where the run has not selected the item.
    runs: Vec<Option<RunItem>>,
}

/// Number, text, category and the places of the parents.
#[derive(Debug, Serialize)]
struct GalleryQuestion<'a>(u32, &'a str, usize, &'a [usize]);

#[derive(Debug, Serialize)]
struct RunItem {
    /// In percent; null where there is none.
    score: Option<f64>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    images: Vec<RunImage>,
}

#[derive(Debug, Serialize)]
struct RunImage {
    score: Option<f64>,
    /// Address of the thumbnail; null where there is no picture.
    picture: Option<String>,
    /// One per judge.
    judges: Vec<ImageAnswers>,
}

#[derive(Debug, Serialize)]
struct ImageAnswers {
    /// A letter per question: what it counts as after the dependency rule.
    ruled: String,
    /// Per question the place of the answer's text, -1 where there is none.
    texts: Vec<i64>,
    /// Per question the judge's own words; empty where they say no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    words: Vec<i64>,
    /// Per question P(yes); empty where the judge states none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    p: Vec<Option<f64>>,
}

/// Texts by place.
#[derive(Default)]
struct Texts {
    places: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    fn place(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place as i64;
        }
        self.places.insert(text.to_owned(), self.texts.len());
        self.texts.push(text.to_owned());
        self.texts.len() as i64 - 1
    }
}

/// Puts the data together.
pub(crate) fn gallery_data<'a>(
    input: &'a ReportInput<'a>,
    categories: &'a [String],
    thumbnails: &Thumbnails,
) -> GalleryData<'a> {
    let category_places: HashMap<&str, usize> =
        categories.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let mut texts = Texts::default();
    let items = input.items.iter().map(|item| GalleryItem {
        id: &item.id,
        prompt: &item.prompt,
        questions: questions(&item.graph, &category_places),
        runs: input
            .runs
            .iter()
            .enumerate()
            .map(|(number, run)| run_item(run, number, item, thumbnails, &mut texts))
            .collect(),
    });
    let items = items.collect();
    GalleryData {
        protocol: input.protocol.name(),
        runs: input
            .runs
            .iter()
            .map(|run| GalleryRun {
                name: &run.name,
                pictures: run.pictures.as_deref(),
                judges: run.judges.iter().map(|judge| judge.name.as_str()).collect(),
            })
            .collect(),
        categories: categories.iter().map(String::as_str).collect(),
        texts: texts.texts,
        items,
    }
}

fn questions<'a>(
    graph: &'a QuestionGraph,
    categories: &HashMap<&str, usize>,
) -> Vec<GalleryQuestion<'a>> {
    let questions = graph.questions().iter().enumerate();
    questions
        .map(|(place, question)| {
            let category = categories.get(question.category.l2()).copied().unwrap_or_default();
            GalleryQuestion(question.id, &question.text, category, graph.parents(place))
        })
        .collect()
}

fn run_item(
    run: &ReportRun<'_>,
    number: usize,
    item: &Item,
    thumbnails: &Thumbnails,
    texts: &mut Texts,
) -> Option<RunItem> {
    let scored = run.judge()?.scored(&item.id)?;
    let images = (0..run.summary.run.images_per_item).map(|image| RunImage {
        score: scored.outcome.images.get(image as usize).and_then(|image| percent(image.score())),
        picture: thumbnails.address(number, &item.id, image).map(str::to_owned),
        judges: run.judges.iter().map(|judge| answers(judge, item, image, texts)).collect(),
    });
    Some(RunItem {
        images: images.collect(),
        score: percent(scored.outcome.score.as_ref().ok().copied()),
        why: scored.outcome.score.as_ref().err().map(ToString::to_string),
    })
}

/// Rounded to what the page prints.
fn percent(score: Option<f64>) -> Option<f64> {
    score.map(|score| (score * 10_000.0).round() / 100.0)
}

fn answers(judge: &JudgedRun<'_>, item: &Item, image: u32, texts: &mut Texts) -> ImageAnswers {
    let known = judge.answers.image(&item.id, image);
    let verdicts =
        judge.scored(&item.id).and_then(|scored| scored.outcome.images.get(image as usize));
    let mut found =
        ImageAnswers { ruled: String::new(), texts: Vec::new(), words: Vec::new(), p: Vec::new() };
    for (place, question) in item.graph.questions().iter().enumerate() {
        let outcome = known.and_then(|known| known.outcome(question.id));
        let (text, words, p) = match outcome {
            Some(AnswerOutcome::Answered { text, raw, yes_probability }) => {
                let words = raw.as_deref().filter(|raw| says_more(raw, text));
                (texts.place(text), words.map(cut), *yes_probability)
            }
            Some(AnswerOutcome::Failed { reason }) => (-1, Some(cut(reason)), None),
            None => (-1, None, None),
        };
        let is_failure = matches!(outcome, Some(AnswerOutcome::Failed { .. }));
        found.ruled.push(match verdicts.map(|verdicts| verdicts.ruled[place]) {
            _ if is_failure => 'f',
            Some(Verdict::Yes) => 'y',
            Some(Verdict::No) => 'n',
            // P(yes) stands beside it.
            Some(Verdict::Share(share)) => {
                if share >= 0.5 {
                    'y'
                } else {
                    'n'
                }
            }
            Some(Verdict::ParentNo) => 'p',
            Some(Verdict::Unparsable) => 'u',
            Some(Verdict::Skipped) => 's',
            // The reference script stopped before this image.
            None | Some(Verdict::Missing) => 'm',
        });
        found.texts.push(text);
        found.words.push(words.map_or(-1, |words| texts.place(&words)));
        found.p.push(p.map(|p| (p * 1000.0).round() / 1000.0));
    }
    if found.words.iter().all(|&words| words < 0) {
        found.words.clear();
    }
    if found.p.iter().all(Option::is_none) {
        found.p.clear();
    }
    found
}

fn says_more(raw: &str, text: &str) -> bool {
    let bare = raw.trim().trim_end_matches('.');
    !bare.eq_ignore_ascii_case(text.trim())
}

fn cut(words: &str) -> String {
    match words.char_indices().nth(LONGEST_WORDS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}
