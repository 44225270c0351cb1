//! The planner that knows our nodes.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::Result,
    execution::context::QueryPlanner,
    logical_expr::LogicalPlan,
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner},
};

use crate::{lookup::LookupPlanner, write::WritePlanner};

/// The planner of queries that may write and look up.
pub(crate) fn query_planner() -> Arc<dyn QueryPlanner + Send + Sync> {
    Arc::new(OurPlanner)
}

#[derive(Debug)]
struct OurPlanner;

#[async_trait]
impl QueryPlanner for OurPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner =
            DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(WritePlanner), Arc::new(LookupPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}
