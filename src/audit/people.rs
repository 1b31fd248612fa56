//! In: a sample and its labels. Out: what people say of each question that was drawn, before and after the dependency rule, and
//! how far annotators agree with each other.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::labels::{Label, Labels};
use super::sample::{AskedFor, AuditSample};
use crate::benchmark::Item;
use crate::statistics::TwoByTwo;

/// A question about an image: place of the item among the run's items, index of the image, position in the item's graph.
pub(super) type QuestionKey = (usize, u32, usize);

/// What people say of the questions that were drawn: the share of the annotators who say yes, in 0..=1.
#[derive(Debug, Default)]
pub(super) struct People {
    /// Before the dependency rule.
    pub raw: HashMap<QuestionKey, f64>,
    /// After it: an annotator says yes to a question where they do to all that it depends on. A yes below a question that they
    /// did not label counts as the others' do, which would fail as often; a no counts whatever stands above.
    pub ruled: HashMap<QuestionKey, f64>,
    /// Annotators' yes below questions that they all labelled.
    pub closed: u64,
    /// Annotators' yes below a question that they did not label, or could not tell.
    pub open: u64,
    /// Which shares after the rule were filled in with those of others.
    pub filled: Filled,
}

/// Which labels after the rule were filled in with the mean of others, and by which those means lean to either side.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Per question the part of its share, in 0..=1, that is the mean of a class of others.
    pub takers: HashMap<QuestionKey, Vec<(Class, f64)>>,
    /// Per question what its own answers add to the mean of a class: `(answer - mean) / answers` of the class.
    pub givers: HashMap<QuestionKey, Vec<(Class, f64)>>,
}

/// Yes answers that stand for each other: those below so many questions; 0 of all.
pub(super) type Class = usize;

impl People {
    /// What the labels say. Questions of items that are not among `items` are none of the run's.
    pub(super) fn of(sample: &AuditSample, labels: &Labels, items: &[&Item]) -> Self {
        let places: HashMap<&str, usize> =
            items.iter().enumerate().map(|(place, item)| (item.id.as_str(), place)).collect();
        let keys: Vec<Option<QuestionKey>> = sample
            .questions
            .iter()
            .map(|asked| {
                let place = *places.get(asked.item.as_str())?;
                Some((place, asked.image, items[place].graph.position(asked.question)?))
            })
            .collect();
        let mut said: BTreeMap<&str, HashMap<QuestionKey, Label>> = BTreeMap::new();
        for label in &labels.labels {
            if let Some(key) = keys[label.question] {
                said.entry(&label.annotator).or_default().insert(key, label.label);
            }
        }
        let mut people = Self::default();
        let (mut held, mut values, mut closed) = (Held::default(), Vec::new(), Vec::new());
        for (asked, key) in sample.questions.iter().zip(&keys) {
            let (AskedFor::Sample, Some(key)) = (asked.asked_for, *key) else { continue };
            let (place, image, position) = key;
            let above = items[place].graph.ancestors(position);
            let raw = said.values().filter_map(|said| said.get(&key)?.is_yes());
            people.raw.extend(mean(raw).map(|share| (key, share)));
            let mut of_question = Vec::new();
            for said in said.values() {
                let yes = |position| said.get(&(place, image, position))?.is_yes();
                let own = yes(position);
                let all = above.iter().try_fold(true, |all, &above| Some(yes(above)? && all));
                match (own, all) {
                    (None, _) => continue,
                    (Some(true), Some(all)) if !above.is_empty() => {
                        people.closed += 1;
                        held.add(above.len(), all);
                        closed.push((key, above.len(), all));
                    }
                    (Some(true), None) => people.open += 1,
                    _ => {}
                }
                of_question.push(if own == Some(true) { all } else { Some(false) });
            }
            values.push((key, above.len(), of_question));
        }
        // What is not known must not be left out: a no would be known all the same, and only the yes would be missing.
        for (key, above, of_question) in values {
            let usual = held.class_of(above);
            let shares = of_question.iter().map(|all| {
                all.map(|all| f64::from(u8::from(all))).or(usual.map(|(_, share)| share))
            });
            let shares: Option<Vec<f64>> = shares.collect();
            let Some(shares) = shares.filter(|shares| !shares.is_empty()) else { continue };
            people.ruled.insert(key, shares.iter().sum::<f64>() / shares.len() as f64);
            let open = of_question.iter().filter(|all| all.is_none()).count();
            if let Some((class, _)) = usual.filter(|_| open > 0) {
                let part = open as f64 / shares.len() as f64;
                people.filled.takers.insert(key, vec![(class, part)]);
            }
        }
        for (key, above, is_kept) in closed {
            let givers = people.filled.givers.entry(key).or_default();
            for class in [ALL, above] {
                let [all, kept] = held.of(class).map(|count| count as f64);
                givers.push((class, (f64::from(u8::from(is_kept)) - kept / all) / all));
            }
        }
        people
    }
}

