//! The executor's role.

use std::{future::Future, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::{
    BALLISTA_PROTOCOL_VERSION,
    ids::new_instance_id,
    registry::BallistaFunctionRegistry,
    serde::{
        BallistaCodec, BallistaLogicalExtensionCodec,
        protobuf::{ExecutorRegistration, ExecutorStoppedParams, scheduler_grpc_client::SchedulerGrpcClient},
        scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification},
    },
    utils::{GrpcServerConfig, create_grpc_server},
};
use ballista_executor::{
    execution_engine::DefaultExecutionEngine,
    execution_loop::poll_loop,
    executor::Executor,
    flight_service::BallistaFlightService,
    health::ExecutorHealth,
    metrics::LoggingMetricsCollector,
    runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy},
};
use datafusion::execution::{
    memory_pool::FairSpillPool,
    runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::Instant,
};
use tonic::transport::{Channel, Endpoint, server::TcpIncoming};

use crate::{
    ClusterError, LARGEST_MESSAGE, Vocabulary, connections::Connections, error::check_address,
    scheduler::config_producer,
};

/// How an executor runs.
#[derive(Debug, Clone)]
pub struct ExecutorRole {
    /// HOST:PORT of the scheduler.
    pub scheduler: String,
    /// The address it listens at for those who fetch its results.
    pub bind: IpAddr,
    /// The port; 0 is any that is free.
    pub port: u16,
    /// The name under which others reach it; absent, the address the scheduler sees.
    pub external_host: Option<String>,
    /// Folder for intermediate results. What an earlier executor left in it is removed.
    pub work_dir: PathBuf,
    /// Partitions worked on at once.
    pub cores: usize,
    /// Bytes for sorting, joining and aggregating, shared by the cores; absent, no limit.
    pub memory: Option<usize>,
    /// How long it waits for the scheduler to be there.
    pub patience: Duration,
}

/// Runs an executor until `stop`; the scheduler is told when it goes.
///
/// # Errors
/// When the scheduler is not there in time, the address is taken, or the folder cannot be used.
pub async fn run_executor(
    role: ExecutorRole,
    vocabulary: Vocabulary,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ClusterError> {
    let failed = |what: &str, problem: &dyn std::fmt::Display| ClusterError::Failed(format!("{what}: {problem}"));
    check_address(&role.scheduler)?;
    let work_dir = role.work_dir.join("results");
    let folder = format!("the folder {} cannot be used", role.work_dir.display());
    std::fs::create_dir_all(&role.work_dir).map_err(|e| failed(&folder, &e))?;
    // Held until the end: another executor would remove what this one has made.
    let lock = std::fs::File::create(role.work_dir.join("lock")).map_err(|e| failed(&folder, &e))?;
    lock.try_lock().map_err(|_| failed(&folder, &"another executor works in it"))?;
    if work_dir.exists() {
        std::fs::remove_dir_all(&work_dir).map_err(|e| failed(&folder, &e))?;
    }
    std::fs::create_dir_all(&work_dir).map_err(|e| failed(&folder, &e))?;
    let work_dir = work_dir.display().to_string();

    let at = format!("no executor at {}:{}", role.bind, role.port);
    let listener = TcpListener::bind((role.bind, role.port)).await.map_err(|e| failed(&at, &e))?;
    let port = listener.local_addr().map_err(|e| failed(&at, &e))?.port();
    let mut scheduler = connect(&role).await?;

    let metadata = ExecutorRegistration {
        id: new_instance_id(),
        host: role.external_host.clone(),
        port: u32::from(port),
        grpc_port: 0,
        specification: Some(ExecutorSpecification::default().with_vcores(role.cores as u32).into()),
        os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    };
    let id = metadata.id.clone();
    let runtime = Arc::clone(vocabulary.state.runtime_env());
    let base = move |_: &_| Ok(Arc::clone(&runtime));
    let memory = memory_of_tasks(role.memory.map(|bytes| bytes / role.cores.max(1)));
    let runtimes = DefaultSessionRuntimeCache::new(Arc::new(base.clone()), memory, 16);
    let executor = Executor::new(
        metadata,
        &work_dir,
        Arc::new(base),
        config_producer(&vocabulary),
        Arc::new(BallistaFunctionRegistry::from(&vocabulary.state)),
        Arc::new(LoggingMetricsCollector::default()),
        role.cores,
        Arc::new(DefaultExecutionEngine::with_client_pool(Arc::new(Connections::default()))),
    )
    .with_session_runtime_cache(Some(Arc::new(runtimes)));
    let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
        BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), vocabulary.codec());

    let results = FlightServiceServer::new(BallistaFlightService::new(work_dir))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let serving = create_grpc_server(&GrpcServerConfig::default())
        .add_service(results)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let cores = Arc::new(Semaphore::new(role.cores));
    let now = Arc::new(Notify::new());
    let working = poll_loop(
        scheduler.clone(),
        Arc::new(executor),
        codec,
        Some(Arc::clone(&now)),
        Some(Arc::clone(&cores)),
        ExecutorHealth::new(),
    );
    tracing::info!(
        "the executor listens at {}:{port} and works for {} with {} cores",
        role.bind,
        role.scheduler,
        role.cores
    );
    tokio::select! {
        ended = working => ended.map_err(|e| failed("the executor stopped working", &e)),
        ended = serving => ended.map_err(|e| failed("the executor stopped serving", &e)),
        () = look_for_work(cores, now) => Ok(()),
        () = stop => {
            let executor_id = id;
            let reason = "it was told to stop".to_owned();
            let told = scheduler.executor_stopped(ExecutorStoppedParams { executor_id, reason });
            // A scheduler that does not hear it notices it in time.
            let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
            tracing::info!("the executor stops");
            Ok(())
        }
    }
}

