//! Our nodes and functions as bytes, for engines that send plans to other processes.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::Schema,
    common::{DataFusionError, Result, exec_err, internal_datafusion_err, internal_err},
    execution::TaskContext,
    logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF},
    physical_expr::PhysicalExpr,
    physical_plan::ExecutionPlan,
};
use datafusion_proto::{
    physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension},
    protobuf::PhysicalExprNode,
};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{
    functions::customer_key,
    lookup::{LookupExec, LookupSpec},
    secret::Secret,
    source::{SourceScanExec, SourceScanSpec},
    write::{WriteExec, WriteExecSpec},
};

/// What our nodes begin with; a number of another length or value is another version of this program.
const MARK: &[u8] = b"tessera/1\n";

/// A node of ours, its inputs and expressions aside.
#[derive(Serialize, Deserialize)]
enum Node {
    Source { spec: SourceScanSpec, schema: Schema },
    Write(WriteExecSpec),
    Lookup(LookupSpec),
}

/// Knows our nodes and functions, and leaves the others to another codec.
#[derive(Debug)]
pub struct Codec {
    secret: Option<Secret>,
    others: Arc<dyn PhysicalExtensionCodec>,
}

impl Codec {
    /// A codec. Without the secret it can pass plans on, but what it decodes cannot make customer keys.
    #[must_use]
    pub fn new(secret: Option<Secret>, others: Arc<dyn PhysicalExtensionCodec>) -> Self {
        Self { secret, others }
    }
}

fn put(buf: &mut Vec<u8>, part: &[u8]) {
    buf.extend((part.len() as u64).to_le_bytes());
    buf.extend(part);
}

fn take<'a>(buf: &mut &'a [u8]) -> Result<&'a [u8]> {
    let (length, rest) =
        buf.split_first_chunk::<8>().ok_or_else(|| internal_datafusion_err!("a plan was cut short"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (part, rest) = rest.split_at_checked(length).ok_or_else(|| internal_datafusion_err!("a plan was cut short"))?;
    *buf = rest;
    Ok(part)
}

fn outside(error: serde_json::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl PhysicalExtensionCodec for Codec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (node, expressions) = if let Some(scan) = node.downcast_ref::<SourceScanExec>() {
            (Node::Source { spec: scan.spec().clone(), schema: scan.schema().as_ref().clone() }, Vec::new())
        } else if let Some(write) = node.downcast_ref::<WriteExec>() {
            let (spec, expressions) = write.parts();
            (Node::Write(spec), expressions)
        } else if let Some(lookup) = node.downcast_ref::<LookupExec>() {
            let (spec, key) = lookup.parts();
            (Node::Lookup(spec), vec![key])
        } else {
            return self.others.try_encode(node, buf, converter);
        };
        buf.extend(MARK);
        put(buf, &serde_json::to_vec(&node).map_err(outside)?);
        for expression in expressions {
            put(buf, &converter.physical_expr_to_proto(&expression, self)?.encode_to_vec());
        }
        Ok(())
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(mut rest) = buf.strip_prefix(MARK) else {
            return self.others.try_decode(buf, inputs, context, converter);
        };
        let node: Node = serde_json::from_slice(take(&mut rest)?).map_err(outside)?;
        let Some(input) = inputs.first() else { return internal_err!("a node of ours has an input") };
        let decoding = PhysicalPlanDecodeContext::new(context, self);
        let mut expressions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        while !rest.is_empty() {
            let expression = PhysicalExprNode::decode(take(&mut rest)?)
                .map_err(|e| internal_datafusion_err!("an expression of a plan cannot be read: {e}"))?;
            expressions.push(converter.proto_to_physical_expr(&expression, &input.schema(), &decoding)?);
        }
        Ok(match (node, inputs) {
            (Node::Source { spec, schema }, [input]) => {
                Arc::new(SourceScanExec::new(spec, Arc::new(schema), Arc::clone(input))?)
            }
            (Node::Write(spec), [input]) => Arc::new(WriteExec::from_parts(Arc::clone(input), spec, expressions)?),
            (Node::Lookup(spec), [rows, table]) => {
                let Some(key) = expressions.pop() else { return internal_err!("a lookup lacks its key") };
                Arc::new(LookupExec::new(Arc::clone(rows), Arc::clone(table), key, spec)?)
            }
            _ => return internal_err!("a node of ours has other inputs"),
        })
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        match customer_key::identity(node) {
            Some(identity) => buf.extend(identity.as_bytes()),
            None => self.others.try_encode_udf(node, buf)?,
        }
        Ok(())
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        if name != customer_key::NAME {
            return self.others.try_decode_udf(name, buf);
        }
        let identity = String::from_utf8_lossy(buf).into_owned();
        if let Some(own) = &self.secret
            && own.identity() != identity
        {
            return exec_err!(
                "the secret of this process ({}) is not that of the run ({identity}); give all of them the same TESSERA_SECRET",
                own.identity()
            );
        }
        Ok(Arc::new(customer_key::udf(self.secret.as_ref(), identity)))
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.others.try_encode_udaf(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.others.try_decode_udaf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.others.try_encode_udwf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.others.try_decode_udwf(name, buf)
    }

    fn try_encode_higher_order_function(&self, node: &HigherOrderUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.others.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_higher_order_function(&self, name: &str, buf: &[u8]) -> Result<Arc<HigherOrderUDF>> {
        self.others.try_decode_higher_order_function(name, buf)
    }
}
