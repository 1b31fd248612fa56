//! In: what MLflow is to be told of a run. Out: the run on the server, or that it is there already. A run that cannot be told
//! whole is set to FAILED.

use serde_json::{Value, json};

use super::told_run::{MlflowRun, entry};
use super::tracking_server::{Call, TrackingFault, TrackingServer};
use crate::http::percent_encoded;

/// Limits of one `runs/log-batch`: metrics, parameters and tags together, parameters, tags, bytes.
const MOST_ENTRIES: usize = 1000;
const MOST_PARAMS: usize = 100;
const MOST_TAGS: usize = 100;
const MOST_BYTES: usize = 900_000;

/// The tags by which a run is known again.
const SOURCE: &str = "dpg_bench.source";
const CONTENT: &str = "dpg_bench.content";

/// What became of a run.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It was made; its id.
    New(String),
    /// The same numbers and settings of the same run directory are there, in the run of this id; nothing was sent.
    Same(String),
}

/// Why a run could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendingFault {
    /// Nothing was made.
    #[error(transparent)]
    Before(#[from] TrackingFault),
    /// The experiment was thrown away there.
    #[error(
        "the experiment `{name}` (id {id}) is deleted on the MLflow server {server}; restore it there, or name another \
         --experiment"
    )]
    Deleted { server: String, name: String, id: String },
    /// Other numbers of the same run directory are there; nothing was sent.
    #[error(
        "run {run} of experiment `{name}` on the MLflow server {server} has other numbers of this run directory; nothing \
         was sent: say --again to send these as a new run"
    )]
    OthersThere { server: String, name: String, run: String },
    /// A part was refused; what is there is set to FAILED.
    #[error("{fault}; its run {run} is set to FAILED")]
    Part { run: String, fault: TrackingFault },
    /// A part was refused, and the run's end as well.
    #[error("{fault}; its run {run} is left unfinished")]
    Left { run: String, fault: TrackingFault },
}

/// Sends `run` to the experiment of that name, which is made where there is none. Where the server has a finished run of the
/// same run directory, nothing is sent, unless `again`.
///
/// # Errors
/// See [`SendingFault`].
pub(crate) fn send(
    server: &TrackingServer,
    experiment: &str,
    run: &MlflowRun,
    again: bool,
) -> Result<Sent, SendingFault> {
    let name = experiment;
    let experiment = find_experiment(server, name)?;
    if !again && let Some((id, content)) = find_run(server, &experiment, run)? {
        if content == run.content {
            return Ok(Sent::Same(id));
        }
        let (server, name) = (server.base().to_owned(), name.to_owned());
        return Err(SendingFault::OthersThere { server, name, run: id });
    }
    let (id, placed) = create_run(server, &experiment, run)?;
    let filled = if placed == experiment {
        fill(server, &id, run)
    } else {
        let what = format!("with a run in experiment {placed} where {experiment} was asked for");
        Err(server.other("runs/create", what))
    };
    match filled {
        Ok(()) => Ok(Sent::New(id)),
        Err(fault) => Err(match end(server, &id, "FAILED", run.end) {
            Ok(()) => SendingFault::Part { run: id, fault },
            Err(_) => SendingFault::Left { run: id, fault },
        }),
    }
}

