use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::{DataType, Field, Schema};
use futures::future::join_all;

use super::*;
use crate::testing::{Faulty, faulty, memory, schema, visible, written};

const NIGHT: &str = "2026-11-01";
const NEXT: &str = "2026-11-02";

#[tokio::test]
async fn a_night_is_created_and_replaced_without_touching_the_others() {
    let lake = memory();
    assert_eq!(lake.version("segments").await.unwrap(), None);
    let first = [written(&lake, NIGHT, "a", 3).await, written(&lake, NIGHT, "b", 2).await];
    let made = lake.commit("segments", &schema(), Some(NIGHT), &first, "run-1").await;
    assert_eq!(made.unwrap(), 0);
    let other = written(&lake, NEXT, "c", 1).await;
    lake.commit("segments", &schema(), Some(NEXT), &[other], "run-2").await.unwrap();
    let again = written(&lake, NIGHT, "d", 4).await;
    let made = lake.commit("segments", &schema(), Some(NIGHT), std::slice::from_ref(&again), "run-3").await;
    assert_eq!(made.unwrap(), 2);

    assert_eq!(lake.version("segments").await.unwrap(), Some(2));
    assert_eq!(visible(&lake, None).await, ["d", "c"]);
    assert_eq!(visible(&lake, Some(NEXT)).await, ["c"]);
    let now = lake.files("segments", None, Some(NIGHT)).await.unwrap();
    assert_eq!(now.files, [again]);
    let before = lake.files("segments", Some(1), Some(NIGHT)).await.unwrap();
    assert_eq!((before.version, before.files.as_slice()), (1, first.as_slice()));
    let names: Vec<_> = now.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, [AS_OF, "segment_id", "customer_key"]);
    assert_eq!(now.schema.field(1).metadata()["comment"], "the segment");
    assert_eq!(lake.tables().await.unwrap(), ["segments"]);
}

