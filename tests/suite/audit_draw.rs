//! What an audit draws: with the frequencies that its weights state, the same for a seed, of strata that follow from written rules.

use std::collections::{BTreeMap, HashMap};

use dpg_bench::audit::{AskedFor, AuditSample, Population, SampleError, Strata, UnitKind};

use super::audit_fixture::{Answer, IMAGES, Judged, identity};

/// Answers of which some of each kind are there: sure and unsure, yes and no.
fn mixed(item: usize, image: u32, question: usize) -> Answer {
    let p = ((item * 7 + image as usize * 3 + question * 5) % 20) as f64 / 19.0;
    Some((if p >= 0.5 { "yes" } else { "no" }, Some(p)))
}

fn sample(population: &Population<'_>, wanted: u64, seed: u64) -> AuditSample {
    AuditSample::draw(population, identity(), wanted, seed).unwrap()
}

/// Names of strata with their units and how many are drawn.
fn strata(population: &Population<'_>, wanted: u64) -> Vec<(String, u64, u64)> {
    let strata = Strata::of(population, wanted).strata;
    strata.into_iter().map(|stratum| (stratum.name, stratum.units, stratum.drawn)).collect()
}

fn named(strata: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    strata.iter().map(|&(name, units, drawn)| (name.to_owned(), units, drawn)).collect()
}

/// Every unit as often as its stratum's share says, and every two of a stratum as often as in a simple random sample.
#[test]
fn units_are_drawn_as_often_as_their_weights_say() {
    const SEEDS: u64 = 3000;
    for kind in [UnitKind::Questions, UnitKind::Images] {
        Judged::new(12, mixed).population(kind, |population| {
            let strata = Strata::of(population, 40);
            let mut times = vec![0_u32; population.units.len()];
            let mut first = vec![0_u32; population.units.len()];
            let mut pairs: HashMap<(usize, usize), u32> = HashMap::new();
            for seed in 0..SEEDS {
                let mut drawn = strata.draw(seed);
                assert_eq!(drawn.len() as u64, strata.drawn());
                first[drawn[0]] += 1;
                drawn.sort_unstable();
                for (place, &one) in drawn.iter().enumerate() {
                    times[one] += 1;
                    for &other in &drawn[place + 1..] {
                        *pairs.entry((one, other)).or_default() += 1;
                    }
                }
            }
            let check = |times: u32, share: f64, what: &str| {
                let spread = (SEEDS as f64 * share * (1.0 - share)).sqrt().max(1e-9);
                let z = (f64::from(times) - SEEDS as f64 * share) / spread;
                assert!(z.abs() < 5.0, "{kind:?}, {what}: {times} of {SEEDS}, z {z}");
            };
            for (unit, &times) in times.iter().enumerate() {
                let stratum = &strata.strata[strata.of_unit[unit]];
                check(times, 1.0 / stratum.weight(), &format!("unit {unit}"));
                // The order is random over all strata.
                check(first[unit], 1.0 / stratum.weight() / strata.drawn() as f64, "first");
            }
            for one in 0..population.units.len() {
                for other in one + 1..population.units.len() {
                    let [a, b] = [one, other].map(|unit| strata.of_unit[unit]);
                    let shares = [a, b].map(|place| 1.0 / strata.strata[place].weight());
                    let (units, drawn) =
                        (strata.strata[a].units as f64, strata.strata[a].drawn as f64);
                    let share = match a == b {
                        true => drawn * (drawn - 1.0) / (units * (units - 1.0)),
                        false => shares[0] * shares[1],
                    };
                    let times = pairs.get(&(one, other)).copied().unwrap_or_default();
                    check(times, share, &format!("units {one} and {other}"));
                }
            }
            // Estimated from the sample with the weights, the number of units is right in each one.
            let total: f64 = strata.strata.iter().map(|s| s.weight() * s.drawn as f64).sum();
            assert!((total - population.units.len() as f64).abs() < 1e-9);
        });
    }
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.json");
    Judged::new(12, mixed).population(UnitKind::Questions, |population| {
        let one = sample(population, 30, 7);
        one.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(AuditSample::read(&path).unwrap(), one);
        sample(population, 30, 7).write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let other = sample(population, 30, 8);
        assert_ne!(other.sha256, one.sha256);
        assert_ne!(other.questions, one.questions);
        // What an annotator may come to see holds nothing that the judge said.
        assert!(!String::from_utf8(bytes).unwrap().contains("probability"));
    });
}

#[test]
fn each_category_reading_and_sureness_is_a_stratum() {
    // Entities: two questions of each of 10 images; of each image the first is sure of yes, the fourth unsure of no.
    let answer = |_, _, question| match question {
        0 => Some(("yes", Some(0.9))),
        3 => Some(("no", Some(0.4))),
        4 => Some(("two", None)),
        _ => Some(("no", Some(0.1))),
    };
    Judged::new(5, answer).population(UnitKind::Questions, |population| {
        let expected = named(&[
            ("global, not yes", 10, 4),
            ("entity, yes, sure", 10, 4),
            ("entity, not yes, unsure", 10, 4),
            ("attribute, not yes, sure", 10, 4),
            ("relation, not yes, sure", 10, 4),
        ]);
        assert_eq!(strata(population, 20), expected);
        // All of them, where more are wanted than there are.
        assert_eq!(strata(population, 999).iter().map(|(.., drawn)| drawn).sum::<u64>(), 50);
    });
}

