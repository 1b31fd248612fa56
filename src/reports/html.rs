//! In: tables, charts and gallery data of a report. Out: one HTML page that needs no other file but its
//! thumbnails and no network. Static parts are escaped here; the gallery is made by the page's one
//! script, which puts every text in as text. A content security policy lets that script and the style
//! sheet run, by their digests, and nothing else.

use super::differences::Differences;
use super::drawing::{Drawing, page_svg};
use super::escape::{escape, json_in_script};
use super::figure_table::few_items_note;
use super::page_template::{filled, source_digest};
use super::report_input::ReportInput;
use super::report_table::ReportTable;
use super::run_charts::Chart;
use super::terminal::interval_method;
use crate::wording::counted;

const TEMPLATE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");
/// The data are a constant of the whole script; item_view.js says how an item looks, gallery.js which.
const SCRIPT: &str = concat!(
    "\"use strict\";\nconst data = JSON.parse(document.getElementById(\"data\").textContent);\n",
    include_str!("html/item_view.js"),
    include_str!("html/gallery.js")
);

/// What a page is made of.
pub struct Page<'a> {
    /// The runs.
    pub input: &'a ReportInput<'a>,
    /// Every run against the first.
    pub differences: &'a [Differences],
    /// All tables; those without printed rows are only linked.
    pub tables: &'a [ReportTable],
    /// All charts.
    pub charts: &'a [Chart],
    /// The gallery's data as JSON.
    pub gallery: &'a str,
    /// What readers must know before they compare, one sentence each.
    pub warnings: &'a [String],
}

/// Writes the page.
pub fn page(page: &Page<'_>) -> String {
    let names: Vec<&str> = page.input.runs.iter().map(|run| run.name.as_str()).collect();
    let sections = sections(page);
    let contents: String = sections
        .iter()
        .map(|(id, heading, _)| (*id, *heading))
        .chain([("gallery", "Gallery")])
        .map(|(id, heading)| format!("<li><a href=\"#{id}\">{heading}</a></li>"))
        .collect();
    let figures: String = sections
        .iter()
        .map(|(id, heading, content)| {
            format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n<h2 id=\"{id}-heading\">{heading}</h2>\n{content}</section>\n"
            )
        })
        .collect();
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src 'self' file: data:; \
         base-uri 'none'; form-action 'none'",
        source_digest(SCRIPT),
        source_digest(STYLE)
    );
    let data = json_in_script(page.gallery);
    filled(TEMPLATE, |name| match name {
        "policy" => policy.clone(),
        "title" => escape(&format!("DPG-Bench: {}", names.join(", "))),
        "subtitle" => subtitle(page.input),
        "style" => STYLE.to_owned(),
        "contents" => contents.clone(),
        "figures" => figures.clone(),
        "footer" => footer(page),
        "data" => data.clone(),
        "script" => SCRIPT.to_owned(),
        _ => String::new(),
    })
}

fn subtitle(input: &ReportInput<'_>) -> String {
    let questions: usize = input.items.iter().map(|item| item.graph.len()).sum();
    let official = input.runs.iter().all(|run| run.summary.run.benchmark.official);
    let file = if official { "the official" } else { "not the official" };
    format!(
        "{} with {} ({file} question file), under the {} protocol.",
        counted(input.items.len(), "item"),
        counted(questions, "question"),
        input.protocol.name()
    )
}

fn sections(page: &Page<'_>) -> Vec<(&'static str, &'static str, String)> {
    let table = |name: &str| -> String {
        let found = page.tables.iter().find(|table| table.name == name && !table.rows.is_empty());
        found.map_or(String::new(), ReportTable::html)
    };
    let chart = |name: &str| -> String {
        page.charts.iter().find(|chart| chart.name == name).map_or(String::new(), figure)
    };
    let warnings: String = page
        .warnings
        .iter()
        .map(|warning| format!("<p class=\"warning\">{}</p>\n", escape(warning)))
        .collect();
    let beside = table("soft") + &table("chance");
    let leaderboard = warnings + &table("leaderboard") + &beside + &note(page);
    let mut sections = vec![("leaderboard", "Leaderboard", leaderboard)];
    if !page.differences.is_empty() {
        let content: String = page
            .differences
            .iter()
            .map(|found| {
                let name = format!("differences-{}", found.run + 1);
                pair(&(chart(&name) + &table(&name)))
            })
            .collect();
        sections.push(("differences", "Differences", content));
    }
    sections.push((
        "categories",
        "Categories",
        pair(&(chart("categories") + &chart("radar"))) + &table("categories"),
    ));
    let against = chart("prompt-length") + &chart("question-count");
    if !against.is_empty() {
        sections.push(("length", "Length", pair(&against)));
    }
    let seeds = chart("seed-variance");
    if !seeds.is_empty() {
        sections.push(("seeds", "Seeds", seeds));
    }
    let settings = table("settings") + &table("settings-shared");
    sections.push(("settings", "Coverage and settings", table("coverage") + &settings));
    sections
}

