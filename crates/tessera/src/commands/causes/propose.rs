//! `causes propose`: what causes and features say about the project file, as a diff that may be applied or not.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use tessera_contract::Project;
use tessera_engine::formula::text;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::notes::newest;
use crate::{
    chain::{floats, texts},
    cli::Common,
    commands::query::Tables,
    context::Context,
    errors::Usage,
};

/// Places that become features, at most.
const FEATURES: usize = 3;
/// Of two features of such a rank correlation, one says what the other does.
const SAME: f64 = 0.95;
/// A feature that fewer customers have is none of most.
const COVERED: f64 = 0.2;
/// Nights in a row on which something happened in a part of a segment, from which on it is no accident.
const LASTING: u32 = 3;

/// A change of the project file, and why.
struct Proposal {
    why: String,
    change: Change,
}

enum Change {
    /// A feature by the rows of a value of a dimension, clustered on.
    Add { feature: String, over: String, by: String, value: String },
    /// A feature that is not clustered on any more.
    Drop(String),
    /// More segments.
    Split(u32),
}

/// Prints the diff; why, on standard error.
pub async fn propose(common: &Common) -> Result<()> {
    let context = Context::open(common)?;
    let file = common.project.display().to_string();
    let before = std::fs::read_to_string(&common.project).with_context(|| format!("reading {file}"))?;
    let tables = newest(&context).await?;
    let mut proposals = places(&context, &tables).await?;
    proposals.extend(repeated(&tables).await?);
    proposals.extend(parts(&context, &tables).await?);
    if proposals.is_empty() {
        eprintln!(
            "nothing to propose: no place recurs, no feature repeats another, and no part of a segment goes its own way"
        );
        return Ok(());
    }
    for Proposal { why, .. } in &proposals {
        eprintln!("- {why}");
    }
    let after = applied(&before, &context.project, &proposals)?;
    Project::load(&file, &after, &common.set)
        .context("what is proposed is no project file: this is a mistake of Tessera")?;
    let diff = similar::TextDiff::from_lines(&before, &after);
    print!("{}", diff.unified_diff().header(&file, &file));
    eprintln!(
        "`tessera causes propose > proposal.diff` and `patch -p0 < proposal.diff` take it; `tessera compare` says what it is worth"
    );
    Ok(())
}

/// Values of dimensions of rows that were causes: a feature says how much of them a customer has.
async fn places(context: &Context, tables: &Tables) -> Result<Vec<Proposal>> {
    let query = "SELECT dimensions, CAST(since AS VARCHAR) AS since_date, CAST(nights AS DOUBLE) AS in_a_row FROM (SELECT array_to_string(dimensions, '\u{1f}') AS dimensions, \
                 max(since) AS since, max(nights) AS nights, sum(abs(contribution)) AS size FROM cause_episodes \
                 WHERE finding = 'where' AND \"until\" > as_of - INTERVAL '92 days' GROUP BY 1) ORDER BY nights DESC, size DESC, dimensions";
    let mut proposals = Vec::new();
    let mut seen = BTreeSet::new();
    for batch in tables.collect(query).await? {
        let (places, since, nights) = (texts(&batch, 0)?, texts(&batch, 1)?, floats(&batch, 2)?);
        for row in 0..batch.num_rows() {
            for condition in places[row].iter().flat_map(|all| all.split('\u{1f}')) {
                let Some((dimension, of)) = condition.split_once('=') else { continue };
                let Some(found) = context.project.causes.dimensions.get(dimension) else { continue };
                let feature = feature_name(of, dimension);
                let known = context.project.features.contains_key(&feature);
                if found.over == "features" || known || proposals.len() == FEATURES || !seen.insert(feature.clone()) {
                    continue;
                }
                let since = since[row].as_deref().unwrap_or_default();
                let told = match nights[row].unwrap_or(1.0) {
                    nights if nights > 1.0 => format!("since {since}, for {nights:.0} nights"),
                    _ => format!("on {since}"),
                };
                let rows = found.over.replace('_', " ");
                let why = format!(
                    "{condition} was a cause {told}: `{feature}`, its share of the {rows} of a customer, tells whom it concerns"
                );
                let change =
                    Change::Add { feature, over: found.over.clone(), by: found.by.clone(), value: of.to_owned() };
                proposals.push(Proposal { why, change });
            }
        }
    }
    Ok(proposals)
}

/// A name that an entry may have.
fn feature_name(of: &str, dimension: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let value: String = of.chars().map(word).collect();
    format!("{dimension}_{}_share", value.trim_matches('_'))
}

/// Features that say what another one does, or are known of few.
async fn repeated(tables: &Tables) -> Result<Vec<Proposal>> {
    if !tables.has("feature_report") {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT f.feature, f.nearest, f.correlation, f.coverage FROM feature_report AS f LEFT JOIN feature_report AS n ON n.feature = f.nearest \
         WHERE f.clustered_on AND (f.coverage < {COVERED} OR (n.clustered_on AND abs(f.correlation) >= {SAME} \
         AND (f.coverage < n.coverage OR (f.coverage = n.coverage AND f.feature > n.feature)))) ORDER BY f.feature"
    );
    let mut proposals = Vec::new();
    for batch in tables.collect(&query).await? {
        let (features, nearest) = (texts(&batch, 0)?, texts(&batch, 1)?);
        let (correlations, coverages) = (floats(&batch, 2)?, floats(&batch, 3)?);
        for row in 0..batch.num_rows() {
            let Some(feature) = features[row].clone() else { continue };
            let covered = coverages[row].unwrap_or(0.0);
            let why = match covered < COVERED {
                true => format!("`{feature}` is known of {:.1} % of the customers only", 100.0 * covered),
                false => format!(
                    "`{feature}` says what `{}` does (rank correlation {:.2}): together they count twice",
                    nearest[row].as_deref().unwrap_or_default(),
                    correlations[row].unwrap_or(0.0)
                ),
            };
            proposals.push(Proposal { why, change: Change::Drop(feature) });
        }
    }
    Ok(proposals)
}

