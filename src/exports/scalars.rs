//! In: a summary. Out: its numbers with the names under which trackers draw them.

use crate::aggregate::{Protocol, Summary};

/// The numbers of `protocols` in percent: `dpg_bench_corrected/overall`, its ends `.../overall low` and
/// `.../overall high`, and every category, after the dependency rule under `corrected` and `soft`, before it under `reference`.
/// What is absent or withheld has no number.
pub(crate) fn scalars(summary: &Summary, protocols: &[Protocol]) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for protocol in protocols {
        let own = summary.protocol(*protocol);
        let group = format!("dpg_bench_{}", protocol.name());
        let mut put = |name: &str, value: Option<f64>| {
            found.extend(value.map(|value| (format!("{group}/{name}"), value)));
        };
        put("overall", own.overall.map(|figure| figure.mean));
        put("overall low", own.overall.and_then(|figure| figure.low));
        put("overall high", own.overall.and_then(|figure| figure.high));
        for (name, estimate) in summary.categories(*protocol) {
            put(name, estimate.map(|estimate| estimate.mean));
        }
    }
    found
}

/// A number under the name by which trackers draw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    /// `dpg_bench_corrected`, or `dpg_bench_coverage`.
    pub group: String,
    /// `overall`, `attribute - color high`, `images present`.
    pub name: String,
    /// In percent; counts as they are.
    pub value: f64,
}

/// As [`scalars`], with the ends of every category's interval, standard errors, and the counts of the coverage.
pub(crate) fn numbers(summary: &Summary, protocols: &[Protocol]) -> Vec<Number> {
    let mut found = Vec::new();
    for protocol in protocols {
        let own = summary.protocol(*protocol);
        let group = format!("dpg_bench_{}", protocol.name());
        let categories = summary.categories(*protocol);
        for (name, estimate) in std::iter::once(("overall", own.overall)).chain(categories) {
            let Some(estimate) = estimate else { continue };
            for (word, value) in [
                ("", Some(estimate.mean)),
                (" low", estimate.low),
                (" high", estimate.high),
                (" standard error", estimate.standard_error),
            ] {
                let (group, name) = (group.clone(), format!("{name}{word}"));
                found.extend(value.map(|value| Number { group, name, value }));
            }
        }
        let (name, value) = ("items scored".to_owned(), own.items_scored as f64);
        found.push(Number { group, name, value });
    }
    let coverage = &summary.coverage;
    for (name, count) in [
        ("items expected", coverage.items_expected),
        ("images expected", coverage.images_expected),
        ("images present", coverage.images_present),
        ("images filtered", coverage.images_filtered),
        ("questions expected", coverage.questions_expected),
        ("questions answered", coverage.questions_answered),
        ("questions unparsable", coverage.questions_unparsable),
        ("questions failed", coverage.questions_failed),
        ("questions missing", coverage.questions_missing),
    ] {
        let group = "dpg_bench_coverage".to_owned();
        found.push(Number { group, name: name.to_owned(), value: count as f64 });
    }
    found
}