#[test]
fn small_strata_are_joined_with_the_neighbour_that_is_most_like_them() {
    // One question of the first category of the table is unsure, and one attribute a no.
    let answer = |item, image, question| {
        let is_first = item == 0 && image == 0;
        match question {
            4 if is_first => Some(("yes", Some(0.6))),
            1 if is_first => Some(("no", Some(0.1))),
            _ => Some(("yes", Some(1.0))),
        }
    };
    Judged::new(5, answer).population(UnitKind::Questions, |population| {
        let expected = named(&[
            ("global, yes, sure + global, yes, unsure", 10, 5),
            ("entity, yes, sure", 20, 7),
            // Not with the relations behind it.
            ("attribute, yes, sure + attribute, not yes, sure", 10, 5),
            ("relation, yes, sure", 10, 5),
        ]);
        let found = strata(population, 22);
        let rounded = found.iter().map(|(.., drawn)| drawn).sum::<u64>();
        assert_eq!((found, rounded), (expected, 22));
        // Four strata need eight units: for seven labels the smallest is joined (of equal ones the first, with the only neighbour).
        let expected = named(&[
            ("global, yes, sure + global, yes, unsure + entity, yes, sure", 30, 3),
            ("attribute, yes, sure + attribute, not yes, sure", 10, 2),
            ("relation, yes, sure", 10, 2),
        ]);
        assert_eq!(strata(population, 7), expected);
        assert_eq!(strata(population, 1).len(), 1);
    });
}

#[test]
fn what_a_drawn_question_depends_on_is_asked_too_and_carries_no_weight() {
    Judged::new(12, mixed).population(UnitKind::Questions, |population| {
        let sample = sample(population, 24, 3);
        assert_eq!(sample.count(AskedFor::Sample), 24);
        let mut asked_about: BTreeMap<(&str, u32), Vec<(u32, AskedFor)>> = BTreeMap::new();
        let mut order = Vec::new();
        for asked in &sample.questions {
            let image = (asked.item.as_str(), asked.image);
            if order.last() != Some(&image) {
                order.push(image);
            }
            asked_about.entry(image).or_default().push((asked.question, asked.asked_for));
            assert_eq!(asked.stratum.is_some(), asked.asked_for == AskedFor::Sample);
        }
        // All about one image stands together.
        assert_eq!(order.len(), asked_about.len());
        let mut rules = 0;
        for (image, asked) in asked_about {
            let place = |id| asked.iter().position(|(question, _)| *question == id);
            for (number, (question, why)) in asked.iter().enumerate() {
                let above: &[u32] = match question {
                    2 => &[1],
                    3 => &[1, 2, 4],
                    _ => &[],
                };
                assert!(above.iter().all(|&id| place(id) < Some(number)), "{image:?} {asked:?}");
                assert!(above.iter().all(|&id| place(id).is_some()), "{image:?} {asked:?}");
                if *why == AskedFor::Rule {
                    rules += 1;
                    let children: &[u32] = if *question == 2 { &[3] } else { &[2, 3] };
                    let drawn = |(id, why): &(u32, AskedFor)| {
                        children.contains(id) && *why == AskedFor::Sample
                    };
                    assert!(asked.iter().any(drawn), "{image:?} {asked:?}");
                }
            }
        }
        assert!(rules > 3, "{rules}");
        assert_eq!(sample.questions.len(), 24 + rules);
    });
}

#[test]
fn images_are_drawn_whole_by_thirds_of_yes() {
    // Item i has i + 1 of 5 yes, on both images.
    let answer = |item, _, question| Some((if question <= item { "yes" } else { "no" }, None));
    Judged::new(5, answer).population(UnitKind::Images, |population| {
        let expected = named(&[
            ("low third of yes", 4, 2),
            ("middle third of yes", 2, 2),
            ("high third of yes", 4, 2),
        ]);
        // Thirty answers are six images of five questions each.
        assert_eq!(strata(population, 30), expected);
        let sample = sample(population, 28, 1);
        assert_eq!((sample.drawn(), sample.questions.len(), sample.images()), (6, 30, 6));
        assert_eq!(sample.count(AskedFor::Rule), 0);
    });
    Judged::new(5, |_, _, _| Some(("yes", None))).population(UnitKind::Images, |population| {
        assert_eq!(strata(population, 30), named(&[("middle third of yes", 10, 6)]));
    });
}

