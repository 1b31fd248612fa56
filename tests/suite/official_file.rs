//! The official question file, where it is there: what the program says of it against counts and scores
//! made by independent scripts, and how it is told in copies. Small made-up items carry its oddities too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dpg_bench::aggregate::benchmark_score::benchmark_score;
use dpg_bench::aggregate::{CategoryFigure, Shares, category_figures};
use dpg_bench::benchmark::official::is_as_published;
use dpg_bench::benchmark::{
    Benchmark, DeclaredParent, FindingKind, Item, Question, QuestionGraph, Strictness,
};
use dpg_bench::forensics::known_counts::{KNOWN_COUNTS, TOTAL};
use dpg_bench::results::{AnswerOutcome, AnswerRecord, NewestAnswers, QuestionAnswer};
use dpg_bench::score::dependency_rule::in_topological_order;
use dpg_bench::score::{Protocol, Verdict, score_run};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::benchmark::shared_data;
use super::seeded_answers;

const FILE: &str = "dpg_bench/dpg_bench.csv";
const IMAGES: u32 = 4;
/// The edges that are left out, as docs/protocols.md lists them: item, question, parent.
const CUT: [(&str, u32, u32); 5] = [
    ("partiprompts33", 3, 2),
    ("partiprompts313", 9, 8),
    ("partiprompts111", 14, 12),
    ("partiprompts208", 11, 10),
    ("COCOval2014000000092768", 15, 14),
];

/// The file, loaded as a user loads it.
pub fn official() -> Option<Benchmark> {
    Some(Benchmark::load(&shared_data(FILE)?, Strictness::Strict).unwrap())
}

/// A folder as `fetch benchmark` leaves it: the file and its prompt files.
pub fn with_prompt_files(folder: &Path) -> Option<PathBuf> {
    let (file, prompts) = (shared_data(FILE)?, shared_data("dpg_bench/prompts")?);
    std::fs::create_dir_all(folder.join("prompts")).unwrap();
    std::fs::copy(file, folder.join("dpg_bench.csv")).unwrap();
    for entry in std::fs::read_dir(prompts).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join("prompts").join(path.file_name().unwrap())).unwrap();
    }
    Some(folder.to_owned())
}

fn facts() -> Value {
    serde_json::from_str(include_str!("../fixtures/benchmark/official_facts.json")).unwrap()
}

fn count(benchmark: &Benchmark, kind: FindingKind) -> usize {
    benchmark.oddities.iter().filter(|oddity| oddity.kind == kind).count()
}

/// Smallest or largest amount and the items that have it, in order.
fn extreme(amounts: &BTreeMap<&str, usize>, pick: impl Fn(usize, usize) -> usize) -> Value {
    let amount = amounts.values().copied().reduce(pick).unwrap();
    let items: Vec<&str> =
        amounts.iter().filter(|(_, own)| **own == amount).map(|(item, _)| *item).collect();
    json!([amount, items])
}

