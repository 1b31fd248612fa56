//! In: the text of a `_detail.txt` that the reference script (ELLA, `compute_dpg_bench.py`) wrote, and
//! the items it was about. Out: the answers in it, pass by pass, with a note on everything that is
//! lost, repeated or ambiguous. Disk and run directory are left to the command.
//!
//! A line reads `path, (left, top, right, bottom), question, answer`. It names no question number,
//! and nothing in it is quoted: the item comes from the path, the image from the crop box, and the
//! question from the item's own texts and their order. Logs without crop boxes: `log_files`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::log_alignment::align;
use super::log_files::read_file_line;
use super::log_line::{
    Crop, LogNote, LogNoteKind, Pass, Reading, RecoveredLog, answer_after, item_id,
};
use crate::benchmark::question::SKIPPED_ROW;
use crate::benchmark::{Item, QuestionId};

/// Reads a log against the items that it may be about.
pub fn read_log<'a>(text: &'a str, items: &[&'a Item]) -> RecoveredLog<'a> {
    let asked: Vec<Vec<(QuestionId, &str)>> =
        items.iter().map(|item| asked_questions(item)).collect();
    let by_id: HashMap<&str, usize> =
        items.iter().enumerate().map(|(index, item)| (item.id.as_str(), index)).collect();

    let mut log = RecoveredLog::default();
    let mut readings: Vec<(usize, Vec<Reading<'a>>)> = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        log.lines = number;
        let Some(line) = line.strip_suffix('\n') else {
            if !line.trim().is_empty() {
                log.note(number, LogNoteKind::Torn, line);
            }
            continue;
        };
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            continue;
        }
        match read_line(line, &by_id, &asked) {
            Ok(ways) => readings.push((number, ways)),
            Err((kind, subject)) => log.note(number, kind, subject),
        }
    }
    let readings = log.settle(readings);
    if readings.first().is_some_and(|(_, reading)| reading.crop.is_none()) {
        log.join_files(readings, items, &asked);
    } else {
        let pictures = log.sort_by_picture(readings);
        log.cut_into_passes(pictures, items, &asked);
    }
    log.notes.sort_by(|a, b| a.lines.cmp(&b.lines).then(a.kind.cmp(&b.kind)));
    log
}

/// The lines of one picture: line number, image, fitting places and answers.
type PictureLines<'a> = Vec<(usize, u32, Vec<(usize, &'a str)>)>;

impl<'a> RecoveredLog<'a> {
    pub(super) fn note(&mut self, line: usize, kind: LogNoteKind, subject: &str) {
        self.note_lines(vec![line], kind, subject);
    }

    pub(super) fn note_lines(&mut self, lines: Vec<usize>, kind: LogNoteKind, subject: &str) {
        self.notes.push(LogNote { lines, kind, subject: subject.to_owned() });
    }

