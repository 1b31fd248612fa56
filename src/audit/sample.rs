//! In: the units that were drawn. Out: `sample.json`: the questions that people are asked, in the order in which they are shown,
//! and how they were drawn. It holds no answer of the judge; which strata units are in follows from the run, which is told by a
//! digest.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::draw::{Strata, Stratum};
use super::population::{Population, UnitKind};
use crate::benchmark::QuestionId;
use crate::benchmark::digest::hex;
use crate::results::atomic_write::{atomic_write, name_path};
use crate::results::{BenchmarkIdentity, FORMAT_VERSION, FormatVersion};
use crate::wording::counted;

/// What the file says that it is.
const KIND: &str = "audit sample";

/// What people are asked, and how it was drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSample {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// `audit sample`.
    pub kind: String,
    /// What a unit is.
    pub unit: UnitKind,
    /// The judge that is audited.
    pub judge: String,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Answers that were to be labelled.
    pub labels_wanted: u64,
    /// The benchmark.
    pub benchmark: BenchmarkIdentity,
    /// Units that it was drawn from.
    pub population_units: u64,
    /// [`Population::digest`].
    pub population_sha256: String,
    /// The strata.
    pub strata: Vec<Stratum>,
    /// The questions, in the order in which they are shown: images in random order, the questions about one together.
    pub questions: Vec<AskedQuestion>,
    /// SHA-256 of the file, which files of labels name.
    #[serde(skip)]
    pub sha256: String,
}

/// A question about an image that people are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedQuestion {
    /// Item identifier.
    pub item: String,
    /// Index of the image among the item's images, from 0.
    pub image: u32,
    /// Digest of the image's pixels, as `images.jsonl` has it.
    pub pixels_sha256: String,
    /// Number of the question inside the item.
    pub question: QuestionId,
    /// The question.
    pub text: String,
    /// Why it is asked.
    pub asked_for: AskedFor,
    /// Place of its unit's stratum; absent where it was not drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<usize>,
}

impl AskedQuestion {
    /// Item, image and question.
    pub fn key(&self) -> (&str, u32, QuestionId) {
        (&self.item, self.image, self.question)
    }
}

/// Why a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedFor {
    /// It was drawn.
    Sample,
    /// A question that was drawn depends on it: it carries no weight, and serves the dependency rule alone.
    Rule,
}

/// Why a sample cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It cannot be parsed.
    #[error("{path} is no sample of an audit: {reason}; draw one with `dpg-bench audit RUN --labels-wanted N`", path = path.display())]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: serde_json::Error,
    },
    /// Written by a newer program.
    #[error(
        "{path} has format version {found}, this program reads {FORMAT_VERSION}; update dpg-bench", path = path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: FormatVersion,
    },
    /// It was edited.
    #[error("{path}: {fault}; the sample was edited or damaged: restore it, or draw another with --name", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The run's answers are not those that it was drawn from.
    #[error(
        "{}: labels that were given for it fit the earlier answers alone; put those back, or draw another audit with --labels-wanted N \
         --name NAME and have it labelled",
        since(*drawn_from, *now, judge)
    )]
    OtherAnswers {
        /// The judge.
        judge: String,
        /// Units at that time.
        drawn_from: u64,
        /// Units now.
        now: u64,
    },
    /// There is nothing to draw.
    #[error(
        "{units} can be drawn, and an audit needs two: it takes answered questions about stored images ({left_out} left out)"
    )]
    TooFew {
        /// What there is, as `1 question`.
        units: String,
        /// What has no image or no answer.
        left_out: u64,
    },
}

/// What happened to the run since the sample was drawn.
fn since(drawn_from: u64, now: u64, judge: &str) -> String {
    if drawn_from == now {
        return format!(
            "the run was judged again by `{judge}`, or its images were made again, since the audit was drawn"
        );
    }
    format!(
        "the run has grown or was judged again since the audit was drawn (answers of `{judge}` to draw from: {} then, {} now)",
        counted(drawn_from, "unit"),
        counted(now, "unit")
    )
}

