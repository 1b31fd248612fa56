//! In: a summary. Out: its numbers with the names under which trackers draw them.

use crate::aggregate::shares::Stage;
use crate::aggregate::{Protocol, Summary};

/// The numbers of `protocols` in percent: `dpg_bench_corrected/overall`, its ends `.../overall low` and
/// `.../overall high`, and every category, after the dependency rule under `corrected` and before it under `reference`.
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
        for figure in own.l1.iter().chain(&own.l2) {
            let estimate = figure.at(Stage::of_categories(*protocol));
            put(&figure.name, estimate.map(|estimate| estimate.mean));
        }
    }
    found
}