#[tokio::test]
async fn a_run_commits_once() {
    let lake = memory();
    let a = written(&lake, NIGHT, "a", 1).await;
    let b = written(&lake, NIGHT, "b", 1).await;
    let a = [a];
    lake.commit("segments", &schema(), Some(NIGHT), &a, "run-1").await.unwrap();
    lake.commit("segments", &schema(), Some(NIGHT), std::slice::from_ref(&b), "run-2").await.unwrap();
    let again = lake.commit("segments", &schema(), Some(NIGHT), &a, "run-1").await;
    assert_eq!(again.unwrap(), 0);
    assert_eq!(lake.version("segments").await.unwrap(), Some(1));
    assert_eq!(visible(&lake, None).await, ["b"]);
    // The same run with other files, because its stages were done again, is another commit.
    let other = written(&lake, NIGHT, "other", 1).await;
    let again = lake.commit("segments", &schema(), Some(NIGHT), &[other], "run-1").await;
    assert_eq!(again.unwrap(), 2);
    assert_eq!(visible(&lake, None).await, ["other"]);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_again() {
    let store = Faulty { loses_next_answer: AtomicBool::new(true), ..Faulty::default() };
    let lake = faulty(store);
    let file = [written(&lake, NIGHT, "a", 1).await];
    let lost = lake.commit("segments", &schema(), Some(NIGHT), &file, "run-1").await.unwrap_err();
    assert!(lost.is_temporary(), "{lost:?}");
    let found = lake.commit("segments", &schema(), Some(NIGHT), &file, "run-1").await;
    assert_eq!(found.unwrap(), 0);
}

#[tokio::test]
async fn files_are_invisible_until_committed() {
    let lake = memory();
    let a = written(&lake, NIGHT, "a", 1).await;
    lake.commit("segments", &schema(), Some(NIGHT), &[a], "run-1").await.unwrap();
    written(&lake, NIGHT, "crashed", 1).await;
    assert_eq!(visible(&lake, None).await, ["a"]);
}

#[tokio::test]
async fn an_empty_night_removes_what_was_there() {
    let lake = memory();
    let a = written(&lake, NIGHT, "a", 1).await;
    lake.commit("segments", &schema(), Some(NIGHT), &[a], "run-1").await.unwrap();
    lake.commit("segments", &schema(), Some(NIGHT), &[], "run-2").await.unwrap();
    assert!(visible(&lake, None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_nights_all_get_in() {
    let lake = memory();
    let commits = (1..=8).map(|day| {
        let lake = lake.clone();
        tokio::spawn(async move {
            let night = format!("2026-11-{day:02}");
            let file = written(&lake, &night, &format!("n{day}"), 1).await;
            let run = format!("run-{day}");
            lake.commit("segments", &schema(), Some(night.as_str()), &[file], &run).await.unwrap()
        })
    });
    let versions: BTreeSet<i64> = join_all(commits).await.into_iter().map(|v| v.unwrap()).collect();
    assert_eq!(versions, (0..8).collect());
    assert_eq!(visible(&lake, None).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_of_one_night_never_mix() {
    let lake = memory();
    for round in 0..8 {
        let race = ["left", "right"].map(|side| {
            let lake = lake.clone();
            tokio::spawn(async move {
                let name = |part| format!("{side}-{round}-{part}");
                let files = [written(&lake, NIGHT, &name(1), 1).await, written(&lake, NIGHT, &name(2), 1).await];
                let run = format!("{side}-{round}");
                lake.commit("segments", &schema(), Some(NIGHT), &files, &run).await.unwrap()
            })
        });
        let versions: Vec<_> = join_all(race).await.into_iter().map(|v| v.unwrap()).collect();
        assert_ne!(versions[0], versions[1]);
        let winner = if versions[0] > versions[1] { "left" } else { "right" };
        let expected = [1, 2].map(|part| format!("{winner}-{round}-{part}"));
        assert_eq!(visible(&lake, None).await, expected);
    }
}

#[tokio::test]
async fn checkpoints_keep_checksums_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(&format!("{}/a lake", folder.path().display())).unwrap();
    assert_eq!(lake.version("segments").await.unwrap(), None);
    let nothing = lake.files("segments", None, None).await;
    assert!(matches!(nothing, Err(LakeError::NoTable { .. })));
    let mut files = Vec::new();
    for day in 1..=12 {
        let night = format!("2026-11-{day:02}");
        let file = written(&lake, &night, &format!("n{day:02}"), day).await;
        files.push(file.clone());
        lake.commit("segments", &schema(), Some(night.as_str()), &[file], &night).await.unwrap();
    }
    let checkpoint = "segments/_delta_log/00000000000000000009.checkpoint.parquet";
    assert!(lake.store().head(&lake.path(checkpoint)).await.is_ok());
    assert_eq!(lake.files("segments", None, None).await.unwrap().files, files);
    let again = lake.commit("segments", &schema(), Some("2026-11-03"), &files[2..3], "2026-11-03").await;
    assert_eq!(again.unwrap(), 2);
    assert_eq!(lake.tables().await.unwrap(), ["segments"]);
    let old = lake.files("segments", Some(3), None).await.unwrap();
    assert_eq!(old.files, files[..4]);
    let error = lake.files("segments", Some(99), None).await.unwrap_err();
    assert!(error.to_string().contains("version 99 of"), "{error}");
}

#[tokio::test]
async fn new_columns_are_added_in_the_same_commit() {
    let lake = memory();
    let a = written(&lake, NIGHT, "a", 1).await;
    lake.commit("segments", &schema(), Some(NIGHT), &[a], "run-1").await.unwrap();

    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("margin", DataType::Float64, false)));
    let at = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    fields.push(Arc::new(Field::new("at", at, true)));
    let wider = Arc::new(Schema::new(fields));
    let b = written(&lake, NEXT, "b", 1).await;
    assert_eq!(lake.commit("segments", &wider, Some(NEXT), &[b], "run-2").await.unwrap(), 1);
    let files = lake.files("segments", None, None).await.unwrap();
    assert_eq!(files.schema.fields().len(), 5);
    assert!(files.schema.field(3).is_nullable());
    assert_eq!(files.files.len(), 2);

    let c = written(&lake, NEXT, "c", 1).await;
    let narrower = lake.commit("segments", &schema(), Some(NEXT), &[c], "run-3").await;
    assert_eq!(narrower.unwrap(), 2);
    let other: Vec<_> =
        [Field::new(AS_OF, DataType::Date32, false), Field::new("segment_id", DataType::Utf8, false)].into();
    let error = lake.commit("segments", &Arc::new(Schema::new(other)), Some(NEXT), &[], "run-4").await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "column segment_id of table segments: the table has long, this night string"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let lake = memory();
    let a = written(&lake, NIGHT, "a", 1).await;
    let check = async |as_of: &str, files: &[DataFile]| {
        let error = lake.commit("segments", &schema(), Some(as_of), files, "run-1").await.unwrap_err();
        assert_eq!(lake.version("segments").await.unwrap(), None);
        error.to_string()
    };
    let path = &a.path;
    assert_eq!(check("2026-11-31", &[]).await, r#""2026-11-31" is no date of the form YYYY-MM-DD"#);
    assert_eq!(
        check(NEXT, std::slice::from_ref(&a)).await,
        format!("data file {path}: it belongs to another night than the commit")
    );
    assert_eq!(check(NIGHT, &[a.clone(), a.clone()]).await, format!("data file {path}: it is named twice"));
    let short = DataFile { bytes: 5, ..a.clone() };
    assert!(check(NIGHT, &[short]).await.ends_with("bytes, not 5"));
    let gone = DataFile { path: "segments/x.parquet".into(), ..a.clone() };
    assert_eq!(check(NIGHT, &[gone]).await, "data file segments/x.parquet: it does not exist");
    let elsewhere = DataFile { path: "segmentsx/x.parquet".into(), ..a };
    assert!(check(NIGHT, &[elsewhere]).await.ends_with("it does not lie below segments/"));
    let missing = lake.files("nowhere", None, None).await.unwrap_err();
    assert!(matches!(missing, LakeError::NoTable { .. }));
    assert!(matches!(lake.version("../x").await.unwrap_err(), LakeError::TableName { .. }));
}

/// A table without nights: `segment_id` and `customer_key`.
fn known() -> SchemaRef {
    Arc::new(Schema::new(schema().fields()[1..].to_vec()))
}

#[tokio::test]
async fn a_table_that_grows_is_what_its_last_commit_says() {
    let lake = memory();
    let mut files = Vec::new();
    for name in ["a", "b", "c"] {
        files.push(DataFile { as_of: None, ..written(&lake, NIGHT, name, 2).await });
    }
    let commit = |files: Vec<DataFile>, run: &'static str| {
        let lake = lake.clone();
        async move { lake.commit("segments", &known(), None, &files, run).await.unwrap() }
    };
    assert_eq!(commit(files[..1].to_vec(), "run-1").await, 0);
    assert_eq!(commit(files[..2].to_vec(), "run-2").await, 1);
    assert_eq!(commit(vec![files[1].clone(), files[2].clone()], "run-3").await, 2);
    assert_eq!(visible(&lake, None).await, ["b", "c"]);
    let before = lake.files("segments", Some(1), None).await.unwrap();
    assert_eq!(before.files, files[..2]);
    // Only what is new was added.
    let log = lake.store().get(&lake.path("segments/_delta_log/00000000000000000001.json")).await.unwrap();
    let log = String::from_utf8(log.bytes().await.unwrap().to_vec()).unwrap();
    assert_eq!((log.matches("\"add\"").count(), log.matches("\"remove\"").count()), (1, 0), "{log}");
    // An older night, made again, is what it says until the newest is put back on top.
    assert_eq!(commit(files[..1].to_vec(), "run-4").await, 3);
    assert_eq!(visible(&lake, None).await, ["a"]);
}

#[tokio::test]
async fn nights_are_taken_out_in_one_step() {
    let lake = memory();
    let nights: BTreeSet<String> = [NIGHT, "2026-11-03"].map(str::to_owned).into();
    let drop = async |id: &str| lake.drop_nights("segments", &schema(), &nights, id).await.unwrap();
    assert_eq!(drop("r0").await, None, "there is no table yet");
    for (run, night, name) in [("r1", NIGHT, "a"), ("r2", NEXT, "b"), ("r3", "2026-11-03", "c")] {
        let file = written(&lake, night, name, 1).await;
        lake.commit("segments", &schema(), Some(night), &[file], run).await.unwrap();
    }
    assert_eq!(drop("r4").await, Some(3));
    assert_eq!(visible(&lake, None).await, ["b"]);
    assert_eq!(lake.files("segments", Some(2), None).await.unwrap().files.len(), 3, "older versions stay");
    assert_eq!((drop("r4").await, drop("r5").await), (Some(3), None), "once, and then there is nothing to take");
}
