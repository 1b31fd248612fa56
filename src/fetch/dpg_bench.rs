//! In: nothing. Out: the files of DPG-Bench as they were published with ELLA, at one commit, each with its
//! git blob id. Nobody is asked for them: they are known here.

use super::catalog::DPG_BENCH;
use super::digest::FileDigest;
use super::listing::{Listing, RemoteFile, encoded};
use super::places::Endpoint;
use crate::benchmark::digest::OFFICIAL_BLOB_ID;

/// A line for each prompt file: git blob id, length in bytes, item. The files are not here.
const PROMPTS: &str = include_str!("dpg_prompts.txt");

/// Question file and prompts, as files of the server of plain files `raw`.
pub(crate) fn listing(raw: &Endpoint) -> Listing {
    let revision = DPG_BENCH.revision.unwrap_or(DPG_BENCH.host.newest());
    let file = |path: String, size: Option<u64>, blob: &str, last: bool| RemoteFile {
        url: raw.at(&format!(
            "{}/{revision}/dpg_bench/{}",
            DPG_BENCH.repository,
            encoded(&path, true)
        )),
        path,
        size,
        digest: FileDigest::from_hex(blob),
        last,
    };
    let mut files: Vec<RemoteFile> = PROMPTS
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (blob, size, item) = (words.next()?, words.next()?, words.next()?);
            Some(file(format!("prompts/{item}.txt"), size.parse().ok(), blob, false))
        })
        .collect();
    // A folder with a question file is taken for the benchmark: it must not come before its prompts.
    files.push(file("dpg_bench.csv".to_owned(), None, OFFICIAL_BLOB_ID, true));
    Listing { revision: revision.to_owned(), files, licence: None }
}

#[cfg(test)]
mod tests {
    use super::super::listing::is_plain_path;
    use super::*;

    #[test]
    fn all_prompts_are_known() {
        let raw = Endpoint::parse("https://raw", "DPG_BENCH_GITHUB_RAW").unwrap();
        let listing = listing(&raw);
        assert_eq!((listing.files.len(), listing.names().len()), (1066, 1066));
        for file in &listing.files {
            assert!(is_plain_path(&file.path), "{}", file.path);
            assert!(matches!(file.digest, Some(FileDigest::GitBlob(_))), "{}", file.path);
            assert_eq!(file.size.is_none(), file.last, "{}", file.path);
        }
        assert_eq!(
            listing.files[0].url,
            "https://raw/TencentQQGYLab/ELLA/3c228f1dc6c4d3cad0a47493816151a419f14db3/dpg_bench/\
             prompts/0.txt"
        );
    }

    /// The prompts themselves, where they lie beside the checkout.
    #[test]
    fn the_blob_ids_are_those_of_the_published_prompts() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../shared/data/dpg_bench/prompts");
        if !folder.is_dir() {
            return;
        }
        let raw = Endpoint::parse("https://raw", "DPG_BENCH_GITHUB_RAW").unwrap();
        for file in listing(&raw).files.iter().filter(|file| !file.last) {
            let path = folder.join(file.path.trim_start_matches("prompts/"));
            let digest = file.digest.clone().unwrap();
            assert_eq!(digest.of_same_kind(&path).unwrap(), digest, "{}", file.path);
            assert_eq!(file.size, Some(std::fs::metadata(path).unwrap().len()));
        }
    }
}
