//! In: the scores of the next word piece, for any answer begun. Out: the answer that mPLUG's generator
//! settles on, to the letter of its rules (the text generator of PreSumm and OpenNMT, with its quirks).
//! What the pieces spell is left to `answer_text`.
//!
//! Two quirks decide answers: a sequence that has ended without being the best one is noted and stays
//! alive, so that it may go on behind its end; and the search is over when the best sequence has ended,
//! but the answer is the best of all that were noted on the way.

use anyhow::{Result, ensure};

/// The generator's length penalty; the configuration's `alpha` is another thing (distillation).
pub const LENGTH_PENALTY: f64 = 0.6;

/// The score that keeps an answer from ending before its time.
const NOT_YET: f32 = -1e20;

/// Gives the scores of the next word piece.
pub trait NextTokenScores {
    /// One token more for every row: row r goes on where row `parents[r]` of the step before ended, with
    /// `tokens[r]`; at the first step it begins an answer to question `parents[r]`. One list of logits,
    /// the vocabulary long, for each row.
    ///
    /// # Errors
    /// The network refused.
    fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>>;
}

/// How the search goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamSettings {
    /// Sequences kept, at least 1.
    pub width: usize,
    /// Steps before which no sequence may end.
    pub min_length: usize,
    /// Steps after which all end.
    pub max_length: usize,
    /// Exponent of the length penalty: [`LENGTH_PENALTY`] in the original.
    pub alpha: f64,
    /// Token that every sequence begins with.
    pub start: u32,
    /// Token that ends one.
    pub end: u32,
    /// Token whose probability at the first step is reported.
    pub watched: u32,
    /// Whether a question is left as soon as its answer is certain. It changes no answer; without it,
    /// all the original's hypotheses are found.
    pub early_stopping: bool,
}

/// A sequence that was noted.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Sum of log probabilities over the length penalty.
    pub score: f32,
    /// Its tokens from the start token on; the end token may stand inside as well.
    pub tokens: Vec<u32>,
}

/// What was found for one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// All that was noted, the best first.
    pub hypotheses: Vec<Hypothesis>,
    /// Steps taken.
    pub steps: usize,
    /// Probability of the watched token at the first step.
    pub watched: f64,
}

/// A sequence in the making.
struct Beam {
    /// Its row in the step before; at first, its question.
    row: usize,
    /// Sum of its log probabilities.
    sum: f32,
    tokens: Vec<u32>,
}

/// A question that is still open.
struct Open {
    question: usize,
    beams: Vec<Beam>,
    noted: Vec<Hypothesis>,
}

/// Answers `questions` questions together. Each is answered as if it were alone; a question that is done
/// takes no further rows.
///
/// # Errors
/// The network refused, or gave something else than numbers or fewer than the beam is wide.
pub fn search(
    network: &mut dyn NextTokenScores,
    questions: usize,
    settings: BeamSettings,
) -> Result<Vec<Found>> {
    ensure!(settings.width > 0 && settings.max_length > 0, "a beam search needs a beam and a step");
    let begin = |question| Open {
        question,
        // The original has `width` equal beams here, all but one of them with the sum -inf.
        beams: vec![Beam { row: question, sum: 0.0, tokens: vec![settings.start] }],
        noted: Vec::new(),
    };
    let mut open: Vec<Open> = (0..questions).map(begin).collect();
    let mut found: Vec<Option<Found>> = (0..questions).map(|_| None).collect();
    let mut watched = vec![0.0; questions];
    for step in 0..settings.max_length {
        if open.is_empty() {
            break;
        }
        let beams = || open.iter().flat_map(|open| &open.beams);
        let parents: Vec<usize> = beams().map(|beam| beam.row).collect();
        let tokens: Vec<u32> =
            beams().map(|beam| beam.tokens.last().copied().unwrap_or(settings.start)).collect();
        let logits = network.step(&parents, &tokens)?;
        ensure!(logits.len() == parents.len(), "the network left rows out");
        let mut first_row = 0;
        let mut still_open = Vec::new();
        for mut open in open {
            let rows = &logits[first_row..][..open.beams.len()];
            let mut scores = rows.iter().map(|row| log_softmax(row)).collect::<Result<Vec<_>>>()?;
            if step == 0 {
                let watched_score = scores[0].get(settings.watched as usize);
                watched[open.question] = watched_score.map_or(0.0, |score| f64::from(score.exp()));
            }
            if step < settings.min_length {
                for row in &mut scores {
                    if let Some(score) = row.get_mut(settings.end as usize) {
                        *score = NOT_YET;
                    }
                }
            }
            let over = open.advance(&scores, first_row, step, settings)?;
            first_row += rows.len();
            if over || (settings.early_stopping && open.is_certain(settings)) {
                let question = open.question;
                found[question] = Some(open.close(step + 1, watched[question]));
            } else {
                still_open.push(open);
            }
        }
        open = still_open;
    }
    let found: Option<Vec<Found>> = found.into_iter().collect();
    found.ok_or_else(|| anyhow::anyhow!("a question was left without an answer"))
}

