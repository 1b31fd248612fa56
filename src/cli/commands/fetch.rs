//! In: names of models, judges or the benchmark. Out: their files in the caches, where the other commands
//! find them. The work is in `fetch`; this file says what came of it.

use std::path::PathBuf;

use anyhow::anyhow;
use serde::Serialize;

use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::fetch_bars::{FetchBars, megabytes};
use crate::cli::output::print::{print, print_json, say};
use crate::fetch::catalog::find;
use crate::fetch::{
    Comparison, FETCHABLE, FetchError, FetchOptions, FetchState, Fetchable, Fetched, Host,
    LockFile, Places, Precision, Role, Source, Witness, compare_copies, fetch, locate, state_of,
};
use crate::session::fetched::places;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench fetch --list               # what there is, and what is here
  dpg-bench fetch benchmark            # question file and prompts
  dpg-bench fetch sd15 mplug
  dpg-bench fetch sdxl --half          # 16-bit weights, for a GPU
  dpg-bench fetch sd15 --verify        # read every byte again
  dpg-bench fetch ella-sd15 --offline  # is all of it here?
  dpg-bench fetch mplug --from hugging-face   # a copy

An interrupted fetch goes on where it stopped when the same command is given again. HF_HOME, HF_HUB_CACHE, \
HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, MODELSCOPE_CACHE, MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN and \
DPG_BENCH_GITHUB_RAW are honoured (docs/fetching.md).
Exit status: 0 all is here; 1 with --offline, something is missing; 2 error.")]
pub(crate) struct Args {
    /// What to fetch, as --list names it
    #[arg(value_name = "NAME", required_unless_present = "list")]
    names: Vec<String>,
    /// List what can be fetched and what is here
    #[arg(long, conflicts_with = "names")]
    list: bool,
    /// Fetch from this publisher, where there are copies in other hands; without it, from the first
    #[arg(long, value_name = "PUBLISHER", value_enum, conflicts_with_all = ["list", "offline"])]
    from: Option<Publisher>,
    /// Ask no server; say what is here and what is missing
    #[arg(long)]
    offline: bool,
    /// Read what is here again and get damaged files anew
    #[arg(long, conflicts_with = "offline")]
    verify: bool,
    /// Take what is newest now, where the revision was chosen by an earlier fetch
    #[arg(long, conflicts_with = "offline")]
    update: bool,
    /// 16-bit weights where the publisher has them: half the size, for GPUs
    #[arg(long)]
    half: bool,
    /// Maximum number of files at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Failures without progress after which a file is given up
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    failures: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Publisher {
    HuggingFace,
    Modelscope,
    Github,
}

impl Publisher {
    fn host(self) -> Host {
        match self {
            Self::HuggingFace => Host::HuggingFace,
            Self::Modelscope => Host::ModelScope,
            Self::Github => Host::GitHub,
        }
    }

    /// As `--from` takes it.
    fn flag(host: Host) -> &'static str {
        match host {
            Host::HuggingFace => "hugging-face",
            Host::ModelScope => "modelscope",
            Host::GitHub => "github",
        }
    }
}

/// One thing, for `--list` and `--json`.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    what: &'static str,
    size: &'static str,
    note: Option<&'static str>,
    parts: Vec<Part>,
}

/// One repository of it.
#[derive(Serialize)]
struct Part {
    role: Role,
    host: &'static str,
    repository: &'static str,
    /// Whether others than the publisher put it there.
    is_copy: bool,
    licence: String,
    /// Whether all of it is here.
    here: bool,
    /// Files that a begun fetch is still to get.
    missing: Vec<String>,
    folder: Option<PathBuf>,
    revision: Option<String>,
    /// Files that came now, and their bytes.
    files_fetched: usize,
    bytes_fetched: u64,
    /// Who vouches for how many digests.
    digests: Digests,
}

#[derive(Default, Serialize)]
struct Digests {
    program: usize,
    publisher: usize,
    first_fetch: usize,
}

