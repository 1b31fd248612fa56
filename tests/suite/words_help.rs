//! The help of the program and of each of its commands, word by word; and that no command is without words.

use std::collections::BTreeSet;

use super::words::{Place, SNAPSHOTS, words};

/// The commands, as the program itself lists them.
fn commands() -> Vec<String> {
    let help = Place::new().transcript(&["--help"]);
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // A line that goes on with the description is set further in.
    let names = list.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    let names = names.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.collect()
}

#[test]
fn the_help_of_the_program() {
    words!("help", Place::new(), ["--help", "-h", "help", "--version", ""]);
}

#[test]
fn the_help_of_every_command() {
    let place = Place::new();
    let commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    for command in &commands {
        words!(format!("help_{command}"), place, [format!("{command} --help")]);
    }
    let due: BTreeSet<String> =
        commands.iter().map(|command| format!("help_{command}.snap")).collect();
    let there = std::fs::read_dir(SNAPSHOTS).unwrap();
    let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> =
        there.filter(|name| name.starts_with("help_") && name.ends_with(".snap")).collect();
    assert_eq!(there, due, "help of commands that there are not");
}

/// Each command is shown at work in one of the snapshots beside its help.
#[test]
fn every_command_is_shown_at_work() {
    let mut text = String::new();
    for entry in std::fs::read_dir(SNAPSHOTS).unwrap() {
        text += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let at_work: BTreeSet<&str> = text
        .split("\n$ ")
        .filter(|shown| shown.contains("\nexit code 0") || shown.contains("\nexit code 3"))
        .filter(|shown| !shown.contains("--help\n"))
        .filter_map(|shown| shown.lines().next()?.split("dpg-bench ").nth(1)?.split(' ').next())
        .collect();
    for command in commands() {
        assert!(at_work.contains(command.as_str()), "no snapshot shows `{command}` at work");
    }
}
