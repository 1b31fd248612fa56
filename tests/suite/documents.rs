//! In: the pages of the documentation. Out: every relative link that leads to no file, or to no heading of a page. The
//! command lines in them are held against the program's own parser in `src/cli.rs`.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(ROOT);
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    pages_below(&root.join("docs"), &mut pages);
    assert!(pages.len() > 30, "only {} pages found", pages.len());
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            count += 1;
            if let Some(reason) = broken(&page, &text, &link) {
                wrong.push(format!("{}: {link}: {reason}", page.display()));
            }
        }
    }
    assert!(count > 150, "only {count} links found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_index() {
    let docs = Path::new(ROOT).join("docs");
    let index = std::fs::read_to_string(docs.join("README.md")).unwrap();
    let listed = links(&index);
    for entry in std::fs::read_dir(docs).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "README.md" {
            assert!(listed.contains(&name), "docs/README.md does not list {name}");
        }
    }
}

/// Words of the pages on trust and on audits that a newcomer does not know.
#[test]
fn the_glossary_has_the_words_of_the_audit() {
    let page =
        |name: &str| std::fs::read_to_string(Path::new(ROOT).join("docs").join(name)).unwrap();
    let glossary = page("glossary.md");
    let heads: Vec<&str> = glossary.lines().filter_map(|line| line.split('|').nth(1)).collect();
    let pages = [page("audit.md"), page("trust.md")].concat().to_lowercase();
    let pages = pages.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "sensitivity",
        "specificity",
        "prediction-powered",
        "kurtosis",
        "cluster",
        "linearis",
        "clopper",
        "degrees of freedom",
        "annotator",
        "dependency rule",
        "kappa",
        "stratum",
        "chance",
        "token",
    ] {
        assert!(pages.contains(word), "{word} is on neither page: take it off this list");
        assert!(heads.iter().any(|head| head.to_lowercase().contains(word)), "no {word}");
    }
    assert!(!pages.contains("worn"), "a judge is no tool that wears down");
}

/// A signal's own status is told where the others are.
#[test]
fn every_exit_status_is_told() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, rest) = page.split_once("Exit status of all commands:").unwrap();
    let paragraph = rest.split("\n\n").next().unwrap();
    for status in ["0 done", "1 a check", "2 error", "3 finished", "130", "143"] {
        assert!(paragraph.contains(status), "no {status}");
    }
}

#[test]
fn a_link_with_a_mistake_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    std::fs::write(folder.path().join("other.md"), "# A `b`: c, d\n\n## Same\n\n## Same\n")
        .unwrap();
    let text = "# Top\n\n[a](other.md) [b](other.md#a-b-c-d) [c](#top) [d](https://example.com/x) [e](other.md#same-1)\n\
                [f](nowhere.md) [g](other.md#same-2) [h](#bottom) ![i](image.png) `[j](code.md)`\n\
                ```sh\n[k](fenced.md)\n# Bottom\n```\n";
    std::fs::write(&page, text).unwrap();
    let found = links(text);
    let wrong: Vec<&str> = found
        .iter()
        .filter(|link| broken(&page, text, link).is_some())
        .map(String::as_str)
        .collect();
    assert_eq!(found.len(), 8, "{found:?}");
    assert_eq!(wrong, ["nowhere.md", "other.md#same-2", "#bottom", "image.png"]);
}

/// What `validate --example` prints is a benchmark in which nothing is odd.
#[test]
fn the_example_of_a_question_file_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_dpg-bench");
    let example = Command::new(program).args(["validate", "--example"]).output().unwrap();
    assert_eq!(example.status.code(), Some(0));
    let file = folder.path().join("mine.csv");
    std::fs::write(&file, &example.stdout).unwrap();
    let checked = Command::new(program).args(["validate", "--strict"]).arg(&file).output().unwrap();
    let told = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{told}");
    assert!(told.contains("is valid") && told.contains("no oddities"), "{told}");
    // The first lines of it are shown in the page about such files.
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/benchmark-format.md")).unwrap();
    let example = String::from_utf8(example.stdout).unwrap();
    let first: Vec<&str> = example.lines().take(5).collect();
    assert!(page.contains(&first.join("\n")), "docs/benchmark-format.md shows other lines");
}

/// All `.md` files of a folder and the folders in it.
fn pages_below(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages_below(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The lines of a page outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Targets of the links and images of a page, but for those on the web. Code holds none.
fn links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(text).filter(|line| !line.starts_with("    ")) {
        // Every second piece between backticks is code.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        targets.extend(
            outside
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'))
                .map(|(target, _)| target.to_owned())
                .filter(|target| !target.contains("://") && !target.starts_with("mailto:")),
        );
    }
    targets
}

/// Why the link `target` of a page leads nowhere, if so.
fn broken(page: &Path, text: &str, target: &str) -> Option<String> {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let other;
    let text = if path.is_empty() {
        text
    } else {
        let file = plain(&page.parent()?.join(path));
        if !file.exists() {
            return Some(format!("there is no {}", file.display()));
        }
        anchor?;
        match std::fs::read_to_string(&file) {
            Ok(read) => other = read,
            Err(error) => return Some(format!("{}: {error}", file.display())),
        }
        &other
    };
    let anchor = anchor?;
    (!anchors(text).iter().any(|name| name == anchor))
        .then(|| "there is no such heading".to_owned())
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// What a page's headings are called in links, as GitHub calls them: lower case, blanks as hyphens, other signs left
/// out, and a number behind a name that was there before.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter_map(|line| {
        let rest = line.trim_start_matches('#');
        (rest.len() < line.len()).then(|| rest.strip_prefix(' ')).flatten()
    });
    headings
        .map(|heading| {
            let name: String = heading
                .trim()
                .to_lowercase()
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    '-' | '_' => Some(c),
                    c => c.is_alphanumeric().then_some(c),
                })
                .collect();
            let before = seen.entry(name.clone()).or_default();
            *before += 1;
            if *before == 1 { name } else { format!("{name}-{}", *before - 1) }
        })
        .collect()
}
