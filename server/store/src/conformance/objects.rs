//! The clauses of [`crate::port::ObjectStore`].

use super::{
    Fixture, drop_after,
    samples::{body, digest, object_meta, object_name},
};
use crate::port::{ObjectInfo, ObjectMeta, ObjectStore, Put, StoredObject};
use bytes::Bytes;
use leasehold_core::object::ObjectName;
use std::sync::Arc;
use tokio::task::JoinSet;

type Objects = Arc<dyn ObjectStore>;

async fn put(objects: &Objects, name: &ObjectName, body: &Bytes, meta: &ObjectMeta) -> Put {
    objects.put(name, body.clone(), digest(body), meta).await.expect("put an object")
}

/// The object; attributes sorted by name, because they are a set.
async fn get(objects: &Objects, name: &ObjectName) -> Option<StoredObject> {
    let mut object = objects.get(name).await.expect("get an object")?;
    object.meta.attributes.sort();
    Some(object)
}

fn stored(body: &Bytes, meta: &ObjectMeta) -> StoredObject {
    let mut meta = meta.clone();
    meta.attributes.sort();
    StoredObject { body: body.clone(), meta }
}

async fn info(objects: &Objects, name: &ObjectName) -> Option<ObjectInfo> {
    objects.info(name).await.expect("ask for an object")
}

async fn create(objects: &Objects, name: &ObjectName, body: &Bytes) {
    assert_eq!(put(objects, name, body, &object_meta()).await, Put::Created);
}

fn plain() -> ObjectMeta {
    ObjectMeta { content_type: "application/json".into(), attributes: Vec::new() }
}

/// What was never put.
pub async fn an_absent_object_is_none(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    assert_eq!(get(&objects, &object_name(1)).await, None);
    assert_eq!(info(&objects, &object_name(1)).await, None);
}

/// With several attributes, and with none.
pub async fn a_put_object_is_read_back_with_its_metadata(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    for (n, meta) in [(1, object_meta()), (2, plain())] {
        let body = body(7, 1000);
        assert_eq!(put(&objects, &object_name(n), &body, &meta).await, Put::Created);
        assert_eq!(get(&objects, &object_name(n)).await, Some(stored(&body, &meta)));
    }
}

/// From nothing to some megabytes, around the sizes at which buffers and pages end.
pub async fn bodies_of_any_size_and_content_are_returned_as_they_were_put(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    for (n, size) in (1..).zip([0, 1, 4095, 4096, 4097, 65_536, 1_000_003, 5 * 1024 * 1024 + 1]) {
        let body = body(n as u8, size);
        create(&objects, &object_name(n), &body).await;
        let read = get(&objects, &object_name(n)).await.expect("the object");
        assert!(read.body == body, "{size} bytes came back as {} other ones", read.body.len());
    }
}

/// Neither its bytes nor its metadata change, whoever puts what.
pub async fn a_put_leaves_an_object_that_exists_as_it_is(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    let (first, second) = (body(1, 5000), body(2, 300));
    create(&objects, &object_name(1), &first).await;
    assert_eq!(put(&objects, &object_name(1), &second, &plain()).await, Put::Exists);
    assert_eq!(put(&objects, &object_name(1), &first, &object_meta()).await, Put::Exists, "the same again");
    assert_eq!(get(&objects, &object_name(1)).await, Some(stored(&first, &object_meta())));
    let known = ObjectInfo { size_bytes: 5000, digest: Some(digest(&first)) };
    assert_eq!(info(&objects, &object_name(1)).await, Some(known));
}

/// Many rivals put different bodies under one name; what is read meanwhile and afterwards is the winner's, whole.
pub async fn of_many_puts_to_one_name_exactly_one_creates_it(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    for round in 0..4 {
        let name = object_name(round);
        let mut rivals = JoinSet::new();
        for rival in 0..16u8 {
            let (objects, name) = (objects.clone(), name.clone());
            rivals.spawn(async move {
                let mine = body(rival, 10_000 + usize::from(rival));
                let outcome = put(&objects, &name, &mine, &plain()).await;
                let read = get(&objects, &name).await.expect("an object, after an acknowledged put");
                (mine, outcome, read.body)
            });
        }
        let outcomes = rivals.join_all().await;
        let winners: Vec<&Bytes> =
            outcomes.iter().filter(|(_, put, _)| *put == Put::Created).map(|(mine, ..)| mine).collect();
        let [winner] = winners[..] else { panic!("{} of 16 puts created the object", winners.len()) };
        assert!(outcomes.iter().all(|(_, _, read)| read == winner), "somebody read another body");
    }
}

/// Without reading the body.
pub async fn info_tells_size_and_digest(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    for (n, size) in [(1, 0), (2, 100_000)] {
        let body = body(n as u8, size);
        create(&objects, &object_name(n), &body).await;
        let known = ObjectInfo { size_bytes: size as u64, digest: Some(digest(&body)) };
        assert_eq!(info(&objects, &object_name(n)).await, Some(known));
    }
}

/// A commit on one coordinator asks for an object that was put through another.
pub async fn an_acknowledged_put_is_read_through_any_handle(fixture: &dyn Fixture) {
    let (one, other) = (fixture.open().await.objects, fixture.open().await.objects);
    for n in 0..30 {
        let body = body(n as u8, 100);
        // Asked for before it is there: an absence must not be remembered.
        assert_eq!(info(&other, &object_name(n)).await, None);
        create(&one, &object_name(n), &body).await;
        assert!(info(&other, &object_name(n)).await.is_some(), "object {n}");
        assert_eq!(get(&other, &object_name(n)).await, Some(stored(&body, &object_meta())), "object {n}");
    }
}

