//! In: the lines that several journals hold about the same images. Out: one journal's worth of lines, in the
//! order in which a single run would have written them, or the images about which the journals disagree.
//! Reading and writing the journals is left to `merge`.

use std::collections::BTreeMap;

use super::journal::JournalRecord;
use super::records::{AnswerOutcome, AnswerRecord, ImageRecord, QuestionAnswer};

/// A record about one image.
pub(super) trait ImageLine: JournalRecord + Clone + PartialEq {
    /// Item and index of the image.
    fn image(&self) -> (&str, u32);

    /// All lines of an image, of which two journals hold `own` and `other`; neither begins with the other.
    /// `None` where they contradict each other.
    fn joined(own: &[Self], other: &[Self]) -> Option<Vec<Self>>;
}

/// The lines about each image, in the order of their journal.
#[derive(Debug, Clone)]
pub(super) struct LinesByImage<R> {
    lines: BTreeMap<(String, u32), Vec<R>>,
}

impl<R: ImageLine> LinesByImage<R> {
    pub(super) fn new(records: Vec<R>) -> Self {
        let mut lines: BTreeMap<(String, u32), Vec<R>> = BTreeMap::new();
        for record in records {
            let (item, image) = record.image();
            lines.entry((item.to_owned(), image)).or_default().push(record);
        }
        Self { lines }
    }

    /// All lines, image by image.
    pub(super) fn into_lines(self) -> Vec<R> {
        self.lines.into_values().flatten().collect()
    }

    /// Those about one image, the oldest first.
    pub(super) fn of(&self, item: &str, image: u32) -> &[R] {
        self.lines.get(&(item.to_owned(), image)).map_or(&[], Vec::as_slice)
    }

    /// The images that there are lines about.
    pub(super) fn images(&self) -> impl Iterator<Item = (&str, u32)> {
        self.lines.keys().map(|(item, image)| (item.as_str(), *image))
    }

    /// Takes in what `other` holds about the images that `is_wanted` names. Returns the images about which
    /// the two disagree; of those, nothing is taken.
    pub(super) fn take_in(
        &mut self,
        other: &Self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Vec<(String, u32)> {
        let mut disagree = Vec::new();
        for (image, theirs) in &other.lines {
            if !is_wanted(&image.0) {
                continue;
            }
            let own = self.lines.entry(image.clone()).or_default();
            // What was dealt out or merged before and has grown since.
            if own.starts_with(theirs) {
                continue;
            }
            if theirs.starts_with(own) {
                own.clone_from(theirs);
                continue;
            }
            match R::joined(own, theirs) {
                Some(joined) => *own = joined,
                None => disagree.push(image.clone()),
            }
        }
        disagree
    }

    /// The lines in the order of a single run: in its first sitting one line per image, in the order of
    /// `items`; then, for the images that failed, what came of trying again.
    pub(super) fn in_order<'r>(&'r self, items: &[&str], per_item: u32) -> Vec<&'r R> {
        let of_images: Vec<&[R]> =
            items.iter().flat_map(|item| (0..per_item).map(|image| self.of(item, image))).collect();
        let rounds = of_images.iter().map(|lines| lines.len()).max().unwrap_or_default();
        (0..rounds)
            .flat_map(|round| of_images.iter().filter_map(move |lines| lines.get(round)))
            .collect()
    }
}

impl ImageLine for ImageRecord {
    fn image(&self) -> (&str, u32) {
        (&self.item, self.image)
    }

    /// Failures first, then the picture; two pictures contradict each other.
    fn joined(own: &[Self], other: &[Self]) -> Option<Vec<Self>> {
        let picture = |lines: &[Self]| lines.iter().rfind(|line| line.is_done()).cloned();
        let pictures = (picture(own), picture(other));
        if let (Some(own), Some(other)) = &pictures
            && own != other
        {
            return None;
        }
        let mut lines: Vec<Self> = Vec::new();
        for line in own.iter().chain(other) {
            if !line.is_done() && !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        lines.extend(pictures.0.or(pictures.1));
        Some(lines)
    }
}

impl ImageLine for AnswerRecord {
    fn image(&self) -> (&str, u32) {
        (&self.item, self.image)
    }

