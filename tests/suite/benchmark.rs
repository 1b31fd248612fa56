//! Loading and selecting: real files against counts made by an independent script, and one small
//! file per way to be wrong.

use std::path::{Path, PathBuf};

use dpg_bench::benchmark::{
    Benchmark, BenchmarkError, DeclaredParent, FindingKind, GraphFault, Selection, Strictness,
};
use serde_json::Value;

/// A file of the shared real data; says so and gives `None` where they are not.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn expected(name: &str) -> Value {
    let text = include_str!("../fixtures/benchmark/expected.json");
    serde_json::from_str::<Value>(text).unwrap()[name].clone()
}

fn count(benchmark: &Benchmark, kind: FindingKind) -> u64 {
    benchmark.oddities.iter().filter(|oddity| oddity.kind == kind).count() as u64
}

fn items_with(benchmark: &Benchmark, kinds: &[FindingKind]) -> u64 {
    let items: std::collections::BTreeSet<_> = benchmark
        .oddities
        .iter()
        .filter(|oddity| kinds.contains(&oddity.kind))
        .map(|oddity| oddity.item.clone())
        .collect();
    items.len() as u64
}

/// Every figure of `expected.json` that a loaded benchmark gets wrong.
fn wrong_figures(benchmark: &Benchmark, expected: &Value) -> Vec<String> {
    use FindingKind::*;
    let text = |name: &str, found: &str| (name.to_owned(), Value::from(found));
    let number = |name: &str, found: u64| (name.to_owned(), Value::from(found));
    let found = [
        text("git_blob_id", &benchmark.source.git_blob_id),
        text("digest", &benchmark.digest),
        number("items", benchmark.items.len() as u64),
        number("questions", benchmark.question_count() as u64),
        ("l2".to_owned(), serde_json::to_value(benchmark.category_counts()).unwrap()),
        number("forward", count(benchmark, ForwardReference)),
        number("self_loops", count(benchmark, SelfLoop)),
        number("repeated", count(benchmark, RepeatedParent)),
        number("non_integer", count(benchmark, UnreadableParent)),
        number("missing", count(benchmark, MissingParent)),
        number("items_with_longer_cycle", items_with(benchmark, &[Cycle])),
        number("items_with_any_cycle", items_with(benchmark, &[Cycle, SelfLoop])),
        number("items_not_numbered_from_1", items_with(benchmark, &[UnusualNumbering])),
        number("first_row_parents", count(benchmark, FirstRowParent)),
    ];
    assert_eq!(found.len(), expected.as_object().unwrap().len());
    let differ = found.into_iter().filter(|(name, value)| expected[name] != *value);
    differ
        .map(|(name, value)| format!("{name}: {} expected, {value} found", expected[&name]))
        .collect()
}

