//! In: `--shard`, and what a cluster's environment says of this process. Out: the part of the run that is
//! this process's, and who said so; or a sentence on what does not fit together.

use anyhow::{Context, bail, ensure};

use crate::benchmark::Item;
use crate::cli::output::print::say;
use crate::results::Shard;
use crate::wording::counted;

/// The number of shards where the environment tells only which one this is.
const COUNT: &str = "DPG_BENCH_SHARDS";

/// Which part of the work.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Shards")]
pub(crate) struct ShardArgs {
    /// Do only part I (from 0) of N, in a folder of its own inside the run directory; `dpg-bench merge`
    /// joins them. Set automatically in Slurm arrays, torchrun and Kubernetes Indexed Jobs; `none` does all
    /// of it whatever they say
    #[arg(long, value_name = "I/N|none")]
    shard: Option<ShardFlag>,
}

/// A value of `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShardFlag {
    /// The whole run.
    Whole,
    /// A part of it.
    Part(Shard),
}

impl std::str::FromStr for ShardFlag {
    type Err = crate::results::ShardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self::Whole) } else { text.parse().map(Self::Part) }
    }
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Choice {
    /// The part; none for the whole run.
    shard: Option<Shard>,
    /// What there is to say about it.
    notes: Vec<String>,
}

impl ShardArgs {
    /// The part that is this process's, none for the whole run; says who decided where somebody did.
    ///
    /// # Errors
    /// The environment speaks of shards in a way that does not fit together.
    pub(crate) fn choose(&self) -> anyhow::Result<Option<Shard>> {
        let choice = choose(self.shard, &|name| std::env::var(name).ok())?;
        choice.notes.iter().for_each(|note| say(note));
        Ok(choice.shard)
    }
}

/// Whether there is something to do; says so where the shard has none of the items.
pub(crate) fn has_items(items: &[&Item], shard: Option<Shard>) -> bool {
    let Some(shard) = shard.filter(|shard| shard.own_part(items).is_empty()) else { return true };
    say(&format!("nothing to do: shard {shard} has none of the {}", counted(items.len(), "item")));
    false
}

/// An environment as a function from names to values.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

fn choose(flag: Option<ShardFlag>, environment: Environment<'_>) -> anyhow::Result<Choice> {
    match flag {
        Some(ShardFlag::Whole) => Ok(Choice::default()),
        Some(ShardFlag::Part(shard)) => {
            let mut notes = vec![format!("shard {shard}, by --shard")];
            // Somebody may well deal out a task of an array once more; it is said all the same.
            if let Ok(said) = said_by(environment)
                && let Some((other, by)) = said.parts.iter().find(|(other, _)| *other != shard)
            {
                notes.push(format!("note: {by} would have said {other}"));
            }
            Ok(Choice { shard: Some(shard), notes })
        }
        None => {
            let said = said_by(environment).context(
                "say which part this is with --shard I/N, or --shard none for all of it",
            )?;
            let mut notes = said.notes;
            if let [(first, by), others @ ..] = said.parts.as_slice() {
                if let Some((other, other_by)) = others.iter().find(|(other, _)| other != first) {
                    bail!(
                        "{by} make this shard {first}, {other_by} make it {other}; say which with \
                         --shard I/N, or --shard none for all of it"
                    );
                }
                notes.push(format!("shard {first}, by {by} (--shard none switches this off)"));
            }
            Ok(Choice { shard: said.parts.first().map(|(shard, _)| *shard), notes })
        }
    }
}