/// Makes the executor ask for work: at once when it has finished something, often while there has been work lately, seldom
/// otherwise. (Ballista's own loop asks every 50 ms, which makes half a second of a plan of five stages.)
async fn look_for_work(cores: Arc<Semaphore>, now: Arc<Notify>) {
    const TICK: Duration = Duration::from_millis(2);
    let (mut free, mut last_change, mut last_look) = (cores.available_permits(), Instant::now(), Instant::now());
    loop {
        tokio::time::sleep(TICK).await;
        let changed = cores.available_permits() != free;
        if changed {
            free = cores.available_permits();
            last_change = Instant::now();
        }
        let lately = last_change.elapsed() < Duration::from_secs(2);
        let due = Duration::from_millis(if lately { 10 } else { 100 });
        if changed || last_look.elapsed() >= due {
            last_look = Instant::now();
            now.notify_one();
        }
    }
}

/// Gives each task its share of the memory.
fn memory_of_tasks(share: Option<usize>) -> MemoryPoolPolicy {
    Arc::new(move |base: Arc<RuntimeEnv>, _, cores: u32| match share {
        None => Ok(base),
        Some(bytes) => {
            let pool = FairSpillPool::new(bytes.saturating_mul(cores.max(1) as usize));
            RuntimeEnvBuilder::from_runtime_env(&base).with_memory_pool(Arc::new(pool)).build_arc()
        }
    })
}

/// Connects to the scheduler as soon as somebody listens.
async fn connect(role: &ExecutorRole) -> Result<SchedulerGrpcClient<Channel>, ClusterError> {
    let address = &role.scheduler;
    let mut problem = String::new();
    let reaching = async {
        while let Err(error) = TcpStream::connect(address).await {
            problem = error.to_string();
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    if tokio::time::timeout(role.patience, reaching).await.is_err() {
        return Err(ClusterError::Unreachable { address: address.clone(), problem });
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| ClusterError::Address(address.clone()))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_while_idle(true);
    Ok(SchedulerGrpcClient::new(endpoint.connect_lazy())
        .max_encoding_message_size(LARGEST_MESSAGE)
        .max_decoding_message_size(LARGEST_MESSAGE))
}
