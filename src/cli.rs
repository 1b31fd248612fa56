//! In: the command line. Out: one library call per command, tables or JSON on stdout, progress and
//! warnings on stderr, and an exit status. Nothing else in the crate uses this module.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::checkpoint::error_words::sentence;
use crate::compute::kept_memory;
use crate::machine;
use crate::measure::record::features;
use crate::near_names::did_you_mean;

mod args;
mod commands;
mod interrupt;
mod manual;
pub mod output;
mod settings_file;

use self::args::messages::MessageArgs;
use self::commands::model_list::ListedModel;
use self::commands::{
    agreement, audit, baseline, check, compare, control, convert, demo, doctor, export, fetch,
    forensics, generate, history, import, import_log, judge, list, measure, merge, model_list,
    report, run, score, show, validate, watch,
};
use self::output::exit_status::ExitStatus;
use self::output::print::{self, print, say, set_colours};
use self::settings_file::{Given, SettingsArgs};

/// Evaluates text-to-image models on DPG-Bench: generates images for dense prompts, puts every
/// question to a judge, and scores the answers.
#[derive(Debug, Parser)]
#[command(name = "dpg-bench", version, long_version = LONG_VERSION.as_str(), max_term_width = 100, propagate_version = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    messages: MessageArgs,
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Version, commit, features and target, for reports of faults.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("DPG_BENCH_GIT_COMMIT").unwrap_or("unknown");
    let features = features();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    format!(
        "{}\ncommit: {commit}\nfeatures: {features}\ntarget: {}",
        env!("CARGO_PKG_VERSION"),
        env!("DPG_BENCH_TARGET")
    )
});

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate, judge and score in one go
    Run(Box<run::Args>),
    /// Run the demo: two small models inside the program, compared, checked and reported
    Demo(demo::Args),
    /// Generate the images of a run
    Generate(Box<generate::Args>),
    /// Bring images made elsewhere into a run
    Import(import::Args),
    /// Put every question to a judge
    Judge(Box<judge::Args>),
    /// Ask a judge about images that do not fit the questions: what is chance?
    Control(Box<control::Args>),
    /// Join the shards of a run, or runs made in several places
    Merge(merge::Args),
    /// Score a run's answers, without judging again
    Score(score::Args),
    /// Follow a run that is being made: how far it is, and its score so far
    Watch(watch::Args),
    /// Show how runs differ, with intervals and p-values
    Compare(compare::Args),
    /// Show the score of a model against the steps of its training
    History(history::Args),
    /// Write the small file that later runs are checked against
    Baseline(baseline::Args),
    /// Fail where a run is worse than a baseline, for CI
    Check(check::Args),
    /// Measure how far the judges of a run agree
    Agreement(agreement::Args),
    /// Draw answers for people to label, and collect the labels
    Audit(audit::Args),
    /// Make a page, tables and charts from one or more runs
    Report(report::Args),
    /// Write a run's score in the form of another tool
    Export(export::Args),
    /// Recover the answers from the reference script's `_detail.txt`
    ImportLog(import_log::Args),
    /// Check whether a published category table can come from a complete run
    Forensics(forensics::Args),
    /// Check a question file and describe it
    Validate(validate::Args),
    /// Print an item's prompt and question graph
    Show(show::Args),
    /// Rewrite a judge's published weights as safetensors
    Convert(convert::Args),
    /// Say whether this machine can make a run, and what it will cost
    Doctor(Box<doctor::Args>),
    /// Measure how exact and how fast a device computes; no weights are needed
    Measure(measure::Args),
    /// Get weights and the benchmark from where they are published
    Fetch(fetch::Args),
    /// List the models and judges with the files that each needs
    List(list::Args),
    /// Print the help of the program, or of one of its commands
    Help {
        /// The command
        command: Option<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page (roff): of the program, or of one of its commands
    Man {
        /// The command
        command: Option<String>,
    },
}

impl Command {
    /// Whether it works through images for hours, and may be stopped between two of them.
    fn makes_a_run(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Demo(_)
                | Self::Generate(_)
                | Self::Import(_)
                | Self::Judge(_)
                | Self::Control(_)
        )
    }
}

/// Runs the program with the process's arguments and the settings file.
pub fn main() -> ExitCode {
    ExitCode::from(run_command(std::env::args_os().collect()))
}

/// Runs the command that was `typed`, its first word the program's, and returns the exit status that the shell is to see.
/// For a process that does nothing else: signals, colours, the log and the allocator are set for all
/// of it.
pub fn run_command(typed: Vec<OsString>) -> u8 {
    kept_memory::keep();
    carry_out_typed(interrupt::typed(typed)).into()
}