#[test]
fn what_is_said_of_it_is_what_an_independent_script_counts() {
    let Some(benchmark) = official() else { return };
    let facts = facts();
    let bytes = std::fs::read(shared_data(FILE).unwrap()).unwrap();
    let questions: BTreeMap<&str, usize> =
        benchmark.items.iter().map(|item| (item.id.as_str(), item.graph.len())).collect();
    let words: BTreeMap<&str, usize> = benchmark
        .items
        .iter()
        .map(|item| (item.id.as_str(), item.prompt.split_whitespace().count()))
        .collect();
    let mut sources: BTreeMap<&str, usize> = BTreeMap::new();
    for item in &benchmark.items {
        *sources.entry(item.id.trim_end_matches(|c: char| c.is_ascii_digit())).or_default() += 1;
    }
    // What the script scores: all but the first item, which it drops with the row that it loses.
    let mut scored: BTreeMap<&str, u32> = BTreeMap::new();
    for question in benchmark.items[1..].iter().flat_map(|item| item.graph.questions()) {
        *scored.entry(question.category.l1()).or_default() += 1;
        *scored.entry(question.category.l2()).or_default() += 1;
    }
    let known: BTreeMap<&str, u32> = KNOWN_COUNTS.iter().map(|known| (known.0, known.1)).collect();
    let mut whole: BTreeMap<&str, usize> = BTreeMap::new();
    for (l2, questions) in benchmark.category_counts() {
        *whole.entry(l2).or_default() += questions;
        *whole.entry(dpg_bench::benchmark::category::l1_of(l2)).or_default() += questions;
    }
    let stated: BTreeMap<&str, usize> =
        KNOWN_COUNTS.iter().map(|known| (known.0, known.2 as usize)).collect();
    assert_eq!(stated, whole);
    let mut sizes: Vec<usize> = questions.values().copied().collect();
    sizes.sort_unstable();
    for (name, found) in [
        ("bytes", json!(bytes.len())),
        ("first_item", json!(benchmark.items[0].id)),
        ("items_by_source", json!(sources)),
        ("scored_by_the_script", json!(scored)),
        ("scored_by_the_script", json!(known)),
        ("questions_scored_by_the_script", json!(TOTAL)),
        ("fewest_questions", extreme(&questions, usize::min)),
        ("most_questions", extreme(&questions, usize::max)),
        ("median_questions", json!(sizes[sizes.len() / 2])),
        ("fewest_words", extreme(&words, usize::min)),
        ("most_words", extreme(&words, usize::max)),
        ("questions_asked_twice", json!(count(&benchmark, FindingKind::RepeatedQuestion))),
        (
            "category_columns_that_disagree",
            json!(count(&benchmark, FindingKind::CategoryDisagrees)),
        ),
    ] {
        assert_eq!(facts[name], found, "{name}");
    }
    // The row whose `count` stands in the keywords column is one of those that disagree.
    let misplaced = &facts["count_in_the_keywords_column"][0];
    let item = benchmark.item(misplaced[0].as_str().unwrap()).unwrap();
    let row = item.graph.questions()[misplaced[1].as_u64().unwrap() as usize - 1].row;
    let told = |kind: FindingKind| {
        benchmark.oddities.iter().any(|oddity| oddity.kind == kind && oddity.row == Some(row))
    };
    assert!(told(FindingKind::CategoryDisagrees));
    // 57,568 answers in a whole run of four images; 57,492 of them are scored by the script.
    let all = benchmark.question_count() as u32;
    assert_eq!((IMAGES * all, IMAGES * TOTAL), (57_568, 57_492));
}

#[test]
fn it_loads_without_a_flag_and_its_oddities_are_known() {
    let Some(benchmark) = official() else { return };
    assert!(benchmark.source.official && benchmark.source.official_questions);
    let mut kinds: BTreeMap<FindingKind, Vec<_>> = BTreeMap::new();
    for oddity in &benchmark.oddities {
        kinds.entry(oddity.kind).or_default().push(oddity);
    }
    assert_eq!(kinds.len(), 8);
    for (kind, found) in &kinds {
        assert!(is_as_published(*kind, found), "{kind:?}: {}", found.len());
        assert!(!is_as_published(*kind, &found[1..]), "{kind:?}");
    }
    let lenient = Benchmark::load(&shared_data(FILE).unwrap(), Strictness::Lenient).unwrap();
    assert_eq!((lenient.items, lenient.oddities), (benchmark.items, benchmark.oddities));

    let folder = tempfile::tempdir().unwrap();
    let Some(path) = with_prompt_files(folder.path()) else { return };
    let fetched = Benchmark::load(&path, Strictness::Strict).unwrap();
    assert!(fetched.source.official && fetched.source.official_questions);
    assert_eq!(json!(fetched.digest), facts()["digest_with_prompt_files"]);
    let mut differ: Vec<_> = fetched
        .oddities
        .iter()
        .filter(|oddity| oddity.kind == FindingKind::PromptFileDiffers)
        .map(|oddity| oddity.item.clone().unwrap())
        .collect();
    differ.sort();
    assert_eq!(json!(differ), facts()["prompts_that_differ"]);

    // Other prompts are other pictures, but the questions and their cycles are the published ones.
    std::fs::write(path.join("prompts/partiprompts97.txt"), "Another prompt.").unwrap();
    let reworded = Benchmark::load(&path, Strictness::Strict).unwrap();
    assert!(!reworded.source.official && reworded.source.official_questions);
}