fn note(page: &Page<'_>) -> String {
    let method = page.input.runs.first().and_then(|run| run.summary.intervals);
    let intervals = method.map(|method| {
        let mut text = format!("Intervals: {}. ", interval_method(method));
        let scored = page.input.runs.iter().map(|run| page.input.figures(run).items_scored);
        let items = scored.min().unwrap_or_default();
        text.extend(few_items_note(items).map(|note| note.replacen("only", "Only", 1) + ". "));
        text
    });
    let compared = (!page.differences.is_empty()).then_some(
        "Two runs may differ significantly although their intervals overlap: see the differences, which are \
         taken item by item.",
    );
    let text = intervals.unwrap_or_default() + compared.unwrap_or_default();
    format!("<p class=\"note\">{}</p>\n", escape(text.trim()))
}

/// Parts that stand side by side where the page is wide enough.
fn pair(parts: &str) -> String {
    format!("<div class=\"pair\">\n{parts}</div>\n")
}

fn figure(chart: &Chart) -> String {
    let title = escape(&chart.title);
    let picture = |class: &str, drawing: &Drawing| {
        format!(
            "<div class=\"picture{class}\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n{}</div>",
            page_svg(drawing)
        )
    };
    // The style sheet shows one of the two.
    let pictures = match &chart.narrow {
        Some(narrow) => picture(" wide", &chart.drawing) + &picture(" narrow", narrow),
        None => picture("", &chart.drawing),
    };
    format!(
        "<figure><h3>{title}</h3>{pictures}<figcaption>{} <a class=\"alone\" href=\"charts/{}.svg\">This chart alone, to enlarge it</a></figcaption></figure>\n",
        escape(&chart.note),
        chart.name
    )
}

fn footer(page: &Page<'_>) -> String {
    let mut links = Vec::new();
    for table in page.tables {
        let endings: &[&str] = if table.rows.is_empty() { &["csv"] } else { &["csv", "md", "tex"] };
        let files: Vec<String> = endings
            .iter()
            .map(|ending| format!("<a href=\"tables/{}.{ending}\">{ending}</a>", table.name))
            .collect();
        links.push(format!("{} ({})", table.name, files.join(", ")));
    }
    let mut pictures = Vec::new();
    for chart in page.charts {
        let name = &chart.name;
        pictures.push(format!(
            "{name} (<a href=\"charts/{name}.svg\">svg</a>, <a href=\"charts/{name}.png\">png</a>)"
        ));
    }
    format!(
        "<p>Tables beside this page: {}. Charts: {}.</p>\n<p>Made by dpg-bench {}.</p>\n",
        links.join("; "),
        pictures.join("; "),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::drawing::{Ink, MAX_RUNS, luma};

    /// The colours of the runs in a part of the style sheet, by their place.
    fn run_colours(part: &str) -> Vec<[u8; 3]> {
        (0..MAX_RUNS)
            .filter_map(|run| {
                let (_, rest) = part.split_once(&format!("--run{run}: #"))?;
                let byte = |at: usize| u8::from_str_radix(rest.get(at..at + 2)?, 16).ok();
                Some([byte(0)?, byte(2)?, byte(4)?])
            })
            .collect()
    }

    #[test]
    fn the_page_has_the_charts_colours_and_in_the_dark_others_that_differ_in_grey() {
        let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").unwrap();
        let drawn: Vec<[u8; 3]> = (0..MAX_RUNS).map(|run| Ink::Run(run).rgb()).collect();
        assert_eq!(run_colours(light), drawn);
        let dark = run_colours(dark);
        assert_eq!(dark.len(), MAX_RUNS);
        let mut greys: Vec<f64> = dark.into_iter().map(luma).collect();
        greys.sort_by(f64::total_cmp);
        assert!(greys.windows(2).all(|two| two[1] - two[0] >= 15.0), "{greys:?}");
    }

    #[test]
    fn the_template_has_no_handlers_and_the_script_no_markup() {
        let is_handler = |word: &&str| word.starts_with("on") && word.contains('=');
        assert_eq!(TEMPLATE.split_whitespace().find(is_handler), None);
        assert!(!TEMPLATE.contains("style=") && !TEMPLATE.contains("src="));
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "</script"]
        {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }
}