/// The class of all yes answers below a question.
const ALL: Class = 0;

/// Yes answers whose questions above are all labelled, and those of them that the rule keeps, by the number of questions above:
/// the more there are, the more often one is a no, and the more often one lacks a label.
#[derive(Default)]
struct Held(BTreeMap<usize, [u64; 2]>);

impl Held {
    /// Fewest answers whose share stands for others with as many questions above.
    const FEWEST: u64 = 5;

    fn add(&mut self, above: usize, is_kept: bool) {
        let [all, kept] = self.0.entry(above).or_default();
        *all += 1;
        *kept += u64::from(is_kept);
    }

    /// Answers of a class, and those of them that the rule keeps.
    fn of(&self, class: Class) -> [u64; 2] {
        if class != ALL {
            return self.0.get(&class).copied().unwrap_or_default();
        }
        self.0.values().fold([0; 2], |[all, kept], more| [all + more[0], kept + more[1]])
    }

    /// The class that stands for an answer below so many questions, and the share that the rule keeps of it: those below as many,
    /// or all where these are few.
    fn class_of(&self, above: usize) -> Option<(Class, f64)> {
        let class = if self.of(above)[0] >= Self::FEWEST { above } else { ALL };
        let [all, kept] = self.of(class);
        (all > 0).then(|| (class, kept as f64 / all as f64))
    }
}

fn mean(answers: impl Iterator<Item = bool>) -> Option<f64> {
    let (mut yes, mut all) = (0_u32, 0_u32);
    for answer in answers {
        yes += u32::from(answer);
        all += 1;
    }
    (all > 0).then(|| f64::from(yes) / f64::from(all))
}

/// What an annotator said, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotatorCounts {
    /// Who.
    pub name: String,
    /// Questions to which they said yes.
    pub yes: u64,
    /// No.
    pub no: u64,
    /// That it cannot be told.
    pub cannot_tell: u64,
}

/// How far two annotators agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotatorPair {
    /// Who.
    pub one: String,
    /// And who.
    pub other: String,
    /// Questions to which both said yes or no.
    pub questions: u64,
    /// Those to which both said the same.
    pub equal: u64,
    /// Cohen's kappa; absent where it is not defined: no such question, or both said one word throughout.
    pub kappa: Option<f64>,
}

/// What each annotator said.
pub(super) fn annotator_counts(labels: &Labels) -> Vec<AnnotatorCounts> {
    let count = |name: &str, wanted: Label| {
        labels.of(name).filter(|(_, label)| *label == wanted).count() as u64
    };
    let names = labels.annotators().into_iter();
    names
        .map(|name| AnnotatorCounts {
            name: name.to_owned(),
            yes: count(name, Label::Yes),
            no: count(name, Label::No),
            cannot_tell: count(name, Label::CannotTell),
        })
        .collect()
}

/// How far every two annotators agree.
pub(super) fn annotator_pairs(labels: &Labels) -> Vec<AnnotatorPair> {
    let names = labels.annotators();
    let mut pairs = Vec::new();
    for (place, one) in names.iter().enumerate() {
        let said: HashMap<usize, Label> = labels.of(one).collect();
        for other in &names[place + 1..] {
            let mut table = TwoByTwo::default();
            for (question, theirs) in labels.of(other) {
                let own = said.get(&question).and_then(|label| label.is_yes());
                if let (Some(own), Some(theirs)) = (own, theirs.is_yes()) {
                    table.add(own, theirs);
                }
            }
            pairs.push(AnnotatorPair {
                one: (*one).to_owned(),
                other: (*other).to_owned(),
                questions: table.total(),
                equal: table.agreed(),
                kappa: table.kappa(),
            });
        }
    }
    pairs
}
