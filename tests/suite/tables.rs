//! The tables and the chart of a small summary, as text. Awkward names must not break a format.

use dpg_bench::aggregate::summary::IntervalMethod;
use dpg_bench::aggregate::{
    CategoryFigure, Coverage, DroppedItem, Estimate, JudgeIdentity, Protocol, ProtocolSummary,
    RunIdentity, ScoreSpread, Summary,
};
use dpg_bench::reports::{category_chart, csv_table, latex_table, markdown_table, terminal_table};
use dpg_bench::results::{BenchmarkIdentity, FORMAT_VERSION};

const SPREAD: ScoreSpread = ScoreSpread {
    between_items: 21.0,
    between_images: 13.5,
    image_error: 0.75,
    detectable_alike: 1.5,
    detectable_unrelated: 4.25,
};

fn figure(name: &str, k: u64, n: u64, with_conditional: bool) -> CategoryFigure {
    CategoryFigure {
        name: name.into(),
        raw: Estimate::of_counts(k, n, 2),
        conditional: if with_conditional { Estimate::of_counts(k / 2, n, 2) } else { None },
    }
}

fn protocol(overall: Option<f64>, gap: Option<&str>, with_conditional: bool) -> ProtocolSummary {
    ProtocolSummary {
        overall: overall.map(|mean| Estimate {
            mean,
            low: Some(58.25),
            high: Some(75.5),
            standard_error: Some(4.5),
            ..Estimate::of_counts(5, 9, 2).unwrap()
        }),
        gap: gap.map(str::to_owned),
        items_scored: 2,
        spread: with_conditional.then_some(SPREAD),
        dropped: vec![DroppedItem {
            item: "x_1".into(),
            reason: "no answers".into(),
            by_rule: false,
        }],
        l1: vec![
            figure("global", 3, 4, with_conditional),
            figure("100 % odd_one & more", 1, 3, with_conditional),
        ],
        l2: vec![
            figure("global -", 3, 4, with_conditional),
            figure("100 % odd_one & more - a|b, \"c\"", 1, 3, with_conditional),
        ],
    }
}

fn summary() -> Summary {
    Summary {
        format_version: FORMAT_VERSION,
        intervals: Some(IntervalMethod::default()),
        run: RunIdentity {
            model: Some("tiny".into()),
            generation: None,
            benchmark: BenchmarkIdentity {
                path: "benchmark/demo".into(),
                digest: "d".into(),
                official: false,
                items: 3,
                questions: 30,
                lenient: false,
            },
            selection: Default::default(),
            images_per_item: 4,
        },
        judge: JudgeIdentity { name: "scripted".into(), settings: Default::default() },
        chance: None,
        dropped_questions: None,
        coverage: Coverage {
            items_in_benchmark: 3,
            items_expected: 3,
            images_expected: 12,
            images_present: 9,
            prompts_truncated: 2,
            questions_expected: 30,
            questions_answered: 20,
            questions_unparsable: 1,
            questions_failed: 2,
            questions_missing: 8,
            answers_without_probability: 0,
            images_filtered: 0,
            items_filtered: Vec::new(),
            images_revised: 0,
            images_other_size: 0,
            images_lossy: 0,
        },
        reference: protocol(Some(200.0 / 3.0), None, false),
        corrected: protocol(None, Some("10 of 30 questions have no answer"), true),
        soft: None,
        soft_tifa_gm: None,
    }
}

/// Compares with `tests/snapshots/`.
pub fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn the_terminal_table_shows_both_protocols_and_what_they_cover() {
    assert_snapshot("terminal_table", &terminal_table(&summary(), &Protocol::ALL, true));
}

/// The official categories, each with the longest interval and as many counts as a whole run has.
fn widest() -> Summary {
    with_longest_intervals(9_999)
}

/// The official categories, each with the longest interval over `count` answers.
fn with_longest_intervals(count: u64) -> Summary {
    let wide = |name: &str| {
        let figure = Estimate {
            low: Some(12.34),
            high: Some(100.0),
            ..Estimate::of_counts(count, count, 2).unwrap()
        };
        CategoryFigure { name: name.into(), raw: Some(figure), conditional: Some(figure) }
    };
    let names = [
        "global -",
        "entity - whole",
        "entity - part",
        "attribute - texture",
        "relation - non-spatial",
        "other - count",
        "other - text",
    ];
    let mut summary = summary();
    for protocol in [&mut summary.reference, &mut summary.corrected] {
        protocol.overall = wide("").raw;
        protocol.gap = None;
        protocol.l1 = ["global", "entity", "attribute", "relation", "other"].map(wide).into();
        protocol.l2 = names.map(wide).into();
    }
    // All of `relation` is spatial, but under the rule its parts are other ones.
    summary.corrected.l2[4].conditional = None;
    summary.soft = Some(summary.corrected.clone());
    let (l1, l2) = (Vec::new(), Vec::new());
    summary.soft_tifa_gm = Some(ProtocolSummary { l1, l2, ..summary.corrected.clone() });
    summary
}

