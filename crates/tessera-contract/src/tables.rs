//! The tables of the lake: what a night leaves behind.

mod figures;
mod segmentation;
mod value;

use self::figures::{cause_episodes, causes, kpi_breakdowns, kpi_changes, kpis};
use self::segmentation::{
    drift, drift_bins, feature_report, model, model_candidates, segment_lineage, segment_moves, segment_profiles,
    segment_rules, segments, validation,
};
use self::value::{clv_backtest, clv_model, customer_value};
use crate::{
    Entity, Feature, Project,
    table::{Class, Column, Kind, Table},
};

/// Every table that a night of this project writes, in the order of the stages.
#[must_use]
pub fn all(project: &Project) -> Vec<Table> {
    let mut tables: Vec<_> = Entity::ALL.into_iter().map(|e| clean(e, project)).collect();
    tables.extend([
        quarantine(),
        account_ids(),
        inputs(),
        identity(),
        accounts(),
        golden_records(project),
        golden_ledger(),
        identity_pairs(),
        identity_model(),
        identity_report(),
        ledger(),
        quality(),
        features(project),
        prospects(project),
        customer_value(project),
        clv_model(),
        clv_backtest(),
        feature_report(),
        model_candidates(),
        model(),
        segments(),
        segment_lineage(),
        segment_moves(),
        segment_rules(),
        drift(),
        drift_bins(),
        segment_profiles(),
        validation(),
        kpis(),
        kpi_breakdowns(),
        kpi_changes(),
        causes(),
        cause_episodes(),
    ]);
    tables
}

/// The table of that name.
#[must_use]
pub fn find(project: &Project, name: &str) -> Option<Table> {
    all(project).into_iter().find(|t| t.name == name)
}

fn table(name: &str, description: &str, columns: Vec<Column>) -> Table {
    Table { name: name.to_owned(), description: description.to_owned(), class: Class::Aggregate, grows: false, columns }
}

/// The same of what is known.
fn grows(table: Table) -> Table {
    Table { grows: true, ..table }
}

fn restricted(name: &str, description: &str, columns: Vec<Column>) -> Table {
    Table { class: Class::Personal, ..table(name, description, columns) }
}

fn pseudonymous(table: Table) -> Table {
    Table { class: Class::Pseudonymous, ..table }
}

fn column(name: &str, kind: Kind, description: &str) -> Column {
    Column::new(name, kind, description)
}

fn clean(entity: Entity, project: &Project) -> Table {
    let mut columns = entity.clean_columns();
    columns.extend(project.further_columns(entity));
    let description = format!("One row per clean row of {entity} that happened before the night");
    let class = match (entity.is_personal(), entity.has_customer()) {
        (true, _) => Class::Personal,
        (false, true) => Class::Pseudonymous,
        (false, false) => Class::Aggregate,
    };
    Table { class, ..grows(table(&entity.clean_table(), &description, columns)) }
}

fn quarantine() -> Table {
    grows(restricted(
        "quarantine",
        "One row per source row that is not among the clean ones: rejected, merged as a repeat, or superseded",
        vec![
            column("source", Kind::Text, "Entity of the source"),
            column("feed", Kind::Text, "Name of the source among those of the entity; null where it has one"),
            column("file", Kind::Text, "File in which the row stands").circumstantial(),
            column("row", Kind::Integer, "Number of the row in the file, from 1, the header not counted")
                .circumstantial(),
            column("disposition", Kind::Text, "quarantined, merged or superseded"),
            column("rule", Kind::Text, "The rule at which the row left: the first in the order of the waterfall"),
            column("rules", Kind::TextList, "All the rules that the row failed, in their order"),
            column("defect", Kind::Text, "What is wrong with the line itself, if anything"),
            column("record", Kind::Text, "The source row as JSON; personal"),
            column(
                "amount",
                Kind::Money,
                "The money the row carries (returns negative); null where it cannot be computed",
            ),
            column(
                "since",
                Kind::Date,
                "The night that set the row aside; of a row that waits for its customer, this night",
            )
            .circumstantial(),
        ],
    ))
}

fn account_ids() -> Table {
    grows(restricted(
        "account_ids",
        "One row per source customer id",
        vec![
            column("customer_id", Kind::Text, "The owner's id"),
            column(
                "account_key",
                Kind::Text,
                "Keyed hash (HMAC-SHA-256, 80 bits, base32) of the owner's id; never changes",
            ),
        ],
    ))
}

