//! A judged run in memory, for the tests of audits.

use dpg_bench::audit::{JudgedRun, LabelRecord, Population, UnitKind};
use dpg_bench::benchmark::{Category, DeclaredParent, Item, Question, QuestionGraph};
use dpg_bench::results::{
    AnswerOutcome, AnswerRecord, BenchmarkIdentity, ImageOutcome, ImageRecord, NewestAnswers,
    QuestionAnswer,
};

/// Images per item.
pub const IMAGES: u32 = 2;
/// Tuple and dependency of each question of every item. The third comes before what it depends on.
const QUESTIONS: [(&str, &str); 5] = [
    ("entity - whole (dog)", "0"),
    ("attribute - color (dog, red)", "1"),
    ("relation - spatial (dog, cat)", "2,4"),
    ("entity - whole (cat)", "0"),
    ("global - (painting)", "0"),
];

/// Items `item0`.. with five questions each.
pub fn items(count: usize) -> Vec<Item> {
    (0..count)
        .map(|item| {
            let questions = QUESTIONS.iter().enumerate().map(|(place, (tuple, dependency))| {
                let id = place as u32 + 1;
                Question {
                    id,
                    text: format!("Question {id} of item {item}?"),
                    tuple: (*tuple).to_owned(),
                    category: Category::from_tuple(tuple),
                    declared_parents: DeclaredParent::parse_cell(dependency),
                    row: item * QUESTIONS.len() + place + 1,
                }
            });
            let (graph, faults) = QuestionGraph::build(questions.collect());
            assert!(faults.is_empty());
            Item { id: format!("item{item}"), prompt: format!("Prompt {item}"), graph }
        })
        .collect()
}

/// What was answered: text and P(yes).
pub type Answer = Option<(&'static str, Option<f64>)>;

/// A run of the judge `j`.
pub struct Judged {
    pub items: Vec<Item>,
    pub images: Vec<ImageRecord>,
    pub records: Vec<AnswerRecord>,
}

impl Judged {
    /// With every image stored, and of item, image and question (from 0) what `answer` says.
    pub fn new(items: usize, answer: impl Fn(usize, u32, usize) -> Answer) -> Self {
        let items = self::items(items);
        let (mut images, mut records) = (Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            for image in 0..IMAGES {
                let pixels_sha256 = digest(&item.id, image);
                images.push(stored(&item.id, image));
                let answers = item.graph.questions().iter().enumerate().filter_map(|(q, asked)| {
                    let (text, yes_probability) = answer(place, image, q)?;
                    let text = text.to_owned();
                    let outcome = AnswerOutcome::Answered { text, raw: None, yes_probability };
                    Some(QuestionAnswer::new(asked.id, outcome))
                });
                records.push(AnswerRecord {
                    item: item.id.clone(),
                    image,
                    pixels_sha256: Some(pixels_sha256),
                    answers: answers.collect(),
                });
            }
        }
        Self { items, images, records }
    }

    /// What `look` makes of all that may be drawn.
    pub fn population<T>(&self, kind: UnitKind, look: impl FnOnce(&Population<'_>) -> T) -> T {
        let items: Vec<&Item> = self.items.iter().collect();
        let answers = NewestAnswers::merge(&self.records).unwrap();
        look(&Population::of(
            kind,
            &JudgedRun {
                judge: "j",
                benchmark: "0",
                items: &items,
                images_per_item: IMAGES,
                images: &self.images,
                answers: &answers,
            },
        ))
    }
}

fn stored(item: &str, image: u32) -> ImageRecord {
    let outcome = ImageOutcome::Done {
        pixels_sha256: digest(item, image),
        width: 4,
        height: 4,
        seed: None,
        prompt_tokens: None,
        truncated: None,
        source: None,
        control_sha256: None,
        served: None,
    };
    ImageRecord { item: item.to_owned(), image, outcome }
}

fn digest(item: &str, image: u32) -> String {
    format!("pixels of {item}, {image}")
}

/// A benchmark made by hand.
pub fn identity() -> BenchmarkIdentity {
    BenchmarkIdentity {
        path: "made by hand".to_owned(),
        digest: "0".to_owned(),
        official: false,
        items: 1,
        questions: 5,
        lenient: false,
    }
}

/// A label of the question at `place` of a sample.
pub fn label(
    sample: &dpg_bench::audit::AuditSample,
    place: usize,
    annotator: &str,
    label: &str,
) -> LabelRecord {
    let asked = &sample.questions[place];
    LabelRecord {
        item: asked.item.clone(),
        image: asked.image,
        question: asked.question,
        text: asked.text.clone(),
        pixels_sha256: asked.pixels_sha256.clone(),
        annotator: annotator.to_owned(),
        time: "2026-01-31T09:30:00.250Z".to_owned(),
        label: label.to_owned(),
    }
}