#[test]
fn copies_with_other_line_ends_quotes_and_columns_are_told_and_other_content_is_not() {
    let Some(path) = shared_data(FILE) else { return };
    let text = std::fs::read_to_string(&path).unwrap();
    let load = |text: &str| Benchmark::from_csv(text.as_bytes(), "copy.csv");
    let resaved = {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let mut writer =
            csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
        let backwards = |record: &csv::StringRecord| {
            record.iter().rev().map(str::to_owned).collect::<Vec<String>>()
        };
        writer.write_record(backwards(reader.headers().unwrap())).unwrap();
        reader.records().for_each(|row| writer.write_record(backwards(&row.unwrap())).unwrap());
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    };
    for copy in [text.replace("\r\n", "\n"), format!("\u{feff}{text}\r\n"), resaved] {
        let copy = load(&copy).unwrap();
        assert!(copy.source.official, "{}", copy.digest);
        assert_eq!(count(&copy, FindingKind::Cycle), 5);
    }
    // One word of one question, or a row less: another file, whose cycles are errors.
    let row = text.find("\r\npartiprompts33,").unwrap() + 2;
    let next = row + text[row..].find("\r\n").unwrap() + 2;
    let without_a_row = format!("{}{}", &text[..row], &text[next..]);
    let reworded = text.replacen("Is there a scene?", "Is there any scene?", 1);
    for (other, problems) in [(reworded, 5), (without_a_row, 6)] {
        let error = load(&other).unwrap_err().to_string();
        assert!(error.starts_with(&format!("copy.csv has {problems} problems:")), "{error}");
        assert_eq!(error.matches("depend on each other").count(), 5, "{error}");
    }
}

fn parents(item: &Item, question: u32) -> BTreeSet<u32> {
    let position = item.graph.position(question).unwrap();
    let ids = item.graph.parents(position).iter().map(|&at| item.graph.questions()[at].id);
    ids.collect()
}

/// What the cell names, but for the question itself and `0`.
fn declared(question: &Question) -> BTreeSet<u32> {
    let numbers = question.declared_parents.iter().filter_map(|parent| match parent {
        DeclaredParent::Id(id) => u32::try_from(*id).ok().filter(|id| *id != question.id),
        _ => None,
    });
    numbers.collect()
}

#[test]
fn exactly_the_five_edges_of_the_docs_are_left_out() {
    let Some(benchmark) = official() else { return };
    let mut left_out = Vec::new();
    for item in &benchmark.items {
        for question in item.graph.questions() {
            let kept = parents(item, question.id);
            for parent in declared(question).difference(&kept) {
                left_out.push((item.id.as_str(), question.id, *parent));
            }
        }
    }
    let mut expected = CUT.to_vec();
    left_out.sort_unstable();
    expected.sort_unstable();
    assert_eq!(left_out, expected);
    let docs = include_str!("../../docs/protocols.md");
    for (item, question, parent) in CUT {
        let row = format!("| `{item}` |");
        let row = docs.lines().find(|line| line.starts_with(&row)).unwrap();
        assert!(row.ends_with(&format!("| {question} -> {parent} |")), "{row}");
    }
}

/// Least and largest change of a sum.
type Range = (f64, f64);