    /// Whatever the other one knows more; two answers to one question contradict each other, and so do
    /// answers about two pictures.
    fn joined(own: &[Self], other: &[Self]) -> Option<Vec<Self>> {
        let mut lines = own.to_vec();
        for line in other {
            let pictures = lines.iter().filter_map(|own| own.pixels_sha256.as_ref());
            if line.pixels_sha256.iter().any(|new| pictures.clone().any(|own| own != new)) {
                return None;
            }
            let mut fresh: Vec<QuestionAnswer> = Vec::new();
            for answer in &line.answers {
                match (answer_to(&lines, answer.question), &answer.outcome) {
                    (None, _) => fresh.push(answer.clone()),
                    (Some(own), new) if own == new => {}
                    (Some(own), new) if own.is_answered() && new.is_answered() => return None,
                    (Some(own), new) if new.is_answered() && !own.is_answered() => {
                        fresh.push(answer.clone());
                    }
                    // A failure never replaces an answer, and a second failure says nothing new.
                    _ => {}
                }
            }
            if !fresh.is_empty() {
                lines.push(Self { answers: fresh, ..line.clone() });
            }
        }
        Some(lines)
    }
}

/// The outcome that counts among these lines.
fn answer_to(lines: &[AnswerRecord], question: u32) -> Option<&AnswerOutcome> {
    let all = lines.iter().flat_map(|line| &line.answers).filter(|a| a.question == question);
    let outcomes: Vec<&AnswerOutcome> = all.map(|answer| &answer.outcome).collect();
    let answered = outcomes.iter().rfind(|outcome| outcome.is_answered());
    answered.or(outcomes.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::super::records::ImageOutcome;
    use super::*;

    fn failed(item: &str, image: u32, reason: &str) -> ImageRecord {
        let outcome = ImageOutcome::Failed { reason: reason.into() };
        ImageRecord { item: item.into(), image, outcome }
    }

    fn done(item: &str, image: u32, digest: &str) -> ImageRecord {
        let outcome = ImageOutcome::Done {
            pixels_sha256: digest.into(),
            width: 4,
            height: 4,
            seed: Some(1),
            prompt_tokens: None,
            truncated: None,
            source: None,
            control_sha256: None,
            served: None,
        };
        ImageRecord { item: item.into(), image, outcome }
    }

    fn answers(picture: &str, given: &[(u32, &str)]) -> AnswerRecord {
        let outcome = |text: &str| match text {
            "" => AnswerOutcome::Failed { reason: "time-out".into() },
            text => AnswerOutcome::Answered { text: text.into(), raw: None, yes_probability: None },
        };
        let answers =
            given.iter().map(|(question, text)| QuestionAnswer::new(*question, outcome(text)));
        AnswerRecord {
            item: "a".into(),
            image: 0,
            pixels_sha256: Some(picture.into()),
            answers: answers.collect(),
        }
    }

    fn everything(_: &str) -> bool {
        true
    }

    #[test]
    fn two_parts_come_out_in_the_order_of_one_run_with_its_second_sitting_behind() {
        let mut all = LinesByImage::new(vec![
            done("a", 0, "p"),
            failed("a", 1, "broke"),
            done("c", 0, "r"),
            done("c", 1, "s"),
            done("a", 1, "q"),
        ]);
        let part =
            LinesByImage::new(vec![failed("b", 0, "broke"), done("b", 1, "u"), done("b", 0, "t")]);
        assert!(all.take_in(&part, everything).is_empty());
        assert!(all.take_in(&part, everything).is_empty());
        let lines = all.in_order(&["a", "b", "c"], 2);
        let shown: Vec<(&str, u32, bool)> =
            lines.iter().map(|line| (line.item.as_str(), line.image, line.is_done())).collect();
        let first = [("a", 0, true), ("a", 1, false), ("b", 0, false), ("b", 1, true)];
        let rest = [("c", 0, true), ("c", 1, true), ("a", 1, true), ("b", 0, true)];
        assert_eq!(shown, [first, rest].concat());
    }

    #[test]
    fn what_has_grown_elsewhere_replaces_what_it_grew_from() {
        let grown = vec![failed("a", 0, "broke"), done("a", 0, "p")];
        let mut own = LinesByImage::new(grown[..1].to_vec());
        assert!(own.take_in(&LinesByImage::new(grown.clone()), everything).is_empty());
        assert_eq!(own.of("a", 0), grown);
        assert!(own.take_in(&LinesByImage::new(grown[..1].to_vec()), everything).is_empty());
        assert_eq!(own.of("a", 0), grown);
    }

    #[test]
    fn a_failure_elsewhere_does_not_contradict_a_picture_and_another_picture_does() {
        let mut own = LinesByImage::new(vec![done("a", 0, "p")]);
        assert!(own.take_in(&LinesByImage::new(vec![failed("a", 0, "x")]), everything).is_empty());
        assert_eq!(own.of("a", 0), [failed("a", 0, "x"), done("a", 0, "p")]);
        let other = LinesByImage::new(vec![done("a", 0, "q")]);
        assert_eq!(own.take_in(&other, everything), [("a".to_owned(), 0)]);
        assert!(own.take_in(&other, |item| item != "a").is_empty());
    }

    #[test]
    fn answers_add_up_unless_they_contradict_each_other() {
        let joined = |own: &AnswerRecord, other: &AnswerRecord| {
            AnswerRecord::joined(std::slice::from_ref(own), std::slice::from_ref(other))
        };
        let own = answers("p", &[(1, "yes"), (2, "")]);
        let lines = joined(&own, &answers("p", &[(1, "yes"), (2, "no"), (3, "")])).unwrap();
        assert_eq!(lines, [own.clone(), answers("p", &[(2, "no"), (3, "")])]);
        assert_eq!(joined(&own, &answers("p", &[(1, "")])).unwrap(), std::slice::from_ref(&own));
        assert_eq!(joined(&own, &answers("p", &[(1, "no")])), None);
        assert_eq!(joined(&own, &answers("q", &[(3, "no")])), None);
    }
}