/// What the environment says.
#[derive(Default)]
struct Said {
    /// Each shard with the variables that make it one.
    parts: Vec<(Shard, &'static str)>,
    notes: Vec<String>,
}

impl Said {
    fn part(&mut self, index: u32, count: u32, by: &'static str) -> anyhow::Result<()> {
        let shard = Shard::new(index, count).with_context(|| by.to_owned())?;
        if count == 1 {
            self.notes.push(format!("note: {by} speak of one process, which does the whole run"));
        } else {
            self.parts.push((shard, by));
        }
        Ok(())
    }
}

fn said_by(environment: Environment<'_>) -> anyhow::Result<Said> {
    let number = |name: &str| -> anyhow::Result<Option<u32>> {
        let Some(text) = environment(name).filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        let number = text.trim().parse();
        Ok(Some(number.with_context(|| format!("{name} is `{text}`, which is no number"))?))
    };
    let mut said = Said::default();
    let count = number(COUNT)?;
    let mut has_index = false;
    if let Some(task) = number("SLURM_ARRAY_TASK_ID")? {
        has_index = true;
        match count {
            Some(count) => said.part(task, count, "SLURM_ARRAY_TASK_ID and DPG_BENCH_SHARDS")?,
            None => {
                let (index, count) = place_in_array(task, &number)?;
                said.part(index, count, "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT")?;
            }
        }
    }
    match (number("RANK")?, number("WORLD_SIZE")?) {
        (Some(rank), Some(size)) => {
            said.part(rank, size, "RANK and WORLD_SIZE")?;
            has_index = true;
        }
        (Some(_), None) => {
            said.notes.push("note: RANK is set without WORLD_SIZE, which says nothing".to_owned());
        }
        (None, _) => {}
    }
    if let Some(index) = number("JOB_COMPLETION_INDEX")? {
        has_index = true;
        let count = count.with_context(|| {
            format!(
                "JOB_COMPLETION_INDEX is set, but not of how many: set {COUNT} to the job's `completions`"
            )
        })?;
        said.part(index, count, "JOB_COMPLETION_INDEX and DPG_BENCH_SHARDS")?;
    }
    ensure!(
        count.is_none() || has_index,
        "{COUNT} is set, but nothing says which of the shards this is"
    );
    Ok(said)
}

/// Place and number of tasks of a Slurm array, which may begin at any number and go in steps.
fn place_in_array(
    task: u32,
    number: &dyn Fn(&str) -> anyhow::Result<Option<u32>>,
) -> anyhow::Result<(u32, u32)> {
    let of = |name: &str| -> anyhow::Result<u32> {
        number(name)?.with_context(|| format!("SLURM_ARRAY_TASK_ID is set, but not {name}"))
    };
    let (count, min) = (of("SLURM_ARRAY_TASK_COUNT")?, of("SLURM_ARRAY_TASK_MIN")?);
    let max = of("SLURM_ARRAY_TASK_MAX")?;
    let even = match max.checked_sub(min) {
        Some(span) if count > 1 && span % (count - 1) == 0 => span / (count - 1),
        Some(0) if count == 1 => 1,
        _ => 0,
    };
    // A list such as 1,3,7 may look even by its ends; its step does not fit them then.
    let step = match number("SLURM_ARRAY_TASK_STEP")? {
        Some(stated) if count > 1 && stated != even => 0,
        _ => even,
    };
    let place = task.checked_sub(min).filter(|from| step > 0 && from % step == 0);
    match place.map(|from| from / step) {
        Some(place) if place < count => Ok((place, count)),
        _ => bail!(
            "the numbers of this Slurm array ({count} tasks from {min} to {max}, this one {task}) leave \
             gaps, so they do not say which part is whose: number it without gaps (--array=0-{}), or to do \
             single tasks of an array numbered from 0 again, set {COUNT} to the number of all its tasks",
            count.saturating_sub(1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn by(variables: &[(&str, &str)], flag: Option<&str>) -> anyhow::Result<Choice> {
        let map: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let flag = flag.map(|text| text.parse().unwrap());
        choose(flag, &|name| map.get(name).map(|value| (*value).to_owned()))
    }

    fn shard(variables: &[(&str, &str)]) -> String {
        let choice = by(variables, None).unwrap();
        choice.shard.map_or_else(|| "whole".to_owned(), |shard| shard.to_string())
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        format!("{:#}", by(variables, None).unwrap_err())
    }

    const ID: &str = "SLURM_ARRAY_TASK_ID";

    fn array<'a>(
        id: &'a str,
        count: &'a str,
        min: &'a str,
        max: &'a str,
    ) -> [(&'static str, &'a str); 4] {
        [
            (ID, id),
            ("SLURM_ARRAY_TASK_COUNT", count),
            ("SLURM_ARRAY_TASK_MIN", min),
            ("SLURM_ARRAY_TASK_MAX", max),
        ]
    }

    #[test]
    fn a_slurm_array_deals_by_place_wherever_it_begins() {
        assert_eq!(shard(&array("2", "4", "0", "3")), "2/4");
        assert_eq!(shard(&array("1", "4", "1", "4")), "0/4");
        assert_eq!(shard(&array("4", "4", "1", "4")), "3/4");
        let mut stepped = array("9", "4", "3", "12").to_vec();
        assert_eq!(shard(&stepped), "2/4");
        stepped.push(("SLURM_ARRAY_TASK_STEP", "3"));
        assert_eq!(shard(&stepped), "2/4");
        let notes = by(&array("2", "4", "0", "3"), None).unwrap().notes.join(" ");
        assert!(
            notes.contains("by SLURM_ARRAY_TASK_ID") && notes.contains("--shard none"),
            "{notes}"
        );
    }

    #[test]
    fn arrays_with_gaps_and_lone_tasks_do_not_pass_for_something_else() {
        for (id, count, min, max, step) in [
            // 1,3,7: where the step is told, every task is refused; else the one in the middle is.
            ("7", "3", "1", "7", Some("1")),
            ("3", "3", "1", "7", None),
            ("3", "3", "1", "6", None),
            ("5", "0", "0", "3", None),
        ] {
            let mut variables = array(id, count, min, max).to_vec();
            variables.extend(step.map(|step| ("SLURM_ARRAY_TASK_STEP", step)));
            let error = refused(&variables);
            assert!(error.contains("leave gaps") && error.contains("--shard I/N"), "{error}");
        }
        // Task 2 of an array of 4, given again alone.
        let mut lone = array("2", "1", "2", "2").to_vec();
        assert_eq!(shard(&lone), "whole");
        lone.push((COUNT, "4"));
        assert_eq!(shard(&lone), "2/4");
        assert!(refused(&[(ID, "2")]).contains("but not SLURM_ARRAY_TASK_COUNT"));
    }

    #[test]
    fn torchrun_and_kubernetes_are_understood() {
        assert_eq!(shard(&[("RANK", "3"), ("WORLD_SIZE", "8")]), "3/8");
        assert_eq!(shard(&[("RANK", "0"), ("WORLD_SIZE", "1")]), "whole");
        assert_eq!(shard(&[("WORLD_SIZE", "8")]), "whole");
        let lone = by(&[("RANK", "3")], None).unwrap();
        assert!(lone.shard.is_none() && lone.notes[0].contains("without WORLD_SIZE"), "{lone:?}");
        assert!(refused(&[("RANK", "8"), ("WORLD_SIZE", "8")]).contains("no shard 8/8"));
        assert!(refused(&[("RANK", "a"), ("WORLD_SIZE", "8")]).contains("RANK is `a`"));
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", "1"), (COUNT, "4")]), "1/4");
        assert!(refused(&[("JOB_COMPLETION_INDEX", "1")]).contains("set DPG_BENCH_SHARDS"));
        assert!(refused(&[(COUNT, "4")]).contains("nothing says which"));
        assert_eq!(shard(&[]), "whole");
    }

    #[test]
    fn environments_that_disagree_are_refused_and_the_flag_stands_above_all() {
        let mut both = array("2", "4", "0", "3").to_vec();
        both.extend([("RANK", "2"), ("WORLD_SIZE", "4")]);
        assert_eq!(shard(&both), "2/4");
        both.extend([("RANK", "1")]);
        let error = refused(&both);
        assert!(error.contains("make this shard 2/4") && error.contains("make it 1/4"), "{error}");
        let flag = by(&both, Some("0/2")).unwrap();
        assert_eq!(flag.shard.unwrap().to_string(), "0/2");
        assert!(flag.notes.join(" ").contains("would have said 2/4"), "{flag:?}");
        assert_eq!(by(&both, Some("none")).unwrap(), Choice::default());
        // Even nonsense in the environment does not stand in the flag's way.
        assert!(by(&[("RANK", "a"), ("WORLD_SIZE", "2")], Some("1/2")).is_ok());
    }
}