/// How far other cuts of an item's cycle move the number of yes after the rule, in all and by category.
fn ranges(item: &Item) -> BTreeMap<String, Range> {
    let questions = item.graph.questions();
    let all: Vec<(u32, BTreeSet<u32>)> =
        questions.iter().map(|question| (question.id, declared(question))).collect();
    let above = |id: u32| {
        let mut met = BTreeSet::new();
        let mut open: Vec<u32> =
            all.iter().find(|(own, _)| *own == id).unwrap().1.iter().copied().collect();
        while let Some(next) = open.pop() {
            if met.insert(next) {
                open.extend(&all.iter().find(|(own, _)| *own == next).unwrap().1);
            }
        }
        met
    };
    let looped: BTreeSet<u32> =
        all.iter().map(|(id, _)| *id).filter(|id| above(*id).contains(id)).collect();
    let edges: Vec<(u32, u32)> = all
        .iter()
        .filter(|(id, _)| looped.contains(id))
        .flat_map(|(id, parents)| parents.intersection(&looped).map(move |parent| (*id, *parent)))
        .collect();
    let touched: Vec<usize> = (0..questions.len())
        .filter(|&at| {
            looped.contains(&questions[at].id) || !above(questions[at].id).is_disjoint(&looped)
        })
        .collect();
    // Only these answers matter: of the questions below the cycle and of what they hang on.
    let mut open: BTreeSet<usize> = touched.iter().copied().collect();
    for &at in &touched {
        let ids = declared(&questions[at]);
        open.extend(ids.iter().map(|id| item.graph.position(*id).unwrap()));
    }
    let open: Vec<usize> = open.into_iter().collect();
    let with_cut = |cut: &[(u32, u32)]| {
        let mut changed = questions.to_vec();
        for question in &mut changed {
            let id = question.id;
            question.declared_parents.retain(|parent| {
                !cut.iter().any(|(child, other)| {
                    *child == id && *parent == DeclaredParent::Id(i64::from(*other))
                })
            });
        }
        let (graph, faults) = QuestionGraph::build(changed);
        faults.is_empty().then_some(graph)
    };
    let mut found: BTreeMap<String, Range> = BTreeMap::new();
    for chosen in 1..1_u32 << edges.len() {
        let cut: Vec<_> =
            (0..edges.len()).filter(|at| chosen >> at & 1 == 1).map(|at| edges[at]).collect();
        let Some(other) = with_cut(&cut) else { continue };
        for answers in 0..1_u32 << open.len() {
            let mut raw = vec![Verdict::Yes; questions.len()];
            for (bit, &at) in open.iter().enumerate() {
                if answers >> bit & 1 == 0 {
                    raw[at] = Verdict::No;
                }
            }
            let ours = in_topological_order(&item.graph, &raw);
            let theirs = in_topological_order(&other, &raw);
            let mut changes: BTreeMap<String, f64> = BTreeMap::new();
            for at in 0..questions.len() {
                let yes = |verdicts: &[Verdict]| f64::from(u8::from(verdicts[at] == Verdict::Yes));
                let change = yes(&theirs) - yes(&ours);
                for name in ["all", questions[at].category.l1(), questions[at].category.l2()] {
                    *changes.entry(name.to_owned()).or_default() += change;
                }
            }
            for (name, change) in changes {
                let range = found.entry(name).or_default();
                *range = (range.0.min(change), range.1.max(change));
            }
        }
    }
    found
}

#[test]
fn the_docs_state_how_far_another_cut_could_move_each_figure() {
    let Some(benchmark) = official() else { return };
    let mut sums: BTreeMap<String, Range> = BTreeMap::new();
    for (id, ..) in CUT {
        let item = benchmark.item(id).unwrap();
        for (name, (low, high)) in ranges(item) {
            // The benchmark score is a mean of shares, a category a share of questions.
            let weight = if name == "all" { 1.0 / item.graph.len() as f64 } else { 1.0 };
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + low * weight, sum.1 + high * weight);
        }
    }
    let counts = benchmark.category_counts();
    let docs = include_str!("../../docs/protocols.md");
    let mut stated = 0;
    for (name, (low, high)) in sums {
        if (low, high) == (0.0, 0.0) {
            continue;
        }
        let (label, n) = match name.as_str() {
            "all" => ("DPG-Bench score".to_owned(), benchmark.items.len()),
            name => {
                let of = |l2: &&str| *l2 == name || l2.split('-').next().unwrap().trim() == name;
                (name.to_owned(), counts.iter().filter(|(l2, _)| of(l2)).map(|(_, n)| n).sum())
            }
        };
        let percent = |change: f64| 100.0 * change / n as f64;
        let row = format!("| {label} | {:.3} | +{:.3} |", percent(low), percent(high));
        assert!(docs.contains(&row), "docs/protocols.md lacks: {row}");
        stated += 1;
    }
    assert_eq!(stated, 10);
}

