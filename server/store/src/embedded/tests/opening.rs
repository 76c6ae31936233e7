//! Opening and closing.

use super::*;

#[test]
fn a_second_handle_is_refused_and_told_who_has_the_first() {
    let dir = tempdir().unwrap();
    let first = open(&dir);
    let refused = EmbeddedStore::open(dir.path()).err().unwrap();
    assert!(matches!(&refused, OpenError::InUse { holder: Some(pid), .. } if *pid == std::process::id()));
    let text = refused.to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    drop(first);
    open(&dir);
}

#[test]
fn a_lock_file_that_nobody_holds_refuses_nobody() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("leasehold.lock"), "4000000000\n").unwrap();
    open(&dir);
}

#[test]
fn a_directory_is_created_with_those_above_it() {
    let dir = tempdir().unwrap();
    let nested = dir.path().join("a/b/c");
    EmbeddedStore::open(&nested).unwrap();
    assert!(nested.join("leasehold.db").exists());
}

/// As `data`, where the program puts it by itself: such a path does not name the directory above it.
#[test]
fn a_directory_is_created_in_the_working_directory() {
    let reserved = tempfile::tempdir_in(".").unwrap();
    let name = reserved.path().file_name().unwrap();
    fs::remove_dir(reserved.path()).unwrap();
    EmbeddedStore::open(name.as_ref()).unwrap();
    assert!(reserved.path().join("leasehold.db").exists());
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let Err(OpenError::Directory { source, .. }) = EmbeddedStore::open(&file) else { panic!("opened") };
    assert_eq!(source.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn a_store_of_a_newer_release_is_refused_and_left_as_it_is() {
    let dir = tempdir().unwrap();
    drop(open(&dir));
    sqlite(&dir).pragma_update(None, "user_version", 2).unwrap();
    let before = fs::read(dir.path().join("leasehold.db")).unwrap();
    let refused = EmbeddedStore::open(dir.path());
    assert!(matches!(refused, Err(OpenError::NewerVersion { found: 2, supported: 1, .. })));
    assert_eq!(fs::read(dir.path().join("leasehold.db")).unwrap(), before);
}

#[test]
fn a_database_of_somebody_else_is_refused_and_left_as_it_is() {
    let dir = tempdir().unwrap();
    sqlite(&dir).execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    let before = fs::read(dir.path().join("leasehold.db")).unwrap();
    assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::NotOurs { .. })));
    assert_eq!(fs::read(dir.path().join("leasehold.db")).unwrap(), before);
    fs::write(dir.path().join("leasehold.db"), "no database at all, whatever its name says".repeat(100))
        .unwrap();
    assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::NotOurs { .. })));
}

#[test]
fn a_set_up_that_was_cut_off_is_done_again() {
    let dir = tempdir().unwrap();
    // What a crash right after the creation of the file leaves.
    sqlite(&dir)
        .execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; VACUUM")
        .unwrap();
    let store = open(&dir);
    drop(store);
    open(&dir);
}

#[tokio::test]
async fn a_closed_store_takes_no_calls_and_lets_go_of_the_directory() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "a", &entry(1, 1)).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(store.read(&id("a")).await, Err(ReadError::Unavailable(_))));
    assert!(matches!(create(&store, "b", &entry(1, 1)).await, Err(WriteError::NotApplied(_))));
    let again = open(&dir);
    assert_eq!(again.read(&id("a")).await.unwrap(), Some(entry(1, 1)));
    assert_eq!(again.read(&id("b")).await.unwrap(), None);
}

#[tokio::test]
async fn closing_commits_what_was_accepted() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    let other = sqlite(&dir);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut accepted = Vec::new();
    for n in 0..500 {
        accepted.push(begin_create(&store, format!("key {n}"), 1).await);
    }
    let closing = store.close();
    tokio::pin!(closing);
    tokio::select! {
        biased;
        () = &mut closing => panic!("closed while operations were waiting"),
        () = std::future::ready(()) => {}
    }
    assert!(matches!(create(&store, "late", &entry(1, 1)).await, Err(WriteError::NotApplied(_))));
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    closing.await;
    for writing in accepted {
        assert_eq!(writing.await.unwrap(), Swap::Applied);
    }
    assert_eq!(open(&dir).stats().await.unwrap().entries, 500);
}

#[tokio::test]
async fn a_closed_store_is_one_file_without_a_log_to_read_back() {
    let dir = tempdir().unwrap();
    let store = open(&dir);
    create(&store, "a", &entry(1, 1)).await.unwrap();
    drop(store);
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["leasehold.db", "leasehold.lock"]);
}