#[test]
fn dsg_1k_has_the_faults_that_an_independent_count_finds() {
    let Some(path) = shared_data("dsg-1k/dsg-1k-anns.csv") else { return };
    let benchmark = Benchmark::load(&path, Strictness::Lenient).unwrap();
    let expected = expected("dsg_1k");
    assert_eq!(wrong_figures(&benchmark, &expected), [""; 0]);
    assert!(!benchmark.source.official);

    // Sabotage: one mended self-loop must show in the counts and in both fingerprints.
    let text = std::fs::read_to_string(&path).unwrap();
    let broken = text.replacen("rubix cube,1,0,entity", "rubix cube,1,1,entity", 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.csv");
    std::fs::write(&file, broken).unwrap();
    let wrong = wrong_figures(&Benchmark::load(&file, Strictness::Lenient).unwrap(), &expected);
    for name in ["git_blob_id", "digest", "self_loops", "items_with_any_cycle"] {
        assert!(wrong.iter().any(|line| line.starts_with(name)), "{name} in {wrong:?}");
    }

    // Strictly, every one of its graph faults is an error, and the first few are spelled out.
    let error = Benchmark::load(&path, Strictness::Strict).unwrap_err();
    let text = error.to_string();
    let BenchmarkError::Invalid { problems, .. } = error else { panic!("{text}") };
    let faults = benchmark.oddities.iter().filter(|oddity| oddity.kind.is_graph_fault());
    assert!(problems.iter().eq(faults));
    assert!(text.contains("dsg-1k-anns.csv has ") && text.contains(" more"), "{text}");
}

#[test]
fn the_official_file_has_what_an_independent_count_finds() {
    let Some(path) = shared_data("dpg_bench/dpg_bench.csv") else { return };
    let benchmark = Benchmark::load(&path, Strictness::Strict).unwrap();
    assert_eq!(wrong_figures(&benchmark, &expected("official")), [""; 0]);
}

#[test]
fn the_real_items_load_strictly() {
    let Some(path) = shared_data("dpg_bench/sample13.csv") else { return };
    let benchmark = Benchmark::load(&path, Strictness::Strict).unwrap();
    assert_eq!(wrong_figures(&benchmark, &expected("sample13")), [""; 0]);
    assert_eq!(count(&benchmark, FindingKind::CategoryDisagrees), 3);
    assert_eq!(count(&benchmark, FindingKind::UnlistedCategory), 0);
}

#[test]
fn prompt_files_are_joined_by_id_and_win() {
    let (Some(file), Some(prompts)) =
        (shared_data("dpg_bench/sample13.csv"), shared_data("dpg_bench/prompts"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&file, folder.path().join("dpg_bench.csv")).unwrap();
    std::fs::create_dir(folder.path().join("prompts")).unwrap();
    for entry in std::fs::read_dir(prompts).unwrap() {
        let path = entry.unwrap().path();
        let copy = folder.path().join("prompts").join(path.file_name().unwrap());
        std::fs::copy(&path, copy).unwrap();
    }
    let alone = Benchmark::load(&file, Strictness::Strict).unwrap();
    let joined = Benchmark::load(folder.path(), Strictness::Strict).unwrap();
    assert_eq!(joined.source.prompt_files, 13);
    assert_eq!(count(&joined, FindingKind::PromptFileWithoutItem), 1065 - 13);
    assert_eq!(count(&joined, FindingKind::PromptFileDiffers), 0);
    assert_eq!(joined.digest, alone.digest);

    let first = &alone.items[0];
    let changed = folder.path().join("prompts").join(format!("{}.txt", first.id));
    std::fs::write(&changed, "\u{feff}A quite different prompt.\r\n").unwrap();
    std::fs::remove_file(folder.path().join("prompts").join(format!("{}.txt", alone.items[1].id)))
        .unwrap();
    let joined = Benchmark::load(folder.path(), Strictness::Strict).unwrap();
    assert_eq!(joined.items[0].prompt, "A quite different prompt.");
    assert_eq!(count(&joined, FindingKind::PromptFileDiffers), 1);
    assert_eq!(count(&joined, FindingKind::ItemWithoutPromptFile), 1);
    assert_ne!(joined.digest, alone.digest);

    std::fs::write(&changed, b"caf\xe9").unwrap();
    let error = Benchmark::load(folder.path(), Strictness::Lenient).unwrap_err().to_string();
    assert!(error.contains(&format!("{}.txt", first.id)) && error.contains("UTF-8"), "{error}");
}

const HEADER: &str = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language";

/// A file of rows `item, prompt, number, dependency`, with a question made of the number.
fn file(rows: &[[&str; 4]]) -> String {
    let mut text = format!("{HEADER}\n");
    for [item, prompt, number, dependency] in rows {
        text.push_str(&format!(
            "{item},{prompt},,{number},\"{dependency}\",entity,whole,entity - whole (x),Is {number} there?\n"
        ));
    }
    text
}

fn problems(bytes: &[u8]) -> String {
    match Benchmark::from_csv(bytes, "bad.csv") {
        Ok(_) => panic!("loaded: {}", String::from_utf8_lossy(bytes)),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_wrong_row_is_named() {
    let good = ["a", "p", "1", "0"];
    let cases: [(&[[&str; 4]], &[&str]); 18] = [
        (
            &[good, ["a", "p", "1", "0"]],
            &["row 2 (line 3)", "item `a`", "proposition_id `1`", "already"],
        ),
        (&[good, ["a", "p", "2", "1, right"]], &["row 2", "dependency `1,right`", "`right` is no"]),
        (&[good, ["a", "p", "2", ""]], &["row 2", "dependency ``", "or 0"]),
        (&[good, ["a", "p", "2", "9"]], &["row 2", "dependency `9`", "no question of the item"]),
        (&[good, ["a", "p", "2", "3"], ["a", "p", "3", "2"]], &["row 3", "3 -> 2 -> 3"]),
        (
            &[good, ["b", "q", "1", "0"], ["a", "p", "2", "0"]],
            &["row 3", "item_id `a`", "together"],
        ),
        (&[good, ["A", "q", "1", "0"]], &["row 2", "item_id `A`", "`a`", "case"]),
        (&[["../x", "p", "1", "0"]], &["row 1 (line 2)", "item_id `../x`", "separator"]),
        (&[["a/b", "p", "1", "0"]], &["a/b"]),
        (&[["", "p", "1", "0"]], &["row 1", "it is empty"]),
        (&[["NUL", "p", "1", "0"]], &["row 1", "device"]),
        (&[good, ["a", "p", "two", "0"]], &["row 2", "proposition_id `two`", "integer"]),
        (&[good, ["a", "p", "0", "0"]], &["row 2", "proposition_id `0`"]),
        (&[good, ["a", "p", "-1", "0"]], &["row 2", "proposition_id `-1`"]),
        (&[good, ["a", "other", "2", "0"]], &["row 2", "text `other`", "differs"]),
        (&[["a", " ", "1", "0"]], &["row 1", "no prompt"]),
        (&[good, ["a", "p\0", "2", "0"]], &["row 2", "text `p\\u{0}`", "NUL"]),
        (&[], &["no question"]),
    ];
    for (rows, wanted) in cases {
        let error = problems(file(rows).as_bytes());
        for part in wanted.iter().chain(&["bad.csv"]) {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        assert!(!error.contains('\n'), "one problem, one sentence: {error}");
    }
    for (text, wanted) in [
        (format!("{HEADER}\na,p,1,0\n"), "4 fields where the header has 9"),
        (
            format!("{HEADER}\na,\"p,,1,0,entity,whole,entity - whole (x),Q\nb,p,,1,0,,,e,Q\n"),
            "fields",
        ),
        (HEADER.replace("dependency", "depends"), "no column `dependency`"),
        (HEADER.replace("keywords", "tuple"), "column `tuple` twice"),
        (String::new(), "no column `item_id`"),
        (format!("{HEADER}\na,p,,1,0,,,e - w (x), \n"), "question_natural_language ` `"),
        (format!("{HEADER}\na,p,,1,0,,,(x),Q\n"), "no category"),
    ] {
        let error = problems(text.as_bytes());
        assert!(error.contains(wanted), "{error}");
    }
    let mut bytes = file(&[good]).into_bytes();
    let at = bytes.windows(3).position(|three| three == b",p,").unwrap();
    bytes[at + 1] = 0xe9;
    assert!(problems(&bytes).contains("text `\u{fffd}`: the text is not UTF-8"));
    assert!(problems(b"\xff\xfei\0t\0").contains("UTF-16"));
    // Two cells that only together are UTF-8.
    let cut = [HEADER.as_bytes(), b"\na,p\xc3,\xa9,1,0,,,e - w (x),Q\n"].concat();
    let error = problems(&cut);
    assert!(error.contains("row 1 (line 2), text `p\u{fffd}`: the text is not UTF-8"), "{error}");
}

#[test]
fn another_separator_is_named_in_one_sentence() {
    let commas = file(&[["a", "1", "0", "entity - whole (x)"]]);
    for (separator, name) in [("\t", "tabs"), (";", "semicolons")] {
        for quote in ["", "\""] {
            let names = commas.lines().next().unwrap().split(',');
            let header: Vec<String> = names.map(|name| format!("{quote}{name}{quote}")).collect();
            let text = format!("{}\na{separator}b\n", header.join(separator));
            let told = problems(text.as_bytes());
            let sentence = format!("the columns are separated by {name}, not by commas");
            assert!(told.contains(&sentence) && told.lines().count() == 1, "{told}");
        }
    }
}

#[test]
fn all_problems_are_counted_and_none_is_a_consequence_of_another() {
    let mut rows = vec![["a", "p", "x", "0"], ["a", "p", "2", "1"]];
    rows.extend([["b", "p", "1", "7"]; 1]);
    let error = problems(file(&rows).as_bytes());
    // Question 2 of `a` points at the row that could not be read: that is one problem, not two.
    assert!(error.starts_with("bad.csv has 2 problems:"), "{error}");
    let ids: Vec<String> = (0..40).map(|index| format!("item{index}")).collect();
    let rows: Vec<[&str; 4]> = ids.iter().map(|id| [id.as_str(), "p", "1", "9"]).collect();
    let error = problems(file(&rows).as_bytes());
    assert!(error.contains("has 40 problems") && error.ends_with("and 30 more"), "{error}");
}

#[test]
fn lenient_lets_graph_faults_through_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dirty.csv");
    let rows =
        [["a", "p", "1", "1"], ["a", "p", "2", "3"], ["a", "p", "3", "2"], ["a", "p", "3", "0"]];
    std::fs::write(&path, file(&rows)).unwrap();
    let benchmark = Benchmark::load(&path, Strictness::Lenient).unwrap();
    let kinds: Vec<FindingKind> = benchmark.oddities.iter().map(|oddity| oddity.kind).collect();
    use FindingKind::*;
    for kind in [SelfLoop, Cycle, DuplicateQuestionId] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(benchmark.question_count(), 3);
    std::fs::write(&path, file(&[["a", "p", "1", "9"], ["a/b", "p", "1", "0"]])).unwrap();
    let error = Benchmark::load(&path, Strictness::Lenient).unwrap_err().to_string();
    assert!(error.contains("row 2 (line 3)"), "{error}");
}

#[test]
fn what_depends_on_the_first_row_is_told() {
    let odd = |rows: &[[&str; 4]]| {
        let benchmark = Benchmark::from_csv(file(rows).as_bytes(), "own.csv").unwrap();
        let of_it =
            |oddity: &&dpg_bench::benchmark::Finding| oddity.kind == FindingKind::FirstRowParent;
        benchmark
            .oddities
            .iter()
            .filter(of_it)
            .map(|oddity| oddity.row.unwrap())
            .collect::<Vec<_>>()
    };
    // Directly, once a question, in the first item alone, and not the first question itself.
    let rows = [
        ["a", "p", "1", "1"],
        ["a", "p", "2", "1"],
        ["a", "p", "3", "2"],
        ["a", "p", "4", "2,1,1"],
        ["b", "q", "1", "0"],
        ["b", "q", "2", "1"],
    ];
    assert_eq!(odd(&rows), [2, 4]);
    // The number of the question in the first row counts, whatever it is.
    assert_eq!(odd(&[["a", "p", "2", "0"], ["a", "p", "1", "0"], ["a", "p", "3", "1"]]), [0; 0]);
    assert_eq!(odd(&[["a", "p", "2", "0"], ["a", "p", "1", "2"], ["a", "p", "3", "1"]]), [2]);
}

#[test]
fn a_prompt_file_settles_which_prompt_counts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("q.csv"),
        file(&[["a", "p", "1", "0"], ["a", "q", "2", "0"]]),
    )
    .unwrap();
    assert!(Benchmark::load(folder.path(), Strictness::Lenient).is_err());
    std::fs::create_dir(folder.path().join("prompts")).unwrap();
    std::fs::write(folder.path().join("prompts/a.txt"), "the prompt\n").unwrap();
    let benchmark = Benchmark::load(folder.path(), Strictness::Strict).unwrap();
    assert_eq!(benchmark.items[0].prompt, "the prompt");
    assert_eq!(count(&benchmark, FindingKind::PromptDiffersBetweenRows), 1);
}

#[test]
fn a_folder_must_make_clear_which_file_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let load = || Benchmark::load(folder.path(), Strictness::Strict);
    assert!(matches!(load().unwrap_err(), BenchmarkError::NoQuestionFile { .. }));
    let text = file(&[["a", "p", "1", "0"]]);
    std::fs::write(folder.path().join("one.csv"), &text).unwrap();
    load().unwrap();
    std::fs::write(folder.path().join("two.CSV"), "not read").unwrap();
    let error = load().unwrap_err();
    assert!(error.to_string().contains("one.csv, two.CSV"), "{error}");
    std::fs::write(folder.path().join("dpg_bench.csv"), &text).unwrap();
    assert!(load().unwrap().source.question_file.ends_with("dpg_bench.csv"));
    let missing = Benchmark::load(&folder.path().join("nothing"), Strictness::Strict).unwrap_err();
    assert!(matches!(missing, BenchmarkError::Unreadable { .. }));
}

#[test]
fn the_digest_is_of_the_content_and_not_of_its_spelling() {
    let text = format!(
        "{HEADER}\na,\"He said \"\"hi\"\", twice\",,1,0,entity,whole,\"entity - whole (x)\",Q1\n\
         a,\"He said \"\"hi\"\", twice\",,2,\"1, 1\",entity,whole,entity - whole (x),Q2\n"
    );
    let load = |text: &str| Benchmark::from_csv(text.as_bytes(), "memory").unwrap();
    let plain = load(&text);
    assert_eq!(plain.items[0].prompt, "He said \"hi\", twice");
    let crlf = load(&format!("\u{feff}{}", text.replace('\n', "\r\n")));
    assert_eq!(count(&crlf, FindingKind::ByteOrderMark), 1);
    let quoted = load(&text.replace(",Q1", ",\"Q1\"").replace("1, 1", " 1,1 "));
    let blank_lines = load(&text.replace("Q1\n", "Q1\n\n"));
    let reordered = load(
        "question_natural_language,tuple,dependency,proposition_id,text,item_id\n\
         Q1,entity - whole (x),0,1,\"He said \"\"hi\"\", twice\",a\n\
         Q2,entity - whole (x),\"1,1\",2,\"He said \"\"hi\"\", twice\",a\n",
    );
    for same in [&crlf, &quoted, &blank_lines, &reordered] {
        assert_eq!(same.digest, plain.digest);
        assert_eq!(same.items, plain.items);
    }
    for (from, to) in
        [("Q1", "Q3"), (",2,\"1", ",3,\"1"), ("1, 1", "1"), ("twice", "thrice"), ("\na,", "\nb,")]
    {
        assert_ne!(load(&text.replace(from, to)).digest, plain.digest, "{from} -> {to}");
    }
}

#[test]
fn lines_are_counted_through_crlf_and_quoted_line_ends() {
    let text = format!(
        "{HEADER}\r\na,\"two\r\nlines\",,1,0,,,e - w (x),Q\r\n\r\na,\"two\r\nlines\",,2,9,,,e - w (x),Q2\r\n"
    );
    let error = problems(text.as_bytes());
    assert!(error.contains("row 2 (line 5)"), "{error}");
}

#[test]
fn a_selection_is_deterministic_and_in_file_order() {
    let text = file(&[
        ["a1", "p", "1", "0"],
        ["a2", "p", "1", "0"],
        ["b1", "p", "1", "0"],
        ["b2", "p", "1", "0"],
    ])
    .replace("b2,p,,1,\"0\",entity,whole,entity - whole (x)", "b2,p,,1,\"0\",global,,global - (x)");
    let benchmark = Benchmark::from_csv(text.as_bytes(), "memory").unwrap();
    let ids = |selection: Selection| -> Vec<String> {
        benchmark.select(&selection).unwrap().iter().map(|item| item.id.clone()).collect()
    };
    let items = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(Selection::default()), ["a1", "a2", "b1", "b2"]);
    assert_eq!(
        ids(Selection { items: items(&["b1", "a1", "b1"]), ..Default::default() }),
        ["a1", "b1"]
    );
    assert_eq!(ids(Selection { prefix: Some("b".into()), ..Default::default() }), ["b1", "b2"]);
    for name in ["global", "global -"] {
        assert_eq!(ids(Selection { category: Some(name.into()), ..Default::default() }), ["b2"]);
    }
    let narrowed =
        Selection { category: Some("entity - whole".into()), limit: Some(2), ..Default::default() };
    assert_eq!(ids(narrowed.clone()), ["a1", "a2"]);
    let stored = serde_json::to_string(&narrowed).unwrap();
    assert_eq!(stored, r#"{"category":"entity - whole","limit":2}"#);
    assert_eq!(serde_json::from_str::<Selection>(&stored).unwrap(), narrowed);

    let refuse = |selection: Selection| benchmark.select(&selection).unwrap_err().to_string();
    let error = refuse(Selection { items: items(&["a1", "A3", "zzzzzz"]), ..Default::default() });
    assert_eq!(error, "the benchmark has no item `A3` (near it: a1, a2), no item `zzzzzz`");
    let error = refuse(Selection { category: Some("colour".into()), ..Default::default() });
    assert!(error.ends_with("entity, entity - whole, global, global -"), "{error}");
    let error =
        refuse(Selection { prefix: Some("c".into()), limit: Some(3), ..Default::default() });
    assert!(error.contains("prefix `c`, limit 3 leaves no item"), "{error}");
}

mod random_files {
    use super::*;
    use proptest::prelude::*;

    /// Number, parents and text of a question.
    type Row = (u32, Vec<u32>, String);
    /// Prompt and rows of an item.
    type Rows = (String, Vec<Row>);

    /// Texts that need quoting, and some that do not.
    fn text() -> impl Strategy<Value = String> {
        "[a-zäß€ ,\"'\n;#-]{0,12}[a-z?]"
    }

    /// Items of questions with unique numbers in any order and parents among the earlier drawn ones,
    /// which gives forward references but no cycle.
    fn items() -> impl Strategy<Value = Vec<Rows>> {
        let question = (text(), prop::collection::vec(any::<prop::sample::Index>(), 0..3));
        let item = (text(), prop::collection::vec(question, 1..8), any::<u64>());
        prop::collection::vec(item, 1..5).prop_map(|items| {
            items
                .into_iter()
                .map(|(prompt, questions, order)| {
                    let numbers: Vec<u32> =
                        (0..questions.len() as u32).map(|index| 3 * index + 1).collect();
                    let mut rows: Vec<_> = questions
                        .into_iter()
                        .enumerate()
                        .map(|(index, (text, parents))| {
                            let parents = if index == 0 { Vec::new() } else { parents };
                            let parents = parents.iter().map(|parent| numbers[parent.index(index)]);
                            (numbers[index], parents.collect(), text)
                        })
                        .collect();
                    rows.rotate_left((order % 7) as usize % numbers.len());
                    (prompt, rows)
                })
                .collect()
        })
    }

    fn write(items: &[Rows]) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(HEADER.split(',')).unwrap();
        for (index, (prompt, questions)) in items.iter().enumerate() {
            for (number, parents, text) in questions {
                let parents = match parents.as_slice() {
                    [] => "0".to_owned(),
                    some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                };
                let (item, number) = (format!("item{index}"), number.to_string());
                let tuple = format!("entity - whole ({text})");
                let row = [&item, prompt, "", &number, &parents, "entity", "whole", &tuple, text];
                writer.write_record(row).unwrap();
            }
        }
        writer.into_inner().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_written_is_read(items in items()) {
            let benchmark = Benchmark::from_csv(&write(&items), "memory").unwrap();
            prop_assert_eq!(benchmark.items.len(), items.len());
            for (item, (prompt, questions)) in benchmark.items.iter().zip(&items) {
                prop_assert_eq!(&item.prompt, prompt.trim());
                prop_assert_eq!(item.graph.len(), questions.len());
                for (question, (number, parents, text)) in item.graph.questions().iter().zip(questions) {
                    prop_assert_eq!((question.id, &question.text), (*number, text));
                    let declared: Vec<_> = parents.iter().map(|&id| DeclaredParent::Id(i64::from(id))).collect();
                    let declared = if declared.is_empty() { vec![DeclaredParent::None] } else { declared };
                    prop_assert_eq!(&question.declared_parents, &declared);
                }
                let order = item.graph.topological_order();
                let place = |index| order.iter().position(|&at| at == index).unwrap();
                for index in 0..item.graph.len() {
                    for &parent in item.graph.parents(index) {
                        prop_assert!(place(parent) < place(index));
                    }
                }
            }
        }

        #[test]
        fn damaged_bytes_never_panic(
            items in items(),
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = write(&items);
            for (at, byte) in hits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("damaged.csv");
            for length in [bytes.len(), cut.index(bytes.len())] {
                std::fs::write(&path, &bytes[..length]).unwrap();
                for strictness in [Strictness::Strict, Strictness::Lenient] {
                    match Benchmark::load(&path, strictness) {
                        Ok(benchmark) => prop_assert!(!benchmark.items.is_empty()),
                        Err(error) => prop_assert!(!error.to_string().is_empty()),
                    }
                }
            }
        }
    }
}

