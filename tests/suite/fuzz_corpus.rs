//! In: `fuzz/corpus`, inputs that the fuzzers found to lead into different corners. Checks: none of them, and
//! no beginning of them, makes the program panic; and every door takes some of them and refuses others.

use std::path::Path;

use crate::doors::DOORS;

#[test]
fn every_corpus_file_goes_through_its_door_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, door) in DOORS {
        let mut files: Vec<_> = std::fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let (mut taken, mut refused) = (0, 0);
        for file in &files {
            let bytes = std::fs::read(file).unwrap();
            match door(&bytes) {
                true => taken += 1,
                false => refused += 1,
            }
            door(&bytes[..bytes.len() / 2]);
        }
        assert!(taken > 0 && refused > 0, "{name}: {taken} taken, {refused} refused");
    }
}

/// A folder or a target that nobody runs would look tested and not be.
#[test]
fn the_doors_the_fuzz_targets_and_the_corpus_are_the_same() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let listed = |folder: &str, ending: &str| {
        let mut names: Vec<String> = std::fs::read_dir(fuzz.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().replace(ending, ""))
            .collect();
        names.sort();
        names
    };
    let mut doors: Vec<&str> = DOORS.iter().map(|(name, _)| *name).collect();
    doors.sort_unstable();
    assert_eq!(listed("targets", ".rs"), doors);
    assert_eq!(listed("corpus", ""), doors);
}