#[derive(Deserialize)]
struct Golden {
    overall: f64,
    items: usize,
    lines: String,
    l1: BTreeMap<String, (u64, u64, f64)>,
    l2: BTreeMap<String, (u64, u64, f64)>,
    conditional_l1: Option<BTreeMap<String, (u64, u64, f64)>>,
    conditional_l2: Option<BTreeMap<String, (u64, u64, f64)>>,
}

fn draw(seed: &str, item: &str, image: u32, question: u32) -> usize {
    let digest = Sha256::digest(format!("{seed}|{item}|{image}|{question}"));
    (u64::from_be_bytes(digest[..8].try_into().unwrap()) % 1000) as usize
}

/// What `make_official_scores.py` answers; `None` where it has no answer.
fn answer(kind: &str, item: &Item, image: u32, question: &Question) -> Option<&'static str> {
    let number = draw(kind, &item.id, image, question.id);
    let answer = match kind {
        "yes" => "yes",
        "hash" => seeded_answers::answer(kind, &item.id, image, question.id),
        "category" => match question.category.l1() {
            "global" | "entity" | "other" => "yes",
            _ => ["no", "yes"][usize::from(number < 400)],
        },
        "unparsable" => ["yes", "Yes", " no\n", "yes.", "", "two", "yes", "no"][number % 8],
        _ if draw(kind, &item.id, image, 0) < 50 || number < 20 => return None,
        _ => ["no", "yes"][usize::from(number < 800)],
    };
    Some(answer)
}

/// As a judge would record them: nothing about a picture that is not there, a failure where it did not answer.
fn records(items: &[Item], kind: &str) -> Vec<AnswerRecord> {
    let mut records = Vec::new();
    for item in items {
        for image in 0..IMAGES {
            let answers: Vec<_> = item
                .graph
                .questions()
                .iter()
                .map(|question| {
                    let outcome = match answer(kind, item, image, question) {
                        Some(text) => AnswerOutcome::Answered {
                            text: text.to_owned(),
                            raw: None,
                            yes_probability: None,
                        },
                        None => AnswerOutcome::Failed { reason: "time-out".into() },
                    };
                    QuestionAnswer::new(question.id, outcome)
                })
                .collect();
            if answers.iter().any(|answer| answer.outcome.is_answered()) {
                records.push(AnswerRecord {
                    item: item.id.clone(),
                    image,
                    pixels_sha256: None,
                    answers,
                });
            }
        }
    }
    records
}

/// Python's `float.hex`, for numbers in 0..=1.
fn float_hex(value: f64) -> String {
    if value == 0.0 {
        return "0x0.0p+0".to_owned();
    }
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    format!("0x1.{:013x}p{exponent:+}", bits & ((1 << 52) - 1))
}

/// Everything in which our scores are not the golden ones, to the last bit.
fn differences(
    items: &[Item],
    answers: &NewestAnswers<'_>,
    protocol: Protocol,
    golden: &Golden,
) -> Vec<String> {
    let items: Vec<&Item> = items.iter().collect();
    let score = score_run(&items, answers, IMAGES, protocol);
    let mut found = Vec::new();
    let mut lines = String::new();
    let mut scored = 0;
    for item in &score.items {
        if let Ok(value) = item.outcome.score {
            lines.push_str(&format!("{} {}\n", item.item.id, float_hex(value)));
            scored += 1;
        }
    }
    let digest: String = Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect();
    if (scored, &digest) != (golden.items, &golden.lines) {
        found.push(format!("items: {scored} for {}, or their scores", golden.items));
    }
    let overall = benchmark_score(&score).map(|estimate| estimate.mean);
    if overall.map(f64::to_bits) != Some(golden.overall.to_bits()) {
        found.push(format!("overall: {overall:?} for {}", golden.overall));
    }
    let (l1, l2) = category_figures(&Shares::of(&score), 0.95);
    let levels =
        [(&golden.l1, &golden.conditional_l1, l1), (&golden.l2, &golden.conditional_l2, l2)];
    for (raw, conditional, figures) in levels {
        assert_eq!(raw.len(), figures.len());
        for CategoryFigure { name, raw: ours, conditional: after } in figures {
            let ours = ours.map(|ours| (ours.k, ours.n, ours.mean));
            let after = after.map(|after| (after.k, after.n, after.mean));
            let expected = conditional.as_ref().map(|figures| figures[&name]);
            if ours != Some(raw[&name]) || after != expected {
                found
                    .push(format!("{name}: {ours:?} {after:?}, not {:?} {expected:?}", raw[&name]));
            }
        }
    }
    found
}