fn carry_out_typed(typed: &[OsString]) -> ExitStatus {
    let (cli, given) = match parse(typed) {
        Ok(parsed) => parsed,
        Err(error) => {
            let words = typed.iter().map(|word| word.to_string_lossy().into_owned());
            set_colours(wanted_colours(&words.collect::<Vec<_>>()));
            return report_usage(&error);
        }
    };
    cli.messages.apply();
    log_machine();
    if cli.command.makes_a_run()
        && let Err(error) = interrupt::listen()
    {
        report_error(&anyhow::Error::from(error).context("signals cannot be listened to"));
        return ExitStatus::CouldNot;
    }
    match carry_out(&cli.command, &given, typed) {
        Ok(status) => {
            if interrupt::requested() && status == ExitStatus::Incomplete {
                say(&format!("stopped; {}", interrupt::resume_hint()));
            }
            status
        }
        Err(error) if is_broken_pipe(&error) => ExitStatus::Done,
        Err(error) => {
            report_error(&error);
            given.notes(&sentence(&error)).iter().for_each(|note| say(note));
            ExitStatus::CouldNot
        }
    }
}

/// The command line, with what the settings file says.
fn parse(typed: &[OsString]) -> anyhow::Result<(Cli, Given)> {
    let mut program = Cli::command();
    let given = settings_file::given(&program, typed)?;
    let cli = Cli::from_arg_matches(&given.matches).map_err(|error| error.format(&mut program))?;
    Ok((cli, given))
}

/// Says why nothing is carried out; clap's own way is to print help and version as errors, which they are not.
fn report_usage(error: &anyhow::Error) -> ExitStatus {
    let Some(said) = error.downcast_ref::<clap::Error>() else {
        report_error(error);
        return ExitStatus::CouldNot;
    };
    let _ = said.print();
    // clap's own code for usage errors is 2 as well.
    if said.use_stderr() { ExitStatus::CouldNot } else { ExitStatus::Done }
}

/// Carries out what was `typed`; `run --print-config` and `--model-list` alone need the flags as they were given.
fn carry_out(command: &Command, given: &Given, typed: &[OsString]) -> anyhow::Result<ExitStatus> {
    if let Command::Run(args) = command
        && let Some(list) = &args.model_list
    {
        let lines = settings_file::listed_lines(&Cli::command(), typed, list)?;
        let models = lines.into_iter().filter_map(|line| listed_model(line).transpose());
        let models = models.collect::<anyhow::Result<Vec<_>>>()?;
        return model_list::run_all(list, &models);
    }
    match (command, given.matches.subcommand()) {
        (Command::Run(args), Some((_, flags))) if args.print_config => {
            let mut program = Cli::command();
            program.build();
            print(&settings_file::as_file(&program, flags)?)
        }
        _ => dispatch(command),
    }
}

/// The model of a line; `None` where the line is not one of `run`.
fn listed_model(line: settings_file::ListedLine) -> anyhow::Result<Option<ListedModel>> {
    let settings_file::ListedLine { name, at, matches } = line;
    Ok(match Cli::from_arg_matches(&matches)?.command {
        Command::Run(args) => Some(ListedModel { name, at, args: *args }),
        _ => None,
    })
}

/// What `--color` says on a command line that is refused, or that asks for help; the parser stops before it has read it.
fn wanted_colours(line: &[String]) -> clap::ColorChoice {
    let values = line.iter().zip(line.iter().skip(1).map(Some).chain([None]));
    let wanted = values.filter_map(|(word, next)| match word.strip_prefix("--color") {
        Some("") => next?.parse().ok(),
        Some(rest) => rest.strip_prefix('=')?.parse().ok(),
        None => None,
    });
    wanted.last().unwrap_or_default()
}

/// The program and the machine, for `--verbose`.
fn log_machine() {
    let version = LONG_VERSION.replace('\n', ", ");
    let (threads, vectors) = (machine::processors(), machine::vector_instructions());
    log::debug!("dpg-bench {version}; {threads} threads, {vectors}");
}

