//! `scheduler` and `executor`: the roles of a cluster.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use tessera_cluster::{ExecutorRole, SchedulerRole, run_executor, run_scheduler};
use tessera_contract::project::parse_bytes;
use tessera_engine::Settings;

use crate::{context::vocabulary, errors::Usage, secret};

/// Runs a scheduler until the process is told to stop.
pub async fn scheduler(host: IpAddr, port: u16, executor_timeout: u64) -> Result<()> {
    let role = SchedulerRole {
        executor_timeout: Duration::from_secs(executor_timeout),
        ..SchedulerRole::new(SocketAddr::new(host, port))
    };
    let settings = Settings { partitions: NonZeroUsize::MIN, memory_limit: None, spill_dir: None };
    let words = vocabulary(&settings, None)?;
    tokio::select! {
        ended = run_scheduler(role, words) => ended?,
        () = told_to_stop() => tracing::info!("the scheduler stops; its jobs end with it"),
    }
    Ok(())
}

/// What an executor was told on the command line.
pub struct Executor {
    pub scheduler: String,
    pub bind: IpAddr,
    pub port: u16,
    pub external_host: Option<String>,
    pub work_dir: Option<PathBuf>,
    pub cores: Option<NonZeroUsize>,
    pub memory: Option<String>,
    pub patience: u64,
}

/// Runs an executor until the process is told to stop.
pub async fn executor(told: Executor) -> Result<()> {
    let memory = match &told.memory {
        Some(size) => parse_bytes(size)
            .ok_or_else(|| Usage(format!("`{size}` is no size: write --memory 512MiB or 4GiB, or 0 for no limit")))?,
        None => machine_memory() / 10 * 7,
    };
    let cores = told.cores.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let secret = secret::given()?;
    if secret.is_none() {
        tracing::warn!("no secret: customer keys cannot be made here; set TESSERA_SECRET to that of the project");
    }
    let own = format!("tessera-executor-{}", uuid::Uuid::new_v4().simple());
    let work_dir = told.work_dir.clone().unwrap_or_else(|| std::env::temp_dir().join(own));
    let settings = Settings { partitions: cores, memory_limit: None, spill_dir: Some(work_dir.join("spill")) };
    std::fs::create_dir_all(work_dir.join("spill")).map_err(|e| {
        Usage(format!("the folder {} cannot be used: {e}; name another with --work-dir", work_dir.display()))
    })?;
    let role = ExecutorRole {
        scheduler: told.scheduler,
        bind: told.bind,
        port: told.port,
        external_host: told.external_host,
        work_dir: work_dir.clone(),
        cores: cores.get(),
        memory: usize::try_from(memory).ok().filter(|bytes| *bytes > 0),
        patience: Duration::from_secs(told.patience),
    };
    let ended = run_executor(role, vocabulary(&settings, secret.as_ref())?, told_to_stop()).await;
    if told.work_dir.is_none()
        && let Err(error) = std::fs::remove_dir_all(&work_dir)
    {
        tracing::warn!("intermediate results stay in {}: {error}", work_dir.display());
    }
    Ok(ended?)
}

/// The memory of the container, or of the machine.
fn machine_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.cgroup_limits().map_or(system.total_memory(), |limits| limits.total_memory)
}

/// Resolves when the process gets SIGTERM or ctrl-c.
async fn told_to_stop() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        return;
    }
    // Without a handler the process ends anyway.
    let _ = tokio::signal::ctrl_c().await;
}
