//! The scheduler's role.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ballista_core::{ConfigProducer, config::TaskSchedulingPolicy, error::BallistaError, extension::SessionConfigExt};
use ballista_scheduler::{
    cluster::{BallistaCluster, ClusterStateEvent},
    config::SchedulerConfig,
    scheduler_process::{create_scheduler, start_grpc_service_with_listener},
    scheduler_server::{SchedulerServer, SessionBuilder},
};
use datafusion::{execution::SessionStateBuilder, prelude::SessionConfig};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use futures::StreamExt;
use tokio::net::{TcpListener, TcpSocket};

use crate::{ClusterError, Guards, LARGEST_MESSAGE, Vocabulary};

/// How a scheduler runs.
#[derive(Debug, Clone)]
pub struct SchedulerRole {
    /// Where it listens.
    pub listen: SocketAddr,
    /// After how long without a sign of life an executor counts as lost. A busy one gives a sign every five seconds.
    pub executor_timeout: Duration,
    /// What makes a loss safe.
    pub guards: Guards,
}

impl SchedulerRole {
    /// A scheduler with all guards.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, executor_timeout: Duration::from_secs(20), guards: Guards::default() }
    }

    fn config(&self, vocabulary: &Vocabulary) -> SchedulerConfig {
        let timeout = self.executor_timeout.as_secs().max(1);
        SchedulerConfig {
            external_host: self.listen.ip().to_string(),
            bind_host: self.listen.ip().to_string(),
            bind_port: self.listen.port(),
            // Pushing leaks the slots of cancelled tasks.
            scheduling_policy: TaskSchedulingPolicy::PullStaged,
            executor_timeout_seconds: timeout,
            expire_dead_executor_interval_seconds: (timeout / 4).max(1),
            no_executors_grace_period_seconds: timeout,
            stage_max_failures: if self.guards.fail_on_lost_input { 1 } else { 4 },
            finished_job_data_clean_up_interval_seconds: 60,
            finished_job_state_clean_up_interval_seconds: 600,
            grpc_server_max_decoding_message_size: LARGEST_MESSAGE as u32,
            grpc_server_max_encoding_message_size: LARGEST_MESSAGE as u32,
            grpc_client_max_message_size: LARGEST_MESSAGE as u32,
            override_config_producer: Some(config_producer(vocabulary)),
            override_session_builder: Some(session_builder(vocabulary)),
            override_physical_codec: Some(vocabulary.codec()),
            ..SchedulerConfig::default()
        }
    }
}

/// The configuration that a client's settings are put upon.
pub(crate) fn config_producer(vocabulary: &Vocabulary) -> ConfigProducer {
    let config = vocabulary.state.config().clone().upgrade_for_ballista();
    Arc::new(move || config.clone())
}

fn session_builder(vocabulary: &Vocabulary) -> SessionBuilder {
    let state = vocabulary.state.clone();
    Arc::new(move |config: SessionConfig| {
        Ok(SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build())
    })
}

/// Runs a scheduler until it is stopped from outside.
///
/// # Errors
/// When it cannot listen.
pub async fn run_scheduler(role: SchedulerRole, vocabulary: Vocabulary) -> Result<(), ClusterError> {
    let cannot =
        |error: &dyn std::fmt::Display| ClusterError::Failed(format!("no scheduler at {}: {error}", role.listen));
    let listener = listen(role.listen).map_err(|e| cannot(&e))?;
    let config = Arc::new(role.config(&vocabulary));
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(|e| cannot(&e))?;
    let scheduler: SchedulerServer<LogicalPlanNode, PhysicalPlanNode> =
        create_scheduler(cluster, config).await.map_err(|e| cannot(&e))?;
    if role.guards.cancel_on_loss {
        tokio::spawn(cancel_on_loss(scheduler.clone()));
    }
    tracing::info!("the scheduler listens at {}", role.listen);
    start_grpc_service_with_listener(listener, scheduler).await.map_err(|e: BallistaError| cannot(&e))
}

/// Listens such that answers leave at once: what is accepted inherits it (Linux), and Ballista's server does not ask for it.
/// Otherwise each answer waits for the 40 ms after which the other side acknowledges its first part.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn cancel_on_loss(scheduler: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>) {
    let mut events = match scheduler.cluster_state_events().await {
        Ok(events) => events,
        Err(error) => {
            tracing::error!("losses of executors cannot be watched: {error}");
            return;
        }
    };
    while let Some(event) = events.next().await {
        match event {
            ClusterStateEvent::RegisteredExecutor { executor_id } => tracing::info!("executor {executor_id} is here"),
            ClusterStateEvent::RemovedExecutor { executor_id } => {
                tracing::warn!("executor {executor_id} is lost");
                for job in scheduler.state.task_manager.get_running_job_cache().keys() {
                    tracing::warn!("job {job} is cancelled");
                    if let Err(error) = scheduler.cancel_job(job.clone()).await {
                        tracing::error!("job {job} could not be cancelled: {error}");
                    }
                }
            }
        }
    }
}