fn identity() -> Table {
    grows(restricted(
        "identity",
        "One row per source customer id: whose it is, and why",
        vec![
            column("customer_id", Kind::Text, "The owner's id"),
            column("account_key", Kind::Text, "Its keyed hash"),
            column(
                "customer_key",
                Kind::Text,
                "The resolved customer: as a rule the account key of one of its accounts; persists from night to night",
            ),
            column("event", Kind::Text, "What last gave the account its customer: born, merged_into or split_from"),
            column("evidence", Kind::Text, "Why the id belongs to the customer"),
            column(
                "weight",
                Kind::Float,
                "Weight of the strongest evidence in bits (log2 of the odds of a match); null for a declared id",
            ),
            column("since", Kind::Date, "The night of the event").circumstantial(),
            column("customer_since", Kind::Date, "The night on which the customer's key was given first")
                .circumstantial(),
            column("accounts", Kind::Integer, "Accounts of the customer"),
        ],
    ))
}

fn accounts() -> Table {
    pseudonymous(grows(table(
        "accounts",
        "One row per account: to which customer it belongs",
        vec![
            column("account_key", Kind::Text, "Account: the pseudonym of one source customer id"),
            column("customer_key", Kind::Text, "Customer"),
        ],
    )))
}

fn golden_records(project: &Project) -> Table {
    let mut columns = vec![
        column("customer_key", Kind::Text, "Customer"),
        column("accounts", Kind::Integer, "Accounts of the customer"),
    ];
    let of = clean(Entity::Customers, project).columns;
    let said = |name: &str| !["account_key", "repaired_by", "repaired_from", "warned_by"].contains(&name);
    columns.extend(of.into_iter().filter(|c| said(&c.name)));
    restricted(
        "golden_records",
        "One row per customer of several accounts: what they say together ([identity.golden]). Of all others, clean_customers tells",
        columns,
    )
}

fn golden_ledger() -> Table {
    restricted(
        "golden_ledger",
        "One row per account and column in which the accounts of a customer differ: whose value survived",
        vec![
            column("customer_key", Kind::Text, "Customer"),
            column("column", Kind::Text, "Column of golden_records"),
            column("account_key", Kind::Text, "Account that says something in the column"),
            column("won", Kind::Boolean, "Whether the customer's value is the account's; otherwise it was lost"),
        ],
    )
}

fn identity_pairs() -> Table {
    restricted(
        "identity_pairs",
        "One row per two accounts that are one person, or look like it",
        vec![
            column("left_key", Kind::Text, "Account; the smaller key"),
            column("right_key", Kind::Text, "Account"),
            column(
                "weight",
                Kind::Float,
                "Match weight in bits: log2 of the odds that they are one person (Fellegi & Sunter 1969)",
            ),
            column("probability", Kind::Float, "The same as a probability"),
            column("rule", Kind::Text, "The rule by which they are one person whatever they weigh; null for none"),
            column("contradiction", Kind::Text, "What speaks against one person whatever they weigh; null for nothing"),
            column("levels", Kind::Text, "How they compare, as JSON: comparison → level"),
            column(
                "decision",
                Kind::Text,
                "same, different, review (between the two probabilities) or held (would be the same, but for `reason`)",
            ),
            column("reason", Kind::Text, "Why they are that, in words"),
        ],
    )
}

fn identity_model() -> Table {
    restricted(
        "identity_model",
        "The parameters by which accounts are weighed, as they were learned",
        vec![
            column("parameter", Kind::Text, "prior, level or term"),
            column("comparison", Kind::Text, "Comparison; null for the prior"),
            column("level", Kind::Text, "Level of the comparison, or the value of a term"),
            column("m", Kind::Float, "Share among pairs of one person; of a term, null"),
            column("u", Kind::Float, "Share among pairs of different people; of a term, share of the accounts"),
            column(
                "weight",
                Kind::Float,
                "log2(m / u) in bits; of the prior, log2 of the odds; of a term, what is added",
            ),
            column("trained_on", Kind::Integer, "Accounts that it was learned of").circumstantial(),
            column("trained_at", Kind::Date, "The night that learned it").circumstantial(),
            column("definition", Kind::Text, "Hash of the comparisons that it is of"),
        ],
    )
}

fn identity_report() -> Table {
    pseudonymous(table(
        "identity_report",
        "How well accounts were resolved: one row per figure",
        vec![
            column("metric", Kind::Text, "What is counted"),
            column("scope", Kind::Text, "Of which block, rule, comparison, weight or size; null for all"),
            column("value", Kind::Float, "Its value"),
            column("told", Kind::Text, "In a sentence"),
        ],
    ))
}

