//! In: a run that a judge has answered. Out: a random sample of its answers for people to label, as a page that needs no network or
//! by a server on this machine; or, with their labels, the run's scores made right by them. The work is in `session::auditing` and `audit`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use serde_json::json;

use crate::audit::{AskedFor, AuditFolder, AuditServer, ServerObserver, UnitKind};
use crate::reports::audit_page::{AuditPage, OpenedFrom};
use crate::reports::correction_text;
use crate::results::{RunDirectory, RunLock};
use crate::session::audit_correction::correct_audit;
use crate::session::auditing::{Audit, AuditOptions, DrawnAudit, draw_audit, open_current_audit};
use crate::wording::counted;

use crate::cli::args::shared::OutputArgs;
use crate::cli::interrupt;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{detail, print_json, print_words, say, warn};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench audit results/sd15 --labels-wanted 200
  dpg-bench audit results/sd15 --labels-wanted 400 --unit images \\
      --name whole-images
  dpg-bench audit results/sd15 --serve
  dpg-bench audit results/sd15 --serve 8137
  dpg-bench audit results/sd15 --labels labels-ann.jsonl,labels-bob.jsonl

The first draws 200 answers at random, and writes RUN/audits/audit with the sample and page.html: one file to open in a \
browser or to send to others. It shows image and question and not what the judge said, and saves labels as a file.

--serve shows the page to browsers on this machine, and keeps each label in RUN/audits/NAME/labels as it is given. \
Others reach it with a port that ssh passes on: `ssh -L 8137:127.0.0.1:8137 HOST`. The address is another one after \
each start: it holds a new random token, and without PORT another port.

--labels says how often the judge is right, and corrects its scores, with intervals (docs/audit.md).

Exit status: 0 done, 2 error; a server goes on until Ctrl-C, which ends it with 130.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Draw some N answers for people to label
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    labels_wanted: Option<u64>,
    /// What is drawn: single questions about images, or images with all their questions
    #[arg(
        long,
        value_enum,
        value_name = "UNIT",
        default_value = "questions",
        requires = "labels_wanted"
    )]
    unit: UnitName,
    /// Whose answers [default: those of the run's only judge]
    #[arg(short, long, value_name = "NAME", requires = "labels_wanted")]
    judge: Option<String>,
    /// Where the random numbers of the drawing begin
    #[arg(long, value_name = "N", default_value_t = 0, requires = "labels_wanted")]
    seed: u64,
    /// Name of the audit: its folder in RUN/audits
    #[arg(long, value_name = "NAME", default_value = "audit")]
    name: String,
    /// Serve the page on 127.0.0.1, at this port or one that is free, and keep the labels
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0", conflicts_with = "json")]
    serve: Option<u16>,
    /// Correct the scores by the labels in these files, or in those that --serve has kept
    #[arg(
        long,
        value_name = "FILE,..",
        num_args = 0..=1,
        value_delimiter = ',',
        conflicts_with_all = ["labels_wanted", "serve", "judge", "seed", "unit"]
    )]
    labels: Option<Vec<PathBuf>>,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// [`UnitKind`], as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum UnitName {
    /// One question about one image
    Questions,
    /// One image with all its questions
    Images,
}