fn dispatch(command: &Command) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => {
            demo::run(args, &|line| dispatch(&Cli::try_parse_from(line)?.command))
        }
        Command::Generate(args) => generate::run(args),
        Command::Import(args) => import::run(args),
        Command::Judge(args) => judge::run(args),
        Command::Control(args) => control::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Score(args) => score::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Compare(args) => compare::run(args),
        Command::History(args) => history::run(args),
        Command::Export(args) => export::run(args),
        Command::Baseline(args) => baseline::run(args),
        Command::Check(args) => check::run(args),
        Command::Agreement(args) => agreement::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Report(args) => report::run(args),
        Command::ImportLog(args) => import_log::run(args),
        Command::Forensics(args) => forensics::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Show(args) => show::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Measure(args) => measure::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::List(args) => list::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "dpg-bench", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Help { command } => help(command.as_deref()),
        Command::Man { command } => print(&manual_page(command.as_deref())?),
    }
}

/// Prints what `COMMAND --help` prints.
fn help(command: Option<&str>) -> anyhow::Result<ExitStatus> {
    let line = ["dpg-bench"].into_iter().chain(command).chain(["--help"]);
    match Cli::try_parse_from(line) {
        Err(said) if !said.use_stderr() => said.print()?,
        Err(said) => {
            said.print()?;
            return Ok(ExitStatus::CouldNot);
        }
        Ok(_) => (),
    }
    Ok(ExitStatus::Done)
}

/// The manual page of the program or of one of its commands.
fn manual_page(name: Option<&str>) -> anyhow::Result<String> {
    let mut program = Cli::command();
    program.build();
    let page_of = match name {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let near =
                    did_you_mean(name, program.get_subcommands().map(clap::Command::get_name));
                anyhow::bail!("there is no command `{name}`{near}; `dpg-bench help` lists them")
            }
        },
    };
    let mut page = Vec::new();
    let examples = page_of.get_after_help().map(ToString::to_string);
    // clap's renderer would fill the examples like prose.
    let page_of = page_of.after_help(clap::builder::Resettable::Reset);
    clap_mangen::Man::new(page_of).render(&mut page)?;
    let examples = examples.map(|text| manual::section(&text)).unwrap_or_default();
    Ok(String::from_utf8_lossy(&page).into_owned() + &examples)
}

fn report_error(error: &anyhow::Error) {
    print::error(&sentence(error));
}

