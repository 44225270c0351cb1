//! Who is at work in a lake, so that `vacuum` keeps off.
//!
//! A lease is a document that is written once, and one beside it that is written again and again while its process lives: the
//! times that the store gives them say since when, and whether still. The store's clock is the only one that is asked, so that
//! machines need not agree. A night takes its lease before it looks at what is there, and waits for a vacuum that is at work;
//! a vacuum takes its own before it looks who is at work: one of the two always sees the other.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tessera_lake::{Documents, Lake, Object};

use crate::{errors::Changed, publish::recorded_by};

const FOLDER: &str = "leases";
/// How often a lease is renewed.
const BEAT: Duration = Duration::from_secs(15);
/// Seconds without a sign of life after which a process counts as dead.
const DEAD: i64 = 180;

/// What somebody is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// The night of this date.
    Night(String),
    /// Removing files.
    Vacuum,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    work: Work,
    by: String,
}

/// Somebody who is at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// At what.
    pub work: Work,
    /// `user@host`.
    pub by: String,
    /// Since when, in seconds since 1970 by the store's clock.
    pub since: i64,
}

/// A lease that is renewed for as long as this is there.
#[derive(Debug)]
pub struct Lease {
    lake: Lake,
    id: String,
    beat: tokio::task::JoinHandle<()>,
}

impl Lease {
    /// Says that somebody is at work from now on.
    pub async fn take(lake: &Lake, work: Work) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let documents = lake.documents();
        let said = serde_json::to_vec(&Said { work: work.clone(), by: recorded_by() })?;
        documents.put(&format!("{FOLDER}/{id}.json"), said).await?;
        renew(&documents, &id).await?;
        let beat = tokio::spawn({
            let id = id.clone();
            async move {
                loop {
                    tokio::time::sleep(BEAT).await;
                    if let Err(error) = renew(&documents, &id).await {
                        tracing::warn!("the lease of this process is not renewed: {:#}", anyhow::Error::from(error));
                    }
                }
            }
        });
        let lease = Self { lake: lake.clone(), id, beat };
        if work != Work::Vacuum {
            lease.wait_for_vacuum().await?;
        }
        Ok(lease)
    }

    async fn wait_for_vacuum(&self) -> Result<()> {
        for waited in 0..2 * DEAD {
            let (_, workers) = self.others().await?;
            let Some(vacuum) = workers.iter().find(|w| w.work == Work::Vacuum) else { return Ok(()) };
            if waited == 0 {
                tracing::info!("{} removes files from this lake; the night begins when that is done", vacuum.by);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(Changed("files are being removed from this lake for minutes".into()).into())
    }

    /// The time by the store's clock, and who else is at work.
    pub async fn others(&self) -> Result<(i64, Vec<Worker>)> {
        renew(&self.lake.documents(), &self.id).await?;
        let objects = self.lake.objects(&format!("_tessera/{FOLDER}")).await?;
        let at = |id: &str, kind: &str| {
            let path = format!("_tessera/{FOLDER}/{id}.{kind}");
            objects.iter().find(|o| o.path == path).map(|o| o.modified)
        };
        let now = at(&self.id, "beat").context("the lease of this process was removed")?;
        let mut workers = Vec::new();
        for object in &objects {
            let Some(id) = id(object).filter(|id| *id != self.id) else { continue };
            if at(id, "beat").is_none_or(|beat| now - beat > DEAD) {
                continue;
            }
            // One that ended a moment ago is gone.
            let path = object.path.trim_start_matches("_tessera/");
            let Some(bytes) = self.lake.documents().get(path).await? else { continue };
            let Said { work, by } = serde_json::from_slice(&bytes).with_context(|| format!("the lease {path}"))?;
            workers.push(Worker { work, by, since: object.modified });
        }
        Ok((now, workers))
    }

    /// What processes left that died.
    pub async fn of_the_dead(&self) -> Result<Vec<Object>> {
        let objects = self.lake.objects(&format!("_tessera/{FOLDER}")).await?;
        let newest = objects.iter().map(|o| o.modified).max().unwrap_or_default();
        let stem = |o: &Object| o.path.rsplit_once('.').map(|(stem, _)| stem.to_owned());
        let last = |o: &Object| objects.iter().filter(|x| stem(x) == stem(o)).map(|x| x.modified).max();
        Ok(objects.iter().filter(|o| last(o).is_some_and(|last| newest - last > DEAD)).cloned().collect())
    }

    /// Says that the work is done.
    pub async fn release(self) {
        let gone = ["json", "beat"].map(|kind| format!("_tessera/{FOLDER}/{}.{kind}", self.id));
        self.beat.abort();
        if let Err(error) = self.lake.remove(&gone).await {
            tracing::debug!("the lease of this process stays until it is stale: {error}");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

async fn renew(documents: &Documents, id: &str) -> Result<(), tessera_lake::LakeError> {
    documents.put(&format!("{FOLDER}/{id}.beat"), "alive\n").await
}

fn id(object: &Object) -> Option<&str> {
    object.path.rsplit('/').next()?.strip_suffix(".json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_at_work_is_seen_until_released_or_dead() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = Lake::open(folder.path().to_str().expect("text")).expect("a lake");
        let night = Lease::take(&lake, Work::Night("2026-01-01".into())).await.expect("a lease");
        let vacuum = Lease::take(&lake, Work::Vacuum).await.expect("a lease");
        let (now, workers) = vacuum.others().await.expect("workers");
        assert_eq!(workers.len(), 1);
        assert_eq!(workers[0].work, Work::Night("2026-01-01".into()));
        assert!((0..=5).contains(&(now - workers[0].since)), "{workers:?}");

        // Its process died long ago.
        let beat = folder.path().join(format!("_tessera/leases/{}.beat", night.id));
        let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let died = |path: &std::path::Path| {
            let file = std::fs::File::options().write(true).open(path).expect("the file");
            file.set_modified(long_ago).expect("a time");
        };
        died(&beat);
        assert_eq!(vacuum.others().await.expect("workers").1, []);
        assert_eq!(vacuum.of_the_dead().await.expect("objects").len(), 0, "it began a moment ago");
        died(&beat.with_extension("json"));
        assert_eq!(vacuum.of_the_dead().await.expect("objects").len(), 2);

        let again = night.others().await.expect("workers").1;
        assert_eq!(again.iter().map(|w| &w.work).collect::<Vec<_>>(), [&Work::Vacuum]);
        vacuum.release().await;
        assert_eq!(night.others().await.expect("workers").1, []);
    }
}
