//! `score` on run directories: figures worked out by hand, what is withheld, what is written, and that
//! scoring twice writes the same bytes.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dpg_bench::aggregate::Summary;
use dpg_bench::results::{
    AnswerOutcome, AnswerRecord, BenchmarkIdentity, ImageOutcome, ImageRecord, QuestionAnswer,
    RunDirectory, Settings,
};
use serde_json::json;

/// Two items. `a`: 1 root, 2 under 3, 3 under 1 (so row order and topological order differ), 4 root;
/// `b`: one question. The first row is a root that nothing depends on.
const QUESTIONS: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
b,Stars.,,1,0,global,,global - (night),Is it night?
b,Stars.,,2,0,entity,whole,entity - whole (stars),Are there stars?
a,A red cup.,,1,0,entity,whole,entity - whole (cup),Is there a cup?
a,A red cup.,,2,3,attribute,color,\"attribute - color (cup, red)\",Is the cup red?
a,A red cup.,,3,1,entity,state,\"entity - state (cup, full)\",Is the cup full?
a,A red cup.,,4,0,global,,global - (photo),Is it a photo?
";

struct TestRun {
    folder: tempfile::TempDir,
    run: RunDirectory,
}

impl TestRun {
    /// A run with two images an item and these answers: (item, image, `ynu!`-string), one letter per
    /// question: yes, no, unparsable, failed, `-` not asked.
    fn new(answers: &[(&str, u32, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let questions = folder.path().join("questions.csv");
        std::fs::write(&questions, QUESTIONS).unwrap();
        let benchmark =
            dpg_bench::benchmark::load::Benchmark::load(&questions, Default::default()).unwrap();
        let identity = BenchmarkIdentity {
            path: questions.display().to_string(),
            digest: benchmark.digest.clone(),
            official: false,
            items: 2,
            questions: 6,
            lenient: false,
        };
        let selection =
            serde_json::to_value(dpg_bench::benchmark::select::Selection::default()).unwrap();
        let selection: Settings = serde_json::from_value(selection).unwrap();
        let path = folder.path().join("run");
        let mut run = RunDirectory::open_or_create(&path, identity, selection, 2).unwrap();
        let settings: Settings = serde_json::from_value(json!({"model": "tiny"})).unwrap();
        run.begin_generation(settings, "cpu").unwrap();
        run.begin_judge("scripted", Settings::new(), "cpu").unwrap();
        let this = Self { folder, run };
        this.append(answers);
        this
    }

    fn append(&self, answers: &[(&str, u32, &str)]) {
        let (mut images, _) = self.run.open_images().unwrap();
        let (mut journal, _) = self.run.open_answers("scripted").unwrap();
        for (item, image, letters) in answers {
            let outcome = ImageOutcome::Done {
                pixels_sha256: format!("{item}{image}"),
                width: 8,
                height: 8,
                seed: Some(u64::from(*image) + 40),
                prompt_tokens: None,
                truncated: None,
                source: None,
                control_sha256: None,
                served: None,
            };
            images.append(&ImageRecord { item: (*item).into(), image: *image, outcome }).unwrap();
            let answer = |(index, letter): (usize, char)| {
                let text = match letter {
                    'y' => "yes",
                    'n' => "no",
                    'u' => "perhaps",
                    '!' => {
                        let outcome = AnswerOutcome::Failed { reason: "time-out".into() };
                        return Some(QuestionAnswer::new(index as u32 + 1, outcome));
                    }
                    _ => return None,
                };
                let outcome =
                    AnswerOutcome::Answered { text: text.into(), raw: None, yes_probability: None };
                Some(QuestionAnswer::new(index as u32 + 1, outcome))
            };
            journal
                .append(&AnswerRecord {
                    item: (*item).into(),
                    image: *image,
                    pixels_sha256: Some(format!("{item}{image}")),
                    answers: letters.chars().enumerate().filter_map(answer).collect(),
                })
                .unwrap();
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn score(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dpg-bench"))
            .arg("score")
            .arg(self.path())
            .args(more)
            .output()
            .unwrap()
    }

    fn summary(&self) -> Summary {
        let text = std::fs::read(self.path().join("summary/scripted.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

const WHOLE: &[(&str, u32, &str)] =
    &[("b", 0, "yn"), ("b", 1, "yy"), ("a", 0, "nyyy"), ("a", 1, "yyun")];

fn shown(estimate: Option<dpg_bench::aggregate::Estimate>) -> (f64, u64, u64, u64) {
    let e = estimate.unwrap();
    (e.mean, e.k, e.n, e.items)
}

#[test]
fn both_protocols_give_the_figures_worked_out_by_hand() {
    let run = TestRun::new(WHOLE);
    assert_eq!(run.score(&[]).status.code(), Some(0));
    let summary = run.summary();

    // reference: row 1 (`b` question 1) is lost. b: 0, 1 -> 1/2. a image 0: 1 no; 2 looks at 3, still
    // yes -> yes; 3 under 1 -> no; 4 yes -> 2/4. a image 1: 1 yes; 2 under 3 (not yes) -> no; 3 not
    // yes; 4 no -> 1/4. a: 3/8. Mean of 1/2 and 3/8.
    assert_eq!(shown(summary.reference.overall), (43.75, 4, 10, 2));
    // corrected: b: 1/2, 1 -> 3/4. a image 0: a failure reaches 2 through 3 -> 1/4; image 1: 1/4.
    assert_eq!(shown(summary.corrected.overall), (50.0, 5, 12, 2));

    let figure = |figures: &[dpg_bench::aggregate::CategoryFigure], name: &str| {
        figures.iter().find(|figure| figure.name == name).unwrap().clone()
    };
    // reference, last image, before the rule: entity = stars yes, cup yes, full unparsable.
    assert_eq!(shown(figure(&summary.reference.l1, "entity").raw), (2.0 / 3.0 * 100.0, 2, 3, 2));
    assert_eq!(figure(&summary.reference.l1, "entity").conditional, None);
    // global: row 1 is lost, so only the photo.
    assert_eq!(shown(figure(&summary.reference.l1, "global").raw), (0.0, 0, 1, 1));
    let entity = figure(&summary.corrected.l1, "entity");
    assert_eq!(shown(entity.raw), (50.0, 3, 6, 2));
    assert_eq!(shown(entity.conditional), (2.0 / 6.0 * 100.0, 2, 6, 2));
    let color = figure(&summary.corrected.l2, "attribute - color");
    assert_eq!((shown(color.raw).0, shown(color.conditional).0), (100.0, 0.0));
    assert_eq!(
        (summary.coverage.questions_answered, summary.coverage.questions_unparsable),
        (12, 1)
    );
    let names: Vec<&str> = summary.corrected.l1.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(names, ["global", "entity", "attribute"]);
    assert_eq!(summary.run.model.as_deref(), Some("tiny"));
}

#[test]
fn incomplete_coverage_withholds_the_headline_and_nothing_else() {
    let run = TestRun::new(&[("b", 0, "yn"), ("b", 1, "yy"), ("a", 0, "ny!y")]);
    let output = run.score(&[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("withheld") && said.contains("5 of 12 questions have no answer"),
        "{said}"
    );
    assert!(said.contains("(4 never asked, 1 failed; 3 of 4 images there)"), "{said}");
    let summary = run.summary();
    assert_eq!((summary.reference.overall, summary.corrected.overall), (None, None));
    assert_eq!(summary.reference.dropped.len(), 1);
    assert!(!summary.reference.dropped[0].by_rule);
    assert!(summary.corrected.l1.iter().any(|figure| figure.name == "entity"));

    assert_eq!(run.score(&["--allow-incomplete"]).status.code(), Some(0));
    let summary = run.summary();
    assert_eq!(summary.reference.overall.unwrap().mean, 50.0);
    assert!(summary.corrected.gap.is_some() && summary.corrected.overall.is_some());
    // Question 3 of `a` failed: it is left out with its child 2, which hangs on it.
    let image = shown(summary.corrected.overall);
    assert_eq!(image, ((0.75 + 0.5) / 2.0 * 100.0, 4, 6, 2));

    // What was missing arrives, and the failed question is answered.
    run.append(&[("a", 1, "yyun"), ("a", 0, "--y-")]);
    assert_eq!(run.score(&[]).status.code(), Some(0));
    assert_eq!(shown(run.summary().corrected.overall), (50.0, 5, 12, 2));
}

#[test]
fn one_protocol_decides_the_exit_alone() {
    // Row 1 is unanswered: `reference` does not read it, `corrected` misses it.
    let run = TestRun::new(&[("b", 0, "-n"), ("b", 1, "-y"), ("a", 0, "nyyy"), ("a", 1, "yyun")]);
    assert_eq!(run.score(&["--protocol", "reference"]).status.code(), Some(0));
    assert_eq!(run.score(&["--protocol", "corrected"]).status.code(), Some(3));
}

#[test]
fn scoring_again_writes_the_same_bytes_and_json_is_the_summary() {
    let run = TestRun::new(WHOLE);
    run.score(&[]);
    let files = [
        "summary/scripted.json",
        "summary/scripted.csv",
        "summary/scripted.md",
        "summary/scripted.tex",
        "summary/scripted.svg",
        "scores/scripted.parquet",
    ];
    let read = |path: &Path| files.map(|file| std::fs::read(path.join(file)).unwrap());
    let first = read(&run.path());
    let output = run.score(&["--json", "--judge", "scripted"]);
    assert_eq!(read(&run.path()), first);
    assert_eq!(output.stdout, first[0]);
    let summary: Summary = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary, run.summary());
}

#[test]
fn an_unknown_judge_and_a_changed_picture_are_refused_in_a_sentence() {
    let run = TestRun::new(WHOLE);
    let output = run.score(&["--judge", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no answers of `nobody`; there are answers of scripted"), "{said}");
    let images = run.path().join("images.jsonl");
    let text = std::fs::read_to_string(&images).unwrap().replace("\"a1\"", "\"other\"");
    std::fs::write(&images, text).unwrap();
    let output = run.score(&[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a, image 1: the answers are about another image"), "{said}");
}

#[test]
fn the_long_table_has_one_row_per_item_image_and_question() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use polars_arrow::array::{PrimitiveArray, StaticArray, Utf8ViewArray};
    use polars_arrow::datatypes::ArrowDataType;
    use polars_arrow::io::ipc::read::deserialize_schema;
    let run = TestRun::new(WHOLE);
    run.score(&[]);
    let table = ParquetTable::read(&run.path().join("scores/scripted.parquet"));
    let pairs = table.metadata.key_value_metadata.as_ref().unwrap();
    assert!(pairs.iter().any(|pair| {
        pair.key == "dpg_bench.format_version" && pair.value.as_deref() == Some("1.0")
    }));
    // What other readers are told; this one makes views of all texts.
    let schema = pairs.iter().find(|pair| pair.key == "ARROW:schema").unwrap();
    let message = BASE64_STANDARD.decode(schema.value.as_ref().unwrap()).unwrap();
    let (schema, ..) = deserialize_schema(&message[8..]).unwrap();
    let kinds: Vec<(&str, &ArrowDataType)> =
        schema.iter().map(|(name, field)| (name.as_str(), field.dtype())).collect();
    let text = &ArrowDataType::LargeUtf8;
    let expected = [
        ("item", text),
        ("image", &ArrowDataType::UInt32),
        ("question", &ArrowDataType::UInt32),
        ("l1", text),
        ("l2", text),
        ("tuple", text),
        ("question_text", text),
        ("answer", text),
        ("raw", text),
        ("yes_probability", &ArrowDataType::Float64),
        ("failure", text),
        ("seed", &ArrowDataType::UInt64),
        ("raw_reference", text),
        ("verdict_reference", text),
        ("raw_corrected", text),
        ("verdict_corrected", text),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(pairs.len(), 2);
    assert_eq!(table.metadata.num_rows, 12);
    let text =
        |name: &str, row: usize| table.column::<Utf8ViewArray>(name).get(row).map(str::to_owned);
    let row = |row: usize| {
        ["item", "l2", "answer", "raw_reference", "verdict_reference", "verdict_corrected"]
            .map(|name| text(name, row).unwrap_or_else(|| "null".into()))
    };
    assert_eq!(row(0), ["b", "global -", "yes", "skipped", "skipped", "yes"]);
    // `a`, image 0, question 2: yes for the script, which has not yet ruled on 3; no in truth.
    assert_eq!(row(5), ["a", "attribute - color", "yes", "yes", "yes", "parent_no"]);
    assert_eq!(
        row(10),
        ["a", "entity - state", "perhaps", "unparsable", "unparsable", "unparsable"]
    );
    let seeds = table.column::<PrimitiveArray<u64>>("seed");
    assert_eq!((seeds.get(0), seeds.get(11)), (Some(40), Some(41)));
}

/// A Parquet file of one row group, read column by column.
struct ParquetTable {
    file: Vec<u8>,
    metadata: polars_parquet::read::FileMetadata,
}

impl ParquetTable {
    fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let metadata = polars_parquet::read::read_metadata(&mut Cursor::new(&file)).unwrap();
        Self { file, metadata }
    }

    fn column<A: Clone + 'static>(&self, name: &str) -> A {
        use polars_parquet::read::{
            BasicDecompressor, PageReader, column_iter_to_arrays, infer_schema,
        };
        let schema = infer_schema(&self.metadata).unwrap();
        let field = schema.get(name).unwrap().clone();
        let [group] = self.metadata.row_groups.as_slice() else { panic!("several row groups") };
        let column = group.columns_under_root_iter(name).unwrap().next().unwrap();
        let range = column.byte_range();
        let bytes = self.file[range.start as usize..range.end as usize].to_vec();
        let pages = PageReader::new(Cursor::new(bytes.into()), column, Vec::new(), usize::MAX);
        let pages = BasicDecompressor::new(pages, Vec::new());
        let kind = &column.descriptor().descriptor.primitive_type;
        let (arrays, _) = column_iter_to_arrays(vec![pages], vec![kind], field, None).unwrap();
        let [array] = arrays.as_slice() else { panic!("{} arrays", arrays.len()) };
        array.as_any().downcast_ref::<A>().unwrap().clone()
    }
}