/// Segments of which a part has gone its own way for some nights.
async fn parts(context: &Context, tables: &Tables) -> Result<Vec<Proposal>> {
    let query = format!(
        "SELECT CAST(segment_id AS VARCHAR) AS id, place FROM (SELECT segment_id, min(array_to_string(dimensions, ', ')) AS place, count(*) AS n \
         FROM cause_episodes WHERE segment_id IS NOT NULL AND finding = 'where' AND \"until\" = as_of AND nights >= {LASTING} GROUP BY segment_id) \
         ORDER BY n DESC, segment_id"
    );
    let found = tables.collect(&query).await?;
    let Some(batch) = found.iter().find(|batch| batch.num_rows() > 0) else { return Ok(Vec::new()) };
    let count = tables.collect("SELECT CAST(count(DISTINCT segment_id) AS DOUBLE) FROM segments").await?;
    let segments =
        count.first().map(|batch| floats(batch, 0)).transpose()?.and_then(|all| all[0]).unwrap_or(0.0) as u32;
    let settings = &context.project.segmentation;
    let (Some(segment), Some(place)) = (&texts(batch, 0)?[0], &texts(batch, 1)?[0]) else { return Ok(Vec::new()) };
    let more = segments + 1;
    if usize::try_from(more).is_ok_and(|more| settings.min_k >= more || settings.max_k < more) {
        return Ok(Vec::new());
    }
    let why = format!(
        "in segment {segment}, {place} has changed otherwise than the rest for {LASTING} nights or more: at least {more} segments would let it be one"
    );
    Ok(vec![Proposal { why, change: Change::Split(more) }])
}

/// The text with the changes made, everything else as it was.
fn applied(before: &str, project: &Project, proposals: &[Proposal]) -> Result<String> {
    let mut document: DocumentMut = before.parse().map_err(|e| Usage(format!("the project file is no TOML: {e}")))?;
    let mut clustered: Vec<String> = project.segmentation.features.clone();
    let asked = clustered.clone();
    for Proposal { why, change } in proposals {
        match change {
            Change::Add { feature, over, by, value: of } => {
                let mut entry = Table::new();
                entry.decor_mut().set_prefix(format!("\n# {why}\n"));
                entry["criterion"] = value("behavioural");
                entry["over"] = value(over.as_str());
                let count = format!("CAST(count(*) FILTER (WHERE {by} = {}) AS DOUBLE) / count(*)", text(of));
                entry["expression"] = value(count);
                entry["unit"] = value("share");
                entry["description"] = value(format!("Share of the {} of {of}", over.replace('_', " ")));
                let features = document.entry("features").or_insert_with(implicit);
                let features = features.as_table_like_mut().context("[features] is no table")?;
                features.insert(feature, Item::Table(entry));
                clustered.push(feature.clone());
            }
            Change::Drop(feature) => clustered.retain(|one| one != feature),
            Change::Split(k) => segmentation(&mut document)?.insert("min_k", value(i64::from(*k))).map_or((), drop),
        }
    }
    if clustered != asked {
        let mut list: Array = clustered.iter().map(String::as_str).collect();
        list.iter_mut().for_each(|one| one.decor_mut().set_prefix("\n  "));
        list.set_trailing("\n");
        list.set_trailing_comma(true);
        segmentation(&mut document)?.insert("features", value(list));
    }
    Ok(document.to_string())
}

fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

fn segmentation(document: &mut DocumentMut) -> Result<&mut dyn toml_edit::TableLike> {
    let section = document.entry("segmentation").or_insert_with(|| Item::Table(Table::new()));
    section.as_table_like_mut().context("[segmentation] is no table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_leaves_everything_else() {
        let before = "# Ours.\n[sources.transactions]\nurl = \"o/\" # all of them\n\n[segmentation]\nk = 4\n";
        let project = Project::load("p", before, &[]).expect("a project");
        let add = Change::Add {
            feature: feature_name("O'Neill & co", "category"),
            over: "transactions".into(),
            by: "category".into(),
            value: "O'Neill & co".into(),
        };
        let of = |change| Proposal { why: "a reason".into(), change };
        let proposals = [of(add), of(Change::Drop("tenure_days".into())), of(Change::Split(7))];
        let after = applied(before, &project, &proposals).expect("a document");
        insta::assert_snapshot!(after, @r#"
        # Ours.
        [sources.transactions]
        url = "o/" # all of them

        [segmentation]
        k = 4
        min_k = 7
        features = [
          "recency_days",
          "frequency",
          "monetary",
          "average_order_value",
          "interpurchase_mean_days",
          "interpurchase_std_days",
          "categories",
          "top_category_share",
          "return_rate",
          "discount_share",
          "weekend_share",
          "online_share",
          "spend_trend",
          "category_o_neill___co_share",
        ]

        # a reason
        [features.category_o_neill___co_share]
        criterion = "behavioural"
        over = "transactions"
        expression = "CAST(count(*) FILTER (WHERE category = 'O''Neill & co') AS DOUBLE) / count(*)"
        unit = "share"
        description = "Share of the transactions of O'Neill & co"
        "#);
        let changed = Project::load("p", &after, &[]).expect("a project again");
        assert!(changed.segmentation.features.contains(&"category_o_neill___co_share".to_owned()));
        assert_eq!(changed.segmentation.features.len(), project.segmentation.features.len());
        assert_eq!(changed.segmentation.min_k, 7);
    }
}