/// `dpg-bench show x | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_a_manual_page_and_examples() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(manual_page(Some(name)).unwrap().contains(name));
            let needs_none = matches!(name, "completions" | "man" | "help");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(needs_none || help.contains("dpg-bench "), "{name} has no examples");
        }
        assert!(manual_page(Some("nonsense")).is_err());
    }

    /// For reports of faults: which program it is, in `--version` and at the end of each manual page.
    #[test]
    fn the_version_has_commit_features_and_target() {
        let shown = Cli::try_parse_from(["dpg-bench", "--version"]).unwrap_err().to_string();
        let pages = [None, Some("run")].map(|name| manual_page(name).unwrap().replace("\\-", "-"));
        for text in [&shown, &pages[0], &pages[1]] {
            let value = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_else(|| panic!("no {name}\n{text}")).to_owned()
            };
            assert!(!value("commit: ").is_empty() && !value("features: ").is_empty());
            let target = value("target: ");
            assert!(target.starts_with(std::env::consts::ARCH), "{target}");
            assert!(target.matches('-').count() >= 2, "not a target triple: {target}");
        }
    }

    #[test]
    fn colours_are_as_wanted_also_where_the_line_is_refused() {
        use clap::ColorChoice::{Always, Auto, Never};
        for (line, wanted) in [
            ("x --bogus --color always", Always),
            ("x --color=never --bogus", Never),
            ("x --color never --color always", Always),
            ("x --color", Auto),
            ("x --colors always --color sometimes", Auto),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(wanted_colours(&words), wanted, "{line}");
        }
    }

    /// Nothing is wrapped a second time, and examples can be copied.
    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        let mut program = Cli::command();
        program.build();
        for command in program.get_subcommands() {
            let name = command.get_name();
            let help = command.clone().term_width(80).render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= 78, "{name}: {line}");
                assert!(help.lines().any(|shown| shown == line), "{name} wraps: {line}");
            }
            // A line of prose is a paragraph: hard breaks would leave lines of one word.
            let mut lines =
                after.lines().filter(|line| !line.starts_with("Exit status")).peekable();
            while let Some(line) = lines.next() {
                let is_prose =
                    |line: &str| line.len() > 60 && !line.starts_with(' ') && !line.contains('<');
                let goes_on = lines.peek().is_some_and(|next| is_prose(next));
                assert!(!(is_prose(line) && goes_on), "{name} breaks: {line}");
            }
        }
    }

    #[test]
    fn flags_have_help_and_those_of_a_run_a_heading() {
        let mut program = Cli::command();
        program.build();
        for command in program.get_subcommands() {
            let name = command.get_name();
            let in_groups = ["run", "generate", "judge", "import", "doctor"].contains(&name);
            for flag in command.get_arguments() {
                let id = flag.get_id().as_str();
                assert!(flag.get_help().is_some(), "{name} {id} has no help");
                let is_plain = flag.is_positional() || matches!(id, "help" | "version");
                let has_heading = flag.get_help_heading().is_some();
                assert!(!in_groups || is_plain || has_heading, "{name} {id} has no heading");
            }
        }
    }

    #[test]
    fn names_of_other_tools_are_understood() {
        let parsed = |line: &str| Cli::try_parse_from(words(line)).map(|_| ());
        for line in [
            "dpg-bench run -m sd15 -n 2 -o out -j scripted --num-inference-steps 5",
            "dpg-bench generate --guidance-scale 7.5 --num-images-per-prompt 2 --output-dir out",
            "dpg-bench generate --torch-dtype torch.float16 --num-images 2 --output out",
            "dpg-bench judge R -j mplug --device cuda:1 --dtype bfloat16 --weights owner/name",
            "dpg-bench validate --benchmark F",
            "dpg-bench help run",
        ] {
            assert!(parsed(line).is_ok(), "{line}: {}", parsed(line).unwrap_err());
        }
        for (line, flag) in
            [("dpg-bench validate F --benchmark F", "--benchmark"), ("dpg-bench validate", "<PATH")]
        {
            let said = parsed(line).unwrap_err().to_string();
            assert!(said.contains(flag), "{line}: {said}");
        }
        assert!(parsed("dpg-bench help --help").is_err_and(|said| !said.use_stderr()));
    }

    /// What the README, the documents and the help texts tell people to type is a command line that
    /// this program takes.
    #[test]
    fn every_documented_command_line_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
        for folder in ["docs", "docs/measurements"] {
            let entries = std::fs::read_dir(root.join(folder)).unwrap();
            pages.extend(
                entries
                    .map(|entry| entry.unwrap().path())
                    .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
            );
        }
        let mut texts: Vec<(String, String)> = pages
            .iter()
            .map(|page| (page.display().to_string(), std::fs::read_to_string(page).unwrap()))
            .collect();
        for command in Cli::command().get_subcommands() {
            if let Some(help) = command.get_after_help() {
                texts.push((format!("help of {}", command.get_name()), help.to_string()));
            }
        }
        let mut count = 0;
        for (source, text) in texts {
            for line in command_lines(&text) {
                assert_eq!(refusal(&line), None, "{source}: {line}");
                count += 1;
            }
        }
        assert!(count > 20, "only {count} command lines found");
    }

    #[test]
    fn a_command_line_with_a_mistake_is_found() {
        let page = "Text.\n\n```sh\ncargo run --release -- run --limit 1   # a trial\n\
                    dpg-bench score RUN \\\n    --no-such-flag\n```\n\n      - run: dpg-bench chekc RUN\n";
        let lines = command_lines(page);
        let refused: Vec<bool> = lines.iter().map(|line| refusal(line).is_some()).collect();
        assert_eq!(refused, [false, true, true], "{lines:?}");
    }

    /// What the program says against a command line; help and version are no refusals.
    fn refusal(line: &str) -> Option<String> {
        let parsed = Cli::try_parse_from(words(line));
        parsed.err().filter(clap::Error::use_stderr).map(|error| error.to_string())
    }

    /// Lines that begin with the program's name, continuations joined.
    fn command_lines(text: &str) -> Vec<String> {
        let joined = text.replace("\\\n", " ");
        joined
            .lines()
            .filter_map(|line| {
                let line = line.trim().trim_start_matches("$ ");
                let line = line.trim_start_matches("- ").trim_start_matches("run: ");
                let line = line
                    .strip_prefix("cargo run --release -- ")
                    .map_or_else(|| line.to_owned(), |arguments| format!("dpg-bench {arguments}"));
                line.starts_with("dpg-bench ").then_some(line)
            })
            .collect()
    }

    /// Splits as a shell does, as far as the documents need it: quotes, comments, pipes, redirections.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (Some(open), _) if c == open => quote = None,
                (Some(_), _) => word.get_or_insert_default().push(c),
                (None, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '#' | '|' | '>' | ';' | '&') if word.is_none() => break,
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (None, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }
}
