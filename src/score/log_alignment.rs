//! In: the log lines of one picture, each with the places of the question sequence that its text
//! fits. Out: the place of each line, cut into passes over the picture, and the lines whose place
//! cannot be told. What the places mean is left to `reference_log`.

use std::ops::Range;

/// How the lines of one picture lie on its question sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Per line the index of the fitting place among those offered.
    pub chosen: Vec<usize>,
    /// Lines for which another place explains the log just as well.
    pub ambiguous: Vec<usize>,
    /// The passes over the picture, as ranges of lines.
    pub passes: Vec<Range<usize>>,
}

/// The costs order the explanations: a script that goes on, then one that was stopped and started
/// over, then lines that were lost.
const RESTART: u32 = 2;
const LOST_LINES: u32 = 20;
const LOST_BEGINNING: u32 = 30;

/// Cost of finding place `to` after place `from` (`None`: before the first line); `end` is the
/// number of places.
fn cost(from: Option<usize>, to: usize, end: usize) -> u32 {
    match (from, to) {
        (None, 0) => 0,
        (None, _) => LOST_BEGINNING,
        (Some(from), to) if to == from + 1 => 0,
        (Some(from), 0) if from + 1 == end => 0,
        (Some(_), 0) => RESTART,
        (Some(from), to) if to > from => LOST_LINES,
        (Some(_), _) => LOST_BEGINNING,
    }
}

/// Finds the cheapest explanation of `lines` (each with at least one place, in ascending order) on
/// a sequence of `end` places, and every line where two explanations tie.
pub(crate) fn align(lines: &[Vec<usize>], end: usize) -> Alignment {
    if lines.is_empty() {
        return Alignment { chosen: Vec::new(), ambiguous: Vec::new(), passes: Vec::new() };
    }
    let mut forward: Vec<Vec<u32>> = vec![lines[0].iter().map(|&to| cost(None, to, end)).collect()];
    for (line, pair) in lines.windows(2).enumerate() {
        let step = |&to: &usize| {
            let reach = pair[0].iter().zip(&forward[line]);
            reach
                .map(|(&from, before)| before + cost(Some(from), to, end))
                .min()
                .unwrap_or(u32::MAX)
        };
        let next = pair[1].iter().map(step).collect();
        forward.push(next);
    }
    let mut backward: Vec<Vec<u32>> = lines.iter().map(|places| vec![0; places.len()]).collect();
    for line in (0..lines.len() - 1).rev() {
        for (index, &from) in lines[line].iter().enumerate() {
            let reach = lines[line + 1].iter().zip(&backward[line + 1]);
            backward[line][index] = reach
                .map(|(&to, after)| after + cost(Some(from), to, end))
                .min()
                .unwrap_or(u32::MAX);
        }
    }
    let best = forward[lines.len() - 1].iter().copied().min().unwrap_or_default();
    let on_best = |line: usize, index: usize| forward[line][index] + backward[line][index] == best;

    let mut chosen: Vec<usize> = Vec::with_capacity(lines.len());
    let mut ambiguous = Vec::new();
    for (line, places) in lines.iter().enumerate() {
        let good: Vec<usize> = (0..places.len()).filter(|&index| on_best(line, index)).collect();
        if good.len() > 1 {
            ambiguous.push(line);
        }
        // Stay on one cheapest path: the step from the line before must be part of it.
        let pick = good.iter().copied().find(|&index| match line.checked_sub(1) {
            None => true,
            Some(before) => {
                let from = chosen[before];
                forward[before][from] + cost(Some(lines[before][from]), places[index], end)
                    == forward[line][index]
            }
        });
        chosen.push(pick.unwrap_or_default());
    }

    let mut passes: Vec<Range<usize>> = Vec::new();
    for line in 0..lines.len() {
        let goes_on = line > 0 && lines[line][chosen[line]] > lines[line - 1][chosen[line - 1]];
        match passes.last_mut() {
            Some(pass) if goes_on => pass.end = line + 1,
            _ => passes.push(line..line + 1),
        }
    }
    Alignment { chosen, ambiguous, passes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chosen places, ambiguous lines, first and end line of each pass.
    type Found = (Vec<usize>, Vec<usize>, Vec<(usize, usize)>);

    fn places(lines: &[Vec<usize>], end: usize) -> Found {
        let found = align(lines, end);
        let at = found.chosen.iter().zip(lines).map(|(&index, line)| line[index]).collect();
        let passes = found.passes.iter().map(|pass| (pass.start, pass.end));
        (at, found.ambiguous, passes.collect())
    }

    #[test]
    fn a_repeated_question_takes_the_place_that_is_due() {
        // Places 0 and 2 hold the same text.
        let lines = [vec![0, 2], vec![1], vec![0, 2], vec![3]];
        assert_eq!(places(&lines, 4), (vec![0, 1, 2, 3], vec![], vec![(0, 4)]));
    }

    #[test]
    fn a_cut_picture_starts_over_even_where_the_texts_could_go_on() {
        // Cut after place 1; the second pass begins with the text that also stands at place 2.
        let lines = [vec![0, 2], vec![1], vec![0, 2], vec![1], vec![0, 2], vec![3]];
        assert_eq!(places(&lines, 4), (vec![0, 1, 0, 1, 2, 3], vec![], vec![(0, 2), (2, 6)]));
    }

    #[test]
    fn two_equal_explanations_are_named() {
        // Places 2 and 4 hold the same text; the lines around it are lost.
        let lines = [vec![0], vec![2, 4], vec![6]];
        let (at, ambiguous, _) = places(&lines, 7);
        assert_eq!((at[0], at[2]), (0, 6));
        assert_eq!(ambiguous, [1]);
    }

    #[test]
    fn lost_lines_leave_a_gap_and_a_whole_second_pass_is_no_loss() {
        assert_eq!(places(&[vec![0], vec![3]], 4), (vec![0, 3], vec![], vec![(0, 2)]));
        assert_eq!(
            places(&[vec![0], vec![1], vec![0], vec![1]], 2),
            (vec![0, 1, 0, 1], vec![], vec![(0, 2), (2, 4)])
        );
    }
}
