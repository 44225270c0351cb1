use std::collections::BTreeSet;

use futures::future::join_all;

use super::*;
use crate::testing::schema;
use crate::testing::{memory, written};
use crate::{FileProblem, GateRecord, InputRecord, LakeError, SnapshotState, TableRecord};

fn content(run_id: &str, as_of: &str, state: SnapshotState) -> SnapshotContent {
    SnapshotContent {
        run_id: run_id.into(),
        as_of: as_of.into(),
        state,
        parent: "2026-10-31-abcdefabcdef".into(),
        tables: BTreeMap::from([(
            "segments".into(),
            TableRecord {
                version: Some(3),
                fingerprint: "0123456789abcdef0123456789abcdef".into(),
                rows: 7,
                files: 1,
                bytes: 99,
                digest: "d".into(),
            },
        )]),
        stages: BTreeMap::from([("ingest".into(), "stages/ingest-1.json".into())]),
        inputs: vec![InputRecord { entity: "transactions".into(), files: 1, bytes: 10, rows: 2 }],
        sources: "f".into(),
        project_hash: "p".into(),
        project: "projects/1.json".into(),
        code_version: "0.1.0".into(),
        code_commit: "c".into(),
        secret: "s".into(),
        seed: 42,
        gates: vec![GateRecord {
            metric: "silhouette".into(),
            scope: "model".into(),
            value: Some(0.1 + 0.2),
            threshold: None,
            state: "passed".into(),
            required: true,
            told: String::new(),
        }],
        evidence: BTreeMap::from([("_tessera/stages/ingest-1.json".into(), "e".into())]),
        why: String::new(),
        recorded_by: "somebody@somewhere".into(),
        published_at: "2026-11-02T02:00:00Z".into(),
    }
}

use SnapshotState::{Expired, Held, Published, Retracted};

#[test]
fn no_flipped_bit_of_a_file_of_rows_ends_its_reader() {
    let row = Row::new(&content("run", "2026-11-01", Published), 0, NO_HASH).unwrap();
    let whole = rows::encode(std::slice::from_ref(&row)).unwrap();
    assert_eq!(rows::decode("file", whole.clone()).unwrap(), [row]);
    for at in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        // It may read the same, or something else, which its hash tells.
        let _ = rows::decode("file", flipped.into());
    }
}

#[tokio::test]
async fn rows_form_a_chain_and_held_runs_change_nothing() {
    let lake = memory();
    let registry = lake.registry();
    let history = async || registry.history().await.unwrap();
    assert!(history().await.records().is_empty() && history().await.newest().is_none());
    assert!(registry.verify_chain().await.unwrap().0.is_empty());

    let first = registry.append(&content("r1", "2026-11-01", Published)).await.unwrap();
    let held = registry.append(&content("r2", "2026-11-02", Held)).await.unwrap();
    assert_eq!(first.content, content("r1", "2026-11-01", Published));
    assert_eq!((first.sequence, first.previous_hash.as_str()), (0, NO_HASH));
    assert_eq!((held.sequence, &held.previous_hash), (1, &first.hash));
    assert!(first.snapshot_id.starts_with("2026-11-01-") && first.snapshot_id.len() == 23);
    assert_eq!(history().await.newest(), Some(&first));
    assert!(history().await.of_night("2026-11-02").is_none());

    let newer = registry.append(&content("r3", "2026-11-02", Published)).await.unwrap();
    let again = registry.append(&content("r4", "2026-11-01", Published)).await.unwrap();
    assert_eq!(history().await.newest(), Some(&newer));
    assert_eq!(history().await.of_night("2026-11-01"), Some(&again));
    assert_eq!(history().await.get(&held.snapshot_id), Some(&held));
    assert_eq!(history().await.records(), [first, held, newer, again]);
    assert!(registry.verify_chain().await.unwrap().0.is_empty());
    assert_eq!(lake.tables().await.unwrap(), ["snapshots"]);
}

