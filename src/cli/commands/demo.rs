//! In: a folder. Out: the demo's two models run, compared, checked and reported there. Each step is a
//! command of this program, which is printed before it is carried out; nothing is done that they do not.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::interrupt;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::say;

/// The model that the other is compared with.
const BASE: &str = "demo-sd";
/// The model that is to follow prompts better.
const OTHER: &str = "demo-ella";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench demo
  dpg-bench demo --out results/trial --subset 8 --images 2

Everything it needs is inside the program. An interrupted demo goes on where it stopped when the same command \
is given again.

Exit status: 0 done, 1 the check found demo-ella worse, 2 error, 3 images or answers are missing, or the \
check is undecided.")]
pub(crate) struct Args {
    /// Folder of the two runs, the comparison, the baseline, the check and the report
    #[arg(
        short,
        long,
        alias = "output",
        alias = "output-dir",
        value_name = "DIR",
        default_value = "results/demo"
    )]
    out: PathBuf,
    /// Only N prompts, always the same ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    subset: Option<u32>,
    /// Images per prompt
    #[arg(
        short = 'n',
        long,
        alias = "num-images",
        default_value_t = 4,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=64)
    )]
    images: u32,
    /// Denoising steps, where they are to differ from the models' own
    #[arg(long, alias = "num-inference-steps", value_name = "N")]
    steps: Option<usize>,
}

/// Runs the command; `carry_out` takes a command line of this program.
///
/// # Errors
/// Whatever stops one of the steps, in one sentence.
pub(crate) fn run(
    args: &Args,
    carry_out: &dyn Fn(&[OsString]) -> anyhow::Result<ExitStatus>,
) -> anyhow::Result<ExitStatus> {
    let steps = steps(args);
    let mut status = ExitStatus::Done;
    for (number, (what, line)) in steps.iter().enumerate() {
        say(&format!("\n[{}/{}] {what}\n$ {}", number + 1, steps.len(), shown(line)));
        status = status.max(carry_out(line)?);
        if interrupt::requested() {
            return Ok(status.max(ExitStatus::Incomplete));
        }
    }
    say(&format!("\nopen {}", args.out.join("report").join("index.html").display()));
    Ok(status)
}

/// What each step is for, and its command line.
fn steps(args: &Args) -> Vec<(String, Vec<OsString>)> {
    let at = |name: &str| args.out.join(name).into_os_string();
    let words = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
    let run = |model: &str| {
        let mut line = words(&["dpg-bench", "run", "--model", model, "--benchmark", "demo"]);
        let numbers = [
            ("--subset", args.subset.map(|subset| subset.to_string())),
            ("--images", (args.images != 4).then(|| args.images.to_string())),
            ("--steps", args.steps.map(|steps| steps.to_string())),
        ];
        for (flag, number) in numbers {
            line.extend(number.map(|number| [flag.into(), number.into()]).into_iter().flatten());
        }
        line.extend(["--out".into(), at(model)]);
        line
    };
    let command = |name: &str, rest: Vec<OsString>| {
        let mut line = words(&["dpg-bench", name]);
        line.extend(rest);
        line
    };
    vec![
        (format!("{BASE}: a text encoder that reads 24 tokens"), run(BASE)),
        (format!("{OTHER}: the same networks, told the whole prompt by ELLA"), run(OTHER)),
        (
            "how the two differ".to_owned(),
            command(
                "compare",
                vec![
                    at(BASE),
                    at(OTHER),
                    "--out".into(),
                    at("comparison"),
                    "--swings".into(),
                    "3".into(),
                ],
            ),
        ),
        (
            format!("the numbers of {BASE} as a baseline"),
            command("baseline", vec![at(BASE), "--out".into(), at("baseline.json")]),
        ),
        (
            format!("whether {OTHER} is worse than that"),
            command(
                "check",
                vec![
                    at(OTHER),
                    "--baseline".into(),
                    at("baseline.json"),
                    "--junit".into(),
                    at("check.xml"),
                ],
            ),
        ),
        (
            "the report".to_owned(),
            command("report", vec![at(BASE), at(OTHER), "--out".into(), at("report")]),
        ),
    ]
}

/// A command line as a shell takes it.
fn shown(line: &[OsString]) -> String {
    let words: Vec<String> =
        line.iter().map(|word| interrupt::quoted(&word.to_string_lossy())).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_step_is_a_command_of_this_program_and_is_printed_as_one() {
        let args =
            Args { out: PathBuf::from("a folder"), subset: Some(3), images: 2, steps: Some(5) };
        let steps = steps(&args);
        for (what, line) in &steps {
            assert!(Cli::try_parse_from(line).is_ok(), "{what}: {line:?}");
        }
        assert_eq!(
            shown(&steps[0].1),
            "dpg-bench run --model demo-sd --benchmark demo --subset 3 --images 2 --steps 5 --out \
             'a folder/demo-sd'"
        );
        let plain = Args { out: "out".into(), subset: None, images: 4, steps: None };
        assert_eq!(
            shown(&super::steps(&plain)[1].1),
            "dpg-bench run --model demo-ella --benchmark demo --out out/demo-ella"
        );
    }
}
