//! Figures of segments and of everybody.

use super::{column, table};
use crate::table::{Column, Kind, Table};

/// What is told of a figure that is hidden or missing.
fn state(further: &str) -> Column {
    let words = "ok, low_n, suppressed (fewer than privacy.k people, or what would tell of these with other figures of this or another night), not_available";
    column("state", Kind::Text, &format!("{words} or {further}"))
}

/// The columns of what is told of a KPI beside an earlier night.
fn compared(further: Vec<Column>) -> Vec<Column> {
    let mut columns = vec![
        column("segment_id", Kind::Small, "Segment; null for the whole population"),
        column("kpi", Kind::Text, "Name in the catalogue"),
        column(
            "versus",
            Kind::Text,
            "previous, year_ago or baseline: the night that it is compared with; in causes also month_ago, the night four weeks before",
        ),
        column("versus_as_of", Kind::Date, "That night"),
    ];
    columns.extend(further);
    columns
}

pub(super) fn kpis() -> Table {
    table(
        "kpis",
        "One row per segment and KPI, and per KPI for the whole population with segment_id null",
        vec![
            column("segment_id", Kind::Small, "Segment; null for the whole population"),
            column("kpi", Kind::Text, "Name in the catalogue"),
            column(
                "value",
                Kind::Float,
                "numerator / denominator + offset, or the numerator where there is no denominator",
            ),
            column("numerator", Kind::Money, "Exact sum"),
            column("denominator", Kind::Money, "Exact sum; null for a plain sum"),
            column("n", Kind::Integer, "Customers behind the value"),
            column("ci_low", Kind::Float, "Lower end of the 95 % interval"),
            column("ci_high", Kind::Float, "Upper end of the 95 % interval"),
            column(
                "previous",
                Kind::Float,
                "The value of the last published night before this one; of a segment, where it was there",
            ),
            column(
                "year_ago",
                Kind::Float,
                "The value of the night of this date a year before, if it is published; of a segment, where it was there",
            ),
            column("baseline", Kind::Float, "The value of the declared baseline night (comparison.baseline), likewise"),
            column("headline", Kind::Boolean, "Whether it is a KPI of what the business is after (project.objective)"),
            column("target", Kind::Float, "What the catalogue says that the value is to be"),
            column("benchmark", Kind::Float, "What the catalogue says that it is elsewhere"),
            column(
                "threshold",
                Kind::Float,
                "Of the whole population, what the gate by the KPI's name asks for; null where there is none",
            ),
            column(
                "verdict",
                Kind::Text,
                "pass or fail, also where the value is not told; null where there is no gate",
            ),
            column("gate", Kind::Text, "required, advisory or none"),
            state("not_identifiable"),
        ],
    )
}

pub(super) fn kpi_breakdowns() -> Table {
    table(
        "kpi_breakdowns",
        "One row per breakdown, item of a dimension and segment, with segment_id null for everybody and item null for all items together",
        vec![
            column("breakdown", Kind::Text, "Name in the catalogue"),
            column("dimension", Kind::Text, "Name of the dimension; null for all items together"),
            column("item", Kind::Text, "Campaign, channel, cohort …; other for what is not told by itself"),
            column("step", Kind::Integer, "The step, in a breakdown of several"),
            column("segment_id", Kind::Small, "Segment; null for everybody, people without a segment included"),
            column("value", Kind::Float, "numerator / denominator + offset"),
            column("numerator", Kind::Money, "Exact sum"),
            column("denominator", Kind::Money, "Exact sum"),
            column("n", Kind::Integer, "People behind the value"),
            column("ci_low", Kind::Float, "Lower end of the 95 % interval"),
            column("ci_high", Kind::Float, "Upper end of the 95 % interval"),
            column("versus", Kind::Float, "The same of those with whom it is compared: a holdout"),
            column("versus_numerator", Kind::Money, "Exact sum of these"),
            column("versus_denominator", Kind::Money, "Exact sum of these"),
            column("difference", Kind::Float, "value − versus: the uplift"),
            column(
                "difference_low",
                Kind::Float,
                "Lower end of its 95 % interval (Newcombe 1998, method 10; Zou and Donner 2008)",
            ),
            column("difference_high", Kind::Float, "Upper end of its 95 % interval"),
            column(
                "needed_n",
                Kind::Integer,
                "People that each of the two groups has to have for a difference of shares as large as this one to be seen with a power of 80 % (Fleiss 1981)",
            ),
            state(
                "cannot_tell (the interval of the difference has both signs), versus_suppressed (only what it is compared with is hidden)",
            ),
        ],
    )
}

