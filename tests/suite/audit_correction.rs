//! Corrected figures against what labels of everything give, and of a worn judge against the clean one.

use std::collections::HashMap;
use std::path::Path;

use crate::audit_fixture::{identity, label};
use dpg_bench::aggregate::Protocol;
use dpg_bench::audit::correction::{Correction, CorrectionError, RuleStage, ScoredRun};
use dpg_bench::audit::{
    AskedFor, AuditSample, JudgedRun, Labels, Population, UnitKind, compare_corrected,
};
use dpg_bench::benchmark::{Benchmark, Item, Strictness};
use dpg_bench::results::{
    AnswerOutcome, AnswerRecord, ImageOutcome, ImageRecord, NewestAnswers, QuestionAnswer,
};
use dpg_bench::score::{RunScore, score_run};

/// Answers of a run as yes or no, by item, image and question (from 0).
type Words<'w> = &'w dyn Fn(usize, u32, usize) -> bool;

/// A run with the answers of one judge, and people who can be asked.
struct Run {
    items: Vec<Item>,
    per_item: u32,
    images: Vec<ImageRecord>,
}

impl Run {
    fn new(items: Vec<Item>, per_item: u32) -> Self {
        let mut images = Vec::new();
        for item in &items {
            for image in 0..per_item {
                let outcome = ImageOutcome::Done {
                    pixels_sha256: format!("pixels of {}, {image}", item.id),
                    width: 4,
                    height: 4,
                    seed: None,
                    prompt_tokens: None,
                    truncated: None,
                    source: None,
                    control_sha256: None,
                    served: None,
                };
                images.push(ImageRecord { item: item.id.clone(), image, outcome });
            }
        }
        Self { items, per_item, images }
    }

    fn records(&self, says: Words<'_>) -> Vec<AnswerRecord> {
        let mut records = Vec::new();
        for (place, item) in self.items.iter().enumerate() {
            for image in 0..self.per_item {
                let answers = item.graph.questions().iter().enumerate().map(|(q, asked)| {
                    let text = if says(place, image, q) { "yes" } else { "no" }.to_owned();
                    let outcome =
                        AnswerOutcome::Answered { text, raw: None, yes_probability: None };
                    QuestionAnswer::new(asked.id, outcome)
                });
                records.push(AnswerRecord {
                    item: item.id.clone(),
                    image,
                    pixels_sha256: Some(format!("pixels of {}, {image}", item.id)),
                    answers: answers.collect(),
                });
            }
        }
        records
    }