#[tokio::test]
async fn a_night_goes_on_from_the_newest_before_it_that_was_not_taken_back() {
    let registry = memory().registry();
    let published = async |run: &str, night: &str| registry.append(&content(run, night, Published)).await.unwrap();
    let first = published("r1", "2026-11-01").await;
    let second = published("r2", "2026-11-02").await;
    published("r3", "2026-11-04").await;
    registry.append(&content("r4", "2026-11-03", Held)).await.unwrap();
    let parent = async |night: &str| {
        let history = registry.history().await.unwrap();
        history.parent(night).map(|r| r.snapshot_id.clone())
    };
    assert_eq!(parent("2026-11-01").await, None);
    assert_eq!(parent("2026-11-02").await, Some(first.snapshot_id.clone()));
    assert_eq!(parent("2026-11-04").await, Some(second.snapshot_id.clone()));
    let again = published("r5", "2026-11-02").await;
    assert_eq!(parent("2026-11-04").await, Some(again.snapshot_id.clone()));

    let back = SnapshotContent {
        parent: again.snapshot_id.clone(),
        why: "the prices were net".into(),
        ..content("retract", "2026-11-02", Retracted)
    };
    registry.append(&back).await.unwrap();
    assert_eq!(parent("2026-11-04").await, Some(second.snapshot_id.clone()), "what it had replaced is current again");
    let history = registry.history().await.unwrap();
    assert_eq!(history.of_night("2026-11-02").map(|r| &r.snapshot_id), Some(&second.snapshot_id));
    assert_eq!(history.withdrawn(&again.snapshot_id).map(|r| r.content.why.as_str()), Some("the prices were net"));
    assert!(history.expired(&again.snapshot_id).is_none());

    let gone =
        |id: &str| SnapshotContent { parent: id.to_owned(), ..content(&format!("expire-{id}"), "2026-11-02", Expired) };
    let rows = [gone(&again.snapshot_id), gone(&second.snapshot_id)];
    let stored = registry.append_all(&rows).await.unwrap();
    assert_eq!(registry.append_all(&rows).await.unwrap(), stored, "once");
    assert_eq!(parent("2026-11-04").await, Some(first.snapshot_id.clone()));
    let history = registry.history().await.unwrap();
    assert!(history.expired(&again.snapshot_id).is_some() && history.of_night("2026-11-02").is_none());
    let retained: Vec<_> = history.retained().map(|r| r.content.run_id.as_str()).collect();
    assert_eq!(retained, ["r1", "r3", "r4"]);
    assert!(registry.verify_chain().await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_run_has_one_row() {
    let registry = memory().registry();
    let mut run = content("r1", "2026-11-01", Published);
    let first = registry.append(&run).await.unwrap();
    run.published_at = "2026-11-03T02:00:00Z".into();
    run.recorded_by = "somebody@else".into();
    assert_eq!(registry.append(&run).await.unwrap(), first);
    assert_eq!(registry.history().await.unwrap().records().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_runs_follow_one_another() {
    let registry = memory().registry();
    let appends = (0..6).map(|i| {
        let registry = registry.clone();
        tokio::spawn(async move {
            let run = content(&format!("r{i}"), "2026-11-01", Published);
            registry.append(&run).await.unwrap().sequence
        })
    });
    let places: BTreeSet<i64> = join_all(appends).await.into_iter().map(|s| s.unwrap()).collect();
    assert_eq!(places, (0..6).collect());
    assert!(registry.verify_chain().await.unwrap().0.is_empty());
}

#[tokio::test]
async fn many_nights_stay_in_few_files() {
    let lake = memory();
    let mut registry = lake.registry();
    registry.compact_at = 3;
    let nights = 9;
    for i in 0..nights {
        let run = content(&format!("r{i}"), "2026-11-01", Published);
        registry.append(&run).await.unwrap();
    }
    let files = lake.files(TABLE, None, None).await.unwrap().files;
    assert_eq!(files.len(), 3);
    let history = registry.history().await.unwrap();
    let places: Vec<i64> = history.records().iter().map(|r| r.sequence).collect();
    assert_eq!(places, (0..nights).collect::<Vec<_>>());
    assert!(registry.verify_chain().await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_changed_byte_is_found() {
    let lake = memory();
    let registry = lake.registry();
    for i in 0..3 {
        let run = content(&format!("r{i}"), "2026-11-01", Published);
        registry.append(&run).await.unwrap();
    }
    let path = lake.files(TABLE, None, None).await.unwrap().files[1].path.clone();
    let place = lake.path(&path);
    let intact = lake.store().get(&place).await.unwrap().bytes().await.unwrap();
    let mut changed = intact.to_vec();
    let middle = changed.len() / 3;
    changed[middle] ^= 1;
    lake.store().put(&place, changed.into()).await.unwrap();
    let (findings, _) = registry.verify_chain().await.unwrap();
    assert_eq!(findings[0].place, path);
    assert_eq!(findings[0].problem, "its bytes are not those that were committed");
    let refused = |result: Result<History, LakeError>| result.unwrap_err().to_string();
    let said = refused(registry.history().await);
    assert_eq!(said, format!("snapshot registry, {path}: its bytes are not those that were committed"));

    // Another file of the registry in its place: whoever goes on from these rows would go on from others.
    let other = lake.files(TABLE, None, None).await.unwrap().files[0].path.clone();
    let other = lake.store().get(&lake.path(&other)).await.unwrap().bytes().await.unwrap();
    lake.store().put(&place, other.into()).await.unwrap();
    assert_eq!(refused(registry.history().await), said);
    assert!(registry.append(&content("r3", "2026-11-02", Published)).await.is_err());

    lake.store().delete(&place).await.unwrap();
    let (findings, _) = registry.verify_chain().await.unwrap();
    assert_eq!(findings[0].problem, "the file is missing");
    assert_eq!(findings[1].problem, "expected row 1 at this place");
    assert_eq!(findings[2].problem, "it does not continue the row before");
}

/// Of the Delta log a word that changes no row is found as well, once another row stands on it.
#[tokio::test]
async fn a_changed_word_of_an_older_commit_is_found() {
    let lake = memory();
    let registry = lake.registry();
    for i in 0..2 {
        let run = content(&format!("r{i}"), "2026-11-01", Published);
        registry.append(&run).await.unwrap();
    }
    let commit = log_paths(TABLE, [0]).remove(0);
    let place = lake.path(&commit);
    let text = String::from_utf8(lake.store().get(&place).await.unwrap().bytes().await.unwrap().to_vec()).unwrap();
    assert!(text.contains("its place in the hash chain"));
    lake.store().put(&place, text.replace("its place", "no place").into()).await.unwrap();
    let finding = Finding { place: commit, problem: "is another one than was written".into() };
    assert_eq!(registry.verify_chain().await.unwrap().0, [finding]);
}

#[test]
fn a_changed_row_is_found() {
    let first = Row::new(&content("r1", "2026-11-01", Published), 0, NO_HASH).unwrap();
    let second = Row::new(&content("r2", "2026-11-02", Held), 1, first.text("hash")).unwrap();
    assert!(check_chain(&[first.clone(), second.clone()]).is_empty());
    let mut changed = second;
    changed.seed += 1;
    let problems: Vec<_> = check_chain(&[first, changed]).into_iter().map(|f| f.problem).collect();
    assert_eq!(problems, ["its content does not match its hash", "its content does not match its id"]);
}

/// Stored hashes must stay provable: this is what version 3 of the format says of a fixed row, as
/// computed by another program from the description in the module.
#[test]
fn the_hash_of_a_stored_format_never_changes() {
    let row = Row::new(&content("r1", "2026-11-01", Published), 0, NO_HASH).unwrap();
    assert_eq!(row.text("snapshot_id"), "2026-11-01-19d530b3c651");
    assert_eq!(row.text("hash"), "10bc7e3d71d37d948bc3680fa2471e74be8cc696bf1e32daa9aaa421fd3ab42c");
}

#[tokio::test]
async fn files_of_a_snapshot_are_verified() {
    let lake = memory();
    let mut run = content("r1", "2026-11-01", Published);
    let mut files = Vec::new();
    for name in ["changed", "gone", "intact", "shorter"] {
        files.push(written(&lake, "2026-11-01", name, 3).await);
    }
    let version = lake.commit("segments", &schema(), Some("2026-11-01"), &files, "r1").await.unwrap();
    let record = TableRecord::new(Some(version), "f".into(), &files);
    run.evidence = lake.evidence(log_paths("segments", [version])).await.unwrap();
    assert_eq!(run.evidence.len(), 1);
    run.tables = BTreeMap::from([("segments".into(), record)]);
    let snapshot = lake.registry().append(&run).await.unwrap();
    let named = lake.files_of(&snapshot, "segments", true).await.unwrap().files;
    assert_eq!(named, files);
    assert!(lake.verify_files(&named).await.unwrap().is_empty());

    let store = lake.store();
    let place = |i: usize| lake.path(&files[i].path);
    let mut bytes = store.get(&place(0)).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[10] ^= 1;
    store.put(&place(0), bytes.into()).await.unwrap();
    store.delete(&place(1)).await.unwrap();
    store.put(&place(3), "x".into()).await.unwrap();
    let findings = lake.verify_files(&named).await.unwrap();
    let found: Vec<_> = findings.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(found, [&files[0].path, &files[1].path, &files[3].path]);
    assert!(matches!(findings[0].problem, FileProblem::Checksum { .. }));
    assert_eq!(findings[1].problem, FileProblem::Missing);
    assert!(matches!(findings[2].problem, FileProblem::Size { found: 1, .. }));

    // A log that somebody wrote anew: something else beside the same files, other files, or other rows of the same.
    let log = lake.path(&format!("segments/_delta_log/{version:020}.json"));
    let text = String::from_utf8(store.get(&log).await.unwrap().bytes().await.unwrap().to_vec()).unwrap();
    store.put(&log, format!("{text}\n").into()).await.unwrap();
    let error = lake.files_of(&snapshot, "segments", true).await.unwrap_err();
    assert!(error.to_string().contains("another one than was written"), "{error}");
    store.put(&log, text.replace("{\\\"numRecords\\\":3}", "{\\\"numRecords\\\":4}").into()).await.unwrap();
    let error = lake.files_of(&snapshot, "segments", true).await.unwrap_err();
    assert!(matches!(error, LakeError::Log { .. }), "{error}");
}
