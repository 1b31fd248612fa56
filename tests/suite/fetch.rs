//! Downloads against a server that cuts, corrupts, redirects, throttles and refuses.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dpg_bench::fetch::{
    FetchError, FetchObserver, FetchOptions, FetchState, Fetched, FileRule, Host, LockFile, Places,
    Silent, Source, Witness, compare_copies, fetch, locate, state_of, verify,
};
use tempfile::TempDir;

use super::file_server::{FileServer, Repository, cut, sha256};
use super::loopback::{Loopback, Received, Reply, Then};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NAME: &str = "owner/model";
const WEIGHTS: &str = "unet/model.safetensors";
const TOKEN: &str = "hf_hush_hush_hush";

/// A repository whose commit the catalog does not name.
const UNPINNED: Source = Source {
    host: Host::HuggingFace,
    repository: NAME,
    former_names: &[],
    revision: None,
    rules: &[FileRule::Needed("config.json"), FileRule::Weights("unet/model")],
    pins: &[],
    licence: "none",
};
const PINNED: Source = Source { revision: Some(COMMIT), ..UNPINNED };
const SCOPE: Source = Source { host: Host::ModelScope, ..UNPINNED };

/// 300 kB that compress badly.
fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn repository() -> Repository {
    Repository::new(NAME, COMMIT)
        .small("config.json", "{}")
        .small("README.md", "not wanted")
        .large(WEIGHTS, weights())
}

/// A folder of its own with the places that lead to a server.
struct Place {
    folder: TempDir,
    places: Places,
}

fn place(server: &str) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let places = Places::new(&|name| match name {
        "HF_HUB_CACHE" => Some(path.join("hub").into()),
        "MODELSCOPE_CACHE" => Some(path.join("scope").into()),
        "HF_ENDPOINT" | "MODELSCOPE_ENDPOINT" => Some(server.into()),
        "HF_TOKEN" | "MODELSCOPE_API_TOKEN" => Some(TOKEN.into()),
        _ => None,
    });
    Place { folder, places: places.unwrap() }
}

fn options() -> FetchOptions {
    FetchOptions {
        first_wait: Duration::from_millis(1),
        read_wait: Duration::from_millis(400),
        head_wait: Duration::from_secs(10),
        failures: 4,
        ..FetchOptions::default()
    }
}

impl Place {
    fn fetch(&self, source: &Source) -> Result<Fetched, FetchError> {
        fetch(source, &self.places, &options(), &Silent)
    }

    fn partial(&self) -> PathBuf {
        let blobs = self.folder.path().join("hub/models--owner--model/blobs");
        blobs.join(format!("{}.incomplete", sha256(&weights())))
    }