pub(super) fn causes() -> Table {
    table(
        "causes",
        "One row per finding: why the change of a KPI since an earlier night happened, and where, of a segment or, with segment_id null, of the whole population. What is found and the rows everywhere, mix and rest add up to the change",
        compared(vec![
            column(
                "rank",
                Kind::Small,
                "The place among the findings of the KPI and segment, from 1 on, by the size of the contribution, whole segments last; null of everywhere, mix, rest and quality",
            ),
            column(
                "finding",
                Kind::Text,
                "missing (rows that usual days like these have), restated, identity or refit (what the earlier night did not know, accounts that are part of another customer, moves because the model is another: terms of kpi_changes), where (a combination of values that changed otherwise than the rest), emerging (the same of month_ago, where no night of these four weeks found it), everywhere (what all share, with what is told by itself nowhere), mix (of a ratio: what the shares of its denominator moved), rest (findings beyond causes.most) or quality (a check that the night's rows fail; of no KPI)",
            ),
            column(
                "dimensions",
                Kind::TextList,
                "The combination, as column=value; of missing, day= or days=; of refit, moved=; of quality, check= and source=; else empty",
            ),
            column(
                "contribution",
                Kind::Float,
                "What it adds to the change, beyond what all cells share; of where and missing, rounded to three digits",
            ),
            column(
                "change",
                Kind::Float,
                "Of where and missing, the same as a share of what was to be expected there; rounded to three digits",
            ),
            column("explanatory_power", Kind::Float, "The contribution as a share of the whole change"),
            column(
                "surprise",
                Kind::Float,
                "How far its share of the whole is from what it was: the Jensen–Shannon divergence in nats (Bhagwan et al. 2014); null where a share is none",
            ),
            column(
                "p_value",
                Kind::Float,
                "How probable as much is without a cause, two-sided; customers are the units",
            ),
            column(
                "q_value",
                Kind::Float,
                "The same among everything that was looked at on the night (Benjamini and Hochberg 1995)",
            ),
            column(
                "bootstrap_share",
                Kind::Float,
                "The share of resamples of the customers in which it is found again",
            ),
            column(
                "cause_id",
                Kind::Text,
                "How the cause is called, the same on every night: of its KPI, segment, finding, dimensions and direction",
            ),
            column(
                "since",
                Kind::Date,
                "Of what is found since the last night: the night from which on it was found on every one",
            ),
            column(
                "occurrences",
                Kind::Small,
                "How often it began within 92 days, this time included: 3 is the third time in a quarter",
            ),
            state(
                "suppressed (one of the two values is hidden), redefined (that night added up something else), rows_differ (the rows of the entry do not add up to its sums)",
            ),
        ]),
    )
}

pub(super) fn cause_episodes() -> Table {
    table(
        "cause_episodes",
        "One row per finding of `causes` since the last night and time that it came: nights in a row on which the same was found in the same direction, kept for 400 days",
        vec![
            column("cause_id", Kind::Text, "How the cause is called, as in `causes`"),
            column("segment_id", Kind::Small, "Segment; null for the whole population"),
            column("kpi", Kind::Text, "Name in the catalogue"),
            column("finding", Kind::Text, "What it is: missing, restated, identity, refit or where"),
            column("dimensions", Kind::TextList, "Of where, the combination, as column=value"),
            column("direction", Kind::Text, "up or down"),
            column("since", Kind::Date, "The first night"),
            column("until", Kind::Date, "The last one"),
            column("nights", Kind::Small, "On how many it was found"),
            column("contribution", Kind::Float, "What it added on the last one"),
        ],
    )
}

pub(super) fn kpi_changes() -> Table {
    table(
        "kpi_changes",
        "One row per KPI, segment, earlier night and term of its change, with segment_id null for the whole population. Terms of one split add up to the change",
        compared(vec![
            column(
                "split",
                Kind::Text,
                "people, by what became of those behind it; segments, by segment (of the whole population). Null where nothing is told",
            ),
            column(
                "term",
                Kind::Text,
                "restated, identity, new, left, moved_in, moved_out, behaviour, withheld (of too few people to be told by themselves); of segments, change, rate or mix",
            ),
            column(
                "step",
                Kind::Small,
                "The place of the term in the waterfall from the old value to the new, from 1 on",
            ),
            column(
                "detail",
                Kind::Text,
                "The cause of a move (data, refit, released), or the factor of what people do",
            ),
            column(
                "of_segment_id",
                Kind::Small,
                "The segment whose change, rate or mix it is; null of people without one",
            ),
            column("numerator", Kind::Money, "What it adds to the numerator, exactly"),
            column("denominator", Kind::Money, "What it adds to the denominator, exactly; null for a plain sum"),
            column(
                "contribution",
                Kind::Float,
                "What it adds to the value; of a ratio, each sum's change by the mean of the other before and after (Kitagawa 1955)",
            ),
            column("from", Kind::Float, "The value before the term"),
            column("to", Kind::Float, "The value after it"),
            state(
                "redefined (that night added up something else), reversed (every segment went the other way than all together)",
            ),
        ]),
    )
}
