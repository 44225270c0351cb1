//! `segment_rules`: a small tree that says in people's units who is in which segment, as SQL, and whom it places elsewhere.
//!
//! It learns from the customers of the sample, and what is said of its rules is counted over all customers by the SQL itself.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{arrow::array::Int64Array, prelude::DataFrame};
use tessera_algo::tree::{self, Column, Node, Rows, Settings, Tree};
use tessera_contract::{Closeness, ValueType};

use super::Model;
use crate::{
    Night, StageError, rows,
    scaled::{self, Axis, Known, Part},
};

/// A rule with those of whom it is true.
#[derive(Debug, Clone)]
struct Row {
    segment: i32,
    rule: i32,
    condition: String,
    customers: i64,
    members: i64,
    /// The whole tree.
    sql: String,
}

/// The table.
pub(super) async fn rules(
    night: &Night<'_>,
    model: &Model,
    known: &Known,
    segments: &DataFrame,
) -> Result<DataFrame, StageError> {
    let learned = learn(night, model, known, segments).await?;
    let (mut table, mut of_segments) = (Vec::new(), BTreeMap::new());
    if let Some((tree, columns)) = learned {
        let counts = counts(night, &by_leaf(&tree, &columns), segments).await?;
        let sql = tree::case(&tree, &columns);
        for ((_, segment), n) in &counts {
            *of_segments.entry(*segment).or_insert(0) += n;
        }
        // People need not read which numbers are compared as doubles.
        let plain = |column: &Column| match column {
            Column::Number { name, .. } => Column::Number { name: name.clone(), cast: false },
            other => other.clone(),
        };
        let plain: Vec<Column> = columns.iter().map(plain).collect();
        for (rule, of) in (1..).zip(tree.rules()) {
            let segment = i32::try_from(of.segment).unwrap_or(i32::MAX);
            let here = || counts.iter().filter(|((leaf, _), _)| *leaf == of.leaf);
            table.push(Row {
                segment,
                rule,
                condition: tree::rule(&of, &plain),
                customers: here().map(|(_, n)| n).sum(),
                members: here().filter(|((_, is), _)| *is == segment).map(|(_, n)| n).sum(),
                sql: sql.clone(),
            });
        }
    }
    frame(night, &table, &of_segments)
}