    /// What `look` makes of the run with these answers.
    fn scored<T>(
        &self,
        judge: Words<'_>,
        others: &[(&str, Words<'_>)],
        look: impl FnOnce(&ScoredRun<'_, '_>) -> T,
    ) -> T {
        let items: Vec<&Item> = self.items.iter().collect();
        let under = |records: &[AnswerRecord]| {
            let answers = NewestAnswers::merge(records).unwrap();
            score_run(&items, &answers, self.per_item, Protocol::Corrected)
        };
        let others: Vec<(String, RunScore<'_>)> = others
            .iter()
            .map(|(name, says)| ((*name).to_owned(), under(&self.records(says))))
            .collect();
        let records = self.records(judge);
        let corrected = under(&records);
        let answers = NewestAnswers::merge(&records).unwrap();
        let run = JudgedRun {
            judge: "j",
            benchmark: "0",
            items: &items,
            images_per_item: self.per_item,
            images: &self.images,
            answers: &answers,
        };
        look(&ScoredRun { run, corrected: &corrected, soft: None, others: &others })
    }
}

/// What the labels of `people` say, written and read as files are.
fn labels(sample: &AuditSample, items: &[Item], people: &[(&str, Words<'_>)]) -> Labels {
    labels_of(sample, items, people, &|_| true)
}

/// The same of the questions that are given by their place in the sample.
fn labels_of(
    sample: &AuditSample,
    items: &[Item],
    people: &[(&str, Words<'_>)],
    given: &dyn Fn(usize) -> bool,
) -> Labels {
    let folder = tempfile::tempdir().unwrap();
    let places: HashMap<&str, usize> =
        items.iter().enumerate().map(|(place, item)| (item.id.as_str(), place)).collect();
    let mut paths = Vec::new();
    for (name, says) in people {
        let path = folder.path().join(format!("{name}.jsonl"));
        let mut lines = vec![
            serde_json::to_string(&dpg_bench::audit::labels::LabelHeader::of(sample)).unwrap(),
        ];
        for (place, asked) in sample.questions.iter().enumerate().filter(|(place, _)| given(*place))
        {
            let item = places[asked.item.as_str()];
            let position = items[item].graph.position(asked.question).unwrap();
            let word = if says(item, asked.image, position) { "yes" } else { "no" };
            lines.push(serde_json::to_string(&label(sample, place, name, word)).unwrap());
        }
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        paths.push(path);
    }
    Labels::read(sample, &paths).unwrap()
}

fn drawn(scored: &ScoredRun<'_, '_>, kind: UnitKind, wanted: u64, seed: u64) -> AuditSample {
    let population = Population::of(kind, &scored.run);
    AuditSample::draw(&population, identity(), wanted, seed).unwrap()
}

/// A number that looks random, in 0..1.
fn noise(seed: u64, item: usize, image: u32, question: usize) -> f64 {
    let mut x = seed ^ ((item as u64) << 40) ^ (u64::from(image) << 32) ^ question as u64;
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// Where everything is labelled, the corrected figures are those of people's own answers, scored as any answers are.
#[test]
fn labels_of_everything_give_the_scores_of_peoples_answers() {
    let run = Run::new(crate::audit_fixture::items(12), 2);
    let judge = |item, image, question| noise(1, item, image, question) < 0.8;
    let people = |item, image, question| noise(2, item, image, question) < 0.6;
    let by_hand = run.scored(&people, &[], |scored| {
        let shares = dpg_bench::aggregate::shares::Shares::of(scored.corrected);
        let category = |name: &str, after: bool| {
            let found = shares.l1.iter().find(|category| category.name == name).unwrap();
            if after { found.conditional.value().unwrap() } else { found.raw.value().unwrap() }
        };
        let names = ["global", "entity", "attribute", "relation"];
        let mut values: HashMap<(bool, String), f64> = HashMap::new();
        for after in [false, true] {
            names.iter().for_each(|name| {
                values.insert((after, (*name).to_owned()), category(name, after));
            });
        }
        values.insert((true, "DPG-Bench score".to_owned()), shares.overall.value().unwrap());
        values
    });
    for kind in [UnitKind::Questions, UnitKind::Images] {
        run.scored(&judge, &[], |scored| {
            let sample = drawn(scored, kind, 1_000_000, 1);
            let labels = labels(&sample, &run.items, &[("ann", &people)]);
            let found = Correction::of(scored, &sample, &labels).unwrap();
            assert_eq!((found.drawn, found.labelled, found.cannot_tell), (120, 120, 0));
            let mut compared = 0;
            for figure in &found.figures {
                let key = (figure.stage == RuleStage::AfterRule, figure.name.clone());
                // A category has 24 answers, of 12 items.
                let Some(expected) = by_hand.get(&key) else { continue };
                let Some(corrected) = figure.corrected else {
                    assert!(figure.labels_lacking > 0 && figure.labels < 30);
                    continue;
                };
                for value in [corrected, figure.labels_alone.unwrap()] {
                    assert!((value.percent - 100.0 * expected).abs() < 1e-9, "{figure:?}");
                }
                compared += 1;
            }
            // The score, and the two categories of 48 answers before and after the rule.
            assert_eq!(compared, 3);
            // The judge's own figures are those of the score too.
            let own = dpg_bench::aggregate::shares::Shares::of(scored.corrected);
            let score = found.score().unwrap().judge;
            assert!((score - 100.0 * own.overall.value().unwrap()).abs() < 1e-9);
        });
    }
}

/// Labels that are missing at random move no score to one side, before the rule or after it. (A yes below a question without a
/// label was left out once, where a no counted: two thirds of the labels gave a score several points too low.)
#[test]
fn labels_that_are_missing_at_random_move_no_score_to_one_side() {
    let run = Run::new(crate::audit_fixture::items(40), 2);
    let judge = |item, image, question| noise(1, item, image, question) < 0.85;
    let people = |item, image, question| noise(2, item, image, question) < 0.8;
    run.scored(&judge, &[], |scored| {
        let score = |found: &Correction, stage| {
            let mut figures = found.figures.iter();
            let named = |figure: &&dpg_bench::audit::correction::CorrectedFigure| {
                figure.stage == stage && figure.name == "DPG-Bench score"
            };
            figures.find(named).unwrap().corrected.unwrap().percent
        };
        for kind in [UnitKind::Questions, UnitKind::Images] {
            let sample = drawn(scored, kind, 200, 3);
            let full = labels(&sample, &run.items, &[("ann", &people)]);
            let full = Correction::of(scored, &sample, &full).unwrap();
            assert_eq!(full.rule_open, 0);
            let mut less = [0.0; 2];
            for seed in 0..30 {
                let given = |place: usize| noise(seed, place, 9, 9) < 0.7;
                let part = labels_of(&sample, &run.items, &[("ann", &people)], &given);
                let found = Correction::of(scored, &sample, &part).unwrap();
                assert!(found.rule_open > 0 || kind == UnitKind::Images && found.rule_open == 0);
                for (less, stage) in less.iter_mut().zip(RuleStage::ALL) {
                    *less += (score(&found, stage) - score(&full, stage)) / 30.0;
                }
            }
            assert!(less.iter().all(|less| less.abs() < 1.2), "{kind:?}: {less:?}");
        }
        // Nothing that is asked for the rule alone.
        let sample = drawn(scored, UnitKind::Questions, 60, 4);
        let given = |place: usize| sample.questions[place].asked_for == AskedFor::Sample;
        let part = labels_of(&sample, &run.items, &[("ann", &people)], &given);
        let error = Correction::of(scored, &sample, &part).unwrap_err();
        assert!(matches!(error, CorrectionError::RuleOpen { .. }), "{error}");
        assert!(error.to_string().contains("asked for the rule"), "{error}");
    });
}

/// The judge's sensitivity and specificity where everything is labelled are plain counts.
#[test]
fn rates_of_a_wholly_labelled_run_are_its_counts() {
    let run = Run::new(crate::audit_fixture::items(12), 2);
    let judge = |item, image, question| noise(3, item, image, question) < 0.7;
    let people = |item, image, question| noise(4, item, image, question) < 0.6;
    let mut table = [[0.0_f64; 2]; 2];
    for item in 0..12 {
        for image in 0..2 {
            for question in 0..5 {
                let [p, j] = [people(item, image, question), judge(item, image, question)];
                table[usize::from(p)][usize::from(j)] += 1.0;
            }
        }
    }
    run.scored(&judge, &[("twin", &people)], |scored| {
        let sample = drawn(scored, UnitKind::Questions, 1_000_000, 1);
        let labels = labels(&sample, &run.items, &[("ann", &people)]);
        let found = Correction::of(scored, &sample, &labels).unwrap();
        let [[no_no, no_yes], [yes_no, yes_yes]] = table;
        let all = &found.judge_errors[0];
        let (sensitivity, specificity) = (all.sensitivity.unwrap(), all.specificity.unwrap());
        let expected = 100.0 * yes_yes / (yes_yes + yes_no);
        assert!((sensitivity.percent - expected).abs() < 1e-9, "{sensitivity:?}");
        let expected = 100.0 * no_no / (no_no + no_yes);
        assert!((specificity.percent - expected).abs() < 1e-9, "{specificity:?}");
        assert_eq!((sensitivity.labels, specificity.labels), (yes_yes + yes_no, no_no + no_yes));
        // Another judge that says what people say comes first, and is told apart.
        let names: Vec<&str> = found.judges.iter().map(|judge| judge.judge.as_str()).collect();
        assert_eq!(names, ["twin", "j"]);
        let expected = 100.0 * (yes_yes + no_no) / 120.0;
        assert!((found.judges[1].agreement.percent - expected).abs() < 1e-9);
        let difference = found.judges[0].agreement_less_audited.unwrap();
        assert!((difference.points - (100.0 - expected)).abs() < 1e-9 && difference.low > 0.0);
        assert!(found.judges[0].score_less_corrected.abs() < 1e-9);
    });
}

/// Two annotators who differ count by halves; what cannot be told is left out; kappa is scikit-learn's formula on hand counts.
#[test]
fn annotators_are_averaged_and_their_kappa_is_told() {
    let run = Run::new(crate::audit_fixture::items(12), 2);
    let judge = |_, _, _| true;
    let ann = |item: usize, _: u32, _: usize| item.is_multiple_of(2);
    let bob = |_: usize, image: u32, _: usize| image == 0;
    run.scored(&judge, &[], |scored| {
        let sample = drawn(scored, UnitKind::Questions, 1_000_000, 1);
        let labels = labels(&sample, &run.items, &[("ann", &ann), ("bob", &bob)]);
        let found = Correction::of(scored, &sample, &labels).unwrap();
        let counts: Vec<[u64; 3]> =
            found.annotators.iter().map(|who| [who.yes, who.no, who.cannot_tell]).collect();
        assert_eq!(counts, [[60, 60, 0], [60, 60, 0]]);
        let [pair] = found.annotator_agreement.as_slice() else { panic!() };
        // A quarter of each of yes/yes, yes/no, no/yes and no/no: no more than by chance.
        assert_eq!((pair.questions, pair.equal, pair.kappa), (120, 60, Some(0.0)));
        let raw = found.figures.iter().find(|figure| figure.stage == RuleStage::BeforeRule);
        assert!((raw.unwrap().corrected.unwrap().percent - 50.0).abs() < 1e-9);
        let all = &found.judge_errors[0];
        assert_eq!(all.sensitivity.unwrap().labels, 60.0);
        assert_eq!(all.sensitivity.unwrap().percent, 100.0);
        assert_eq!(all.specificity.unwrap().percent, 0.0);
    });
}

#[test]
fn too_few_labels_are_refused_with_how_many_are_lacking() {
    let run = Run::new(crate::audit_fixture::items(12), 2);
    let says = |_, _, _| true;
    run.scored(&says, &[], |scored| {
        let sample = drawn(scored, UnitKind::Questions, 40, 1);
        let mut labels = labels(&sample, &run.items, &[("ann", &says)]);
        assert!(Correction::of(scored, &sample, &labels).is_ok());
        labels.labels.truncate(20);
        let error = Correction::of(scored, &sample, &labels).unwrap_err();
        assert!(matches!(error, CorrectionError::TooFew { .. }), "{error}");
        let sentence = error.to_string();
        assert!(sentence.contains("a corrected score needs 30 of 10 items"), "{sentence}");
    });
}

/// Items of the demo, with what demo-judge and the checker say of a whole run (tests/fixtures/make_demo_answers.py).
struct Demo {
    run: Run,
    judge: Vec<Vec<Vec<bool>>>,
    checker: Vec<Vec<Vec<bool>>>,
}

fn demo() -> Demo {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let benchmark = Benchmark::load(&root.join("benchmark/demo"), Strictness::Strict).unwrap();
    let text = std::fs::read_to_string(root.join("tests/fixtures/audit/demo_answers.csv")).unwrap();
    let mut said: HashMap<(String, u32), [Vec<bool>; 2]> = HashMap::new();
    for line in text.lines().skip(1) {
        let [item, image, judge, checker] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let words = [judge, checker].map(|words| words.chars().map(|c| c == 'y').collect());
        said.insert((item.to_owned(), image.parse().unwrap()), words);
    }
    let items = benchmark.items;
    let of = |whose: usize| -> Vec<Vec<Vec<bool>>> {
        let images = |item: &Item| -> Vec<Vec<bool>> {
            (0..4).map(|image| said[&(item.id.clone(), image)][whose].clone()).collect()
        };
        items.iter().map(images).collect()
    };
    let (judge, checker) = (of(0), of(1));
    Demo { run: Run::new(items, 4), judge, checker }
}

/// Where the judge's answers are worn down, 200 labels that say what the clean judge says bring the score back.
#[test]
fn a_worn_judge_is_corrected_to_the_clean_one() {
    let Demo { run, judge, .. } = demo();
    let clean = |item: usize, image: u32, question: usize| judge[item][image as usize][question];
    let clean_score = run.scored(&clean, &[], |scored| 100.0 * mean(scored.corrected));
    let (mut held, mut raw_held) = (0, 0);
    for seed in 0..100 {
        let worn = |item: usize, image: u32, question: usize| {
            let flip = noise(seed + 1000, item, image, question);
            let yes = clean(item, image, question);
            if yes { flip >= 0.1 } else { flip < 0.3 }
        };
        run.scored(&worn, &[], |scored| {
            let sample = drawn(scored, UnitKind::Questions, 200, seed);
            let labels = labels(&sample, &run.items, &[("ann", &clean)]);
            let found = Correction::of(scored, &sample, &labels).unwrap();
            let score = found.score().unwrap();
            let corrected = score.corrected.unwrap();
            held += u32::from((corrected.low..=corrected.high).contains(&clean_score));
            let shares = dpg_bench::aggregate::shares::Shares::of(scored.corrected);
            let interval = shares.overall.interval(0.95).unwrap();
            let (low, high) = (100.0 * interval.low, 100.0 * interval.high);
            raw_held += u32::from((low..=high).contains(&clean_score));
        });
    }
    assert!(held >= 93, "{held} of 100 corrected intervals hold {clean_score}");
    assert!(raw_held <= 5, "{raw_held} of 100 raw intervals hold {clean_score}");
}

fn mean(score: &RunScore<'_>) -> f64 {
    dpg_bench::aggregate::shares::Shares::of(score).overall.value().unwrap()
}

/// The checker says what is drawn. By its labels of whole images or of single questions the interval of demo-judge's run holds the
/// checker's own score.
#[test]
fn the_demos_audit_holds_the_checkers_score() {
    let Demo { run, judge, checker } = demo();
    let judge = |item: usize, image: u32, question: usize| judge[item][image as usize][question];
    let people = |item: usize, image: u32, question: usize| checker[item][image as usize][question];
    let by_people = run.scored(&people, &[], |scored| 100.0 * mean(scored.corrected));
    for kind in [UnitKind::Questions, UnitKind::Images] {
        let mut held = 0;
        for seed in 0..40 {
            run.scored(&judge, &[], |scored| {
                let sample = drawn(scored, kind, 300, seed);
                let labels = labels(&sample, &run.items, &[("checker", &people)]);
                let found = Correction::of(scored, &sample, &labels).unwrap();
                let corrected = found.score().unwrap().corrected.unwrap();
                held += u32::from((corrected.low..=corrected.high).contains(&by_people));
            });
        }
        assert!(held >= 37, "{kind:?}: {held} of 40 intervals hold {by_people}");
    }
}

/// What users see of the demo's audit: the tables that docs/trust.md explains.
#[test]
fn the_tables_of_the_demos_audit() {
    let Demo { run, judge, checker } = demo();
    let judge = |item: usize, image: u32, question: usize| judge[item][image as usize][question];
    let people = |item: usize, image: u32, question: usize| checker[item][image as usize][question];
    let yes = |_: usize, _: u32, _: usize| true;
    run.scored(&judge, &[("always-yes", &yes)], |scored| {
        let sample = drawn(scored, UnitKind::Questions, 200, 0);
        let labels = labels(&sample, &run.items, &[("checker", &people)]);
        let found = Correction::of(scored, &sample, &labels).unwrap();
        let text = dpg_bench::reports::correction_text(&found);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(
            text.lines().filter(|line| line.contains('─')).all(|line| line.chars().count() <= 80)
        );
        assert!(widest <= 160, "{widest}");
        crate::tables::assert_snapshot("audit_correction_text", &text);
        crate::tables::assert_snapshot(
            "audit_correction_markdown",
            &dpg_bench::reports::correction_markdown(&found),
        );
        let csv = String::from_utf8(dpg_bench::reports::correction_csv(&found).unwrap()).unwrap();
        let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.len() == 13 && rows.iter().all(|row| row.len() == 22));
        assert_eq!(rows[1][..2], ["before_rule", "DPG-Bench score"]);
        let stored = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Correction>(&stored).unwrap(), found);
    });
}

/// Two runs whose judge is worn by different amounts, with people who see no difference: nothing differs; and with people who do.
#[test]
fn corrected_runs_are_compared_by_their_items() {
    let Demo { run, checker, .. } = demo();
    let people = |item: usize, image: u32, question: usize| checker[item][image as usize][question];
    let worse = |item: usize, image: u32, question: usize| {
        people(item, image, question) && noise(77, item, image, question) > 0.3
    };
    let strict = |item: usize, image: u32, question: usize| {
        people(item, image, question) && noise(7, item, image, question) > 0.25
    };
    run.scored(&people, &[], |base| {
        let sample = drawn(base, UnitKind::Questions, 400, 1);
        let base_labels = labels(&sample, &run.items, &[("ann", &people)]);
        for (judge, truth, differs) in
            [(&strict as Words<'_>, &people as Words<'_>, false), (&people, &worse, true)]
        {
            run.scored(judge, &[], |other| {
                let other_sample = drawn(other, UnitKind::Questions, 400, 2);
                let other_labels = labels(&other_sample, &run.items, &[("ann", truth)]);
                let found = compare_corrected(
                    (base, &sample, &base_labels),
                    (other, &other_sample, &other_labels),
                )
                .unwrap();
                assert_eq!((found.items, found.only_base, found.only_other), (72, 0, 0));
                let score = found
                    .figures
                    .iter()
                    .find(|row| row.stage == RuleStage::AfterRule && row.name == "DPG-Bench score");
                let score = score.unwrap();
                let holds_none = score.difference.low <= 0.0 && score.difference.high >= 0.0;
                assert_eq!(holds_none, !differs, "{score:?}");
                assert_eq!(score.p < 0.05, differs, "{score:?}");
                assert!(!differs || score.difference.points < -20.0, "{score:?}");
            });
        }
    });
}

/// Of categories the p-value is corrected as SciPy's and R's Holm corrects it, and small ones are counted in place of a figure.
#[test]
fn categories_are_corrected_by_holm_and_small_ones_counted() {
    let Demo { run, checker, .. } = demo();
    let people = |item: usize, image: u32, question: usize| checker[item][image as usize][question];
    let worse = |item: usize, image: u32, question: usize| {
        people(item, image, question) && noise(77, item, image, question) > 0.04
    };
    run.scored(&people, &[], |base| {
        run.scored(&worse, &[], |other| {
            let samples = [base, other].map(|scored| drawn(scored, UnitKind::Questions, 160, 1));
            let of =
                |side: usize, says: Words<'_>| labels(&samples[side], &run.items, &[("ann", says)]);
            let given = [of(0, &people), of(1, &worse)];
            let found =
                compare_corrected((base, &samples[0], &given[0]), (other, &samples[1], &given[1]))
                    .unwrap();
            for stage in RuleStage::ALL {
                let figures: Vec<_> =
                    found.figures.iter().filter(|figure| figure.stage == stage).collect();
                let (score, categories) = figures.split_first().unwrap();
                assert_eq!((score.name.as_str(), score.p), ("DPG-Bench score", score.p_holm));
                let mut order = categories.to_vec();
                order.sort_by(|a, b| a.p.total_cmp(&b.p));
                let mut highest = 0.0_f64;
                for (rank, figure) in order.iter().enumerate() {
                    highest = highest.max((figure.p * (order.len() - rank) as f64).min(1.0));
                    assert_eq!(figure.p_holm, highest, "{figure:?}");
                }
                assert!(order.len() > 1 && order[0].p_holm > order[0].p);
                let left_out: Vec<_> =
                    found.left_out.iter().filter(|one| one.stage == stage).collect();
                assert_eq!(figures.len() + left_out.len(), 6);
                assert!(!left_out.is_empty());
                for one in left_out {
                    let counts = [one.base, one.other];
                    assert!(counts.iter().any(|c| c.labels < 30 || c.items < 10), "{one:?}");
                    assert!(counts.iter().all(|c| c.labels > 0), "{one:?}");
                }
            }
        });
    });
}

/// Of runs with other items those are compared that both have: what is compared then is what a run of these alone gives, for where
/// everything is labelled nothing is left to chance.
#[test]
fn runs_with_other_items_are_compared_over_those_that_both_have() {
    let Demo { run, checker, .. } = demo();
    let people = |item: usize, image: u32, question: usize| checker[item][image as usize][question];
    let judge = |item: usize, image: u32, question: usize| {
        people(item, image, question) != (noise(5, item, image, question) < 0.1)
    };
    // The other run begins at item 20, with people who say no now and then.
    let shorter = Run::new(run.items[20..].to_vec(), 4);
    let worse = |item: usize, image: u32, question: usize| {
        people(item + 20, image, question) && noise(77, item + 20, image, question) > 0.1
    };
    let shorter_judge =
        |item: usize, image: u32, question: usize| judge(item + 20, image, question);
    let tail = Run::new(run.items[20..].to_vec(), 4);
    let tail_people = |item: usize, image: u32, question: usize| people(item + 20, image, question);
    let audit = |scored: &ScoredRun<'_, '_>, items: &[Item], says: Words<'_>| {
        let sample = drawn(scored, UnitKind::Questions, 1_000_000, 1);
        let given = labels(&sample, items, &[("ann", says)]);
        (sample, given)
    };
    shorter.scored(&shorter_judge, &[], |other| {
        let (other_sample, other_labels) = audit(other, &shorter.items, &worse);
        let compared = |base: &ScoredRun<'_, '_>, items: &[Item], says: Words<'_>| {
            let (sample, given) = audit(base, items, says);
            let other = (other, &other_sample, &other_labels);
            compare_corrected((base, &sample, &given), other).unwrap()
        };
        let whole = run.scored(&judge, &[], |base| compared(base, &run.items, &people));
        let alone =
            tail.scored(&shorter_judge, &[], |base| compared(base, &tail.items, &tail_people));
        assert_eq!((whole.items, whole.only_base, whole.only_other), (52, 20, 0));
        assert_eq!((alone.items, alone.only_base, alone.only_other), (52, 0, 0));
        assert_eq!(whole.figures.len(), alone.figures.len());
        for (whole, alone) in whole.figures.iter().zip(&alone.figures) {
            assert_eq!(whole.name, alone.name);
            let near = |a: f64, b: f64, within: f64| (a - b).abs() <= within;
            assert!(near(whole.base.percent, alone.base.percent, 1e-9), "{whole:?} {alone:?}");
            assert!(near(whole.difference.points, alone.difference.points, 1e-9));
            let errors = [whole, alone].map(|one| [one.base.standard_error, one.p]);
            assert!(near(errors[0][0], errors[1][0], 1e-9), "{whole:?} {alone:?}");
            assert!(near(errors[0][1], errors[1][1], 1e-9), "{whole:?} {alone:?}");
        }
        // Of no item in common nothing is compared.
        let head = Run::new(run.items[..20].to_vec(), 4);
        head.scored(&judge, &[], |base| {
            let (sample, given) = audit(base, &head.items, &people);
            let other = (other, &other_sample, &other_labels);
            let error = compare_corrected((base, &sample, &given), other).unwrap_err();
            assert!(matches!(error, CorrectionError::NothingShared), "{error}");
        });
    });
}

/// Labels that are filled in with the mean of others tell nothing new. Of 300 made-up audits, in which a third of the questions asked
/// for the rule lack a label, as many intervals hold the true share as are to: 285. As if
/// each had a label of its own, 239 do.
#[test]
fn intervals_after_the_rule_know_of_shares_that_are_filled_in() {
    let judge = |item, image, question| noise(1, item, image, question) < 0.85;
    let (mut held, mut half, audits) = ([0; 2], [0.0; 2], 300);
    for seed in 0..audits {
        let run = Run::new(crate::audit_fixture::items(60), 2);
        let people =
            |item, image, question| noise(1_000_000 + 977 * seed, item, image, question) < 0.8;
        run.scored(&judge, &[], |scored| {
            let sample = drawn(scored, UnitKind::Questions, 240, seed);
            let given = |place: usize| {
                sample.questions[place].asked_for == AskedFor::Sample
                    || noise(31 * seed + 7, place, 9, 9) < 0.65
            };
            let part = labels_of(&sample, &run.items, &[("ann", &people)], &given);
            let found = Correction::of(scored, &sample, &part).unwrap();
            assert!(found.rule_open > 0 && found.labelled == 240);
            let mut figures = found.figures.iter();
            let relation = figures
                .find(|one| one.stage == RuleStage::AfterRule && one.name == "relation")
                .unwrap();
            // A yes, below two others, one of which is below a third.
            let truth = 100.0 * 0.8_f64.powi(4);
            for (place, value) in
                [relation.corrected, relation.labels_alone].into_iter().enumerate()
            {
                let value = value.unwrap();
                held[place] += u32::from((value.low..=value.high).contains(&truth));
                half[place] += (value.high - value.low) / 2.0 / audits as f64;
            }
        });
    }
    assert!(
        held.iter().all(|held| (279..=297).contains(held)),
        "{held:?} of {audits}, half {half:?}"
    );
}

/// A run that was judged again is another population.
#[test]
fn labels_of_other_answers_are_refused() {
    let run = Run::new(crate::audit_fixture::items(12), 2);
    let (yes, no) = (|_: usize, _: u32, _: usize| true, |_: usize, _: u32, _: usize| false);
    let sample = run.scored(&yes, &[], |scored| drawn(scored, UnitKind::Questions, 60, 1));
    run.scored(&no, &[], |scored| {
        let error = Correction::of(scored, &sample, &Labels::default()).unwrap_err();
        assert!(matches!(error, CorrectionError::Sample(_)), "{error}");
    });
}
