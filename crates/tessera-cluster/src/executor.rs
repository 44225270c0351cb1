//! The executor's role.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ballista_core::{config::TaskSchedulingPolicy, registry::BallistaFunctionRegistry};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use tokio::net::TcpStream;

use crate::{ClusterError, LARGEST_MESSAGE, Vocabulary, scheduler::config_producer};

/// How an executor runs.
#[derive(Debug, Clone)]
pub struct ExecutorRole {
    /// HOST:PORT of the scheduler.
    pub scheduler: String,
    /// The address it listens at for those who fetch its results.
    pub bind: IpAddr,
    /// The port.
    pub port: u16,
    /// The name under which others reach it; absent, the address the scheduler sees.
    pub external_host: Option<String>,
    /// Folder for intermediate results and what is spilled.
    pub work_dir: PathBuf,
    /// Partitions worked on at once.
    pub cores: usize,
    /// Bytes for sorting, joining and aggregating, shared by the cores; absent, 70 % of the machine's or the container's.
    pub memory: Option<u64>,
    /// How long it waits for the scheduler to be there.
    pub patience: Duration,
}

/// Runs an executor until it is told to stop.
///
/// # Errors
/// When the scheduler is not there in time, or the address is taken.
pub async fn run_executor(role: ExecutorRole, vocabulary: Vocabulary) -> Result<(), ClusterError> {
    let failed = |problem: String| ClusterError::Failed(problem);
    let (host, port) = host_and_port(&role.scheduler)?;
    std::fs::create_dir_all(&role.work_dir)
        .map_err(|e| failed(format!("the folder {} cannot be used: {e}", role.work_dir.display())))?;
    reachable(&role.scheduler, role.patience).await?;
    let registry = BallistaFunctionRegistry::from(&vocabulary.state);
    let runtime = Arc::clone(vocabulary.state.runtime_env());
    let config = ExecutorProcessConfig {
        bind_host: role.bind.to_string(),
        external_host: role.external_host.clone(),
        port: role.port,
        scheduler_host: host,
        scheduler_port: port,
        vcores: role.cores,
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        work_dir: Some(role.work_dir.display().to_string()),
        job_data_ttl_seconds: 24 * 3600,
        job_data_clean_up_interval_seconds: 600,
        grpc_max_decoding_message_size: LARGEST_MESSAGE as u32,
        grpc_max_encoding_message_size: LARGEST_MESSAGE as u32,
        memory_pool_size: role.memory,
        override_config_producer: Some(config_producer(&vocabulary)),
        override_function_registry: Some(Arc::new(registry)),
        override_runtime_producer: Some(Arc::new(move |_| Ok(Arc::clone(&runtime)))),
        override_physical_codec: Some(vocabulary.codec()),
        ..ExecutorProcessConfig::default()
    };
    tracing::info!("the executor works for {} with {} cores", role.scheduler, role.cores);
    start_executor_process(Arc::new(config)).await.map_err(|e| failed(format!("the executor stopped: {e}")))
}

/// Waits until somebody listens.
async fn reachable(address: &str, patience: Duration) -> Result<(), ClusterError> {
    let mut problem = String::new();
    let connecting = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(_) => return,
                Err(error) => problem = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    match tokio::time::timeout(patience, connecting).await {
        Ok(()) => Ok(()),
        Err(_) => Err(ClusterError::Unreachable { address: address.to_owned(), problem }),
    }
}

/// The parts of HOST:PORT.
pub(crate) fn host_and_port(address: &str) -> Result<(String, u16), ClusterError> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(ClusterError::Address(address.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(host_and_port("scheduler:50050").expect("an address"), ("scheduler".into(), 50050));
        assert_eq!(host_and_port("[::1]:50050").expect("an address"), ("[::1]".into(), 50050));
        for wrong in ["scheduler", ":1", "scheduler:x", "scheduler:99999"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }
}