/// The id of an experiment that is not deleted.
fn find_experiment(server: &TrackingServer, name: &str) -> Result<String, SendingFault> {
    const BY_NAME: &str = "experiments/get-by-name";
    let query = format!("experiment_name={}", percent_encoded(name));
    for is_last in [false, true] {
        match server.call(BY_NAME, Call::Get(&query)) {
            Ok(found) => {
                let told = server.text(BY_NAME, &found, "/experiment/name")?;
                let id = server.text(BY_NAME, &found, "/experiment/experiment_id")?.to_owned();
                if told != name {
                    let what = format!("with experiment `{told}` where `{name}` was asked for");
                    return Err(server.other(BY_NAME, what).into());
                }
                if found["experiment"]["lifecycle_stage"] == "deleted" {
                    let (server, name) = (server.base().to_owned(), name.to_owned());
                    return Err(SendingFault::Deleted { server, name, id });
                }
                return Ok(id);
            }
            Err(fault) if fault.is_absent() && !is_last => {
                const CREATE: &str = "experiments/create";
                match server.call(CREATE, Call::Post(&json!({"name": name}))) {
                    Ok(made) => {
                        return Ok(server.text(CREATE, &made, "/experiment_id")?.to_owned());
                    }
                    // Somebody else made it meanwhile.
                    Err(fault) if fault.is_there_already() => {}
                    Err(fault) => return Err(fault.into()),
                }
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(server.other(BY_NAME, "as if it had no such experiment, and makes none").into())
}

/// The id of the newest finished run of the same run directory, and the digest of what it was told.
fn find_run(
    server: &TrackingServer,
    experiment: &str,
    run: &MlflowRun,
) -> Result<Option<(String, String)>, TrackingFault> {
    const SEARCH: &str = "runs/search";
    let asked = json!({
        "experiment_ids": [experiment],
        "filter": format!("attributes.status = 'FINISHED' and tags.`{SOURCE}` = '{}'", run.source),
        "run_view_type": "ACTIVE_ONLY",
        "order_by": ["attributes.start_time DESC"],
        "max_results": 20,
    });
    let found = server.call(SEARCH, Call::Post(&asked))?;
    let tag = |run: &Value, key: &str| {
        let tags = run["data"]["tags"].as_array()?;
        let tag = tags.iter().find(|tag| tag["key"] == key)?;
        tag["value"].as_str().map(str::to_owned)
    };
    let runs = found["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_this = runs.iter().filter(|found| tag(found, SOURCE).as_ref() == Some(&run.source));
    let mut known: Vec<(String, String)> = Vec::new();
    for found in of_this {
        let id = server.text(SEARCH, found, "/info/run_id")?;
        known.push((id.to_owned(), tag(found, CONTENT).unwrap_or_default()));
    }
    // Of several, made by `again`, the one with the same numbers tells more.
    let same = known.iter().position(|(_, content)| *content == run.content).unwrap_or(0);
    Ok((!known.is_empty()).then(|| known.swap_remove(same)))
}

/// The id of the new run, and that of the experiment that it is in.
fn create_run(
    server: &TrackingServer,
    experiment: &str,
    run: &MlflowRun,
) -> Result<(String, String), TrackingFault> {
    const CREATE: &str = "runs/create";
    let own = [(SOURCE.to_owned(), run.source.clone()), (CONTENT.to_owned(), run.content.clone())];
    let tags: Vec<Value> = own.iter().map(entry).collect();
    let asked = json!({
        "experiment_id": experiment, "run_name": run.name, "start_time": run.start, "tags": tags,
    });
    let made = server.call(CREATE, Call::Once(&asked))?;
    let id = server.text(CREATE, &made, "/run/info/run_id")?.to_owned();
    let placed = server.text(CREATE, &made, "/run/info/experiment_id")?.to_owned();
    Ok((id, placed))
}

fn fill(server: &TrackingServer, id: &str, run: &MlflowRun) -> Result<(), TrackingFault> {
    for batch in batches(id, run) {
        server.call("runs/log-batch", Call::Post(&batch))?;
    }
    end(server, id, "FINISHED", run.end)
}

/// The server answers 200 to a status that it does not know, so its reply is looked at.
fn end(server: &TrackingServer, id: &str, status: &str, at: i64) -> Result<(), TrackingFault> {
    const UPDATE: &str = "runs/update";
    let asked = json!({"run_id": id, "status": status, "end_time": at});
    let told = server.call(UPDATE, Call::Post(&asked))?;
    match server.text(UPDATE, &told, "/run_info/status")? {
        found if found == status => Ok(()),
        found => {
            Err(server.other(UPDATE, format!("with status {found} where {status} was asked for")))
        }
    }
}

/// The bodies of as many calls as the limits make of the run: parameters and tags first.
fn batches(id: &str, run: &MlflowRun) -> Vec<Value> {
    let metric = |(key, value): &(String, f64)| json!({"key": key, "value": value, "timestamp": run.end, "step": run.step});
    let kinds: [(&str, usize, Vec<Value>); 3] = [
        ("params", MOST_PARAMS, run.params.iter().map(entry).collect()),
        ("tags", MOST_TAGS, run.tags.iter().map(entry).collect()),
        ("metrics", MOST_ENTRIES, run.metrics.iter().map(metric).collect()),
    ];
    let mut batches: Vec<Value> = Vec::new();
    let (mut entries, mut bytes) = (MOST_ENTRIES, MOST_BYTES);
    for (kind, most, values) in kinds {
        let mut of_kind = 0;
        for value in values {
            let length = value.to_string().len() + 1;
            if entries == MOST_ENTRIES || of_kind == most || bytes + length > MOST_BYTES {
                batches.push(json!({"run_id": id}));
                (entries, of_kind, bytes) = (0, 0, 0);
            }
            (entries, of_kind, bytes) = (entries + 1, of_kind + 1, bytes + length);
            if let Some(batch) = batches.last_mut().and_then(Value::as_object_mut) {
                let list = batch.entry(kind).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(value);
                }
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(metrics: usize, params: usize, length: usize) -> MlflowRun {
        MlflowRun {
            name: "a".into(),
            start: 0,
            end: 1,
            step: 2,
            metrics: (0..metrics).map(|number| (format!("m{number}"), 0.5)).collect(),
            params: (0..params).map(|number| (format!("p{number}"), "x".repeat(length))).collect(),
            tags: vec![("t".into(), "u".into())],
            source: "s".into(),
            content: "c".into(),
        }
    }

    #[test]
    fn no_batch_is_above_a_limit_and_nothing_is_lost() {
        for (metrics, params, length) in
            [(0, 0, 1), (3, 2, 1), (999, 0, 1), (2500, 250, 1), (1200, 250, 6000)]
        {
            let run = run(metrics, params, length);
            let batches = batches("id", &run);
            let mut counts = [0; 3];
            for batch in &batches {
                assert!(batch.to_string().len() < 1_000_000, "{metrics} {params}");
                let count = |kind: &str| batch[kind].as_array().map(Vec::len).unwrap_or_default();
                let found = ["metrics", "params", "tags"].map(count);
                assert!(found[1] <= 100 && found[2] <= 100, "{found:?}");
                assert!((1..=1000).contains(&found.iter().sum::<usize>()), "{found:?}");
                for (sum, count) in counts.iter_mut().zip(found) {
                    *sum += count;
                }
            }
            assert_eq!(counts, [metrics, params, 1], "{metrics} {params}");
        }
        assert_eq!(batches("id", &run(3, 2, 1)).len(), 1);
    }
}