impl AuditSample {
    /// Draws a sample of `population` in which people label some `labels_wanted` answers.
    ///
    /// # Errors
    /// [`SampleError::TooFew`].
    pub fn draw(
        population: &Population<'_>,
        benchmark: BenchmarkIdentity,
        labels_wanted: u64,
        seed: u64,
    ) -> Result<Self, SampleError> {
        if population.units.len() < 2 {
            let units = counted(population.units.len(), population.kind.noun());
            return Err(SampleError::TooFew { units, left_out: population.left_out });
        }
        let strata = Strata::of(population, labels_wanted);
        let drawn = strata.draw(seed);
        let questions = asked_questions(population, &strata, &drawn);
        let mut sample = Self {
            format_version: FORMAT_VERSION,
            kind: KIND.to_owned(),
            unit: population.kind,
            judge: population.judge.clone(),
            seed,
            labels_wanted,
            benchmark,
            population_units: population.units.len() as u64,
            population_sha256: population.digest.clone(),
            strata: strata.strata,
            questions,
            sha256: String::new(),
        };
        sample.sha256 = sha256(&sample.to_bytes()?);
        Ok(sample)
    }

    /// Reads `sample.json`.
    ///
    /// # Errors
    /// See [`SampleError`].
    pub fn read(path: &Path) -> Result<Self, SampleError> {
        let bytes = std::fs::read(path).map_err(|error| name_path(error, "read", path))?;
        Self::parse(path, &bytes)
    }

    /// The sample in the bytes of the file at `path`.
    ///
    /// # Errors
    /// See [`SampleError`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SampleError> {
        let unparsable = |reason| SampleError::Unparsable { path: path.to_owned(), reason };
        // The version first: a newer file may have another shape.
        #[derive(Deserialize)]
        struct Versioned {
            format_version: FormatVersion,
        }
        let Versioned { format_version } = serde_json::from_slice(bytes).map_err(unparsable)?;
        if !FORMAT_VERSION.can_read(format_version) {
            let (path, found) = (path.to_owned(), format_version);
            return Err(SampleError::NewerFormat { path, found });
        }
        let sample: Self = serde_json::from_slice(bytes).map_err(unparsable)?;
        match sample.fault() {
            Some(fault) => Err(SampleError::Damaged { path: path.to_owned(), fault }),
            None => Ok(Self { sha256: sha256(bytes), ..sample }),
        }
    }

    /// Writes `sample.json`, all or nothing.
    ///
    /// # Errors
    /// The disk said no.
    pub fn write(&self, path: &Path) -> Result<(), SampleError> {
        Ok(atomic_write(path, &self.to_bytes()?)?)
    }

    /// The bytes of `sample.json`.
    fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// What contradicts itself in it.
    fn fault(&self) -> Option<String> {
        if self.kind != KIND {
            return Some(format!("it is a file of kind `{}`", self.kind));
        }
        let mut keys = HashSet::new();
        let mut drawn: Vec<BTreeSet<_>> = vec![BTreeSet::new(); self.strata.len()];
        for asked in &self.questions {
            let AskedQuestion { item, image, question, .. } = asked;
            if !keys.insert(asked.key()) {
                return Some(format!("{item}, image {image}, question {question} stands twice"));
            }
            match (asked.asked_for, asked.stratum) {
                (AskedFor::Rule, None) => {}
                (AskedFor::Sample, Some(stratum)) if stratum < drawn.len() => {
                    let question = (self.unit == UnitKind::Questions).then_some(*question);
                    drawn[stratum].insert((item, image, question));
                }
                _ => {
                    let what = "has no stratum that there is";
                    return Some(format!("{item}, image {image}, question {question} {what}"));
                }
            }
        }
        let mut strata = self.strata.iter().zip(drawn);
        strata.find_map(|(stratum, drawn)| {
            (drawn.len() as u64 != stratum.drawn).then(|| {
                let (name, said, there) = (&stratum.name, stratum.drawn, drawn.len());
                format!("of stratum `{name}` {said} units are drawn and {there} are there")
            })
        })
    }

    /// The strata of the population that it was drawn from, with the stratum of each of its units.
    ///
    /// # Errors
    /// [`SampleError::OtherAnswers`]: it is another population.
    pub fn strata_of(&self, population: &Population<'_>) -> Result<Strata, SampleError> {
        let strata = Strata::of(population, self.labels_wanted);
        let is_same = population.digest == self.population_sha256
            && population.kind == self.unit
            && strata.strata == self.strata;
        if is_same {
            return Ok(strata);
        }
        Err(self.other_answers(population.units.len() as u64))
    }

    /// Makes sure that `new`, which was drawn just now, is of the answers that this one was drawn from, if it is of the same judge
    /// and unit: else the run is another by now, whatever the new one was asked to be.
    ///
    /// # Errors
    /// [`SampleError::OtherAnswers`].
    pub fn ensure_answers_of(&self, new: &Self) -> Result<(), SampleError> {
        let is_alike = (&self.judge, self.unit) == (&new.judge, new.unit);
        if is_alike && self.population_sha256 != new.population_sha256 {
            return Err(self.other_answers(new.population_units));
        }
        Ok(())
    }

    fn other_answers(&self, now: u64) -> SampleError {
        let (judge, drawn_from) = (self.judge.clone(), self.population_units);
        SampleError::OtherAnswers { judge, drawn_from, now }
    }

    /// How many of its questions are asked for this reason.
    pub fn count(&self, asked_for: AskedFor) -> usize {
        self.questions.iter().filter(|asked| asked.asked_for == asked_for).count()
    }

    /// Units that were drawn.
    pub fn drawn(&self) -> u64 {
        self.strata.iter().map(|stratum| stratum.drawn).sum()
    }

    /// Images that are shown.
    pub fn images(&self) -> usize {
        let images = self.questions.iter().map(|asked| (&asked.item, asked.image));
        images.collect::<HashSet<_>>().len()
    }
}