impl From<UnitName> for UnitKind {
    fn from(name: UnitName) -> Self {
        match name {
            UnitName::Questions => Self::Questions,
            UnitName::Images => Self::Images,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let run = RunDirectory::open(&args.run)?;
    if let Some(files) = &args.labels {
        return correct(&run, args, files);
    }
    let audit = match args.labels_wanted {
        Some(labels_wanted) => {
            let drawn = draw_audit(
                &run,
                &AuditOptions {
                    name: args.name.clone(),
                    labels_wanted,
                    unit: args.unit.into(),
                    judge: args.judge.clone(),
                    seed: args.seed,
                    benchmark: args.benchmark.clone(),
                },
            )?;
            tell(&drawn, args)?;
            drawn.audit
        }
        None if args.serve.is_some() => {
            let benchmark = args.benchmark.as_deref();
            let (audit, doubt) = open_current_audit(&run, &args.name, benchmark)?;
            doubt.iter().for_each(|doubt| warn(doubt));
            audit
        }
        None => bail!(
            "say what to do: --labels-wanted N draws answers for people to label, --serve shows those that were drawn, --labels corrects the scores"
        ),
    };
    match args.serve {
        Some(port) => serve(&run, &audit, port),
        None => Ok(ExitStatus::Done),
    }
}

/// Corrects the run's scores and says so.
fn correct(run: &RunDirectory, args: &Args, files: &[PathBuf]) -> anyhow::Result<ExitStatus> {
    let found = correct_audit(run, &args.name, files, args.benchmark.as_deref())?;
    found.warnings.iter().for_each(|warning| warn(warning));
    if args.output.json {
        print_json(&found.correction)?;
        return Ok(ExitStatus::Done);
    }
    print_words(&correction_text(&found.correction))?;
    let path = found.audit.folder.result("json")?;
    say(&format!("written: {} (and .csv, .md)", path.display()));
    Ok(ExitStatus::Done)
}

/// Says what was drawn, and what to do with it.
fn tell(drawn: &DrawnAudit, args: &Args) -> anyhow::Result<()> {
    let Audit { folder, sample } = &drawn.audit;
    if let Some(gap) = &drawn.unparsable {
        warn(&format!(
            "{gap}; an audit corrects what such a judge says, and labels alone say more"
        ));
    }
    if args.output.json {
        print_json(&json!({
            "name": folder.name(),
            "sample": folder.sample()?,
            "page": folder.page()?,
            "judge": sample.judge,
            "unit": sample.unit,
            "seed": sample.seed,
            "labels_wanted": sample.labels_wanted,
            "population_units": sample.population_units,
            "left_out": drawn.left_out,
            "units": sample.drawn(),
            "answers": sample.count(AskedFor::Sample),
            "answers_for_the_rule": sample.count(AskedFor::Rule),
            "images": sample.images(),
            "strata": sample.strata,
        }))?;
        return Ok(());
    }
    print_words(&summary(drawn))?;
    let (page, size) = (folder.page()?, drawn.page_bytes as f64 / 1e6);
    say(&format!("written: {} ({size:.1} MB)", page.display()));
    if args.serve.is_none() {
        say(
            "open it in a browser, or send it to those who label; it shows nothing that the judge said",
        );
    }
    Ok(())
}

/// What was drawn, as a text.
fn summary(drawn: &DrawnAudit) -> String {
    let sample = &drawn.audit.sample;
    let (own, rule) = (sample.count(AskedFor::Sample), sample.count(AskedFor::Rule));
    let images = counted(sample.images(), "image");
    let of = match sample.unit {
        UnitKind::Questions => format!(
            "{} about {images}, drawn from {}",
            counted(own, "answer"),
            sample.population_units
        ),
        UnitKind::Images => format!(
            "{images} with {}, drawn from {}",
            counted(own, "answer"),
            sample.population_units
        ),
    };
    let mut text = format!("answers of `{}`: {of} (seed {})\n\n", sample.judge, sample.seed);
    text += "drawn      of  stratum\n";
    for stratum in &sample.strata {
        text += &format!("{:>5} {:>7}  {}\n", stratum.drawn, stratum.units, stratum.name);
    }
    if rule > 0 {
        text += &format!(
            "\nfor the dependency rule {} more, which some of these depend on; they carry no weight\n",
            counted(rule, "question")
        );
    }
    if drawn.left_out > 0 {
        let left_out = counted(drawn.left_out, sample.unit.noun());
        text += &format!("\nleft out: {left_out} without a stored image or an answer\n");
    }
    if drawn.was_there {
        text += "\nthe same sample was there already; labels that were given for it hold\n";
    }
    text
}

/// Serves the page until a signal ends the program.
fn serve(run: &RunDirectory, audit: &Audit, port: u16) -> anyhow::Result<ExitStatus> {
    let Audit { folder, sample } = audit;
    // Two servers would not know of each other's labels.
    let _lock = RunLock::take(&folder.path()?, "audit --serve")?;
    interrupt::listen().context("signals cannot be listened to")?;
    let page = AuditPage::of(run, sample)?.html(OpenedFrom::Server)?;
    let server = AuditServer::listen(port, page, folder, sample).with_context(|| {
        format!(
            "port {port} cannot be had; name another, or none: --serve alone takes one that is free"
        )
    })?;
    print_words(&format!("open {}", server.address()?))?;
    let port = server.port()?;
    say(&format!(
        "from another machine: ssh -L {port}:127.0.0.1:{port} HOST, then the same address there"
    ));
    say("whoever knows the address can label; the next start has another one; Ctrl-C ends");
    server.serve(&Terminal::of(folder)?, &AtomicBool::new(false))?;
    Ok(ExitStatus::Done)
}

/// Tells of labels as they come.
struct Terminal {
    /// Who has labelled before.
    earlier: Vec<String>,
    annotators: Mutex<BTreeSet<String>>,
}

impl Terminal {
    fn of(folder: &AuditFolder) -> anyhow::Result<Self> {
        let files = folder.label_files()?;
        let stems = files.iter().filter_map(|path| path.file_stem()?.to_str());
        let earlier = stems.map(str::to_owned).collect();
        Ok(Self { earlier, annotators: Mutex::default() })
    }
}

impl ServerObserver for Terminal {
    fn labelled(&self, annotator: &str) {
        let mut annotators = self.annotators.lock().unwrap_or_else(PoisonError::into_inner);
        let folded = annotator.to_lowercase();
        let mut others = annotators.iter().chain(&self.earlier);
        let twin =
            others.find(|other| *other != annotator && other.to_lowercase() == folded).cloned();
        if annotators.insert(annotator.to_owned()) {
            say(&format!("{annotator} has begun"));
            if let Some(twin) = twin {
                warn(&format!(
                    "`{annotator}` and `{twin}` count as two annotators; if they are one person, let them go on under one name"
                ));
            }
        } else {
            detail(&format!("a label of {annotator}"));
        }
    }

    fn failed(&self, why: &str) {
        warn(&format!("a label was not kept: {why}"));
    }
}