/// Prefixes of each other, case, characters with a meaning in URLs, patterns and SQL.
pub async fn names_that_resemble_each_other_never_touch(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    let names = [
        "a/b",
        "a/b/c",
        "a/b.html",
        "a/B",
        "A/b",
        "a/b-",
        "a/b%",
        "a/b%20c",
        "a/b c",
        "a/b+c",
        "a/b_",
        "a/b?c",
        "a/b#c",
        "a/b&c=d",
        "a/'b",
        "a/é",
        "a/e\u{301}",
        "a/日本",
        "a/...",
        "ab",
    ]
    .map(|name| ObjectName::parse(name).expect("an object name"));
    for (at, name) in names.iter().enumerate() {
        assert_eq!(get(&objects, name).await, None, "{name} is there before it was put");
        create(&objects, name, &body(at as u8, 100)).await;
    }
    for (at, name) in names.iter().enumerate() {
        assert_eq!(get(&objects, name).await, Some(stored(&body(at as u8, 100), &object_meta())), "{name}");
    }
}

/// Some of several.
pub async fn a_deleted_object_is_absent_and_others_stay(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    for n in 0..6 {
        create(&objects, &object_name(n), &body(n as u8, 100)).await;
    }
    objects.delete(&[object_name(1), object_name(4)]).await.expect("delete objects");
    for n in 0..6 {
        let there = n != 1 && n != 4;
        assert_eq!(get(&objects, &object_name(n)).await.is_some(), there, "object {n}");
        assert_eq!(info(&objects, &object_name(n)).await.is_some(), there, "object {n}");
    }
}

/// None at all, one that never was, one twice, one again.
pub async fn deleting_absent_objects_is_no_error(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    create(&objects, &object_name(1), &body(1, 100)).await;
    for names in [vec![], vec![object_name(2)], vec![object_name(1), object_name(1)], vec![object_name(1)]] {
        objects.delete(&names).await.expect("delete objects");
    }
    assert_eq!(get(&objects, &object_name(1)).await, None);
}

/// More than a store takes in one of its own requests.
pub async fn any_number_of_objects_is_deleted_at_once(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    let (first, last, other) = (object_name(0), object_name(2_099), object_name(2_100));
    for name in [&first, &last, &other] {
        create(&objects, name, &body(1, 10)).await;
    }
    let names: Vec<ObjectName> = (0..2_100).map(object_name).collect();
    objects.delete(&names).await.expect("delete objects");
    assert_eq!(info(&objects, &first).await, None);
    assert_eq!(info(&objects, &last).await, None);
    assert!(info(&objects, &other).await.is_some());
}

/// Nothing of the old object comes back.
pub async fn a_name_can_be_put_again_after_it_was_deleted(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    create(&objects, &object_name(1), &body(1, 5000)).await;
    objects.delete(&[object_name(1)]).await.expect("delete an object");
    let second = body(2, 40);
    assert_eq!(put(&objects, &object_name(1), &second, &plain()).await, Put::Created);
    assert_eq!(get(&objects, &object_name(1)).await, Some(stored(&second, &plain())));
}

/// Callers that go away in the middle.
pub async fn a_dropped_put_leaves_the_whole_object_or_nothing(fixture: &dyn Fixture) {
    let objects = fixture.open().await.objects;
    for n in 0..24u64 {
        let dropped = body(n as u8, 300_000);
        let outcome =
            drop_after(n as usize % 8, put(&objects, &object_name(n), &dropped, &object_meta())).await;
        assert!(outcome.is_none_or(|put| put == Put::Created));
        // Settles it: either is there now, whole.
        let second = body(n as u8 + 100, 200);
        let expected = match put(&objects, &object_name(n), &second, &object_meta()).await {
            Put::Created => second,
            Put::Exists => dropped,
        };
        let read = get(&objects, &object_name(n)).await.expect("the object");
        assert!(read.body == expected, "object {n} is neither whole nor absent");
    }
}

/// An orderly end.
pub async fn acknowledged_puts_survive_a_restart(fixture: &dyn Fixture) {
    put_some(&fixture.open().await.objects).await;
    all_there(&fixture.restart().await.objects).await;
}

/// A sudden end.
pub async fn acknowledged_puts_survive_a_crash(fixture: &dyn Fixture) {
    put_some(&fixture.open().await.objects).await;
    all_there(&fixture.crash().await.objects).await;
}

const SIZES: [usize; 4] = [0, 10, 20_000, 2_000_000];

async fn put_some(objects: &Objects) {
    for (n, size) in (1..).zip(SIZES) {
        create(objects, &object_name(n), &body(n as u8, size)).await;
    }
    create(objects, &object_name(100), &body(100, 10)).await;
    objects.delete(&[object_name(100)]).await.expect("delete an object");
}

async fn all_there(objects: &Objects) {
    for (n, size) in (1..).zip(SIZES) {
        let read = get(objects, &object_name(n)).await.expect("the object");
        assert!(read == stored(&body(n as u8, size), &object_meta()), "object {n} of {size} bytes");
    }
    assert_eq!(get(objects, &object_name(100)).await, None, "what was deleted stays deleted");
}
