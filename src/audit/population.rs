//! In: a run's answers by one judge. Out: all that an audit may draw: every answered question about every stored image, or every
//! image of whose questions all are answered, each with the class that it belongs to for the judge.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cells::{Cell, thirds};
use crate::aggregate::category_order::table_order;
use crate::benchmark::Item;
use crate::benchmark::digest::hex;
use crate::results::{ImageOutcome, ImageRecord, NewestAnswers};
use crate::score::{AnswerState, Protocol, Verdict, answer_grid};

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// One question about one image.
    Questions,
    /// One image with all its questions.
    Images,
}

impl UnitKind {
    /// One of it, in sentences.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Questions => "question",
            Self::Images => "image",
        }
    }
}

/// What a judge said of a run.
#[derive(Debug, Clone, Copy)]
pub struct JudgedRun<'a, 'r> {
    /// The judge's name in the run.
    pub judge: &'r str,
    /// Digest of the benchmark.
    pub benchmark: &'r str,
    /// The selected items, in benchmark order.
    pub items: &'r [&'a Item],
    /// Images per item.
    pub images_per_item: u32,
    /// The image journal.
    pub images: &'a [ImageRecord],
    /// The judge's newest answers.
    pub answers: &'r NewestAnswers<'a>,
}

/// All that may be drawn, in benchmark order.
#[derive(Debug, Clone)]
pub struct Population<'a> {
    /// What a unit is.
    pub kind: UnitKind,
    /// The judge's name in the run.
    pub judge: String,
    /// The units: by item, image and question, in benchmark order.
    pub units: Vec<Unit<'a>>,
    /// The classes of units that are there, in table order.
    pub cells: Vec<Cell>,
    /// Questions about images, or images, that are left out: without a stored image or an answer.
    pub left_out: u64,
    /// SHA-256 of the units with the digests of their images and the judge's answers: that of a run that has grown, or was judged
    /// again, is another.
    pub digest: String,
}

/// One of all that may be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// Place of the item among the selected items.
    pub place: usize,
    /// The item.
    pub item: &'a Item,
    /// Index of the image among the item's images, from 0.
    pub image: u32,
    /// Digest of the image's pixels, as `images.jsonl` has it.
    pub pixels_sha256: &'a str,
    /// Position of the question in the item's graph; `None` where the unit is the image with all its questions.
    pub question: Option<usize>,
    /// Its place in [`Population::cells`].
    pub cell: usize,
}

impl Unit<'_> {
    /// Positions of its questions in the item's graph, in file order.
    pub fn questions(&self) -> std::ops::Range<usize> {
        match self.question {
            Some(place) => place..place + 1,
            None => 0..self.item.graph.len(),
        }
    }
}

impl<'a> Population<'a> {
    /// All that may be drawn of a run in units of `kind`.
    pub fn of(kind: UnitKind, run: &JudgedRun<'a, '_>) -> Self {
        let stored = stored_images(run.images);
        let mut found = Found::beginning(kind, run);
        for (place, &item) in run.items.iter().enumerate() {
            let grid = answer_grid(item, run.images_per_item, run.answers);
            for (image, answers) in (0..run.images_per_item).zip(grid) {
                let stored = stored.get(&(item.id.as_str(), image)).copied();
                let judged = run.answers.image(&item.id, image);
                let judged = judged.and_then(|known| known.pixels_sha256());
                // Answers about another image say nothing about the one that is there.
                let stored = stored.filter(|&stored| judged.is_none_or(|judged| judged == stored));
                found.add(place, item, image, stored, &answers);
            }
        }
        found.population(kind, run.judge)
    }

    /// How many answers the units have in all.
    pub fn answers(&self) -> u64 {
        self.units.iter().map(|unit| unit.questions().len() as u64).sum()
    }
}

/// Digests of the stored images, by item and index.
fn stored_images(images: &[ImageRecord]) -> HashMap<(&str, u32), &str> {
    let mut stored = HashMap::new();
    for record in images {
        if let ImageOutcome::Done { pixels_sha256, .. } = &record.outcome {
            stored.insert((record.item.as_str(), record.image), pixels_sha256.as_str());
        }
    }
    stored
}

/// The units found so far. The cell of each is looked up at the end.
struct Found<'a> {
    kind: UnitKind,
    units: Vec<Unit<'a>>,
    cells: Vec<Cell>,
    cell_of: HashMap<Cell, usize>,
    shares: Vec<[u64; 2]>,
    left_out: u64,
    hasher: Sha256,
}