impl Open {
    /// Takes one step with the scores of the next token for each beam, whose rows begin at `first_row`.
    /// Says whether the search is over.
    fn advance(
        &mut self,
        scores: &[Vec<f32>],
        first_row: usize,
        step: usize,
        settings: BeamSettings,
    ) -> Result<bool> {
        let penalty = penalty(step, settings.alpha);
        let sums = self.beams.iter().map(|beam| beam.sum);
        let best = best_of(scores, sums, penalty, settings.width);
        ensure!(
            best.len() == settings.width,
            "the network knows fewer words than the beam is wide ({})",
            settings.width
        );
        let continued = best.into_iter().map(|(score, beam, token)| {
            let mut tokens = self.beams[beam].tokens.clone();
            tokens.push(token);
            // As the original does: back from the rounded score, not from the sum itself.
            (score, Beam { row: first_row + beam, sum: score * penalty, tokens })
        });
        let continued: Vec<(f32, Beam)> = continued.collect();
        let last = step + 1 == settings.max_length;
        let ended = |beam: &Beam| last || beam.tokens.last() == Some(&settings.end);
        let over = ended(&continued[0].1);
        for (score, beam) in &continued {
            if over || ended(beam) {
                self.noted.push(Hypothesis { score: *score, tokens: beam.tokens.clone() });
            }
        }
        self.beams = continued.into_iter().map(|(_, beam)| beam).collect();
        Ok(over)
    }

    /// Whether no sequence still alive can end better than the best that is noted.
    ///
    /// A sum never rises, and the penalty it is divided by is never larger than that of the last step;
    /// so no score to come is above the best sum over that penalty, but for rounding: a step rounds three
    /// times, by 2^-24 of the value at most. docs/judges.md has the proof.
    fn is_certain(&self, settings: BeamSettings) -> bool {
        let noted = self.noted.iter().map(|hypothesis| hypothesis.score).reduce(f32::max);
        let alive = self.beams.iter().map(|beam| beam.sum).reduce(f32::max);
        let (Some(noted), Some(alive)) = (noted, alive) else { return false };
        let last = penalty(settings.max_length - 1, settings.alpha);
        let rounding = 4.0 * (settings.max_length + 1) as f32 * f32::EPSILON;
        settings.alpha >= 0.0 && alive <= 0.0 && noted > alive / last * (1.0 - rounding)
    }

    fn close(mut self, steps: usize, watched: f64) -> Found {
        // Stable, so that of equal scores the earlier one stays first.
        self.noted.sort_by(|a, b| b.score.total_cmp(&a.score));
        Found { hypotheses: self.noted, steps, watched }
    }
}

/// What the scores of step `step`, from 0, are divided by.
fn penalty(step: usize, alpha: f64) -> f32 {
    ((5.0 + (step + 1) as f64) / 6.0).powf(alpha) as f32
}

