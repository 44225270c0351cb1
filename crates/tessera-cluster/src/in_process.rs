//! A cluster inside this process: the same roles, each on threads of its own, talking over the loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use tokio::runtime::Runtime;

use crate::{
    ClusterError, ExecutorRole, Guards, SchedulerRole, Vocabulary, executor::run_executor, scheduler::run_scheduler,
};

/// A scheduler and its executors. They end with it, and so does their folder.
#[derive(Debug)]
pub struct InProcess {
    address: SocketAddr,
    vocabulary: Vocabulary,
    work_dir: PathBuf,
    roles: Vec<Option<Runtime>>,
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn free_port() -> Result<u16, ClusterError> {
    let taken = |e: std::io::Error| ClusterError::Failed(format!("no free port: {e}"));
    TcpListener::bind((HOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port()).map_err(taken)
}

fn runtime() -> Result<Runtime, ClusterError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(8 << 20)
        .build()
        .map_err(|e| ClusterError::Failed(format!("no threads: {e}")))
}

impl InProcess {
    /// A scheduler without executors; these keep their files in folders of `work_dir`.
    ///
    /// # Errors
    /// When there is no port or thread to be had.
    pub fn start(vocabulary: Vocabulary, work_dir: PathBuf, guards: Guards) -> Result<Self, ClusterError> {
        let address = SocketAddr::new(HOST, free_port()?);
        let role = SchedulerRole { guards, ..SchedulerRole::new(address) };
        let threads = runtime()?;
        let words = vocabulary.clone();
        threads.spawn(async move {
            if let Err(error) = run_scheduler(role, words).await {
                tracing::error!("{error}");
            }
        });
        Ok(Self { address, vocabulary, work_dir, roles: vec![Some(threads)] })
    }

    /// HOST:PORT of the scheduler.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// One more executor; its number.
    ///
    /// # Errors
    /// When there is no port or thread to be had.
    pub fn add_executor(&mut self, cores: usize) -> Result<usize, ClusterError> {
        let number = self.roles.len();
        let role = ExecutorRole {
            scheduler: self.address(),
            bind: HOST,
            port: 0,
            external_host: Some(HOST.to_string()),
            work_dir: self.work_dir(number),
            cores,
            memory: None,
            patience: Duration::from_secs(30),
        };
        let threads = runtime()?;
        let vocabulary = self.vocabulary.clone();
        threads.spawn(async move {
            if let Err(error) = run_executor(role, vocabulary, std::future::pending()).await {
                tracing::error!("{error}");
            }
        });
        self.roles.push(Some(threads));
        Ok(number)
    }

    /// How many executors were started and not lost.
    #[must_use]
    pub fn executors(&self) -> usize {
        self.roles.iter().flatten().count().saturating_sub(1)
    }

    fn work_dir(&self, number: usize) -> PathBuf {
        self.work_dir.join(format!("executor-{number}"))
    }

    /// Ends an executor as if its machine had gone: without a word, and with its files.
    pub fn lose_executor(&mut self, number: usize) {
        if let Some(threads) = self.roles.get_mut(number).and_then(Option::take) {
            threads.shutdown_background();
            // What cannot be removed is found by nobody: the one who would serve it is gone.
            let _ = std::fs::remove_dir_all(self.work_dir(number));
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        for threads in self.roles.iter_mut().filter_map(Option::take) {
            threads.shutdown_background();
        }
        // A folder that stays is one for temporary files.
        let _ = std::fs::remove_dir_all(&self.work_dir);
    }
}
