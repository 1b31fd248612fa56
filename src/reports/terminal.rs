//! In: a summary. Out: the table for a terminal, with what it covers below it.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::aggregate::{
    Chance, ControlFigures, Coverage, DroppedItem, DroppedQuestions, Estimate, IntervalKind,
    IntervalMethod, Protocol, ProtocolSummary, ScoreSpread, Summary,
};

use super::figure_table::{
    Cell, FigureTable, Level, few_items_note, printed, short_name, telling_rows, with_margin,
};
use crate::compare::FEWEST_ITEMS;
use crate::wording::counted;

/// Dropped items listed one by one; the summary file has them all.
const SHOWN_ITEMS: usize = 5;

/// What the two columns hold.
const TWO_PROTOCOLS: &str = "\
categories: reference before the dependency rule, corrected (with its k/n) after
  it; the rule: where a question counts as 0, the questions below it do too
k/n: k answers yes of n that count; --wide shows all columns";

/// What the protocols of P(yes) count.
const SOFT: &str = "\
soft: a question counts with P(yes), after the rule times that of each question
  above it; k: the sum of these, rounded";

/// What the geometric mean is.
const SOFT_TIFA_GM: &str = "\
soft_tifa_gm: geometric mean of P(yes) of an image's questions, without the rule";

/// Lines above, below and under the heading; nothing between the rows.
pub(super) const STYLE: TableStyle =
    TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');

