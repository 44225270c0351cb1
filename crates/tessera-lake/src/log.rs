//! What of a Delta log nobody needs any more.
//!
//! A version is read from the last checkpoint before it and the commits since. Of the versions that are still asked for (those
//! that retained snapshots name, and the newest) these files stay, and all others may go: a log grows with what is retained,
//! and not with how long there have been nights.
//!
//! And whether what stands in a log is what was written. A reader believes whatever lies there: a commit that somebody put on
//! top, a checkpoint that tells of other files. So every file of a log is held against the registry, not only those that it names.

use std::collections::{BTreeMap, BTreeSet};

use crate::lake::concurrently;
use crate::{Finding, Lake, LakeError, Object};

/// A file of a log, by what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogFile {
    Commit(i64),
    Checkpoint(i64),
}

impl LogFile {
    fn version(self) -> i64 {
        match self {
            Self::Commit(version) | Self::Checkpoint(version) => version,
        }
    }
}

impl Lake {
    /// The files of a table's log that none of the versions `asked` needs, nor the newest.
    pub async fn spare_log(&self, table: &str, asked: &BTreeSet<i64>) -> Result<Vec<Object>, LakeError> {
        let objects = self.objects(&format!("{table}/_delta_log")).await?;
        let files: Vec<LogFile> = objects.iter().filter_map(|o| parse(&o.path)).collect();
        let spare = spare(&files, asked);
        Ok(objects.into_iter().filter(|o| parse(&o.path).is_some_and(|file| spare.contains(&file))).collect())
    }

    /// What is wrong with the files of a table's log, of which `evidence` has SHA-256 by path. What was written after the last that it
    /// knows is not proven yet; whatever is older and not known was not written by us. What is gone is no finding: where a
    /// checkpoint holds what a commit said, it need not stay, and where none does, the log cannot be read.
    pub async fn verify_log(
        &self,
        table: &str,
        evidence: &BTreeMap<String, String>,
    ) -> Result<Vec<Finding>, LakeError> {
        let last = proven(table, evidence.keys());
        let objects = self.objects(&format!("{table}/_delta_log")).await?;
        let files: Vec<LogFile> = objects.iter().filter_map(|o| parse(&o.path)).collect();
        // A checkpoint is made of a commit that stands.
        let stands = |file: LogFile| match file {
            LogFile::Commit(_) => true,
            LogFile::Checkpoint(version) => files.contains(&LogFile::Commit(version)),
        };
        let one = async |path: String| -> Result<Option<Finding>, LakeError> {
            let problem = match (evidence.get(&path), parse(&path)) {
                (Some(sha256), _) => self.changed(&path, sha256).await?,
                (None, Some(file)) if Some(file.version()) > last && stands(file) => None,
                (None, None) if !is_read(&path) => None,
                _ => Some("was not written by tessera, and readers believe it"),
            };
            Ok(problem.map(|problem| Finding { place: path, problem: problem.to_owned() }))
        };
        let found: Vec<Option<Finding>> = concurrently(objects.into_iter().map(|o| one(o.path)).collect()).await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// The newest version of a table whose commit is among some paths.
pub(crate) fn proven<'a>(table: &str, paths: impl Iterator<Item = &'a String>) -> Option<i64> {
    let log = format!("{table}/_delta_log/");
    let version = |path: &String| match parse(path) {
        Some(LogFile::Commit(version)) => Some(version),
        _ => None,
    };
    paths.filter(|path| path.starts_with(&log)).filter_map(version).max()
}

/// Whether Delta readers may look at a file of a log that is neither a commit nor a checkpoint in one file: checkpoints in parts,
/// commits put together, checksums of versions.
fn is_read(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let of_a_version = name.len() > 20 && name.bytes().take(20).all(|b| b.is_ascii_digit());
    path.contains("/_sidecars/") || path.contains("/_staged_commits/") || of_a_version
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
    use crate::log_paths;
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

    /// A reader believes whatever stands in a log.
    #[tokio::test]
    async fn what_nobody_wrote_is_found() {
        let lake = memory();
        let night = "2026-11-01";
        let commit = async |version: u64| {
            let file = written(&lake, night, &format!("v{version}"), version + 1).await;
            lake.commit("segments", &schema(), Some(night), &[file], &format!("r{version}")).await.unwrap();
        };
        for version in 0..12 {
            commit(version).await;
        }
        let paths = log_paths("segments", 0..12);
        assert_eq!(paths.len(), 13, "one checkpoint");
        let evidence = lake.evidence(paths).await.unwrap();
        assert_eq!(proven("segments", evidence.keys()), Some(11));
        assert_eq!(proven("features", evidence.keys()), None);
        let found = async |evidence: &BTreeMap<String, String>| {
            let findings = lake.verify_log("segments", evidence).await.unwrap();
            findings
                .into_iter()
                .map(|f| f.place.trim_start_matches("segments/_delta_log/").to_owned())
                .collect::<Vec<_>>()
        };
        // Proven by the night that comes next.
        commit(12).await;
        assert!(found(&evidence).await.is_empty());
        let checkpoint = format!("{:020}.checkpoint.parquet", 9);
        let without = evidence.iter().filter(|(path, _)| !path.ends_with(&checkpoint));
        assert_eq!(
            found(&without.map(|(p, h)| (p.clone(), h.clone())).collect()).await,
            std::slice::from_ref(&checkpoint)
        );

        let place = |name: &str| lake.path(&format!("segments/_delta_log/{name}"));
        let bytes = lake.store().get(&place(&checkpoint)).await.unwrap().bytes().await.unwrap();
        let (forged, parts) = (format!("{:020}.checkpoint.parquet", 10), format!("{:020}.checkpoint.1.1.parquet", 12));
        let (ahead, sidecar) = (format!("{:020}.checkpoint.parquet", 14), "_sidecars/a.parquet".to_owned());
        for name in [&forged, &parts, &ahead, &sidecar] {
            lake.store().put(&place(name), bytes.clone().into()).await.unwrap();
        }
        lake.store().put(&place(&checkpoint), "other".into()).await.unwrap();
        lake.store().put(&place("_commit_1.json.tmp"), "an upload that was cut short".into()).await.unwrap();
        assert_eq!(found(&evidence).await, [checkpoint, forged, parts, ahead, sidecar]);
    }
}