#[test]
fn the_table_fits_eighty_columns_and_repeats_no_row() {
    for protocols in [
        &Protocol::ALL[..],
        &[Protocol::Corrected],
        &[Protocol::Reference],
        &Protocol::SOFT,
        &[Protocol::Soft],
    ] {
        let text = terminal_table(&widest(), protocols, false);
        let end = text.rfind('─').unwrap();
        let table: Vec<&str> = text[..end].lines().collect();
        for line in &table {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let rows: Vec<&str> =
            table.iter().filter_map(|line| line.get(1..15)).map(str::trim_end).collect();
        for name in ["global", "  whole", "  part", "  count", "  text", "attribute"] {
            assert!(rows.contains(&name), "{name}: {rows:?}");
        }
        // An L2 that is all of its L1 is left out, but not where a number differs.
        assert!(!rows.iter().any(|row| ["  -", "  texture"].contains(row)), "{rows:?}");
        let has_absent = protocols != [Protocol::Reference];
        assert_eq!(rows.contains(&"  non-spatial"), has_absent, "{rows:?}");
        assert_eq!(text.contains("-: no such question was counted"), has_absent, "{text}");
        assert!(!text.contains("it takes two items"), "{text}");
    }
    let wide = terminal_table(&widest(), &Protocol::ALL, true);
    for part in ["  attribute - texture", "before the rule", "after the rule"] {
        assert!(wide.contains(part), "{part}: {wide}");
    }
    // Intervals are as long as that in runs of few answers only.
    for protocols in [Protocol::ALL, Protocol::SOFT] {
        let wide = terminal_table(&with_longest_intervals(999), &protocols, true);
        let end = wide.rfind('─').unwrap();
        for line in wide[..end].lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}

#[test]
fn what_cannot_be_estimated_is_said() {
    let corrected = [Protocol::Corrected];
    assert!(
        terminal_table(&summary(), &corrected, false)
            .contains("it takes two items with such a question")
    );
    let mut still = widest();
    let none =
        ScoreSpread { between_images: 0.0, image_error: 0.0, detectable_alike: 0.0, ..SPREAD };
    still.corrected.spread = Some(none);
    let few = terminal_table(&still, &corrected, false);
    assert!(few.contains("detectable difference: cannot be estimated from 2 items"), "{few}");
    still.corrected.items_scored = 72;
    let text = terminal_table(&still, &corrected, false);
    assert!(
        text.contains("detectable difference: cannot be estimated, images of a prompt are alike"),
        "{text}"
    );
    still.run.images_per_item = 1;
    let text = terminal_table(&still, &corrected, false);
    assert!(text.contains("detectable difference: at most 4.2 points"), "{text}");
    assert!(text.contains("between a prompt's images not known (one each)"), "{text}");
}

#[test]
fn markdown_and_latex_escape_what_would_break_them() {
    assert_snapshot("markdown_table", &markdown_table(&summary(), &Protocol::ALL));
    assert_snapshot("latex_table", &latex_table(&summary(), &[Protocol::Corrected]));
}

#[test]
fn the_csv_reads_back_to_the_same_numbers() {
    let bytes = csv_table(&summary(), &Protocol::ALL).unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let overall: Vec<_> = rows.iter().filter(|row| &row[0] == "overall").collect();
    // The withheld score has no row.
    assert_eq!(overall.len(), 1);
    assert_eq!(overall[0][4].parse::<f64>().unwrap().to_bits(), (200.0_f64 / 3.0).to_bits());
    // Four categories: reference raw, corrected raw, corrected conditional.
    assert_eq!(rows.len(), 1 + 4 * 3);
    assert!(
        rows.iter()
            .any(|row| &row[1] == "100 % odd_one & more - a|b, \"c\"" && &row[3] == "conditional")
    );
}

#[test]
fn the_chart_is_whole_svg_with_every_category_and_the_same_every_time() {
    let chart = category_chart(&summary()).unwrap();
    assert_eq!(chart, category_chart(&summary()).unwrap());
    assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
    assert!(chart.contains("odd_one &amp; more") && chart.contains("global -"));
    // Bars of corrected (raw and conditional) and a tick of reference per category, 3 in the legend, and
    // the background.
    assert_eq!(chart.matches("<rect").count(), 4 * 3 + 3 + 1);
}