#[test]
fn a_lenient_graph_keeps_every_edge_that_can_stand() {
    let Some(path) = shared_data("dsg-1k/dsg-1k-anns.csv") else { return };
    let benchmark = Benchmark::load(&path, Strictness::Lenient).unwrap();
    for item in &benchmark.items {
        let (again, faults) = dpg_bench::benchmark::question_graph::QuestionGraph::build(
            item.graph.questions().to_vec(),
        );
        assert_eq!(again, item.graph);
        for fault in faults {
            assert_ne!(fault.fault, GraphFault::DuplicateId);
        }
    }
}

/// Shares of the L1 categories among the questions of `items`.
fn mix(items: &[&dpg_bench::benchmark::Item]) -> std::collections::BTreeMap<String, f64> {
    let mut counts = std::collections::BTreeMap::new();
    let questions = items.iter().flat_map(|item| item.graph.questions());
    let mut total = 0.0;
    for question in questions {
        *counts.entry(question.category.l1().to_owned()).or_insert(0.0) += 1.0;
        total += 1.0;
    }
    counts.values_mut().for_each(|count| *count /= total);
    counts
}

#[test]
fn a_subset_keeps_the_mix_and_is_always_the_same() {
    let Some(path) = shared_data("dsg-1k/dsg-1k-anns.csv") else { return };
    let benchmark = Benchmark::load(&path, Strictness::Lenient).unwrap();
    let select = |selection: Selection| benchmark.select(&selection).unwrap();
    let all = select(Selection::default());
    let of = |count| select(Selection { subset: Some(count), ..Default::default() });
    let ids = |items: &[&dpg_bench::benchmark::Item]| -> Vec<String> {
        items.iter().map(|item| item.id.clone()).collect()
    };
    let worst = |items: &[&dpg_bench::benchmark::Item]| {
        let (part, whole) = (mix(items), mix(&all));
        let apart = whole
            .iter()
            .map(|(name, share)| (part.get(name).copied().unwrap_or_default() - share).abs());
        apart.fold(0.0_f64, f64::max)
    };
    let chosen = of(128);
    assert_eq!(chosen.len(), 128);
    assert_eq!(ids(&chosen), ids(&of(128)));
    let first = select(Selection { limit: Some(128), ..Default::default() });
    eprintln!("{} and {}", worst(&chosen), worst(&first));
    // Within a point of the whole mix in every broad category; the first items of the file are not.
    assert!(worst(&chosen) < 0.01 && worst(&first) > 0.015);
    // In file order, and no more than there are; other flags narrow it first, the limit cuts it last.
    let places: Vec<usize> = chosen
        .iter()
        .map(|item| all.iter().position(|other| other.id == item.id).unwrap())
        .collect();
    assert!(places.is_sorted());
    assert_eq!(of(99_999).len(), all.len());
    let narrowed = Selection {
        category: Some("other".into()),
        subset: Some(30),
        limit: Some(7),
        ..Default::default()
    };
    let narrowed = select(narrowed);
    assert_eq!(narrowed.len(), 7);
    let is_other = |item: &&dpg_bench::benchmark::Item| {
        item.graph.questions().iter().any(|question| question.category.l1() == "other")
    };
    assert!(narrowed.iter().all(is_other));
}