/// The tree of the segments over the model's own features, with what its columns are; none where none of them may be told.
async fn learn(
    night: &Night<'_>,
    model: &Model,
    known: &Known,
    segments: &DataFrame,
) -> Result<Option<(Tree, Vec<Column>)>, StageError> {
    let condition = scaled::sampled(night.project.segmentation.sample, known.customers);
    let query = format!(
        "SELECT segment_id FROM (SELECT customer_key, segment_id, row_hash(customer_key) AS key_hash FROM segments) WHERE {condition} \
         ORDER BY key_hash, customer_key"
    );
    let batch = rows::collect(night.over(&query, &[("segments", segments)]).await?).await?;
    let ids = rows::integers(&batch, "segment_id")?;
    let ids: Vec<u32> = ids.into_iter().map(|id| id.and_then(|id| u32::try_from(id).ok()).unwrap_or(0)).collect();
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for axis in &model.axes {
        let Some(feature) = night.project.features.get(&axis.feature) else { continue };
        // What nobody should read of a person is not read of a segment.
        if feature.privacy == Closeness::Sensitive {
            continue;
        }
        let Some(found) = column(axis, known).filter(|found| found.len() == ids.len()) else { continue };
        let name = axis.feature.clone();
        columns.push(match &axis.part {
            Part::Number(_) => Column::Number { name, cast: feature.value_type != ValueType::Float },
            Part::Category(value) => Column::Category { name, value: value.clone() },
            Part::Other(values) => Column::Other { name, values: values.clone() },
        });
        values.push(found);
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let all: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
    let settings = Settings { fewest: night.project.privacy.k.max(10), ..Settings::default() };
    let tree = Tree::grow(&Rows { columns: &all, segments: &ids, weights: None }, &settings);
    Ok(Some((tree.map_err(|e| StageError::Data(e.to_string()))?, columns)))
}

/// What the sample has of an axis, in people's units; not a number is what is not known.
fn column(axis: &Axis, known: &Known) -> Option<Vec<f64>> {
    let one_if = |condition: &dyn Fn(&String) -> bool| {
        let texts = known.texts.get(&axis.feature)?;
        let one = |text: &Option<String>| text.as_ref().map_or(f64::NAN, |text| f64::from(u8::from(condition(text))));
        Some(texts.iter().map(one).collect())
    };
    match &axis.part {
        Part::Number(_) => {
            let numbers = known.numbers.get(&axis.feature)?;
            Some(numbers.iter().map(|number| number.unwrap_or(f64::NAN)).collect())
        }
        Part::Category(value) => one_if(&|text| text == value),
        Part::Other(values) => one_if(&|text| !values.contains(text)),
    }
}

/// SQL of the leaf that a customer is in.
fn by_leaf(tree: &Tree, columns: &[Column]) -> String {
    let mut numbered = tree.clone();
    for (at, node) in numbered.nodes.iter_mut().enumerate() {
        if let Node::Leaf(leaf) = node {
            leaf.segment = u32::try_from(at).unwrap_or(u32::MAX);
        }
    }
    tree::case(&numbered, columns)
}

/// Of all customers, how many of each leaf are in each segment.
async fn counts(
    night: &Night<'_>,
    leaf: &str,
    segments: &DataFrame,
) -> Result<BTreeMap<(usize, i32), i64>, StageError> {
    let query = format!(
        "SELECT p.leaf, s.segment_id, count(*) AS n FROM (SELECT customer_key, {leaf} AS leaf FROM features) AS p \
         JOIN segments AS s ON s.customer_key = p.customer_key GROUP BY p.leaf, s.segment_id"
    );
    let features = night.input("features")?;
    let batch = rows::collect(night.over(&query, &[("features", features), ("segments", segments)]).await?).await?;
    let (leaves, ids, n) =
        (rows::integers(&batch, "leaf")?, rows::integers(&batch, "segment_id")?, rows::integers(&batch, "n")?);
    let mut counts = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let leaf = leaves[row].and_then(|leaf| usize::try_from(leaf).ok());
        let segment = ids[row].and_then(|id| i32::try_from(id).ok());
        if let (Some(leaf), Some(segment), Some(n)) = (leaf, segment, n[row]) {
            counts.insert((leaf, segment), n);
        }
    }
    Ok(counts)
}

fn frame(night: &Night<'_>, table: &[Row], of_segments: &BTreeMap<i32, i64>) -> Result<DataFrame, StageError> {
    let all: i64 = of_segments.values().sum();
    let right: i64 = table.iter().map(|row| row.members).sum();
    let elsewhere = (all > 0).then(|| (all - right) as f64 / all as f64);
    let share = |n: i64, of: i64| (of > 0).then(|| n as f64 / of as f64);
    let of = rows::Columns(table);
    let counts = |get: fn(&Row) -> i64| Arc::new(table.iter().map(|row| Some(get(row))).collect::<Int64Array>());
    rows::frame(
        night.engine,
        vec![
            ("segment_id", of.small(|r| Some(r.segment))),
            ("rule", of.small(|r| Some(r.rule))),
            ("condition", of.texts(|r| Some(&r.condition))),
            ("customers", counts(|r| r.customers)),
            ("members", counts(|r| r.members)),
            ("precision", of.floats(|r| share(r.members, r.customers))),
            ("recall", of.floats(|r| share(r.members, of_segments.get(&r.segment).copied().unwrap_or(0)))),
            ("elsewhere", of.floats(|_| elsewhere)),
            ("sql", of.texts(|r| Some(&r.sql))),
        ],
    )
}
