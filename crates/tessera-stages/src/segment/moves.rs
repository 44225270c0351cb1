//! Who is in another segment than on the parent night, and why: for each segment, who came and who went is the whole change of its members.

use datafusion::{arrow::datatypes::DataType, logical_expr::ident, prelude::DataFrame};

use super::{Model, assign};
use crate::{
    Night, StageError,
    scaled::{self, Part},
};

/// Tonight's `segments` (`customer_key`, `segment_id`) against those of the parent night.
///
/// A customer who was in one segment and is in another moved by `data`, if the parent night's model puts what is known of it tonight elsewhere than it
/// was; by `refit`, if that model would leave it. Who was in none is `new`, or there by `identity`, as part of a customer who was; who is in none has `left`, or is part of another
/// by `identity`.
pub(super) async fn moves(night: &Night<'_>, segments: &DataFrame) -> Result<DataFrame, StageError> {
    let previous = |name: &str| night.previous.get(name);
    let known = previous("segments").zip(previous("model")).zip(previous("accounts"));
    let (Some(((before, model), belonged)), true) = (known, night.previous.contains_key("segment_lineage")) else {
        let nobody = "SELECT customer_key, segment_id AS from_segment_id, segment_id AS to_segment_id, '' AS cause FROM segments WHERE false";
        return night.over(nobody, &[("segments", segments)]).await;
    };
    let model = Model::read(night, model).await?;
    let features = night.input("features")?.schema();
    let text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let asked = model.axes.iter().all(|axis| {
        let field = features.field_with_unqualified_name(&axis.feature);
        field.is_ok_and(|field| text(field.data_type()) != matches!(axis.part, Part::Number(_)))
    });
    // Where a feature is gone, or is of another kind, the model is another by that.
    let stays = match asked {
        true => {
            let frame = night.sql(&scaled::query(&model.axes, "")).await?;
            let place = assign(night, &model.centroids, model.axes.len())?.alias("a");
            let of: String = model.ids.iter().enumerate().map(|(at, id)| format!(" WHEN {at} THEN {id}")).collect();
            let query = format!("SELECT customer_key, CASE get_field(a, 'segment_id'){of} END AS stays FROM placed");
            night.over(&query, &[("placed", &frame.select(vec![ident("customer_key"), place])?)]).await?
        }
        false => {
            let query = "SELECT customer_key, segment_id AS stays FROM before";
            night.over(query, &[("before", before)]).await?
        }
    };
    let query = "SELECT coalesce(n.customer_key, b.customer_key) AS customer_key, b.segment_id AS from_segment_id, \
                 n.segment_id AS to_segment_id FROM segments AS n FULL JOIN before AS b ON n.customer_key = b.customer_key \
                 WHERE n.segment_id IS NULL OR b.segment_id IS NULL OR n.segment_id <> b.segment_id";
    let moved = night.over(query, &[("segments", segments), ("before", before)]).await?;
    let moved = match night.folders {
        Some(_) => night.engine.materialise(moved, "moved").await?,
        None => moved,
    };
    // Accounts of a customer who has gone that are somebody else's, and accounts of one who came that were somebody else's.
    let query = "SELECT DISTINCT m.customer_key FROM moved AS m JOIN then AS t ON m.customer_key = t.customer_key \
                 JOIN now AS n ON t.account_key = n.account_key WHERE m.to_segment_id IS NULL AND n.customer_key <> t.customer_key \
                 UNION SELECT DISTINCT m.customer_key FROM moved AS m JOIN now AS n ON m.customer_key = n.customer_key \
                 JOIN then AS t ON t.account_key = n.account_key WHERE m.from_segment_id IS NULL AND n.customer_key <> t.customer_key";
    let query = query.replace(" then AS", " \"then\" AS").replace(" now AS", " \"now\" AS");
    let tables = [("moved", &moved), ("then", belonged), ("now", night.input("accounts")?)];
    let resolved = night.over(&query, &tables).await?;
    let query = "SELECT m.customer_key, m.from_segment_id, m.to_segment_id, \
                 CASE WHEN r.customer_key IS NOT NULL THEN 'identity' WHEN m.from_segment_id IS NULL THEN 'new' \
                 WHEN m.to_segment_id IS NULL THEN 'left' WHEN s.stays = m.from_segment_id THEN 'refit' ELSE 'data' END AS cause \
                 FROM moved AS m LEFT JOIN stays AS s ON m.customer_key = s.customer_key \
                 LEFT JOIN resolved AS r ON m.customer_key = r.customer_key";
    night.over(query, &[("moved", &moved), ("stays", &stays), ("resolved", &resolved)]).await
}