    /// Both files are there as they should be, and nothing else is left.
    fn assert_whole(&self, fetched: &Fetched) {
        assert_eq!(std::fs::read(fetched.folder.join(WEIGHTS)).unwrap(), weights());
        assert_eq!(std::fs::read(fetched.folder.join("config.json")).unwrap(), b"{}");
        assert!(!fetched.folder.join("README.md").exists());
        let blobs = self.folder.path().join("hub/models--owner--model/blobs");
        let mut names: Vec<String> = std::fs::read_dir(blobs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        // `git hash-object` of `{}`.
        let mut due =
            vec![sha256(&weights()), "9e26dfeeb6e641a33dae4961196235bdb965b21b".to_owned()];
        due.sort();
        assert_eq!(names, due);
    }
}

#[test]
fn files_come_into_the_cache_layout_of_the_python_library() {
    let server = FileServer::good(repository());
    let place = place(&server.server.origin());
    assert_eq!(state_of(&UNPINNED, &place.places), FetchState::Absent);
    let fetched = place.fetch(&UNPINNED).unwrap();
    place.assert_whole(&fetched);
    let base = place.folder.path().join("hub/models--owner--model");
    assert_eq!(fetched.folder, base.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read_to_string(base.join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(fetched.folder.join(WEIGHTS)).unwrap(),
        PathBuf::from(format!("../../../blobs/{}", sha256(&weights())))
    );
    assert_eq!((fetched.came, fetched.bytes), (2, 300_002));
    let lock = LockFile::read(&base.join("fetch.json")).unwrap().unwrap();
    assert_eq!(lock, fetched.lock);
    assert_eq!((lock.revision.as_str(), lock.revision_is_pinned), (COMMIT, false));
    assert_eq!(lock.licence, "test-licence");
    assert_eq!(lock.files[WEIGHTS].witness, Witness::Publisher);

    // Again: all of it is here, and nobody is asked.
    let asked = server.server.received().len();
    let again = place.fetch(&UNPINNED).unwrap();
    assert_eq!((again.came, &again.folder), (0, &fetched.folder));
    assert_eq!(server.server.received().len(), asked);
    let found = locate(&UNPINNED, &place.places).unwrap();
    assert_eq!(found.folder, fetched.folder);
    assert!(verify(&found, &mut |_| ()).unwrap().is_empty());
}

#[test]
fn a_cut_file_goes_on_where_it_stopped() {
    let server = FileServer::start(repository(), |_, path, before, part| match (path, before) {
        (WEIGHTS, 0) => cut(part, 100_000),
        (WEIGHTS, 1) => cut(part, 70_000),
        _ => Reply::Part(part),
    });
    let place = place(&server.server.origin());
    place.assert_whole(&place.fetch(&PINNED).unwrap());
    let asked = server.requests(WEIGHTS);
    let ranges: Vec<Option<&str>> = asked.iter().map(|request| request.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=170000-")]);
    let tag = format!("\"{}\"", &sha256(&weights())[..16]);
    assert_eq!(asked[0].header("if-range"), None);
    assert_eq!(asked[2].header("if-range"), Some(tag.as_str()));
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn what_an_earlier_process_left_is_gone_on_with() {
    let server = FileServer::good(repository());
    let place = place(&server.server.origin());
    std::fs::create_dir_all(place.partial().parent().unwrap()).unwrap();
    std::fs::write(place.partial(), &weights()[..250_000]).unwrap();
    let fetched = place.fetch(&PINNED).unwrap();
    place.assert_whole(&fetched);
    assert_eq!(fetched.bytes, 50_002);
    assert_eq!(server.requests(WEIGHTS)[0].header("range"), Some("bytes=250000-"));

    // A part that is no beginning of the file is found out, and the file is got whole.
    let server = FileServer::good(repository());
    let place = self::place(&server.server.origin());
    std::fs::create_dir_all(place.partial().parent().unwrap()).unwrap();
    std::fs::write(place.partial(), vec![7; 250_000]).unwrap();
    place.assert_whole(&place.fetch(&PINNED).unwrap());
    assert_eq!(server.requests(WEIGHTS)[1].header("range"), None);

    // So is one that is longer than the file.
    let server = FileServer::good(repository());
    let place = self::place(&server.server.origin());
    std::fs::create_dir_all(place.partial().parent().unwrap()).unwrap();
    std::fs::write(place.partial(), vec![7; 300_001]).unwrap();
    place.assert_whole(&place.fetch(&PINNED).unwrap());
    assert_eq!(server.requests(WEIGHTS)[0].header("range"), None);
}

#[test]
fn corrupt_bytes_are_got_again_and_never_kept() {
    let once = FileServer::start(repository(), |_, path, before, mut part| {
        if path == WEIGHTS && before == 0 {
            part.body[123_456] ^= 1;
        }
        Reply::Part(part)
    });
    let at = place(&once.server.origin());
    at.assert_whole(&at.fetch(&PINNED).unwrap());
    assert_eq!(once.requests(WEIGHTS).len(), 2);

    let always = FileServer::start(repository(), |_, path, _, mut part| {
        if path == WEIGHTS {
            part.body[0] ^= 1;
        }
        Reply::Part(part)
    });
    let at = place(&always.server.origin());
    let error = at.fetch(&PINNED).unwrap_err();
    assert!(matches!(error, FetchError::WrongBytes { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains(WEIGHTS) && told.contains(&sha256(&weights())), "{told}");
    assert!(!at.partial().exists());
    assert_eq!(locate(&PINNED, &at.places), None);
    match state_of(&PINNED, &at.places) {
        FetchState::Begun { missing } => {
            assert!(missing.contains(&WEIGHTS.to_owned()), "{missing:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_token_follows_no_redirect_to_another_host() {
    let far = FileServer::good(repository());
    let base = far.server.other_name();
    let near = FileServer::start(repository(), move |_, path, _, part| match path {
        WEIGHTS => {
            Reply::Status(302, vec![format!("location: {base}/cdn/{path}?sign=1")], String::new())
        }
        _ => Reply::Part(part),
    });
    // The CDN's path has a query; the file server takes its end off.
    let far_files = &far.repository;
    let signed = far_files.lock().unwrap().files[WEIGHTS].clone();
    far_files.lock().unwrap().files.insert(format!("{WEIGHTS}?sign=1"), signed);
    let at = place(&near.server.origin());
    at.assert_whole(&at.fetch(&PINNED).unwrap());
    let bearer = format!("Bearer {TOKEN}");
    for request in near.server.received() {
        assert_eq!(request.authorization.as_deref(), Some(bearer.as_str()));
    }
    let far = far.server.received();
    assert_eq!(far.len(), 1);
    assert_eq!(far[0].authorization, None);

    // On the same server it goes along, and a relative address is one.
    let same = FileServer::start(repository(), |request, path, _, part| {
        if path == WEIGHTS && !request.target().starts_with("/cdn/") {
            let location = format!("location: /cdn/{path}");
            return Reply::Status(307, vec![location], String::new());
        }
        Reply::Part(part)
    });
    let at = place(&same.server.origin());
    at.assert_whole(&at.fetch(&PINNED).unwrap());
    for request in same.server.received() {
        assert_eq!(request.authorization.as_deref(), Some(bearer.as_str()));
    }
}

#[test]
fn redirects_without_end_or_away_from_http_are_refused() {
    for (location, expected) in [
        ("/owner/model/resolve/LOOP", "in circles"),
        ("ftp://host/file", "no http address"),
        ("file:///etc/passwd", "no address"),
    ] {
        let server = FileServer::start(repository(), move |request, path, _, part| {
            let location = location.replace("/owner/model/resolve/LOOP", request.target());
            match path {
                WEIGHTS => Reply::Status(302, vec![format!("location: {location}")], String::new()),
                _ => Reply::Part(part),
            }
        });
        let at = place(&server.server.origin());
        let error = at.fetch(&PINNED).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(WEIGHTS), "{error}");
    }
}

#[test]
fn silent_and_slow_servers_are_outlived() {
    let server = FileServer::start(repository(), |_, path, before, mut part| {
        if path == WEIGHTS {
            match before {
                0 => {
                    part.body.truncate(150_000);
                    part.then = Then::Stall;
                }
                _ => part.then = Then::Slowly(50_000, Duration::from_millis(60)),
            }
        }
        Reply::Part(part)
    });
    let at = place(&server.server.origin());
    at.assert_whole(&at.fetch(&PINNED).unwrap());
    assert_eq!(server.requests(WEIGHTS)[1].header("range"), Some("bytes=150000-"));
}

#[test]
fn a_server_that_knows_no_ranges_sends_the_file_whole() {
    let server = FileServer::start(repository(), |request, path, before, part| {
        if path == WEIGHTS && before == 0 {
            return cut(part, 100_000);
        }
        if path == WEIGHTS && request.header("range").is_some() {
            let mut part = part;
            (part.status, part.body) = (200, weights());
            part.headers = vec!["content-length: 300000".to_owned()];
            return Reply::Part(part);
        }
        Reply::Part(part)
    });
    let at = place(&server.server.origin());
    at.assert_whole(&at.fetch(&PINNED).unwrap());
    assert_eq!(server.requests(WEIGHTS).len(), 2);
}

#[test]
fn refusals_are_told_in_a_sentence_without_the_token() {
    for status in [401, 403] {
        let server = Loopback::start(move |_| {
            Reply::Status(status, vec![], format!("{{\"error\": \"no access for {TOKEN}\"}}"))
        });
        let at = place(&server.origin());
        let error = at.fetch(&PINNED).unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }), "{error}");
        let told = format!("{error} {error:?}");
        let page = format!("{}/{NAME}", server.origin());
        assert!(told.contains(&page) && told.contains("HF_TOKEN"), "{told}");
        assert!(told.contains("no access for ***") && !told.contains("hush"), "{told}");
        assert_eq!(server.received().len(), 1);
    }
    let gone = FileServer::start(repository(), |_, path, _, part| match path {
        WEIGHTS => Reply::Status(404, vec![], String::new()),
        _ => Reply::Part(part),
    });
    let at = place(&gone.server.origin());
    let error = at.fetch(&PINNED).unwrap_err();
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains(WEIGHTS), "{error}");

    let mut lacking = repository();
    lacking.files.remove(WEIGHTS);
    let server = FileServer::good(lacking);
    let error = place(&server.server.origin()).fetch(&PINNED).unwrap_err().to_string();
    assert!(error.contains("lacks unet/model.safetensors"), "{error}");
}

#[derive(Default)]
struct Waits(Mutex<Vec<(String, Duration)>>);

impl FetchObserver for Waits {
    fn waiting(&self, file: &str, _: &str, wait: Duration) {
        self.0.lock().unwrap().push((file.to_owned(), wait));
    }
}

#[test]
fn busy_servers_are_asked_again_and_not_for_ever() {
    let busy = FileServer::start(repository(), |_, path, before, part| match (path, before) {
        (WEIGHTS, 0) => Reply::Status(429, vec!["retry-after: 0.05".to_owned()], String::new()),
        (WEIGHTS, 1) => Reply::Status(500, vec![], String::new()),
        (WEIGHTS, 2) => Reply::Cut,
        _ => Reply::Part(part),
    });
    let at = place(&busy.server.origin());
    let waits = Waits::default();
    at.assert_whole(&fetch(&PINNED, &at.places, &options(), &waits).unwrap());
    let waits = waits.0.into_inner().unwrap();
    let times: Vec<u128> = waits.iter().map(|(_, wait)| wait.as_millis()).collect();
    assert_eq!(times, [50, 2, 4], "as asked for, then twice and four times the first wait");

    let down = FileServer::start(repository(), |_, path, _, part| match path {
        WEIGHTS => Reply::Status(503, vec![], String::new()),
        _ => Reply::Part(part),
    });
    let at = place(&down.server.origin());
    let error = at.fetch(&PINNED).unwrap_err();
    assert!(matches!(error, FetchError::GaveUp { failures: 4, .. }), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(down.requests(WEIGHTS).len(), 4);

    // A server that sends a little each time makes progress and is not given up.
    let mut big = repository();
    let many: Vec<u8> = weights().repeat(3);
    big.files.insert(WEIGHTS.to_owned(), many.clone());
    let drip = FileServer::start(big, |_, path, _, part| match path {
        WEIGHTS => cut(part, 70_000),
        _ => Reply::Part(part),
    });
    let at = place(&drip.server.origin());
    let fetched = at.fetch(&PINNED).unwrap();
    assert_eq!(std::fs::read(fetched.folder.join(WEIGHTS)).unwrap(), many);
    assert_eq!(drip.requests(WEIGHTS).len(), 13);
}

/// Lengths and places that contradict what was stated or asked for.
#[test]
fn wrong_lengths_and_ranges_are_seen() {
    type Spoil = fn(usize, &Received, super::loopback::Part) -> Reply;
    let longer: Spoil = |_, _, mut part| {
        part.headers.retain(|line| !line.starts_with("content-length"));
        part.body.push(0);
        part.then = Then::Cut;
        Reply::Part(part)
    };
    let other_length: Spoil = |_, _, mut part| {
        part.headers.retain(|line| !line.starts_with("content-length"));
        part.headers.push("content-length: 299999".to_owned());
        part.body.pop();
        Reply::Part(part)
    };
    for spoil in [longer, other_length] {
        let server =
            FileServer::start(repository(), move |request, path, before, part| match path {
                WEIGHTS => spoil(before, request, part),
                _ => Reply::Part(part),
            });
        let at = place(&server.server.origin());
        let error = at.fetch(&PINNED).unwrap_err();
        assert!(matches!(error, FetchError::GaveUp { .. }), "{error}");
        assert_eq!(locate(&PINNED, &at.places), None);
    }
    // The server sends another part than it was asked for; then the right one.
    let shifted =
        FileServer::start(repository(), |_, path, before, mut part| match (path, before) {
            (WEIGHTS, 0) => cut(part, 100_000),
            (WEIGHTS, 1) => {
                part.headers.retain(|line| !line.starts_with("content-range"));
                part.headers.push("content-range: bytes 99999-299999/300000".to_owned());
                Reply::Part(part)
            }
            _ => Reply::Part(part),
        });
    let at = place(&shifted.server.origin());
    at.assert_whole(&at.fetch(&PINNED).unwrap());
    assert_eq!(shifted.requests(WEIGHTS)[2].header("range"), None);
}

/// The file changes on the server between two requests: the parts are not put together.
#[test]
fn a_changed_entity_tag_begins_the_file_anew() {
    // A server that honours If-Range sends the file whole; one that does not is found out by its tag.
    for honours in [true, false] {
        let server = FileServer::start(repository(), move |_, path, before, mut part| {
            let tag = |part: &mut super::loopback::Part, tag: &str| {
                part.headers.retain(|line| !line.starts_with("etag"));
                part.headers.push(format!("etag: \"{tag}\""));
            };
            match (path, before) {
                (WEIGHTS, 0) => {
                    tag(&mut part, "old");
                    part.body = vec![7; 300_000];
                    cut(part, 100_000)
                }
                (WEIGHTS, 1) => {
                    // The part that the range names, under another tag.
                    (part.status, part.body) = match honours {
                        true => (200, weights()),
                        false => (206, weights()[100_000..].to_vec()),
                    };
                    part.headers = vec![format!("content-length: {}", part.body.len())];
                    if !honours {
                        let range = "content-range: bytes 100000-299999/300000";
                        part.headers.push(range.to_owned());
                    }
                    tag(&mut part, "new");
                    Reply::Part(part)
                }
                _ => Reply::Part(part),
            }
        });
        let at = place(&server.server.origin());
        at.assert_whole(&at.fetch(&PINNED).unwrap());
        let asked = server.requests(WEIGHTS);
        assert_eq!(asked[1].header("if-range"), Some("\"old\""));
        assert_eq!(asked.len(), if honours { 2 } else { 3 });
    }
}

#[test]
fn a_server_that_announces_another_file_is_not_believed() {
    let mut other = repository();
    other.headers = vec![format!("x-linked-etag: \"{}\"", sha256(b"another"))];
    let server = FileServer::good(other);
    let at = place(&server.server.origin());
    let error = at.fetch(&PINNED).unwrap_err().to_string();
    assert!(error.contains(&sha256(b"another")), "{error}");
    assert!(std::fs::metadata(at.partial()).is_ok_and(|about| about.len() == 0));

    let mut stale = repository();
    stale.headers = vec!["x-repo-commit: ffffffffffffffffffffffffffffffffffffffff".to_owned()];
    let server = FileServer::good(stale);
    let error = place(&server.server.origin()).fetch(&PINNED).unwrap_err().to_string();
    assert!(error.contains("ffffffff") && error.contains(COMMIT), "{error}");
}

#[test]
fn what_is_published_later_is_held_against_the_first_fetch() {
    let server = FileServer::good(repository());
    let at = place(&server.server.origin());
    let first = at.fetch(&UNPINNED).unwrap();
    // The same commit with other bytes, and a file lost here: this is not taken.
    server.repository.lock().unwrap().files.insert(WEIGHTS.to_owned(), vec![1; 10]);
    std::fs::remove_file(first.folder.join("config.json")).unwrap();
    let error = at.fetch(&UNPINNED).unwrap_err();
    assert!(matches!(error, FetchError::Changed { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("fetch.json") && told.contains("--update"), "{told}");
    // A newer commit is taken only when asked for.
    let newer = "1".repeat(40);
    server.repository.lock().unwrap().commit = newer.clone();
    let updated = FetchOptions { update: true, ..options() };
    let second = fetch(&UNPINNED, &at.places, &updated, &Silent).unwrap();
    assert_eq!(second.lock.revision, newer);
    assert_eq!(std::fs::read(second.folder.join(WEIGHTS)).unwrap(), vec![1; 10]);
    assert_eq!(locate(&UNPINNED, &at.places).unwrap().folder, second.folder);

    // A digest of the catalog stands above what the publisher states.
    let pinned = Source { pins: &[(WEIGHTS, WRONG_PIN)], ..PINNED };
    let server = FileServer::good(repository());
    let error = place(&server.server.origin()).fetch(&pinned).unwrap_err().to_string();
    assert!(error.contains("this program says") && error.contains(WRONG_PIN), "{error}");
    assert!(server.requests(WEIGHTS).is_empty());
}

const WRONG_PIN: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

#[test]
fn a_disk_that_is_too_small_is_told_before_anything_comes() {
    let server = Loopback::start(|_| {
        Reply::Json(serde_json::json!({"sha": COMMIT, "siblings": [
            {"rfilename": "config.json", "size": 2, "blobId": COMMIT},
            {"rfilename": WEIGHTS, "size": 1_u64 << 60, "blobId": COMMIT,
             "lfs": {"sha256": WRONG_PIN, "size": 1_u64 << 60}},
        ]}))
    });
    let at = place(&server.origin());
    let error = at.fetch(&PINNED).unwrap_err();
    assert!(matches!(error, FetchError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("HF_HOME"), "{error}");
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_file_of_which_nothing_is_stated_stops_only_who_needs_it() {
    let server = Loopback::start(|request| match request.target() {
        target if target.starts_with("/api/") => {
            Reply::Json(serde_json::json!({"sha": COMMIT, "siblings": [
                {"rfilename": "README.md"},
                {"rfilename": "config.json", "size": 2,
                 "blobId": "9e26dfeeb6e641a33dae4961196235bdb965b21b"},
            ]}))
        }
        _ => Reply::Json(serde_json::json!({})),
    });
    let at = place(&server.origin());
    let needs = |rules| Source { rules, ..PINNED };
    let fetched = at.fetch(&needs(&[FileRule::Needed("config.json")])).unwrap();
    assert_eq!(fetched.came, 1);
    // Elsewhere: what is here already is not asked for again.
    let at = place(&server.origin());
    let error = at.fetch(&needs(&[FileRule::Needed("README.md")])).unwrap_err().to_string();
    assert!(error.contains("owner/model README.md") && error.contains("no length"), "{error}");
}

#[test]
fn a_commit_that_the_publisher_does_not_have_is_not_the_end() {
    let server = Loopback::start(|_| Reply::Status(404, vec![], "Repository not found".to_owned()));
    let at = place(&server.origin());
    let error = at.fetch(&PINNED).unwrap_err().to_string();
    assert!(error.contains(COMMIT) && error.contains("the publisher's own tool"), "{error}");
    // What that tool leaves, at whatever commit, is found.
    let other = "1".repeat(40);
    put(&at.folder.path().join("hub/models--owner--model/snapshots").join(&other));
    assert_eq!(locate(&PINNED, &at.places).unwrap().revision, Some(other));
}

#[test]
fn what_was_fetched_under_the_name_of_before_is_found() {
    let at = place("http://127.0.0.1:1");
    let source = Source { former_names: &["before/model"], ..PINNED };
    put(&at.folder.path().join("hub/models--before--model/snapshots").join(COMMIT));
    assert_eq!(locate(&source, &at.places).unwrap().revision.as_deref(), Some(COMMIT));
    assert_eq!(locate(&PINNED, &at.places), None);
    let now = at.folder.path().join("hub/models--owner--model/snapshots").join(COMMIT);
    put(&now);
    assert_eq!(locate(&source, &at.places).unwrap().folder, now);
}

#[test]
fn damage_on_the_disk_is_found_and_mended() {
    let server = FileServer::good(repository());
    let at = place(&server.server.origin());
    let fetched = at.fetch(&PINNED).unwrap();
    let blob = std::fs::canonicalize(fetched.folder.join(WEIGHTS)).unwrap();
    let mut bytes = weights();
    bytes[5] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();
    let found = locate(&PINNED, &at.places).unwrap();
    let wrong = verify(&found, &mut |_| ()).unwrap();
    assert_eq!(wrong.keys().collect::<Vec<_>>(), [WEIGHTS]);
    assert_eq!(at.fetch(&PINNED).unwrap().came, 0, "the length alone is right");
    let checked = FetchOptions { verify: true, ..options() };
    assert_eq!(fetch(&PINNED, &at.places, &checked, &Silent).unwrap().came, 1);
    at.assert_whole(&fetched);
    // A shorter file is seen without reading it.
    std::fs::write(&blob, "short").unwrap();
    assert_eq!(locate(&PINNED, &at.places), None);
    assert_eq!(at.fetch(&PINNED).unwrap().came, 1);
}

#[test]
fn model_scope_serves_files_by_name_and_missing_digests_are_taken_once() {
    let server = FileServer::good(repository());
    let at = place(&server.server.origin());
    let fetched = at.fetch(&SCOPE).unwrap();
    let folder = at.folder.path().join("scope/models/owner/model");
    assert_eq!(fetched.folder, folder);
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let files = &fetched.lock.files;
    assert_eq!(files[WEIGHTS].witness, Witness::Publisher);
    assert_eq!(files["config.json"].witness, Witness::FirstFetch);
    let digest = files["config.json"].digest.as_ref().unwrap().hex().to_owned();
    assert_eq!(digest, sha256(b"{}"));
    assert_eq!(at.fetch(&SCOPE).unwrap().came, 0);
    // Lost, and published with other bytes since: the digest of the first fetch holds.
    std::fs::remove_file(folder.join("config.json")).unwrap();
    server.repository.lock().unwrap().files.insert("config.json".to_owned(), b"[]".to_vec());
    let error = at.fetch(&SCOPE).unwrap_err();
    assert!(matches!(error, FetchError::WrongBytes { .. }), "{error}");
}

/// A repository of ModelScope as its library may have left it.
fn put(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("unet")).unwrap();
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    std::fs::write(folder.join(WEIGHTS), weights()).unwrap();
}

/// Each of these places is one where modelscope 1.40.2 finds the model with `local_files_only=True`.
#[test]
fn what_model_scope_fetched_is_found_in_every_place_of_its_versions() {
    let source = Source { former_names: &["before/model"], ..SCOPE };
    let home = tempfile::tempdir().unwrap();
    let at = |variables: Vec<(&'static str, PathBuf)>| {
        let found = |name: &str| variables.iter().find(|(given, _)| *given == name);
        Places::new(&|name| found(name).map(|(_, value)| value.clone().into())).unwrap()
    };
    let usual = at(vec![("HOME", home.path().to_owned())]);
    // The newest first: each takes the place of those that were put before it.
    for place in [
        "hub/before/model",
        "hub/models/before/model",
        "hub/owner/model",
        "hub/models/owner/model",
        "models/before--model/snapshots/v1.0",
        "models/owner--model/snapshots/v1.0",
        "models/before--model/snapshots/master",
        "models/owner--model/snapshots/master",
    ] {
        let folder = home.path().join(".cache/modelscope").join(place);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        assert_ne!(locate(&source, &usual).map(|found| found.folder), Some(folder.clone()));
        put(&folder);
        assert_eq!(locate(&source, &usual).unwrap().folder, folder, "{place}");
    }
    for place in [
        "owner/model",
        "hub/models/owner/model",
        "models/owner/model",
        "models/owner--model/snapshots/master",
    ] {
        let moved = tempfile::tempdir().unwrap();
        let folder = moved.path().join(place);
        put(&folder);
        let places = at(vec![("MODELSCOPE_CACHE", moved.path().to_owned())]);
        assert_eq!(locate(&source, &places).unwrap().folder, folder, "{place}");
    }
    // Of another publisher nothing is looked for there.
    assert_eq!(locate(&Source { host: Host::HuggingFace, ..source }, &usual), None);
}

#[test]
fn what_model_scope_fetched_is_checked_and_not_got_again() {
    let server = FileServer::good(repository());
    let at = place(&server.server.origin());
    let folder = at.folder.path().join("scope/models/owner--model/snapshots/master");
    put(&folder);
    std::fs::write(folder.join(WEIGHTS), vec![1; 300_000]).unwrap();
    let fetched = at.fetch(&SCOPE).unwrap();
    assert_eq!((&fetched.folder, fetched.came), (&folder, 2), "damaged, and without a digest");
    assert_eq!(std::fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let found = locate(&SCOPE, &at.places).unwrap();
    assert_eq!((found.folder, found.lock), (folder, Some(fetched.lock)));
    assert!(!at.folder.path().join("scope/models/owner").exists());
}

/// What one copy states and another are held against each other.
#[test]
fn copies_of_one_model_are_compared_by_their_bytes() {
    let rules: &[FileRule] = &[FileRule::Weights("unet/model"), FileRule::Optional("config.json")];
    let (hub, scope) = (Source { rules, ..UNPINNED }, Source { rules, ..SCOPE });
    let server = FileServer::good(repository());
    let at = place(&server.server.origin());
    let of_scope = at.fetch(&scope).unwrap();
    let fetched = at.fetch(&hub).unwrap();
    let found = || locate(&scope, &at.places).unwrap();
    let comparison = compare_copies((&hub, &fetched), (&scope, &found())).unwrap();
    // A git blob id on the one side, a SHA-256 on the other.
    assert_eq!(comparison.same, ["config.json", WEIGHTS]);
    assert!(comparison.other_notes.is_empty());
    std::fs::write(of_scope.folder.join("config.json"), "[]").unwrap();
    let comparison = compare_copies((&hub, &fetched), (&scope, &found())).unwrap();
    assert_eq!(comparison.other_notes, ["config.json"]);

    // Other weights, in a folder without a record: ModelScope's own library got them.
    std::fs::remove_file(of_scope.folder.join("fetch.json")).unwrap();
    std::fs::write(of_scope.folder.join(WEIGHTS), vec![1; 300_000]).unwrap();
    let error = compare_copies((&hub, &fetched), (&scope, &found())).unwrap_err();
    assert!(matches!(error, FetchError::CopiesDiffer { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains(WEIGHTS) && told.contains(&sha256(&weights())), "{told}");
    assert!(told.contains(&sha256(&[1; 300_000])) && told.contains("Hugging Face's"), "{told}");
}

#[test]
fn files_come_side_by_side_but_no_more_than_asked() {
    let mut many = repository();
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        many = many.large(&format!("{name}.bin"), vec![name.as_bytes()[0]; 50_000]);
    }
    let rules: &[FileRule] = &[
        FileRule::Needed("a.bin"),
        FileRule::Needed("b.bin"),
        FileRule::Needed("c.bin"),
        FileRule::Needed("d.bin"),
        FileRule::Needed("e.bin"),
        FileRule::Needed("f.bin"),
    ];
    // Counted between request and reply, when the client can do nothing but wait.
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, highest) = (Arc::clone(&now), Arc::clone(&most));
    let server = FileServer::start(many, move |_, _, _, part| {
        highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        inside.fetch_sub(1, Ordering::SeqCst);
        Reply::Part(part)
    });
    let at = place(&server.server.origin());
    let source = Source { rules, ..PINNED };
    let three = FetchOptions { parallel: 3, ..options() };
    assert_eq!(fetch(&source, &at.places, &three, &Silent).unwrap().came, 6);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

/// The lock is the one that huggingface_hub takes.
#[test]
fn a_file_that_another_process_gets_is_waited_for() {
    let server = FileServer::good(repository());
    let at = place(&server.server.origin());
    let locks = at.folder.path().join("hub/.locks/models--owner--model");
    std::fs::create_dir_all(&locks).unwrap();
    let file = std::fs::File::create(locks.join(format!("{}.lock", sha256(&weights())))).unwrap();
    file.lock().unwrap();
    let fetched = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| at.fetch(&PINNED));
        while server.requests("config.json").is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(server.requests(WEIGHTS).is_empty() && !fetching.is_finished());
        file.unlock().unwrap();
        fetching.join().unwrap()
    });
    at.assert_whole(&fetched.unwrap());
}