/// An image while the questions about it are gathered.
struct ShownImage {
    /// Which of the drawn units is the first about it.
    first: usize,
    /// Per position in the graph the stratum, where the question was drawn.
    asked: BTreeMap<usize, Option<usize>>,
}

/// The questions of the units at the places `drawn`, and all that these depend on. Images come in the order in which they are
/// first drawn; of the questions about one, each comes after those that it depends on.
fn asked_questions(
    population: &Population<'_>,
    strata: &Strata,
    drawn: &[usize],
) -> Vec<AskedQuestion> {
    let mut images: BTreeMap<(usize, u32), ShownImage> = BTreeMap::new();
    for (first, &place) in drawn.iter().enumerate() {
        let unit = &population.units[place];
        let shown = images
            .entry((unit.place, unit.image))
            .or_insert_with(|| ShownImage { first, asked: BTreeMap::new() });
        for question in unit.questions() {
            shown.asked.insert(question, Some(strata.of_unit[place]));
            for above in unit.item.graph.ancestors(question) {
                shown.asked.entry(above).or_insert(None);
            }
        }
    }
    let mut images: Vec<ShownImage> = images.into_values().collect();
    images.sort_by_key(|shown| shown.first);
    let mut questions = Vec::new();
    for ShownImage { first, asked } in images {
        let unit = &population.units[drawn[first]];
        let in_order = unit.item.graph.topological_order().iter();
        questions.extend(in_order.filter_map(|place| {
            let stratum = *asked.get(place)?;
            let question = &unit.item.graph.questions()[*place];
            Some(AskedQuestion {
                item: unit.item.id.clone(),
                image: unit.image,
                pixels_sha256: unit.pixels_sha256.to_owned(),
                question: question.id,
                text: question.text.clone(),
                asked_for: if stratum.is_some() { AskedFor::Sample } else { AskedFor::Rule },
                stratum,
            })
        }));
    }
    questions
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