impl Digests {
    fn of(lock: &LockFile) -> Self {
        let count = |witness| lock.files.values().filter(|file| file.witness == witness).count();
        Self {
            program: count(Witness::Program),
            publisher: count(Witness::Publisher),
            first_fetch: count(Witness::FirstFetch),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let places = places()?;
    if args.list {
        let listed: Vec<Listed> = FETCHABLE.iter().map(|row| look(row, &places)).collect();
        return if args.output.json { print_json(&listed) } else { print(&table(&listed)) };
    }
    let rows: Vec<&Fetchable> = args
        .names
        .iter()
        .map(|name| find(name))
        .collect::<Result<_, _>>()
        .map_err(anyhow::Error::msg)?;
    let offline = args.offline || places.offline;
    if offline {
        let listed: Vec<Listed> = rows.iter().map(|row| look(row, &places)).collect();
        if args.output.json {
            print_json(&listed)?;
        } else {
            print(&state(&listed))?;
        }
        let whole = rows.iter().zip(&listed).all(|(row, listed)| is_whole(row, listed));
        return Ok(if whole { ExitStatus::Done } else { ExitStatus::CheckFailed });
    }
    let options = FetchOptions {
        precision: if args.half { Precision::Half } else { Precision::Full },
        update: args.update,
        verify: args.verify,
        parallel: args.parallel as usize,
        failures: args.failures,
        ..FetchOptions::default()
    };
    let bars = FetchBars::new();
    let mut listed = Vec::new();
    for row in rows {
        let mut parts = Vec::new();
        for (role, publisher) in row.sources {
            let source = chosen(row, *role, publisher, args.from)?;
            let fetched = fetch(source, &places, &options, &bars)
                .map_err(|error| with_copies(error, row, *role, source))?;
            say(&described(source, &fetched));
            for other in row.all(*role).filter(|other| *other != source) {
                let Some(found) = locate(other, &places) else { continue };
                let comparison = compare_copies((source, &fetched), (other, &found))?;
                say(&compared(source, other, &comparison));
            }
            parts.push(part_of(row, *role, source, fetched));
        }
        listed.push(Listed { parts, ..empty(row) });
    }
    if args.output.json {
        return print_json(&listed);
    }
    print(&state(&listed))
}

/// The repository to fetch for `role`.
fn chosen(
    row: &'static Fetchable,
    role: Role,
    publisher: &'static Source,
    from: Option<Publisher>,
) -> anyhow::Result<&'static Source> {
    let Some(host) = from.map(Publisher::host) else { return Ok(publisher) };
    row.all(role).find(|source| source.host == host).ok_or_else(|| {
        let known: Vec<&str> = row.all(role).map(|source| source.host.name()).collect();
        anyhow!(
            "--from: {} has nothing for the {} of `{}`; there is {}",
            host.name(),
            role_name(role),
            row.name,
            known.join(", ")
        )
    })
}

/// The error, and where else the files are, if asking elsewhere may help.
fn with_copies(error: FetchError, row: &Fetchable, role: Role, asked: &Source) -> anyhow::Error {
    let may_help = matches!(
        error,
        FetchError::GaveUp { .. }
            | FetchError::NotFound { .. }
            | FetchError::Refused { .. }
            | FetchError::Answer { .. }
    );
    let mut others = row.all(role).filter(|other| other.host != asked.host);
    match others.next().filter(|_| may_help) {
        None => error.into(),
        Some(other) => {
            let (host, flag) = (other.host.name(), Publisher::flag(other.host));
            anyhow!(
                "{error}; {host} has it too ({}): dpg-bench fetch {} --from {flag}",
                other.repository,
                row.name
            )
        }
    }
}

/// Whether each part is here, from whichever publisher.
fn is_whole(row: &Fetchable, listed: &Listed) -> bool {
    row.sources
        .iter()
        .all(|(role, _)| listed.parts.iter().any(|part| part.role == *role && part.here))
}

fn compared(source: &Source, other: &Source, comparison: &Comparison) -> String {
    let (one, two) = (source.repository, other.repository);
    let Comparison { same, other_notes } = comparison;
    let mut text = format!("{one}: {} files are the same bytes as in {two}", same.len());
    if !other_notes.is_empty() {
        text.push_str(&format!("; these differ, and change no answer: {}", other_notes.join(", ")));
    }
    text
}

fn empty(row: &Fetchable) -> Listed {
    let Fetchable { name, what, size, note, .. } = *row;
    Listed { name, what, size, note, parts: Vec::new() }
}

fn part_of(row: &Fetchable, role: Role, source: &Source, fetched: Fetched) -> Part {
    Part {
        role,
        host: source.host.name(),
        repository: source.repository,
        is_copy: row.source(role) != Some(source),
        licence: fetched.lock.licence.clone(),
        here: true,
        missing: Vec::new(),
        digests: Digests::of(&fetched.lock),
        folder: Some(fetched.folder),
        revision: Some(fetched.lock.revision),
        files_fetched: fetched.came,
        bytes_fetched: fetched.bytes,
    }
}

/// What of a row is here.
fn look(row: &Fetchable, places: &Places) -> Listed {
    let part = |(role, source): &(Role, &'static Source)| {
        let verdict = state_of(source, places);
        let (here, missing, found) = match verdict {
            FetchState::Whole(found) => (true, Vec::new(), Some(found)),
            FetchState::Begun { missing } => (false, missing, None),
            FetchState::Absent => (false, Vec::new(), None),
        };
        let lock = found.as_ref().and_then(|found| found.lock.as_ref());
        Part {
            role: *role,
            host: source.host.name(),
            repository: source.repository,
            is_copy: row.source(*role) != Some(*source),
            licence: lock.map_or_else(|| source.licence.to_owned(), |lock| lock.licence.clone()),
            here,
            missing,
            digests: lock.map(Digests::of).unwrap_or_default(),
            revision: found.as_ref().and_then(|found| found.revision.clone()),
            folder: found.map(|found| found.folder),
            files_fetched: 0,
            bytes_fetched: 0,
        }
    };
    let both = row.sources.iter().chain(row.copies);
    Listed { parts: both.map(part).collect(), ..empty(row) }
}

fn described(source: &Source, fetched: &Fetched) -> String {
    let lock = &fetched.lock;
    let chosen = if lock.revision_is_pinned { "pinned" } else { "the newest at the first fetch" };
    let came = match fetched.came {
        0 => "all of it was here".to_owned(),
        count => format!("{count} files, {}, came and were checked", megabytes(fetched.bytes)),
    };
    format!("{}: {came}; revision {} ({chosen})", source.repository, lock.revision)
}

/// `sd15  checkpoint  FOLDER`, one line a part.
fn state(listed: &[Listed]) -> String {
    let mut text = String::new();
    for row in listed {
        for part in &row.parts {
            let place = match (&part.folder, part.missing.as_slice()) {
                (Some(folder), _) => folder.display().to_string(),
                (None, []) if part.is_copy => format!("not here; a copy at {}", part.host),
                (None, []) => format!("missing; `dpg-bench fetch {}` gets it", row.name),
                (None, [first, rest @ ..]) => format!(
                    "begun, {} files missing ({first}{}); `dpg-bench fetch {}` goes on",
                    1 + rest.len(),
                    if rest.is_empty() { "" } else { ", ..." },
                    row.name
                ),
            };
            let role = role_name(part.role);
            text.push_str(&format!("{:<12} {role:<12} {place}\n", row.name));
        }
        if let Some(note) = row.note {
            text.push_str(&format!("{:<12} note         {note}\n", row.name));
        }
    }
    text
}

fn table(listed: &[Listed]) -> String {
    let mut text = String::new();
    for row in listed {
        text.push_str(&format!("{}\n  {}, {}\n", row.name, row.what, row.size));
        if let Some(note) = row.note {
            text.push_str(&format!("  {note}\n"));
        }
        for part in &row.parts {
            let mark = match (part.here, part.missing.is_empty()) {
                (true, _) => "here   ",
                (false, true) => "missing",
                (false, false) => "begun  ",
            };
            let role = role_name(part.role);
            let copy = if part.is_copy { "a copy: " } else { "" };
            let from = format!("{copy}{} {} ({})", part.host, part.repository, part.licence);
            text.push_str(&format!("    {mark}  {role:<12}  {from}\n"));
        }
    }
    text
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Benchmark => "benchmark",
        Role::Checkpoint => "checkpoint",
        Role::Connector => "connector",
        Role::TextEncoder => "text encoder",
        Role::Judge => "judge",
    }
}
