//! In: log lines of a script that asks about whole files: `path, 3, question, answer` with the number of a round,
//! or `None`, where the reference script has its crop box. Out: passes like those of a log of crops, each file
//! being one image of its item.

use std::collections::{BTreeMap, BTreeSet};

use super::log_alignment::align;
use super::log_line::{LogNoteKind, Pass, Reading, RecoveredLog, answer_after, item_id};
use crate::benchmark::{Item, QuestionId};

/// The item and number that a file name may stand for: `<item>` and `<item>_<k>`.
fn names_of(path: &str) -> Vec<(&str, Option<u64>)> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let Some((stem, extension)) = name.rsplit_once('.') else { return Vec::new() };
    let is_picture = ["png", "jpg", "jpeg", "webp", "bmp"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known));
    if !is_picture {
        return Vec::new();
    }
    let mut names = vec![(stem, None)];
    if item_id(path) != stem {
        names.push((item_id(path), None));
    }
    if let Some((item, number)) = stem.rsplit_once('_')
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = number.parse()
    {
        names.push((item, Some(number)));
    }
    names
}

/// Every way to read a line without a crop box that names a known item and a known question of it.
///
/// # Errors
/// There is none: the furthest that a reading came, and what it met.
pub(super) fn read_file_line<'a>(
    line: &'a str,
    place_of: impl Fn(&str) -> Option<usize>,
    asked: &[Vec<(QuestionId, &str)>],
) -> Result<Vec<Reading<'a>>, (LogNoteKind, &'a str)> {
    let mut ways = Vec::new();
    let mut worst = (LogNoteKind::Unreadable, line);
    for (at, _) in line.match_indices(", ") {
        let Some((round, rest)) = line[at + 2..].split_once(", ") else { continue };
        let is_round = !round.is_empty() && round.bytes().all(|byte| byte.is_ascii_digit());
        if round != "None" && !is_round {
            continue;
        }
        let path = &line[..at];
        for (id, number) in names_of(path) {
            let Some(item) = place_of(id) else {
                worst = worst.max((LogNoteKind::UnknownItem, id));
                continue;
            };
            let fits: Vec<(usize, &str)> = (0..)
                .zip(&asked[item])
                .filter_map(|(place, (_, question))| Some((place, answer_after(rest, question)?)))
                .collect();
            if fits.is_empty() {
                worst = worst.max((LogNoteKind::UnknownQuestion, id));
            } else {
                ways.push(Reading { path, item, crop: None, number, fits });
            }
        }
    }
    if ways.is_empty() { Err(worst) } else { Ok(ways) }
}

/// A line of a file: its number, and the places and answers that fit.
type FileLine<'a> = (usize, Vec<(usize, &'a str)>);
/// Answers about one file, from its first line on.
struct FilePass<'a> {
    first_line: usize,
    path: &'a str,
    answers: Vec<(QuestionId, Option<&'a str>)>,
}

impl<'a> RecoveredLog<'a> {
    /// Makes one pass of each item, of the best pass over each of its files.
    pub(super) fn join_files(
        &mut self,
        readings: Vec<(usize, Reading<'a>)>,
        items: &[&'a Item],
        asked: &[Vec<(QuestionId, &str)>],
    ) {
        self.whole_files = true;
        let mut files: BTreeMap<(usize, Option<u64>, &str), Vec<FileLine<'a>>> = BTreeMap::new();
        let mut numbers: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        let (mut seen, mut last) = (BTreeSet::new(), "");
        for (line, reading) in readings {
            let Reading { path, item, number, fits, .. } = reading;
            if path != last {
                let begins = fits.iter().any(|fit| fit.0 == 0);
                self.interleaved |= !seen.insert(path) && !begins;
                last = path;
            }
            numbers.entry(item).or_default().extend(number);
            files.entry((item, number, path)).or_default().push((line, fits));
        }
        // Numbers that all items share are images; others are seeds of their own.
        let shared: BTreeSet<u64> = numbers.values().flatten().copied().collect();
        let most = numbers.values().map(BTreeSet::len).max().unwrap_or_default();
        self.images = most.max(1) as u32;
        let mut by_item: BTreeMap<usize, BTreeMap<usize, Vec<FilePass<'a>>>> = BTreeMap::new();
        for ((item, number, path), lines) in files {
            let order = if shared.len() == most { &shared } else { &numbers[&item] };
            let image = number.map_or(0, |number| order.range(..number).count());
            let passes = self.passes_of_file(path, &lines, items[item], &asked[item]);
            by_item.entry(item).or_default().entry(image).or_default().extend(passes);
        }
        for (item, images) in by_item {
            self.join_item(items[item], images, asked[item].len());
        }
        self.passes.sort_by_key(|pass| pass.first_line);
    }

    fn passes_of_file(
        &mut self,
        path: &'a str,
        lines: &[FileLine<'a>],
        item: &'a Item,
        questions: &[(QuestionId, &str)],
    ) -> Vec<FilePass<'a>> {
        let places: Vec<Vec<usize>> =
            lines.iter().map(|(_, fits)| fits.iter().map(|fit| fit.0).collect()).collect();
        let alignment = align(&places, questions.len());
        let mut passes = Vec::new();
        for range in &alignment.passes {
            let mut answers = Vec::new();
            let mut due = 0;
            for at in range.clone() {
                let (line, fits) = &lines[at];
                let pick = alignment.chosen[at];
                if places[at][pick] != due {
                    self.note(*line, LogNoteKind::LostLines, &item.id);
                }
                due = places[at][pick] + 1;
                let is_ambiguous = alignment.ambiguous.contains(&at);
                if is_ambiguous {
                    self.note(*line, LogNoteKind::Ambiguous, &item.id);
                }
                let (question, answer) = fits[pick];
                answers.push((questions[question].0, (!is_ambiguous).then_some(answer)));
            }
            if due != questions.len() {
                self.note(lines[range.end - 1].0, LogNoteKind::CutShort, &item.id);
            }
            passes.push(FilePass { first_line: lines[range.start].0, path, answers });
        }
        passes
    }

    /// The last complete pass over each file counts, else the last of those with the most answers.
    fn join_item(
        &mut self,
        item: &'a Item,
        images: BTreeMap<usize, Vec<FilePass<'a>>>,
        questions: usize,
    ) {
        let mut answers = vec![Vec::new(); self.images as usize];
        let (mut first_line, mut first_path) = (usize::MAX, "");
        for (image, mut passes) in images {
            passes.sort_by_key(|pass| pass.first_line);
            if passes.len() > 1 {
                let lines = passes.iter().map(|pass| pass.first_line).collect();
                self.note_lines(lines, LogNoteKind::Repeated, passes[0].path);
            }
            let told =
                |pass: &FilePass<'_>| pass.answers.iter().filter(|it| it.1.is_some()).count();
            let Some(best) = passes.into_iter().max_by_key(told) else { continue };
            if best.first_line < first_line {
                (first_line, first_path) = (best.first_line, best.path);
            }
            if let Some(place) = answers.get_mut(image) {
                *place = best.answers;
            }
        }
        let told = answers.iter().flatten().filter(|answer| answer.1.is_some()).count();
        let complete = told == questions * answers.len();
        self.passes.push(Pass { item, path: first_path, first_line, answers, complete });
    }
}