impl<'a> Found<'a> {
    fn beginning(kind: UnitKind, run: &JudgedRun<'_, '_>) -> Self {
        let mut hasher = Sha256::new();
        hash_line(&mut hasher, &("dpg-bench population 1", kind, run.judge, run.benchmark));
        Self {
            kind,
            units: Vec::new(),
            cells: Vec::new(),
            cell_of: HashMap::new(),
            shares: Vec::new(),
            left_out: 0,
            hasher,
        }
    }

    fn add(
        &mut self,
        place: usize,
        item: &'a Item,
        image: u32,
        stored: Option<&'a str>,
        answers: &[AnswerState<'_>],
    ) {
        let is_answered = |answer: &AnswerState<'_>| matches!(answer, AnswerState::Answered { .. });
        let answered = answers.iter().filter(|answer| is_answered(answer)).count();
        let is_whole = !answers.is_empty() && answered == answers.len();
        let Some(pixels_sha256) = stored.filter(|_| self.kind == UnitKind::Questions || is_whole)
        else {
            self.left_out += if self.kind == UnitKind::Images { 1 } else { answers.len() as u64 };
            return;
        };
        let unit = Unit { place, item, image, pixels_sha256, question: None, cell: 0 };
        let mut yes = 0;
        for (place, &answer) in answers.iter().enumerate() {
            let AnswerState::Answered { yes_probability, .. } = answer else {
                self.left_out += 1;
                continue;
            };
            let question = &item.graph.questions()[place];
            let said_yes = Verdict::of(answer, Protocol::Corrected) == Verdict::Yes;
            yes += u64::from(said_yes);
            let line = (&item.id, image, pixels_sha256, question.id, said_yes, yes_probability);
            hash_line(&mut self.hasher, &line);
            if self.kind == UnitKind::Questions {
                let cell = Cell::of_answer(question.category.l1(), said_yes, answer);
                let cell = self.cell(cell);
                self.units.push(Unit { question: Some(place), cell, ..unit });
            }
        }
        if self.kind == UnitKind::Images {
            self.shares.push([yes, answers.len() as u64]);
            self.units.push(unit);
        }
    }

    /// The place of a cell among those found so far.
    fn cell(&mut self, cell: Cell) -> usize {
        *self.cell_of.entry(cell).or_insert_with_key(|cell| {
            self.cells.push(cell.clone());
            self.cells.len() - 1
        })
    }

    fn population(self, kind: UnitKind, judge: &str) -> Population<'a> {
        let Self { mut units, cells, shares, left_out, hasher, .. } = self;
        let (cells, places) = match kind {
            UnitKind::Questions => {
                let mut order: Vec<usize> = (0..cells.len()).collect();
                order.sort_by(|&one, &other| in_table(&cells[one], &cells[other]));
                let mut places = vec![0; cells.len()];
                order.iter().enumerate().for_each(|(place, &cell)| places[cell] = place);
                let places = units.iter().map(|unit| places[unit.cell]).collect();
                (order.iter().map(|&cell| cells[cell].clone()).collect(), places)
            }
            UnitKind::Images => thirds(&shares),
        };
        for (unit, place) in units.iter_mut().zip(places) {
            unit.cell = place;
        }
        let digest = hex(&hasher.finalize());
        Population { kind, judge: judge.to_owned(), units, cells, left_out, digest }
    }
}

/// By category as in tables, yes before not yes, sure before unsure, and what states no P(yes) last.
fn in_table(one: &Cell, other: &Cell) -> std::cmp::Ordering {
    let rank = |cell: &Cell| {
        let word = |place: usize| cell.words.get(place).map_or("", String::as_str);
        (word(1) != "yes", ["sure", "unsure"].iter().position(|&s| s == word(2)).unwrap_or(2))
    };
    let category = |cell: &Cell| cell.words.first().cloned().unwrap_or_default();
    table_order(&category(one), &category(other)).then(rank(one).cmp(&rank(other)))
}

/// Values of one line cannot run into each other, nor lines.
fn hash_line(hasher: &mut Sha256, line: &impl Serialize) {
    // Texts and numbers: nothing that JSON has not.
    hasher.update(serde_json::to_vec(line).unwrap_or_default());
    hasher.update(b"\n");
}
