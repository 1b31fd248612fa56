//! In: what a judge said of a question, or of all questions about an image. Out: the class that it belongs to: from such classes
//! strata are made, which is left to `draw`.

use crate::score::AnswerState;

/// How far P(yes) is from one half where the judge is sure.
pub const SURE: f64 = 0.25;

/// A class of units that are alike to the judge, as words from the broad to the fine: a category, what the judge said, whether it
/// was sure; or how often it said yes of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The words.
    pub words: Vec<String>,
}

impl Cell {
    /// That of a question of the broad category `category`; `said_yes` as `corrected` reads the answer.
    pub(super) fn of_answer(category: &str, said_yes: bool, answer: AnswerState<'_>) -> Self {
        let said = if said_yes { "yes" } else { "not yes" };
        let mut words = vec![category.to_owned(), said.to_owned()];
        if let AnswerState::Answered { yes_probability: Some(p), .. } = answer {
            let sure = if (p - 0.5).abs() >= SURE { "sure" } else { "unsure" };
            words.push(sure.to_owned());
        }
        Self { words }
    }

    /// That of the images in a third, 0 to 2, by the judge's share of yes.
    fn of_third(third: usize) -> Self {
        let name = ["low", "middle", "high"][third.min(2)];
        Self { words: vec![format!("{name} third of yes")] }
    }

    /// The words, as they are shown.
    pub fn name(&self) -> String {
        self.words.join(", ")
    }

    /// How many words it has in common with another, from the first on.
    pub(super) fn in_common(&self, other: &Self) -> usize {
        self.words.iter().zip(&other.words).take_while(|(own, theirs)| own == theirs).count()
    }
}

/// The cells of images by their shares of yes, given as `[yes, asked]`, lowest share first, and for each image the place of its
/// own. Images with one share stay together: in the third that the middle of them is in. A third without images is no cell.
pub(super) fn thirds(shares: &[[u64; 2]]) -> (Vec<Cell>, Vec<usize>) {
    let mut order: Vec<usize> = (0..shares.len()).collect();
    // a / b < c / d without a rounding.
    let compared = |[a, b]: [u64; 2], [c, d]: [u64; 2]| (a * d).cmp(&(c * b));
    order.sort_by(|&one, &other| compared(shares[one], shares[other]).then(one.cmp(&other)));
    let mut third_of = vec![0; shares.len()];
    let mut first = 0;
    while first < order.len() {
        let is_same = |&&place: &&usize| compared(shares[place], shares[order[first]]).is_eq();
        let end = first + order[first..].iter().take_while(is_same).count();
        // The middle of the images is at (first + end) / 2 of all.
        let third = (3 * (first + end) / (2 * order.len())).min(2);
        for &place in &order[first..end] {
            third_of[place] = third;
        }
        first = end;
    }
    let there: Vec<usize> = (0..3).filter(|third| third_of.contains(third)).collect();
    let cells = there.iter().map(|&third| Cell::of_third(third)).collect();
    let place = |third: &usize| there.iter().position(|t| t == third).unwrap_or_default();
    (cells, third_of.iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_sure_from_a_quarter_on() {
        let stated = |p| AnswerState::Answered { text: "yes", yes_probability: Some(p) };
        let name = |yes, answer| Cell::of_answer("entity", yes, answer).name();
        assert_eq!(name(true, stated(0.75)), "entity, yes, sure");
        assert_eq!(name(true, stated(0.74)), "entity, yes, unsure");
        assert_eq!(name(false, stated(0.25)), "entity, not yes, sure");
        assert_eq!(name(false, AnswerState::said("two")), "entity, not yes");
    }

    #[test]
    fn images_of_one_share_are_in_one_third() {
        let names = |shares: &[[u64; 2]]| {
            let (cells, of) = thirds(shares);
            let name = |&cell: &usize| cells[cell].words[0].split(' ').next().unwrap().to_owned();
            of.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[[3, 3], [1, 3], [2, 3]]), ["high", "low", "middle"]);
        // 1/2 and 2/4 are one share.
        assert_eq!(names(&[[1, 2], [2, 4], [0, 4]]), ["high", "high", "low"]);
        assert_eq!(names(&[[4, 4]; 5]), ["middle"; 5]);
        assert_eq!(names(&[[1, 2], [4, 4], [4, 4], [4, 4]]), ["low", "middle", "middle", "middle"]);
        assert_eq!(names(&[]), [""; 0]);
    }
}