#[test]
fn both_protocols_equal_independent_implementations_to_the_last_bit() {
    let Some(benchmark) = official() else { return };
    let golden: BTreeMap<String, BTreeMap<String, Golden>> =
        serde_json::from_str(include_str!("../fixtures/scoring/official_scores.json")).unwrap();
    assert_eq!(golden.len(), 5);
    for (kind, protocols) in &golden {
        let records = records(&benchmark.items, kind);
        let answers = NewestAnswers::merge(&records).unwrap();
        for protocol in Protocol::ALL {
            let golden = &protocols[protocol.name()];
            let found = differences(&benchmark.items, &answers, protocol, golden);
            assert_eq!(found, [""; 0], "{kind}, {}", protocol.name());
        }
    }

    // Sabotage: the other edge of one cycle, or the edges of questions to themselves taken for failures.
    let records = records(&benchmark.items, "hash");
    let answers = NewestAnswers::merge(&records).unwrap();
    let mut items = benchmark.items.clone();
    let at = items.iter().position(|item| item.id == "partiprompts33").unwrap();
    let mut questions = items[at].graph.questions().to_vec();
    questions[1].declared_parents = vec![DeclaredParent::None];
    items[at].graph = QuestionGraph::build(questions).0;
    let golden = &golden["hash"];
    let found = differences(&items, &answers, Protocol::Corrected, &golden["corrected"]);
    assert!(!found.is_empty(), "the check does not see another cut");
}

/// One made-up item with each oddity of the official file, for those who have not got it.
#[test]
fn each_oddity_alone_changes_no_answer_and_stops_nothing() {
    let header = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,\
                  tuple,question_natural_language";
    let rows = [
        "a,A dog runs.,,1,0,entity,whole,entity - whole (dog),Is there a dog?",
        "a,A dog runs.,,2,2,entity,state,\"entity - state (dog, run)\",Does the dog run?",
        "a,A dog runs.,,4,\"1,4\",attribute,color,\"attribute - color (dog, brown)\",Is the dog brown?",
        "a,A dog runs.,,5,\"1,1\",attribute,size,\"attribute - size (dog, big)\",Is the dog big?",
        "a,A dog runs.,,6,7,relation,spatial,\"relation - spatial (dog, grass, on)\",Is it on grass?",
        "a,A dog runs.,count,7,0,other,,\"other - count(dog, ==1)\",Is there one dog?",
        "a,A dog runs.,,8,1,global,,global - (photo),Is there a dog?",
    ];
    let text = format!("{header}\r\n{}", rows.join("\r\n"));
    let benchmark = Benchmark::from_csv(text.as_bytes(), "odd.csv").unwrap();
    assert!(!benchmark.source.official_questions);
    use FindingKind::*;
    for (kind, expected) in [
        (SelfLoop, 2),
        (FirstRowParent, 3),
        (RepeatedParent, 1),
        (ForwardReference, 1),
        (UnusualNumbering, 1),
        (RepeatedQuestion, 1),
        (CategoryDisagrees, 1),
    ] {
        assert_eq!(count(&benchmark, kind), expected, "{kind:?}");
    }
    assert_eq!(benchmark.oddities.len(), 10);
    let item = &benchmark.items[0];
    assert_eq!(item.graph.questions()[5].category.l2(), "other - count");
    assert_eq!((parents(item, 2), parents(item, 4)), ([].into(), [1].into()));
}
