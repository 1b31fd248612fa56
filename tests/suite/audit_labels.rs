//! Files of labels: what counts where somebody changed their mind, and every line that does not belong to the sample.

use std::path::{Path, PathBuf};

use dpg_bench::audit::{AuditSample, Label, LabelCheck, LabelFile, LabelRecord, Labels, UnitKind};
use serde_json::{Value, json};

use super::audit_fixture::{Judged, identity, label};

fn sample() -> AuditSample {
    let answer = |_, _, question| Some((if question == 0 { "no" } else { "yes" }, None));
    Judged::new(3, answer).population(UnitKind::Questions, |population| {
        AuditSample::draw(population, identity(), 12, 1).unwrap()
    })
}

fn header(sample: &AuditSample) -> Value {
    json!({ "format_version": "1.0", "kind": "audit labels", "sample": sample.sha256 })
}

fn write(path: &Path, lines: &[Value]) -> PathBuf {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

fn value(record: &LabelRecord) -> Value {
    serde_json::to_value(record).unwrap()
}

fn at(record: LabelRecord, time: &str) -> Value {
    value(&LabelRecord { time: time.to_owned(), ..record })
}

/// Annotator, place and label of all.
fn given(labels: &Labels) -> Vec<(&str, usize, &str)> {
    labels.labels.iter().map(|l| (&*l.annotator, l.question, l.label.name())).collect()
}

#[test]
fn the_last_word_counts() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let of = |place, who, what| label(&sample, place, who, what);
    let first = write(
        &folder.path().join("a.jsonl"),
        &[
            header(&sample),
            value(&of(1, "ann", "yes")),
            value(&of(0, "ann", "no")),
            value(&of(1, "李-2", "cannot_tell")),
            // A change of mind, one back again, and one that is taken back for good.
            value(&of(1, "ann", "no")),
            value(&of(2, "ann", "yes")),
            value(&of(2, "ann", "withdrawn")),
            value(&of(3, "ann", "withdrawn")),
            value(&of(3, "ann", "yes")),
        ],
    );
    let labels = Labels::read(&sample, std::slice::from_ref(&first)).unwrap();
    let expected =
        [("ann", 0, "no"), ("ann", 1, "no"), ("ann", 3, "yes"), ("李-2", 1, "cannot_tell")];
    assert_eq!(given(&labels), expected);
    assert_eq!(labels.annotators(), ["ann", "李-2"]);
    assert_eq!(labels.of("李-2").collect::<Vec<_>>(), [(1, Label::CannotTell)]);
    assert_eq!(labels.warnings, [""; 0]);
    // Of two files the label that was given later counts, in whatever order they are named.
    let second = write(
        &folder.path().join("b.jsonl"),
        &[
            header(&sample),
            at(of(0, "ann", "yes"), "2026-01-31T09:29:59Z"),
            at(of(1, "ann", "withdrawn"), "2026-01-31T10:30:01+01:00"),
            value(&of(3, "ann", "no")),
        ],
    );
    let both = Labels::read(&sample, &[first.clone(), second.clone()]).unwrap();
    assert_eq!(given(&both), [("ann", 0, "no"), ("ann", 3, "no"), ("李-2", 1, "cannot_tell")]);
    let both = Labels::read(&sample, &[second, first]).unwrap();
    assert_eq!(given(&both), [("ann", 0, "no"), ("ann", 3, "yes"), ("李-2", 1, "cannot_tell")]);
}

#[test]
fn every_line_that_does_not_belong_is_refused_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let path = folder.path().join("a.jsonl");
    let refused = |lines: &[Value]| {
        write(&path, lines);
        let said = Labels::read(&sample, std::slice::from_ref(&path)).unwrap_err().to_string();
        said.replace(&path.display().to_string(), "FILE")
    };
    let good = value(&label(&sample, 0, "ann", "yes"));
    let with = |name: &str, set: Value| {
        let mut line = good.clone();
        line[name] = set;
        refused(&[header(&sample), good.clone(), line])
    };
    let (item, question) = (&sample.questions[0].item, sample.questions[0].question);
    let advice = "correct or delete that line";
    for (said, expected) in [
        (
            with("item", "nowhere".into()),
            format!(
                "FILE, line 3: the sample does not ask question {question} about nowhere, image {}; {advice}",
                sample.questions[0].image
            ),
        ),
        (
            with("question", 77.into()),
            format!(
                "FILE, line 3: the sample does not ask question 77 about {item}, image {}; {advice}",
                sample.questions[0].image
            ),
        ),
        (
            with("pixels_sha256", "other".into()),
            format!(
                "FILE, line 3: it is about another image than the {item}, image {}, of the sample; {advice}",
                sample.questions[0].image
            ),
        ),
        (
            with("text", "Is it?".into()),
            format!(
                "FILE, line 3: question {question} of {item} reads otherwise in the sample; {advice}"
            ),
        ),
        (
            with("label", "Yes".into()),
            format!(
                "FILE, line 3: `Yes` is no label (did you mean `yes`?); known are `yes`, `no`, `cannot_tell` and `withdrawn`; {advice}"
            ),
        ),
        (
            with("time", "yesterday".into()),
            format!(
                "FILE, line 3: `yesterday` is no time (RFC 3339, as 2026-01-31T09:30:00Z); {advice}"
            ),
        ),
        (
            with("annotator", "../ann".into()),
            format!(
                "FILE, line 3: `../ann` names no annotator: use up to 40 letters, digits, `-`, `_` and `.`, and begin with a letter or digit; {advice}"
            ),
        ),
    ] {
        assert_eq!(said, expected);
    }
    for name in ["", " ann", "a b", ".ann", "a/b", "a\\b", "a\u{0}", &"x".repeat(41)] {
        assert!(with("annotator", name.into()).contains("names no annotator"), "{name:?}");
    }
    for (lines, expected) in [
        (
            vec![header(&sample), json!({ "item": 3 })],
            "FILE, line 2: it is no label (invalid type: integer `3`",
        ),
        (
            vec![json!({ "some": "thing" })],
            "FILE is no file of labels: its first line is no header (missing field",
        ),
        (
            vec![json!({ "format_version": "1.0", "kind": "answers" })],
            "FILE is no file of labels: it holds `answers`; name one that the page",
        ),
        (
            vec![json!({ "format_version": "2.0", "kind": "audit labels" })],
            "FILE has format version 2.0, this program reads 1.0; update dpg-bench",
        ),
        (vec![], "FILE is no file of labels: it has no whole line"),
    ] {
        let said = refused(&lines);
        assert!(said.starts_with(expected), "{said}");
    }
    let other =
        json!({ "format_version": "1.7", "kind": "audit labels", "sample": "0123456789abcdef" });
    assert_eq!(
        refused(&[other]),
        format!(
            "FILE has labels of another sample (0123456789ab there, {} here); name the run and the audit (--name) that they were \
             given for",
            &sample.sha256[..12]
        )
    );
}

