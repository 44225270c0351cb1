//! Who is at work in a lake, so that `vacuum` keeps off.
//!
//! A lease is a document that is written again and again while its process lives; the time that the store gives it says whether it
//! still does, and the first of these times, which it holds, since when. The store's clock is the only one that is asked, so
//! that machines need not agree. A night takes its lease before it looks at what is there, and waits for a vacuum that is at work;
//! a vacuum takes its own before it looks who is at work: one of the two always sees the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use tessera_lake::{Lake, LakeError, Object};

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
    /// Looking which could be removed.
    Look,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    work: Work,
    by: String,
    /// When the lease was taken; 0 in the moment before that is known.
    since: i64,
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
    said: Arc<Renewed>,
    beat: tokio::task::JoinHandle<()>,
}

/// The document of a lease, and when it was written last.
#[derive(Debug)]
struct Renewed {
    lake: Lake,
    path: String,
    said: Said,
    last: AtomicI64,
    lost: AtomicBool,
}

impl Lease {
    /// Says that somebody is at work from now on.
    pub async fn take(lake: &Lake, work: Work) -> Result<Self> {
        let waits = matches!(work, Work::Night(_));
        let path = format!("{FOLDER}/{}.json", uuid::Uuid::new_v4().simple());
        let mut said = Renewed {
            lake: lake.clone(),
            path,
            said: Said { work, by: recorded_by(), since: 0 },
            last: AtomicI64::new(0),
            lost: AtomicBool::new(false),
        };
        said.said.since = said.renew().await?;
        said.renew().await?;
        let said = Arc::new(said);
        let beat = tokio::spawn({
            let said = Arc::clone(&said);
            async move {
                loop {
                    tokio::time::sleep(BEAT).await;
                    if let Err(error) = said.renew().await {
                        tracing::warn!("the lease of this process is not renewed: {error:#}");
                    }
                }
            }
        });
        let lease = Self { said, beat };
        if waits {
            lease.wait_for_vacuum().await?;
        }
        Ok(lease)
    }

    /// Makes sure that nobody could take this process for dead since it began.
    ///
    /// # Errors
    /// [`Changed`] when somebody could.
    pub async fn stands(&self) -> Result<()> {
        self.said.renew().await?;
        if self.said.lost.load(Ordering::Relaxed) {
            let what = "this process gave no sign of life for minutes: what it had may have been removed as that of a dead one";
            return Err(Changed(what.into()).into());
        }
        Ok(())
    }

    async fn wait_for_vacuum(&self) -> Result<()> {
        let mut told = false;
        loop {
            let (_, workers) = self.others().await?;
            let Some(vacuum) = workers.iter().find(|w| w.work == Work::Vacuum) else { return Ok(()) };
            if !std::mem::replace(&mut told, true) {
                tracing::info!("{} removes files from this lake; the night begins when that is done", vacuum.by);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The time by the store's clock, and who else is at work.
    pub async fn others(&self) -> Result<(i64, Vec<Worker>)> {
        let now = self.said.renew().await?;
        let own = format!("_tessera/{}", self.said.path);
        let documents = self.said.lake.documents();
        let mut workers = Vec::new();
        for object in self.said.lake.objects(&format!("_tessera/{FOLDER}")).await? {
            if object.path == own || now - object.modified > DEAD {
                continue;
            }
            // One that ended a moment ago is gone.
            let path = object.path.trim_start_matches("_tessera/");
            let Some(bytes) = documents.get(path).await? else { continue };
            let Said { work, by, since } =
                serde_json::from_slice(&bytes).with_context(|| format!("the lease {path}"))?;
            workers.push(Worker { work, by, since: if since == 0 { object.modified } else { since } });
        }
        Ok((now, workers))
    }

    /// What processes left that died.
    pub async fn of_the_dead(&self) -> Result<Vec<Object>> {
        let now = self.said.renew().await?;
        let mut objects = self.said.lake.objects(&format!("_tessera/{FOLDER}")).await?;
        objects.retain(|o| now - o.modified > DEAD);
        Ok(objects)
    }

    /// Says that the work is done.
    pub async fn release(self) {
        self.beat.abort();
        if let Err(error) = self.said.lake.remove(&[format!("_tessera/{}", self.said.path)]).await {
            tracing::debug!("the lease of this process stays until it is stale: {error}");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

impl Renewed {
    /// Writes the document, also if somebody removed it; the time that the store gave it.
    async fn renew(&self) -> Result<i64> {
        self.lake.documents().put(&self.path, serde_json::to_vec(&self.said)?).await?;
        let path = format!("_tessera/{}", self.path);
        let written = self.lake.store().head(&self.lake.path(&path)).await;
        let written = written.map_err(|source| LakeError::Store { action: "read", place: path, source })?;
        let now = written.last_modified.timestamp();
        let last = self.last.swap(now, Ordering::Relaxed);
        if last != 0 && now - last > DEAD {
            self.lost.store(true, Ordering::Relaxed);
        }
        Ok(now)
    }
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
        let document = folder.path().join("_tessera").join(&night.said.path);
        let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let file = std::fs::File::options().write(true).open(&document).expect("the file");
        file.set_modified(long_ago).expect("a time");
        assert_eq!(vacuum.others().await.expect("workers").1, []);
        let dead = vacuum.of_the_dead().await.expect("objects");
        assert_eq!(dead.len(), 1);
        // It was only asleep: it is seen again, and knows that it could not be.
        lake.remove(&[dead[0].path.clone()]).await.expect("removes");
        night.stands().await.expect("it does not look back at a time that nobody changed");
        night.said.last.store(1_700_000_000, Ordering::Relaxed);
        assert!(night.stands().await.is_err_and(|e| e.is::<Changed>()));
        assert_eq!(vacuum.others().await.expect("workers").1.len(), 1);

        let again = night.others().await.expect("workers").1;
        assert_eq!(again.iter().map(|w| &w.work).collect::<Vec<_>>(), [&Work::Vacuum]);
        vacuum.release().await;
        assert_eq!(night.others().await.expect("workers").1, []);
    }
}
