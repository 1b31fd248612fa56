//! In: the catalogs. Out: the models and judges that there are, what each needs, and whether it is
//! there.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json};
use crate::fetch::Role;
use crate::fetch::catalog::find;
use crate::generate::catalog::{CatalogModel, MODELS, OUTSIDE};
use crate::judge::catalog::JUDGES;
use crate::session::fetched;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench list
  dpg-bench list --weights stable-diffusion-v1-5   # which files are there?")]
pub(crate) struct Args {
    /// Look for each model's files in this folder
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Listing {
    models: Vec<Entry>,
    judges: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    summary: &'static str,
    /// The command that gets it, where one does.
    fetch: Option<String>,
    /// What that command does not get.
    note: Option<&'static str>,
    needs: Vec<Need>,
}

#[derive(Serialize)]
struct Need {
    what: String,
    /// Absent where it cannot be told: no folder was named, or it is a flag.
    present: Option<bool>,
}

/// Runs the command.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let listing = Listing {
        models: MODELS
            .iter()
            .map(|model| Entry {
                name: model.name,
                summary: model.description,
                fetch: command(model.name),
                note: find(model.name).ok().and_then(|row| row.note),
                needs: needs_of(model, args.weights.as_deref()),
            })
            .chain(OUTSIDE.iter().map(|model| Entry {
                name: model.name,
                summary: model.description,
                fetch: None,
                note: None,
                needs: vec![Need { what: model.needs.to_owned(), present: None }],
            }))
            .collect(),
        judges: JUDGES
            .iter()
            .map(|judge| Entry {
                name: judge.name,
                summary: judge.summary,
                fetch: command(judge.name),
                note: find(judge.name).ok().and_then(|row| row.note),
                needs: (judge.needs)()
                    .into_iter()
                    .map(|need| Need { what: need.what, present: need.present })
                    .collect(),
            })
            .collect(),
    };
    if args.output.json {
        return print_json(&listing);
    }
    let mut text = String::new();
    if let Some(folder) = &args.weights {
        let is_whole = |needs: &&Entry| {
            !needs.needs.is_empty() && needs.needs.iter().all(|need| need.present == Some(true))
        };
        let whole: Vec<&str> =
            listing.models.iter().filter(is_whole).map(|model| model.name).collect();
        let whole = if whole.is_empty() { "no model".to_owned() } else { whole.join(", ") };
        let shown = folder.display();
        text.push_str(&match folder.is_file() {
            true => format!(
                "{shown} is a single file, which has no configurations and vocabulary beside it: give it with --base DIR \
                 (docs/models.md), and ask `dpg-bench doctor --quick`; below are the files of folders\n\n"
            ),
            false => format!("{shown} has all files of: {whole}\n\n"),
        });
    }
    text.push_str("Models (--model)\n");
    describe(&mut text, &listing.models, "needs, in the folder given with --weights or as a flag:");
    text.push_str("\nJudges (--judge)\n");
    describe(&mut text, &listing.judges, "needs:");
    print(&text)
}

/// The files of a checkpoint in `folder`, and an ELLA's own parts where `fetch` has put them.
fn needs_of(model: &CatalogModel, folder: Option<&Path>) -> Vec<Need> {
    let of_folder = model.files().iter().map(|file| Need {
        what: file.to_string(),
        present: folder.map(|folder| file.is_in(folder)),
    });
    let fetched = |role| folder.map(|_| matches!(fetched::part(model.name, role), Ok(Some(_))));
    let parts = [
        ("--ella FILE, the connector (looked for where `fetch` puts it)", Role::Connector),
        ("--text-encoder DIR, flan-t5-xl (looked for where `fetch` puts it)", Role::TextEncoder),
    ];
    let has_parts = model.pipeline.is_ella() && !model.is_shipped();
    let parts = parts.into_iter().filter(|_| has_parts);
    of_folder
        .chain(parts.map(|(what, role)| Need { what: what.to_owned(), present: fetched(role) }))
        .collect()
}

fn command(name: &str) -> Option<String> {
    find(name).ok().map(|row| format!("dpg-bench fetch {}", row.name))
}

fn describe(text: &mut String, entries: &[Entry], heading: &str) {
    for entry in entries {
        text.push_str(&format!("  {}\n    {}\n", entry.name, entry.summary));
        if entry.needs.is_empty() {
            text.push_str("    needs nothing\n");
            continue;
        }
        if let Some(command) = &entry.fetch {
            match entry.note {
                Some(note) => text.push_str(&format!("    `{command}` gets the rest: {note}\n")),
                None => text.push_str(&format!("    `{command}` gets it; or bring your own\n")),
            }
        }
        text.push_str(&format!("    {heading}\n"));
        for need in &entry.needs {
            let mark = match need.present {
                Some(true) => "found    ",
                Some(false) => "missing  ",
                None => "",
            };
            text.push_str(&format!("      {mark}{}\n", need.what));
        }
    }
}