fn inputs() -> Table {
    table(
        "inputs",
        "The manifest: one row per version of a source file that the night knows, as it was counted before any rule",
        vec![
            column("source", Kind::Text, "Entity"),
            column("feed", Kind::Text, "Name of the source among those of the entity; null where it has one"),
            column("file_id", Kind::Integer, "Number of the file among those of its source").circumstantial(),
            column("file", Kind::Text, "URL of the file").circumstantial(),
            column("etag", Kind::Text, "Entity tag of the object, where the store has one").circumstantial(),
            column("bytes", Kind::Integer, "Size in bytes").circumstantial(),
            column("rows", Kind::Integer, "Rows in the file").circumstantial(),
            column("amount", Kind::Money, "Money in the rows").circumstantial(),
            column("rows_after_as_of", Kind::Integer, "Of the rows, those at or after the as-of instant")
                .circumstantial(),
            column("amount_after_as_of", Kind::Money, "Money in those").circumstantial(),
            column("columns", Kind::Text, "The owner's columns of the file, as a JSON array; of NDJSON, those of all files that were read with it").circumstantial(),
            column("lacks", Kind::Text, "Columns in use that the file lacks and others of its source have")
                .circumstantial(),
            column("first_seen", Kind::Date, "The night that read the file first").circumstantial(),
        ],
    )
}

fn ledger() -> Table {
    let mut columns = vec![
        column("source", Kind::Text, "Entity"),
        column("step", Kind::Small, "Place in the waterfall; the total of a source is step 0"),
        column("rule", Kind::Text, "Rule, or `total`, or `after_as_of`"),
        column("severity", Kind::Text, "What the rule does with a row that fails; null for the total"),
        column("rows_failed", Kind::Integer, "Rows of the night that fail the rule, whether or not they left earlier"),
    ];
    for (what, kind) in [("rows", Kind::Integer), ("amount", Kind::Money)] {
        let change = |name: &str, text: &str| {
            column(&format!("{what}_{name}_change"), kind, &format!("{text}: tonight's, minus the parent night's"))
        };
        let column = |name: &str, text: &str| column(&format!("{what}_{name}"), kind, text);
        columns.extend([
            column("in", "What reached the rule; for the total, what stands in the source").circumstantial(),
            column("clean", "What passed the rule; for the total, what stands in the clean table"),
            column("repaired", "Of the clean, what a repair changed"),
            column("quarantined", "What left for the quarantine"),
            column("merged", "What left as a repeat"),
            column("superseded", "What left because another row of the same key was preferred"),
            column("after_as_of", "What the night does not know yet").circumstantial(),
        ]);
        columns.extend([
            change("in", "What came in").circumstantial(),
            change("clean", "What became clean"),
            change("quarantined", "What was quarantined"),
            change("merged", "What was merged"),
            change("superseded", "What was superseded"),
        ]);
    }
    table(
        "ledger",
        "One row per source and rule: a waterfall in which in = clean + quarantined + merged + superseded + after_as_of, in rows and in money; what stands in all, and by how much that is more than on the parent night",
        columns,
    )
}

fn quality() -> Table {
    pseudonymous(table(
        "quality",
        "One row per check and entity: what the night's rows are as a whole, beside those of nights published before",
        vec![
            column("check", Kind::Text, "The check"),
            column("source", Kind::Text, "Entity"),
            column("value", Kind::Float, "What was measured; null where there is nothing to measure").circumstantial(),
            column("median", Kind::Float, "Median of the nights published before: up to seven, of four weeks")
                .circumstantial(),
            column("nights", Kind::Small, "How many these are").circumstantial(),
            column("low", Kind::Float, "The smallest value that passes; null for any").circumstantial(),
            column("high", Kind::Float, "The largest value that passes; null for any").circumstantial(),
            column("state", Kind::Text, "pass, fail, or info where nothing is asked").circumstantial(),
            column("gate", Kind::Text, "required (failing it holds the night), advisory or none").circumstantial(),
            column("told", Kind::Text, "The finding in a sentence").circumstantial(),
            column(
                "definition",
                Kind::Text,
                "Hash of what the check measures; values of other definitions are not compared",
            )
            .circumstantial(),
        ],
    ))
}

/// One column per feature of those that `which` accepts.
fn feature_columns(project: &Project, which: impl Fn(&Feature) -> bool) -> Vec<Column> {
    let features = project.enabled_features().filter(|(_, f)| which(f));
    let features =
        features.map(|(name, f)| column(name, f.value_type.kind(), &format!("{} [{}]", f.description, f.unit)));
    [column("customer_key", Kind::Text, "Customer")].into_iter().chain(features).collect()
}

fn features(project: &Project) -> Table {
    let what = "One row per customer of the population (segmentation.population); one column per feature";
    pseudonymous(table("features", what, feature_columns(project, |_| true)))
}

fn prospects(project: &Project) -> Table {
    let what = "One row per person with an account who is not of the population, and did something, was contacted or asked; one \
                column per feature over such rows";
    let over = |f: &Feature| Entity::parse(&f.over).is_some_and(Entity::tells_of_prospects);
    pseudonymous(table("prospects", what, feature_columns(project, over)))
}