#[test]
fn what_has_no_image_or_no_answer_is_left_out() {
    let answer =
        |item, image, question| (item > 0 || image > 0 || question > 1).then_some(("yes", None));
    let mut judged = Judged::new(3, answer);
    judged.images.retain(|record| (record.item.as_str(), record.image) != ("item2", 1));
    // Answers about another image than the stored one.
    judged.records[2].pixels_sha256 = Some("of earlier pixels".to_owned());
    let all = 3 * IMAGES as usize * 5;
    judged.population(UnitKind::Questions, |population| {
        assert_eq!((population.units.len(), population.left_out), (all - 2 - 5 - 5, 12));
    });
    judged.population(UnitKind::Images, |population| {
        assert_eq!((population.units.len(), population.left_out), (3, 3));
    });
    let none = Judged::new(1, |_, _, question| (question == 9).then_some(("yes", None)));
    let refused = none.population(UnitKind::Questions, |population| {
        AuditSample::draw(population, identity(), 10, 0).unwrap_err().to_string()
    });
    assert_eq!(
        refused,
        "0 questions can be drawn, and an audit needs two: it takes answered questions about stored images (10 left out)"
    );
}

#[test]
fn a_run_that_has_grown_or_was_judged_again_is_refused() {
    let answer = |_, _, question| Some((if question == 0 { "no" } else { "yes" }, Some(0.9)));
    let drawn = Judged::new(4, answer).population(UnitKind::Questions, |population| {
        let drawn = sample(population, 12, 0);
        let strata = drawn.strata_of(population).unwrap();
        // What the sample says of a drawn question's stratum is what the population says.
        for asked in drawn.questions.iter().filter(|asked| asked.stratum.is_some()) {
            let unit = population.units.iter().position(|unit| {
                let question = &unit.item.graph.questions()[unit.question.unwrap()];
                (unit.item.id.as_str(), unit.image, question.id) == asked.key()
            });
            assert_eq!(strata.of_unit.get(unit.unwrap()), asked.stratum.as_ref());
        }
        drawn
    });
    let refused = |judged: &Judged| {
        let found =
            judged.population(UnitKind::Questions, |population| drawn.strata_of(population));
        match found.unwrap_err() {
            error @ SampleError::OtherAnswers { .. } => error.to_string(),
            other => panic!("{other}"),
        }
    };
    let grown = refused(&Judged::new(5, answer));
    assert_eq!(
        grown,
        "the run has grown or was judged again since the audit was drawn (answers of `j` to draw from: 40 units then, 50 units now): \
         labels that were given for it fit the earlier answers alone; put those back, or draw another audit with --labels-wanted N \
         --name NAME and have it labelled"
    );
    // The strata are the same, one P(yes) is not.
    let again = |item, image, question| {
        let p = if (item, image, question) == (1, 1, 1) { 0.91 } else { 0.9 };
        Some((if question == 0 { "no" } else { "yes" }, Some(p)))
    };
    assert!(
        refused(&Judged::new(4, again))
            .starts_with("the run was judged again by `j`, or its images were")
    );
    // So does one that was drawn just now under the same name: of the same judge it can be of no other answers.
    let new = Judged::new(4, again).population(UnitKind::Questions, |p| sample(p, 30, 7));
    assert!(matches!(drawn.ensure_answers_of(&new), Err(SampleError::OtherAnswers { .. })));
    let another = Judged::new(4, answer).population(UnitKind::Questions, |p| sample(p, 30, 7));
    assert!(drawn.ensure_answers_of(&another).is_ok());
    let images = Judged::new(4, again).population(UnitKind::Images, |p| sample(p, 30, 7));
    assert!(drawn.ensure_answers_of(&images).is_ok());
    let mut other_image = Judged::new(4, answer);
    for record in &mut other_image.records {
        record.pixels_sha256 = None;
    }
    assert!(other_image.population(UnitKind::Questions, |p| drawn.strata_of(p).is_ok()));
}

#[test]
fn a_sample_that_was_edited_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.json");
    let drawn = Judged::new(4, mixed).population(UnitKind::Questions, |p| sample(p, 12, 0));
    let refused = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = serde_json::to_value(&drawn).unwrap();
        edit(&mut json);
        std::fs::write(&path, json.to_string()).unwrap();
        let error = AuditSample::read(&path).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "SAMPLE")
    };
    let said = [
        refused(&|json| json["format_version"] = "2.0".into()),
        refused(&|json| json["kind"] = "baseline".into()),
        refused(&|json| json["unit"] = "pages".into()),
        refused(&|json| {
            let first = json["questions"][0].clone();
            json["questions"].as_array_mut().unwrap().push(first);
        }),
        refused(&|json| json["questions"][0]["stratum"] = 99.into()),
        refused(&|json| {
            let drawn = json["strata"][0]["drawn"].as_u64().unwrap();
            json["strata"][0]["drawn"] = (drawn + 1).into();
        }),
    ];
    let expected = [
        "SAMPLE has format version 2.0, this program reads 1.0; update dpg-bench",
        "SAMPLE: it is a file of kind `baseline`; the sample",
        "SAMPLE is no sample of an audit: unknown variant `pages`",
        "stands twice; the sample was edited or damaged",
        "has no stratum that there is; the sample",
        "units are drawn and",
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}");
    }
    let error = AuditSample::read(&folder.path().join("none.json")).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("none.json"), "{error}");
}
