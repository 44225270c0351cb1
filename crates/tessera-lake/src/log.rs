//! What of a Delta log nobody needs any more.
//!
//! A version is read from the last checkpoint before it and the commits since. Of the versions that are still asked for (those
//! that retained snapshots name, and the newest) these files stay, and all others may go: a log grows with what is retained,
//! and not with how long there have been nights.

use std::collections::BTreeSet;

use crate::{Lake, LakeError, Object};

/// A file of a log, by what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogFile {
    Commit(i64),
    Checkpoint(i64),
}

impl Lake {
    /// The files of a table's log that none of the versions `asked` needs, nor the newest.
    pub async fn spare_log(&self, table: &str, asked: &BTreeSet<i64>) -> Result<Vec<Object>, LakeError> {
        let objects = self.objects(&format!("{table}/_delta_log")).await?;
        let files: Vec<LogFile> = objects.iter().filter_map(|o| parse(&o.path)).collect();
        let spare = spare(&files, asked);
        Ok(objects.into_iter().filter(|o| parse(&o.path).is_some_and(|file| spare.contains(&file))).collect())
    }
}

/// What is neither a commit nor a checkpoint in one file is not ours to judge.
fn parse(path: &str) -> Option<LogFile> {
    let name = path.rsplit('/').next()?;
    let (version, kind) = (name.get(..20)?, name.get(20..)?);
    let version = version.bytes().all(|b| b.is_ascii_digit()).then(|| version.parse().ok())??;
    match kind {
        ".json" => Some(LogFile::Commit(version)),
        ".checkpoint.parquet" => Some(LogFile::Checkpoint(version)),
        _ => None,
    }
}

fn spare(files: &[LogFile], asked: &BTreeSet<i64>) -> Vec<LogFile> {
    let commits: BTreeSet<i64> =
        files.iter().filter_map(|f| if let LogFile::Commit(v) = f { Some(*v) } else { None }).collect();
    let checkpoints: BTreeSet<i64> =
        files.iter().filter_map(|f| if let LogFile::Checkpoint(v) = f { Some(*v) } else { None }).collect();
    let Some(newest) = commits.last() else { return Vec::new() };
    let start = |version: i64| checkpoints.range(..=version).next_back().copied();
    let mut stay: BTreeSet<(bool, i64)> = BTreeSet::new();
    for version in asked.iter().chain([newest]) {
        let from = start(*version);
        stay.extend(from.map(|v| (true, v)));
        stay.extend(commits.range(from.unwrap_or(0)..=*version).map(|v| (false, *v)));
    }
    // Whoever opened the table a moment ago reads on from the checkpoint that was the last one then.
    if let Some(last) = start(*newest) {
        let before = start(last - 1);
        stay.extend(before.map(|v| (true, v)));
        stay.extend(commits.range(before.unwrap_or(last)..=*newest).map(|v| (false, *v)));
    }
    let place = |file: &LogFile| match file {
        LogFile::Checkpoint(v) => (true, *v),
        LogFile::Commit(v) => (false, *v),
    };
    files.iter().filter(|file| !stay.contains(&place(file))).copied().collect()
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::testing::{memory, schema, written};

    #[test]
    fn only_commits_and_checkpoints_are_judged() {
        assert_eq!(parse("t/_delta_log/00000000000000000007.json"), Some(LogFile::Commit(7)));
        assert_eq!(parse("t/_delta_log/00000000000000000009.checkpoint.parquet"), Some(LogFile::Checkpoint(9)));
        for other in ["_last_checkpoint", "00000000000000000009.checkpoint.0001.0002.parquet", "7.json", "_sidecars/x"]
        {
            assert_eq!(parse(&format!("t/_delta_log/{other}")), None, "{other}");
        }
    }

    /// Old versions that are asked for stay readable, all between them may go.
    #[tokio::test]
    async fn what_is_asked_for_stays_readable() {
        let lake = memory();
        let night = "2026-11-01";
        for version in 0..35_u64 {
            let file = written(&lake, night, &format!("v{version}"), version + 1).await;
            let run = format!("r{version}");
            lake.commit("segments", &schema(), Some(night), &[file], &run).await.unwrap();
        }
        let asked = BTreeSet::from([3, 14]);
        let spare: Vec<String> =
            lake.spare_log("segments", &asked).await.unwrap().into_iter().map(|o| o.path).collect();
        assert!(!spare.is_empty());
        // A checkpoint holds what is active, and nothing of what was removed.
        let size = async |version: u64| {
            let path = lake.path(&format!("segments/_delta_log/{version:020}.checkpoint.parquet"));
            lake.store().head(&path).await.unwrap().size
        };
        assert!(size(29).await < size(9).await + 1_000);
        lake.remove(&spare).await.unwrap();
        for version in [3, 14, 34] {
            let files = lake.files("segments", Some(version), Some(night)).await.unwrap().files;
            assert_eq!(files[0].rows, version.cast_unsigned() + 1);
        }
        assert_eq!(lake.version("segments").await.unwrap(), Some(34));
        assert!(lake.files("segments", Some(7), Some(night)).await.is_err());
        assert!(lake.spare_log("segments", &asked).await.unwrap().is_empty());
        let file = written(&lake, night, "more", 1).await;
        assert_eq!(lake.commit("segments", &schema(), Some(night), &[file], "more").await.unwrap(), 35);
        // A run that committed long ago is still known, as long as its version can be read; else it commits again.
        for (version, made) in [(3, 3), (7, 36)] {
            let file = written(&lake, night, &format!("v{version}"), version + 1).await;
            let run = format!("r{version}");
            assert_eq!(lake.commit("segments", &schema(), Some(night), &[file], &run).await.unwrap(), made);
        }
    }
}