/// An editor counts the lines of the file, and characters.
#[test]
fn a_broken_line_is_named_as_an_editor_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let path = folder.path().join("a.jsonl");
    let good = value(&label(&sample, 0, "ann", "yes")).to_string();
    let refused = |lines: &[&str], end: &str| {
        let text: String = lines.iter().map(|line| format!("{line}{end}")).collect();
        std::fs::write(&path, text).unwrap();
        let said = Labels::read(&sample, std::slice::from_ref(&path)).unwrap_err().to_string();
        said.replace(&path.display().to_string(), "FILE")
    };
    let header = header(&sample).to_string();
    let (header, good) = (header.as_str(), good.as_str());
    let advice = "correct or delete that line";
    for end in ["\n", "\r\n"] {
        // The colon in the place of a comma is the 13th character, and the 16th byte.
        let said = refused(&[header, good, "{\"item\":\"é李\":"], end);
        assert_eq!(
            said,
            format!("FILE, line 3: it is no label (expected `,` or `}}`, at column 13); {advice}")
        );
        let said = refused(&[header, good, good, "{\"item\":\"kite\"}"], end);
        assert_eq!(said, format!("FILE, line 4: it is no label (missing field `image`); {advice}"));
        let said = refused(&[header, good, "", good], end);
        assert_eq!(said, format!("FILE, line 3: it is no label (it is empty); {advice}"));
        // A label over several lines.
        let said = refused(&[header, "{", "\"item\":\"kite\"", "}"], end);
        assert!(
            said.starts_with(
                "FILE, line 2: it is no label (EOF while parsing an object, at column 1)"
            ),
            "{said}"
        );
        let said = refused(&["{\"format_version\"", good], end);
        assert!(
            said.starts_with("FILE is no file of labels: its first line is no header (EOF")
                && said.contains("at column 17)"),
            "{said}"
        );
    }
}

/// Two names but for letter case are two annotators, who would agree with each other: that is told.
#[test]
fn names_that_differ_in_letter_case_alone_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample();
    let names = ["ann", "ANN", "bob", "Émile", "émile", "ann-2"];
    let mut paths = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let lines = [header(&sample), value(&label(&sample, place, name, "yes"))];
        paths.push(write(&folder.path().join(format!("{place}.jsonl")), &lines));
    }
    let labels = Labels::read(&sample, &paths).unwrap();
    assert_eq!(labels.annotators().len(), 6);
    let advice = "if they are one person, give them one name in the files of labels";
    assert_eq!(
        labels.warnings,
        [("ANN", "ann"), ("Émile", "émile")].map(|(one, other)| format!(
            "`{one}` and `{other}` differ in letter case alone and count as 2 annotators; {advice}"
        ))
    );
    assert_eq!(Labels::read(&sample, &paths[..1]).unwrap().warnings, [""; 0]);
}

#[test]
fn a_kill_at_any_byte_costs_at_most_the_label_in_hand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels/ann.jsonl");
    let sample = sample();
    let check = LabelCheck::of(&sample);
    let records: Vec<LabelRecord> =
        (0..3).map(|place| label(&sample, place, "ann", "yes")).collect();
    let mut file = LabelFile::open(&path, &check).unwrap();
    records.iter().for_each(|record| file.append(record).unwrap());
    let whole = std::fs::read(&path).unwrap();
    let first_line = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for cut in first_line..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let labels = Labels::read(&sample, std::slice::from_ref(&path)).unwrap();
        let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(labels.labels.len(), lines - 1, "cut at byte {cut}");
        let is_torn = whole[cut - 1] != b'\n';
        assert_eq!(labels.warnings.len(), usize::from(is_torn), "cut at byte {cut}");
        let expected = format!("line {}: it breaks off and is left out", lines + 1);
        assert!(labels.warnings.iter().all(|warning| warning.contains(&expected)));
        let mut file = LabelFile::open(&path, &check).unwrap();
        records[lines - 1..].iter().for_each(|record| file.append(record).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at byte {cut}");
    }
    // What is no file of labels of the sample is not appended to.
    std::fs::write(&path, "notes\n").unwrap();
    assert!(LabelFile::open(&path, &check).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"notes\n");
}
