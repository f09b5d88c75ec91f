//! What the cache guarantees, with real files, locks and threads.

use super::*;

#[test]
fn what_was_taken_in_is_found_again_also_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let sha256 = insert(&cache(&folder, 100), b"weights").unwrap();
    let held = cache(&folder, 100).get(sha256).unwrap().unwrap();
    assert_eq!(fs::read(held.path()).unwrap(), b"weights");
    assert!(cache(&folder, 100).get(digest(b"other")).unwrap().is_none());
}

#[test]
fn a_wrong_digest_or_length_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 100);
    let incoming = cache.receive(digest(b"weights"), 7).unwrap();
    fs::write(incoming.path(), b"weightz").unwrap();
    assert!(matches!(
        incoming.finish().unwrap_err(),
        CacheError::Differs { .. }
    ));
    let incoming = cache.receive(digest(b"weights"), 7).unwrap();
    fs::write(incoming.path(), b"weight").unwrap();
    assert!(matches!(
        incoming.finish().unwrap_err(),
        CacheError::Length {
            expected: 7,
            found: 6,
            ..
        }
    ));
    drop(cache.receive(digest(b"weights"), 7).unwrap());
    assert_eq!(names(&folder), [LOCK]);
}

#[test]
fn a_file_from_elsewhere_is_copied_if_it_is_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 100);
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), b"weights").unwrap();
    let held = cache.copy(digest(b"weights"), 7, elsewhere.path()).unwrap();
    assert_eq!(fs::read(held.path()).unwrap(), b"weights");
    let error = cache
        .copy(digest(b"others!"), 7, elsewhere.path())
        .unwrap_err();
    assert!(matches!(error, CacheError::Differs { .. }), "{error}");
    let error = cache
        .copy(digest(b"weights"), 8, elsewhere.path())
        .unwrap_err();
    assert!(
        matches!(
            error,
            CacheError::Length {
                expected: 8,
                found: 7,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_file_is_not_seen_before_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 100);
    let incoming = cache.receive(digest(b"weights"), 7).unwrap();
    fs::write(incoming.path(), b"weights").unwrap();
    assert!(cache.get(digest(b"weights")).unwrap().is_none());
    incoming.finish().unwrap();
    assert!(cache.get(digest(b"weights")).unwrap().is_some());
}

#[test]
fn a_damaged_file_is_discarded_and_a_good_one_in_its_place_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 100);
    let sha256 = insert(&cache, b"weights").unwrap();
    let good = cache.get(sha256).unwrap().unwrap();
    assert!(!cache.discard_if_damaged(&good, sha256).unwrap());
    fs::write(good.path(), b"weightz").unwrap();
    let damaged = [
        cache.get(sha256).unwrap().unwrap(),
        cache.get(sha256).unwrap().unwrap(),
    ];
    let [first, second] = damaged;
    assert!(cache.discard_if_damaged(&first, sha256).unwrap());
    assert!(cache.get(sha256).unwrap().is_none());
    insert(&cache, b"weights").unwrap();
    assert!(!cache.discard_if_damaged(&second, sha256).unwrap());
    let again = cache.get(sha256).unwrap().unwrap();
    assert_eq!(fs::read(again.path()).unwrap(), b"weights");
}

#[test]
fn the_least_recently_used_file_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 12);
    let files = [b"old.", b"used", b"new."].map(|bytes| insert(&cache, bytes).unwrap());
    for (index, seconds) in [(0, 10), (1, 5), (2, 20)] {
        let file = File::open(cache.path(files[index])).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            .unwrap();
    }
    drop(cache.get(files[1]).unwrap());
    insert(&cache, b"more").unwrap();
    let there = files.map(|sha256| cache.get(sha256).unwrap().is_some());
    assert_eq!(there, [false, true, true]);
}

#[test]
fn a_file_in_use_is_never_evicted() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 12);
    let sha256 = insert(&cache, b"weights").unwrap();
    let readers = [
        cache.get(sha256).unwrap().unwrap(),
        cache.get(sha256).unwrap().unwrap(),
    ];
    let error = insert(&cache, b"sevens!").unwrap_err();
    assert!(
        matches!(
            error,
            CacheError::Full {
                bytes: 7,
                in_use: 7,
                limit_bytes: 12
            }
        ),
        "{error}"
    );
    let [first, second] = readers;
    drop(first);
    insert(&cache, b"sevens!").unwrap_err();
    assert_eq!(fs::read(second.path()).unwrap(), b"weights");
    drop(second);
    insert(&cache, b"sevens!").unwrap();
    assert!(cache.get(sha256).unwrap().is_none());
}

#[test]
fn what_is_on_its_way_has_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(&folder, 12);
    let incoming = cache.receive(digest(b"weights"), 7).unwrap();
    assert!(matches!(
        cache.receive(digest(b"sevens!"), 7),
        Err(CacheError::Full { .. })
    ));
    drop(incoming);
    insert(&cache, b"sevens!").unwrap();
    assert!(matches!(
        cache.receive(digest(b"x"), 13),
        Err(CacheError::TooLarge {
            bytes: 13,
            limit_bytes: 12
        })
    ));
}

#[test]
fn leftovers_of_a_killed_process_are_cleared_and_those_of_a_living_one_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let living = cache(&folder, 100);
    let incoming = living.receive(digest(b"weights"), 7).unwrap();
    let left = format!("{}.1-0.{INCOMING}", digest(b"x"));
    fs::write(folder.path().join(&left), "half of i").unwrap();
    let _next = cache(&folder, 100);
    assert!(!names(&folder).contains(&left));
    fs::write(incoming.path(), b"weights").unwrap();
    incoming.finish().unwrap();
}

#[test]
fn readers_and_evictions_at_once_never_see_a_broken_file() {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..4u8).map(|byte| vec![byte; 4096]).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (folder, contents) = (&folder, &contents);
            scope.spawn(move || {
                let cache = cache(folder, 2 * 4096);
                for round in 0..50 {
                    let bytes = &contents[(thread + round) % contents.len()];
                    match cache.get(digest(bytes)).unwrap() {
                        Some(held) => assert_eq!(&fs::read(held.path()).unwrap(), bytes),
                        None => match insert(&cache, bytes) {
                            Ok(_) | Err(CacheError::Full { .. }) => {}
                            Err(error) => panic!("{error:?}"),
                        },
                    }
                }
            });
        }
    });
    let size: u64 = cache(&folder, 2 * 4096)
        .entries()
        .unwrap()
        .iter()
        .map(|entry| entry.bytes)
        .sum();
    assert!(size <= 2 * 4096, "{size}");
}

fn cache(folder: &tempfile::TempDir, limit_bytes: u64) -> Cache {
    Cache::open(folder.path(), limit_bytes).unwrap()
}

fn insert(cache: &Cache, bytes: &[u8]) -> Result<Sha256, CacheError> {
    let incoming = cache.receive(digest(bytes), bytes.len() as u64)?;
    fs::write(incoming.path(), bytes).unwrap();
    incoming.finish()?;
    Ok(digest(bytes))
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes).unwrap()
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