    /// Settles on one reading per line; all have a crop box, or none has.
    fn settle(&mut self, readings: Vec<(usize, Vec<Reading<'a>>)>) -> Vec<(usize, Reading<'a>)> {
        // Where a line can be cut at two places, a path that other lines have beyond doubt decides.
        let sure: HashSet<&str> = readings
            .iter()
            .filter(|(_, ways)| ways.len() == 1)
            .map(|(_, ways)| ways[0].path)
            .collect();
        let mut settled: Vec<(usize, Reading<'a>)> = Vec::new();
        for (line, mut ways) in readings {
            if ways.len() > 1 {
                let known = ways.iter().filter(|way| sure.contains(way.path)).count();
                if known != 1 {
                    self.note(line, LogNoteKind::Ambiguous, ways[0].path);
                    continue;
                }
                ways.retain(|way| sure.contains(way.path));
            }
            let Some(way) = ways.pop() else { continue };
            let form = settled.first().map(|(_, first)| first.crop.is_some());
            if form.is_some_and(|form| form != way.crop.is_some()) {
                self.note(line, LogNoteKind::OtherForm, way.path);
                continue;
            }
            settled.push((line, way));
        }
        settled
    }

    /// Sorts the lines by picture.
    fn sort_by_picture(
        &mut self,
        readings: Vec<(usize, Reading<'a>)>,
    ) -> BTreeMap<(usize, &'a str), PictureLines<'a>> {
        let mut pictures: BTreeMap<(usize, &str), PictureLines<'_>> = BTreeMap::new();
        let (mut seen, mut last) = (HashSet::new(), "");
        for (line, way) in readings {
            let Some(crop) = way.crop else { continue };
            if self.resolution == 0 {
                self.resolution = crop.resolution;
            }
            if crop.resolution != self.resolution {
                self.note(line, LogNoteKind::OtherCrop, way.path);
                continue;
            }
            self.images = self.images.max(crop.image + 1);
            if way.path != last {
                let begins = crop.image == 0 && way.fits.iter().any(|fit| fit.0 == 0);
                self.interleaved |= !seen.insert(way.path) && !begins;
                last = way.path;
            }
            pictures.entry((way.item, way.path)).or_default().push((line, crop.image, way.fits));
        }
        pictures
    }

    fn cut_into_passes(
        &mut self,
        pictures: BTreeMap<(usize, &'a str), PictureLines<'a>>,
        items: &[&'a Item],
        asked: &[Vec<(QuestionId, &str)>],
    ) {
        for ((item, path), lines) in pictures {
            let questions = &asked[item];
            let end = questions.len() * self.images as usize;
            let places: Vec<Vec<usize>> = lines
                .iter()
                .map(|(_, image, fits)| {
                    fits.iter().map(|fit| *image as usize * questions.len() + fit.0).collect()
                })
                .collect();
            let alignment = align(&places, end);
            for range in &alignment.passes {
                let mut answers = vec![Vec::new(); self.images as usize];
                let mut due = 0;
                for at in range.clone() {
                    let (line, image, fits) = &lines[at];
                    let pick = alignment.chosen[at];
                    if places[at][pick] != due {
                        self.note(*line, LogNoteKind::LostLines, &items[item].id);
                    }
                    due = places[at][pick] + 1;
                    let is_ambiguous = alignment.ambiguous.contains(&at);
                    if is_ambiguous {
                        self.note(*line, LogNoteKind::Ambiguous, &items[item].id);
                    }
                    let (question, answer) = fits[pick];
                    answers[*image as usize]
                        .push((questions[question].0, (!is_ambiguous).then_some(answer)));
                }
                if due != end {
                    self.note(lines[range.end - 1].0, LogNoteKind::CutShort, &items[item].id);
                }
                let told = answers.iter().flatten().filter(|(_, answer)| answer.is_some()).count();
                self.passes.push(Pass {
                    item: items[item],
                    path,
                    first_line: lines[range.start].0,
                    answers,
                    complete: told == end,
                });
            }
        }
        self.passes.sort_by_key(|pass| pass.first_line);
        let mut by_item: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for pass in &self.passes {
            by_item.entry(&pass.item.id).or_default().push(pass.first_line);
        }
        let repeated = by_item.into_iter().filter(|(_, lines)| lines.len() > 1);
        let notes: Vec<LogNote> = repeated
            .map(|(id, lines)| LogNote {
                lines,
                kind: LogNoteKind::Repeated,
                subject: id.to_owned(),
            })
            .collect();
        self.notes.extend(notes);
    }

    /// The pass of each item that counts, in log order: its last complete one, else the last of
    /// those with the most answers.
    pub fn passes_that_count(&self) -> Vec<&Pass<'a>> {
        let told = |pass: &Pass<'_>| {
            (
                pass.complete,
                pass.answers.iter().flatten().filter(|answer| answer.1.is_some()).count(),
            )
        };
        let mut best: HashMap<&str, &Pass<'a>> = HashMap::new();
        for pass in &self.passes {
            let kept = best.entry(&pass.item.id).or_insert(pass);
            if told(pass) >= told(kept) {
                *kept = pass;
            }
        }
        let mut passes: Vec<&Pass<'a>> = best.into_values().collect();
        passes.sort_by_key(|pass| pass.first_line);
        passes
    }
}

fn asked_questions(item: &Item) -> Vec<(QuestionId, &str)> {
    let questions = item.graph.questions().iter();
    questions.filter(|q| q.row != SKIPPED_ROW).map(|q| (q.id, q.text.as_str())).collect()
}

/// Every way to read a line that names a known item and a known question of it.
fn read_line<'a>(
    line: &'a str,
    by_id: &HashMap<&str, usize>,
    asked: &[Vec<(QuestionId, &str)>],
) -> Result<Vec<Reading<'a>>, (LogNoteKind, &'a str)> {
    let mut ways = Vec::new();
    let mut worst = (LogNoteKind::Unreadable, line);
    for (at, _) in line.match_indices(", (") {
        let Some((corners, rest)) = read_box(&line[at + 3..]) else { continue };
        let path = &line[..at];
        let id = item_id(path);
        let Some(&item) = by_id.get(id) else {
            worst = worst.max((LogNoteKind::UnknownItem, id));
            continue;
        };
        let fits: Vec<(usize, &str)> = asked[item]
            .iter()
            .enumerate()
            .filter_map(|(place, (_, question))| Some((place, answer_after(rest, question)?)))
            .collect();
        if fits.is_empty() {
            worst = worst.max((LogNoteKind::UnknownQuestion, id));
            continue;
        }
        let Some(crop) = crop_of(corners) else {
            worst = worst.max((LogNoteKind::OtherCrop, id));
            continue;
        };
        ways.push(Reading { path, item, crop: Some(crop), number: None, fits });
    }
    match read_file_line(line, |id| by_id.get(id).copied(), asked) {
        Ok(more) => ways.extend(more),
        Err(reason) => worst = worst.max(reason),
    }
    if ways.is_empty() { Err(worst) } else { Ok(ways) }
}

/// Reads `left, top, right, bottom), rest` and returns the numbers and the rest.
fn read_box(text: &str) -> Option<([u32; 4], &str)> {
    let (inside, rest) = text.split_once("), ")?;
    let mut corners = [0; 4];
    let mut numbers = inside.split(", ");
    for corner in &mut corners {
        *corner = numbers.next()?.parse().ok()?;
    }
    numbers.next().is_none().then_some((corners, rest))
}

/// Which tile of a 2x2 grid a box is.
fn crop_of([left, top, right, bottom]: [u32; 4]) -> Option<Crop> {
    let resolution = right.checked_sub(left)?;
    let is_tile = resolution > 0
        && bottom.checked_sub(top) == Some(resolution)
        && [left, top].iter().all(|&side| side == 0 || side == resolution);
    let image = u32::from(left > 0) + 2 * u32::from(top > 0);
    is_tile.then_some(Crop { image, resolution })
}