/// `log(softmax(logits))`, in this order: what underflows becomes -inf.
fn log_softmax(logits: &[f32]) -> Result<Vec<f32>> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    ensure!(
        largest.is_finite() && logits.iter().all(|logit| !logit.is_nan()),
        "the network gave no numbers"
    );
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum = powers.iter().map(|&power| f64::from(power)).sum::<f64>() as f32;
    Ok(powers.into_iter().map(|power| (power / sum).ln()).collect())
}

/// The `width` best continuations as (score, beam, token), the best first; of equal ones that of the
/// lower beam, then of the lower token.
fn best_of(
    scores: &[Vec<f32>],
    sums: impl Iterator<Item = f32>,
    penalty: f32,
    width: usize,
) -> Vec<(f32, usize, u32)> {
    let mut best: Vec<(f32, usize, u32)> = Vec::with_capacity(width + 1);
    for (beam, (row, sum)) in scores.iter().zip(sums).enumerate() {
        for (token, &score) in row.iter().enumerate() {
            let score = (score + sum) / penalty;
            if best.len() == width && best.last().is_some_and(|last| score <= last.0) {
                continue;
            }
            let place = best.partition_point(|other| other.0 >= score);
            best.insert(place, (score, beam, token as u32));
            best.truncate(width);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::*;

    /// A case of `tests/fixtures/make_beam_search.py`, and what its own search found.
    #[derive(Debug, Deserialize)]
    struct Case {
        seed: u64,
        vocabulary: u64,
        levels: u64,
        spread: f32,
        end_bonus: f32,
        width: usize,
        min_length: usize,
        max_length: usize,
        steps: usize,
        hypotheses: Vec<(f32, Vec<u32>)>,
    }

    const START: u32 = 1;
    const END: u32 = 2;

    fn cases() -> Vec<Case> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/mplug-judge/beam_search.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn settings(case: &Case) -> BeamSettings {
        BeamSettings {
            width: case.width,
            min_length: case.min_length,
            max_length: case.max_length,
            alpha: LENGTH_PENALTY,
            start: START,
            end: END,
            watched: 3,
            early_stopping: false,
        }
    }

    /// A made-up language model: each logit is drawn from the whole sequence.
    struct Drawn<'c> {
        cases: Vec<&'c Case>,
        rows: Vec<(usize, u64)>,
    }

    fn mixed(state: u64) -> u64 {
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ (state >> 31)
    }

    impl<'c> Drawn<'c> {
        fn new(cases: Vec<&'c Case>) -> Self {
            let rows = cases.iter().enumerate().map(|(case, about)| (case, about.seed)).collect();
            Self { cases, rows }
        }
    }

    impl NextTokenScores for Drawn<'_> {
        fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
            let next = parents.iter().zip(tokens).map(|(&parent, &token)| {
                let (case, state) = self.rows[parent];
                (case, mixed(state ^ (u64::from(token) + 1)))
            });
            self.rows = next.collect();
            let logits = |&(case, state): &(usize, u64)| {
                let case = self.cases[case];
                (0..case.vocabulary)
                    .map(|token| {
                        let level = mixed(state.wrapping_add(token << 32)) % case.levels;
                        let logit = level as f32 / case.levels as f32 * case.spread;
                        if token == u64::from(END) { logit + case.end_bonus } else { logit }
                    })
                    .collect()
            };
            Ok(self.rows.iter().map(logits).collect())
        }
    }

    fn found(case: &Case, settings: BeamSettings) -> Found {
        search(&mut Drawn::new(vec![case]), 1, settings).unwrap().remove(0)
    }

    /// Cases in which `change` finds another best sequence.
    fn disagreements(change: impl Fn(BeamSettings) -> BeamSettings) -> usize {
        let differs = |case: &&Case| {
            let ours = found(case, change(settings(case)));
            ours.hypotheses[0].tokens != case.hypotheses[0].1
        };
        cases().iter().filter(differs).count()
    }

    #[test]
    fn hypotheses_equal_those_of_an_independent_search() {
        let cases = cases();
        assert!(cases.len() >= 300);
        let mut largest: f32 = 0.0;
        let (mut inner_ends, mut cut) = (0, 0);
        for case in &cases {
            let ours = found(case, settings(case));
            assert_eq!(ours.steps, case.steps, "{case:?}");
            assert_eq!(ours.hypotheses.len(), case.hypotheses.len(), "{case:?}");
            for (ours, (score, tokens)) in ours.hypotheses.iter().zip(&case.hypotheses) {
                assert_eq!(ours.tokens, *tokens, "{case:?}");
                // Sequences that ended before their time have the score -1e20.
                largest = largest.max((ours.score - score).abs() / score.abs().max(1.0));
            }
            let best = &ours.hypotheses[0].tokens;
            inner_ends += usize::from(
                ours.hypotheses.iter().any(|h| h.tokens[..h.tokens.len() - 1].contains(&END)),
            );
            cut += usize::from(best.last() != Some(&END));
        }
        assert!(largest < 2e-6, "largest relative difference of a score: {largest:e}");
        assert!(inner_ends > 50 && cut > 20, "{inner_ends} with an inner end, {cut} cut");
    }

    #[test]
    fn another_width_penalty_or_length_is_seen() {
        assert!(disagreements(|settings| settings) == 0);
        assert!(disagreements(|settings| BeamSettings { width: 1, ..settings }) > 20);
        assert!(disagreements(|settings| BeamSettings { alpha: 1.0, ..settings }) > 5);
        assert!(disagreements(|settings| BeamSettings { alpha: 0.4, ..settings }) > 2);
        assert!(disagreements(|settings| BeamSettings { min_length: 0, ..settings }) > 5);
        let longer = |settings: BeamSettings| BeamSettings {
            max_length: settings.max_length + 1,
            ..settings
        };
        assert!(disagreements(longer) > 20);
    }

    #[test]
    fn leaving_early_changes_no_answer_and_saves_steps() {
        let (mut early, mut all) = (0, 0);
        for case in &cases() {
            let settings = BeamSettings { early_stopping: true, ..settings(case) };
            let ours = found(case, settings);
            assert_eq!(ours.hypotheses[0].tokens, case.hypotheses[0].1, "{case:?}");
            early += ours.steps;
            all += case.steps;
        }
        assert!(early < all, "{early} of {all} steps");
    }

    #[test]
    fn questions_together_are_answered_as_each_alone() {
        let cases = cases();
        let like = |case: &&Case| (case.width, case.min_length, case.max_length) == (5, 1, 10);
        let together: Vec<&Case> = cases.iter().filter(like).take(40).collect();
        assert!(together.len() == 40);
        let settings = settings(together[0]);
        let found_together =
            search(&mut Drawn::new(together.clone()), together.len(), settings).unwrap();
        for (case, ours) in together.iter().zip(found_together) {
            assert_eq!(ours, found(case, settings));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        struct Same(f32);
        impl NextTokenScores for Same {
            fn step(&mut self, parents: &[usize], _: &[u32]) -> Result<Vec<Vec<f32>>> {
                Ok(vec![vec![self.0; 6]; parents.len()])
            }
        }
        let settings = settings(&cases()[0]);
        for bad in [f32::NAN, f32::NEG_INFINITY, f32::INFINITY] {
            let error = search(&mut Same(bad), 1, settings).unwrap_err();
            assert!(error.to_string().contains("no numbers"), "{error}");
        }
        let found = search(&mut Same(0.0), 2, BeamSettings { width: 5, ..settings }).unwrap();
        assert!((found[1].watched - 1.0 / 6.0).abs() < 1e-7);
        let wide = BeamSettings { width: 7, ..settings };
        assert!(search(&mut Same(0.0), 1, wide).unwrap_err().to_string().contains("fewer words"));
    }
}