/// The figures of `protocols` side by side, those of P(yes) in a table of their own, then what the run covers. `wide` shows
/// both stages, all counts and whole names; without it the table fits 80 columns: one stage a protocol where there are two,
/// the counts of the last that has categories.
pub fn terminal_table(summary: &Summary, protocols: &[Protocol], wide: bool) -> String {
    let parts = FigureTable::parts(summary, protocols);
    let mut found = Signs::default();
    let mut text: String = parts.iter().map(|part| drawn(part, wide, &mut found)).collect();
    let has_two = parts.iter().any(|part| part.protocols.len() > 1 && !part.protocols[0].is_soft());
    let signs = [
        (!wide && has_two).then_some(TWO_PROTOCOLS),
        protocols.contains(&Protocol::Soft).then_some(SOFT),
        protocols.contains(&Protocol::SoftTifaGm).then_some(SOFT_TIFA_GM),
        found.has_absent.then_some("-: no such question was counted"),
        found.has_bare.then_some("without an interval: it takes two items with such a question"),
    ];
    let lines = signs.into_iter().flatten().map(str::to_owned);
    for line in lines.chain(notes(summary, protocols)) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Signs of a table that need a word below it.
#[derive(Debug, Default)]
struct Signs {
    has_absent: bool,
    has_bare: bool,
}

fn drawn(figures: &FigureTable, wide: bool, found: &mut Signs) -> String {
    let protocols = &figures.protocols;
    let shown: Vec<usize> = (0..figures.columns.len())
        .filter(|&place| wide || protocols.len() == 1 || figures.columns[place].is_printed_alone())
        .collect();
    let counted_last = shown.iter().rfind(|&&place| figures.columns[place].has_categories());
    let counted_last = counted_last.or(shown.last());
    let has_counts = |place: usize| wide || counted_last == Some(&place);
    let mut table = Table::new();
    table.load_style(STYLE);
    let mut headings = vec![String::new()];
    for &place in &shown {
        let column = figures.columns[place];
        headings.push(match wide || protocols.len() == 1 {
            true => two_lines(column.heading()),
            false => column.protocol.name().to_owned(),
        });
        headings.extend(has_counts(place).then(|| "k/n".to_owned()));
    }
    table.set_header(headings);
    let telling = telling_rows(&figures.rows, |row| row.level, |a, b| a.cells == b.cells);
    for (number, row) in figures.rows.iter().enumerate() {
        if !wide && !telling.contains(&number) {
            continue;
        }
        let mut cells = vec![match wide {
            true if row.level == Level::L2 => format!("  {}", row.name),
            true => row.name.clone(),
            false => short_name(row.level, &row.name),
        }];
        for &place in &shown {
            let (figure, counts) = match &row.cells[place] {
                Cell::Figure(figure) => {
                    // The benchmark score is a mean of means: its counts do not divide to it.
                    let counts = match row.level {
                        Level::Overall => counted(figure.items, "item"),
                        _ => format!("{}/{}", figure.k, figure.n),
                    };
                    let (mean, interval) = printed(figure);
                    found.has_bare |= interval.is_none();
                    (interval.map_or(mean.clone(), |interval| format!("{mean} {interval}")), counts)
                }
                Cell::Withheld => ("withheld".to_owned(), String::new()),
                Cell::Absent if !figures.columns[place].has_categories() => Default::default(),
                Cell::Absent => {
                    // Of the benchmark score before the rule there is none: `wide` has that column.
                    found.has_absent |= row.level != Level::Overall;
                    ("-".to_owned(), String::new())
                }
            };
            cells.push(figure);
            cells.extend(has_counts(place).then_some(counts));
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if wide {
        // Within 120 columns.
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((u16::from(number > 0), 0));
        }
    }
    table.trim_fmt() + "\n"
}

/// The table must fit a narrow terminal.
fn two_lines(heading: &str) -> String {
    heading.replace(", ", "\n")
}

/// What must be read with the figures, one line each.
pub fn notes(summary: &Summary, protocols: &[Protocol]) -> Vec<String> {
    let coverage = &summary.coverage;
    let benchmark = &summary.run.benchmark;
    let model = summary.run.model.as_deref().unwrap_or("not stated");
    let kind = if benchmark.official { "official question file" } else { "not the official file" };
    let mut lines = vec![
        format!("model {model}, judge {}", summary.judge.name),
        format!(
            "benchmark {} ({kind}), {} of {}, {} each",
            benchmark.path,
            coverage.items_expected,
            counted(coverage.items_in_benchmark, "item"),
            counted(summary.run.images_per_item, "image")
        ),
        format!(
            "images {}/{}, questions answered {}/{}: {} unparsable, {} failed, {} never asked",
            coverage.images_present,
            coverage.images_expected,
            coverage.questions_answered,
            coverage.questions_expected,
            coverage.questions_unparsable,
            coverage.questions_failed,
            coverage.questions_missing
        ),
    ];
    lines.extend(summary.run.server_note());
    lines.extend(coverage.server_notes());
    if coverage.prompts_truncated > 0 {
        lines.push(format!(
            "prompts longer than the text encoder reads, their end cut off: {} of {}",
            coverage.prompts_truncated, coverage.items_expected
        ));
    }
    lines.extend(summary.intervals.and_then(|method| {
        let shown = protocols.iter().flat_map(|&protocol| estimates(summary.protocol(protocol)));
        let (even, uneven): (Vec<_>, Vec<_>) = shown
            .filter(|figure| figure.low.is_some())
            .partition(|figure| figure.margin().is_some());
        (!(even.is_empty() && uneven.is_empty()))
            .then(|| interval_note(method, !even.is_empty(), !uneven.is_empty()))
    }));
    lines.extend(summary.dropped_questions.iter().map(DroppedQuestions::described));
    lines.extend(summary.chance.iter().flat_map(|chance| chance_lines(chance, protocols)));
    lines.extend(few_items_note(summary.corrected.items_scored.min(coverage.items_expected)));
    for &protocol in protocols {
        let figures = summary.protocol(protocol);
        lines.push(format!(
            "{}: {} of {} scored",
            protocol.name(),
            figures.items_scored,
            counted(figures.items_scored + figures.dropped.len() as u64, "item")
        ));
        if protocols.iter().find(|one| one.is_soft()) == Some(&protocol) {
            lines.extend(without_probability(coverage));
        }
        if let Some(spread) = figures.spread.filter(|_| protocol != Protocol::Reference) {
            lines.extend(spread_lines(spread, figures.items_scored, summary.run.images_per_item));
        }
        lines.extend(figures.dropped.iter().take(SHOWN_ITEMS).map(dropped_line));
        if let Some(more) = figures.dropped.len().checked_sub(SHOWN_ITEMS).filter(|&more| more > 0)
        {
            lines.push(format!("  and {more} more, all of them in the summary file"));
        }
        if let Some(gap) = &figures.gap {
            lines.push(match figures.overall {
                Some(_) => format!("{}: incomplete, {gap}", protocol.name()),
                None => format!(
                    "{}: score withheld, {gap}; --allow-incomplete prints it",
                    protocol.name()
                ),
            });
        }
    }
    lines
}

/// What the scores would be if the images did not fit the prompts.
fn chance_lines(chance: &Chance, protocols: &[Protocol]) -> Vec<String> {
    let ControlFigures { corrected, soft, yes, gap, .. } = &chance.figures;
    let mut scores = Vec::new();
    for (protocol, score) in [(Protocol::Corrected, corrected), (Protocol::Soft, soft)] {
        if protocols.iter().any(|shown| shown.is_soft() == protocol.is_soft()) {
            scores
                .extend(score.map(|score| format!("{} {}", protocol.name(), with_margin(&score))));
        }
    }
    let scores = match gap {
        Some(gap) => format!("withheld, {gap}"),
        None => scores.join(", "),
    };
    let yes = yes.map(|yes| format!(", yes {}", with_margin(&yes))).unwrap_or_default();
    vec![
        format!("chance: {scores}{yes}"),
        format!(
            "  the same images asked other items' questions (seed {}); yes: before the rule",
            chance.seed
        ),
    ]
}

/// That answers state no P(yes), where a judge states it for others.
fn without_probability(coverage: &Coverage) -> Option<String> {
    let (lacking, answers) = (coverage.answers_without_probability, coverage.questions_answered);
    let [states, counts] = if lacking == 1 { ["states", "counts"] } else { ["state", "count"] };
    (lacking > 0).then(|| {
        let answers = counted(answers, "answer");
        format!("  {lacking} of {answers} {states} no P(yes) and {counts} as 0")
    })
}

/// Where the score's error bar comes from, and which difference can be found.
fn spread_lines(spread: ScoreSpread, items: u64, images_per_item: u32) -> Vec<String> {
    // Their spread is hardly known, too.
    if items < FEWEST_ITEMS as u64 {
        return vec![format!(
            "  smallest detectable difference: cannot be estimated from {}",
            counted(items, "item")
        )];
    }
    let ScoreSpread { between_items, between_images, .. } = spread;
    let (alike, unrelated) = (spread.detectable_alike, spread.detectable_unrelated);
    let (of_images, detectable) = match images_per_item {
        1 => (
            "between a prompt's images not known (one each)".to_owned(),
            (unrelated > 0.0).then(|| format!("at most {unrelated:.1} points")),
        ),
        _ => (
            format!("{between_images:.1} between a prompt's images"),
            (alike > 0.0)
                .then(|| format!("{alike:.1} points (similar model), {unrelated:.1} (any other)")),
        ),
    };
    let of_items = match between_items {
        points if points > 0.0 => format!("{points:.1} points between prompts"),
        _ => "too small to be seen between prompts".to_owned(),
    };
    vec![
        format!("  standard deviation: {of_items}, {of_images}"),
        match detectable {
            Some(points) => format!("  smallest detectable difference: {points}"),
            None => {
                "  smallest detectable difference: cannot be estimated, images of a prompt are alike"
                    .to_owned()
            }
        },
    ]
}

/// All numbers of a protocol.
fn estimates(figures: &ProtocolSummary) -> impl Iterator<Item = Estimate> {
    let categories = figures.l1.iter().chain(&figures.l2);
    categories
        .flat_map(|figure| [figure.raw, figure.conditional])
        .chain([figures.overall])
        .flatten()
}

/// What the margins are.
pub(super) fn interval_note(method: IntervalMethod, has_even: bool, has_uneven: bool) -> String {
    let level = 100.0 * method.level;
    let what = match (has_even, has_uneven) {
        (true, true) => {
            format!(
                "±: half of the {level} % confidence interval; (a–b): its ends where it is uneven"
            )
        }
        (true, false) => format!("±: half of the {level} % confidence interval"),
        (false, _) => format!("(a–b): the ends of the {level} % confidence interval"),
    };
    format!("{what} ({})", interval_method(method))
}

/// How intervals were made.
pub(super) fn interval_method(method: IntervalMethod) -> &'static str {
    match method.method {
        IntervalKind::KornGraubard => "Korn and Graubard, over items",
        IntervalKind::Bootstrap => "bootstrap, over items",
    }
}

fn dropped_line(item: &DroppedItem) -> String {
    format!("  {}: {}", item.item, item.reason)
}
