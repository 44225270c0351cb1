//! Who is in another segment than on the parent night, and why: for each segment, who came and who went is the whole change of its members.

use datafusion::prelude::DataFrame;

use crate::{Night, StageError};

/// Tonight's `segments` (see [`super::place::segments`]) against those of the parent night. `by_it` are tonight's segments by the parent
/// night's model, where its features are still there.
///
/// A customer who was in one segment and is in another moved by `data`, if that model puts what is known of it tonight elsewhere than it
/// was, and was `released`, if it did so on the parent night too, and the customer was kept; by `refit`, if it would leave it. Who was in none
/// is `new`, or there by `identity`, as part of a customer who was; who is in none has `left`, or is part of another by `identity`.
pub(super) async fn moves(
    night: &Night<'_>,
    segments: &DataFrame,
    by_it: Option<&DataFrame>,
) -> Result<DataFrame, StageError> {
    let previous = |name: &str| night.previous.get(name);
    let known = previous("segments").zip(previous("accounts"));
    let (Some((before, belonged)), true) = (known, night.previous.contains_key("segment_lineage")) else {
        let nobody = "SELECT customer_key, segment_id AS from_segment_id, segment_id AS to_segment_id, '' AS cause FROM segments WHERE false";
        return night.over(nobody, &[("segments", segments)]).await;
    };
    // Where a feature is gone, or is of another kind, the model is another by that.
    let stays = by_it.unwrap_or(before);
    let query = "SELECT customer_key, was AS from_segment_id, segment_id AS to_segment_id, was_kept AS kept FROM segments \
                 WHERE was IS NULL OR segment_id <> was \
                 UNION ALL SELECT b.customer_key, b.segment_id, arrow_cast(NULL, 'Int32'), b.kept \
                 FROM before AS b LEFT ANTI JOIN segments AS n ON b.customer_key = n.customer_key";
    let moved = night.over(query, &[("segments", segments), ("before", before)]).await?;
    let moved = night.materialised(moved, "moved").await?;
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
                 WHEN m.to_segment_id IS NULL THEN 'left' WHEN s.segment_id = m.from_segment_id THEN 'refit' \
                 WHEN m.kept THEN 'released' ELSE 'data' END AS cause \
                 FROM moved AS m LEFT JOIN stays AS s ON m.customer_key = s.customer_key \
                 LEFT JOIN resolved AS r ON m.customer_key = r.customer_key";
    night.over(query, &[("moved", &moved), ("stays", stays), ("resolved", &resolved)]).await
}
