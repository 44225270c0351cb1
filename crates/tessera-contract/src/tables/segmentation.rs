//! What segments are: candidates, model, members, where they came from, and whether they hold.

use super::{column, pseudonymous, table};
use crate::table::{Kind, Table};

pub(super) fn feature_report() -> Table {
    pseudonymous(table(
        "feature_report",
        "One row per feature: whom it is known of, how it spreads, what it repeats, and whether it is clustered on. Beside customers, \
         all of it is of the sample",
        vec![
            column("feature", Kind::Text, "Feature"),
            column("criterion", Kind::Text, "behavioural, demographic, geographic or psychographic"),
            column("privacy", Kind::Text, "ordinary, personal or sensitive"),
            column("clustered_on", Kind::Boolean, "Whether the segments are made of it"),
            column(
                "reason",
                Kind::Text,
                "Why it is not clustered on although it was asked for, or what is odd about it; null for nothing",
            ),
            column("customers", Kind::Integer, "Customers for whom it is known"),
            column("coverage", Kind::Float, "Their share"),
            column("distinct_values", Kind::Integer, "Different values"),
            column("mean", Kind::Float, "Mean; null for texts"),
            column("std", Kind::Float, "Standard deviation (n − 1)"),
            column("p10", Kind::Float, "10 % quantile (linear, type 7 of Hyndman & Fan 1996)"),
            column("median", Kind::Float, "Median"),
            column("p90", Kind::Float, "90 % quantile"),
            column("skewness", Kind::Float, "Skewness (Fisher–Pearson, not adjusted)"),
            column("nearest", Kind::Text, "The feature that it goes together with the most"),
            column("correlation", Kind::Float, "Spearman's rank correlation with that"),
            column("alpha", Kind::Float, "Of a scale, Cronbach's α (1951) over those who answered every item"),
        ],
    ))
}

pub(super) fn model_candidates() -> Table {
    table(
        "model_candidates",
        "One row per candidate tried, all judged on the same sample and axes; of a night that keeps its model, that alone",
        vec![
            column(
                "algorithm",
                Kind::Text,
                "kmeans, agglomerative, dbscan, or rules of the project by their name (segmentation.approaches)",
            ),
            column("feature_set", Kind::Text, "The features that it looked at: all, or those of a criterion"),
            column(
                "origin",
                Kind::Text,
                "parent (the model in use, as it is), warm (it goes on from that), or fresh (it knows nothing of it)",
            ),
            column("k", Kind::Small, "Number of segments"),
            column("dissolved", Kind::Small, "Segments that were too small for the gate and went into the others"),
            column("seed", Kind::Integer, "Seed of the best start; null where there are no starts"),
            column("inertia", Kind::Float, "Within-cluster sum of squares on the sample"),
            column("silhouette", Kind::Float, "Mean silhouette (Rousseeuw 1987)"),
            column("davies_bouldin", Kind::Float, "Davies–Bouldin index (1979); smaller is better"),
            column("calinski_harabasz", Kind::Float, "Calinski–Harabasz index (1974)"),
            column("prediction_strength", Kind::Float, "Prediction strength (Tibshirani & Walther 2005)"),
            column("min_size", Kind::Float, "Smallest segment's share of the sample"),
            column(
                "objective_spread",
                Kind::Float,
                "Share of the variance of the objective (segmentation.objective) that lies between the segments",
            ),
            column(
                "score",
                Kind::Float,
                "Weighted mean of the indices, each as a share of the best of the candidates that are in the field: 1 is best in everything",
            ),
            column("chosen", Kind::Boolean, "Whether it was chosen"),
            column("reason", Kind::Text, "Why, or why not"),
        ],
    )
}

pub(super) fn model() -> Table {
    pseudonymous(table(
        "model",
        "One row per segment and feature of the model. The centroid of a few customers tells of them",
        vec![
            column("segment_id", Kind::Small, "Segment"),
            column("segment_name", Kind::Text, "Its name"),
            column("feature", Kind::Text, "Feature"),
            column(
                "category",
                Kind::Text,
                "Of a text, the value that the axis is of; null for the rest of its values, and for numbers",
            ),
            column("model_id", Kind::Text, "Hash of the model"),
            column("centroid", Kind::Float, "Centroid on the scaled axis, in standard deviations from the mean"),
            column("mean", Kind::Float, "Mean of the transformed feature over all customers"),
            column("scale", Kind::Float, "Population standard deviation of the same; 1 where that is 0"),
            column(
                "transform",
                Kind::Text,
                "none, log1p, or of a text one_hot (1 for this value, else 0) and other (1 for the rest)",
            ),
            column("low", Kind::Float, "In the feature's unit: what lies below counts as this; null for no bound"),
            column("high", Kind::Float, "In the feature's unit: what lies above counts as this; null for no bound"),
            column("imputed", Kind::Float, "In the feature's unit: what stands for unknown; null for the mean"),
            column("known_share", Kind::Float, "Share of the customers for whom the feature is known"),
            column("algorithm", Kind::Text, "What found it (model_candidates)"),
            column("feature_set", Kind::Text, "The features that it looks at: all, or those of a criterion"),
            column(
                "rule",
                Kind::Text,
                "SQL over features that says who is in the segment; null where the nearest centroid does",
            ),
            column("fitted_on", Kind::Date, "The night that found it"),
            column("tried_on", Kind::Date, "The last night that looked for a better one; drift is measured from it"),
            column("definition", Kind::Text, "Hash of the settings that it was looked for with"),
        ],
    ))
}

pub(super) fn segments() -> Table {
    pseudonymous(table(
        "segments",
        "One row per customer",
        vec![
            column(
                "segment_id",
                Kind::Small,
                "Segment: an id that it keeps as long as it keeps its members, and that no night after it gives to another (segment_lineage)",
            ),
            column("customer_key", Kind::Text, "Customer"),
            column("segment_name", Kind::Text, "What sets the segment apart"),
            column(
                "distance",
                Kind::Float,
                "Euclidean distance to the centroid, in standard deviations; null where rules say who is in it",
            ),
            column(
                "margin",
                Kind::Float,
                "(d2 − d1) / d2 of the two nearest centroids; of who is kept, as far below 0 as it would be above",
            ),
            column("borderline", Kind::Boolean, "Whether the margin is below the project's threshold"),
            column(
                "kept",
                Kind::Boolean,
                "Whether another segment is nearer, by so little that the customer stays in the one of the parent night",
            ),
            column(
                "imputed",
                Kind::Small,
                "Of how many of the features clustered on the customer's value is not known",
            ),
        ],
    ))
}

pub(super) fn segment_lineage() -> Table {
    pseudonymous(table(
        "segment_lineage",
        "One row per segment that ever was and segment of the parent night of which it is",
        vec![
            column("segment_id", Kind::Small, "Segment"),
            column("parent_id", Kind::Small, "Segment of the parent night of which it is; null for none"),
            column(
                "event",
                Kind::Text,
                "carried (it goes on), merged (it took in segments that are no more), split (it is part of another), born (it is new) or died",
            ),
            column(
                "of_parent",
                Kind::Float,
                "Share of the parent's members who are in it, of those who are in any segment tonight",
            ),
            column(
                "of_segment",
                Kind::Float,
                "Share of its members who come from the parent, of those who were in any segment on the parent night",
            ),
            column("born", Kind::Date, "The night on which it came"),
            column("ended", Kind::Date, "The night on which it was no more; null while it goes on"),
        ],
    ))
}

pub(super) fn segment_moves() -> Table {
    pseudonymous(table(
        "segment_moves",
        "One row per customer who is not in the segment of the parent night",
        vec![
            column("customer_key", Kind::Text, "Customer"),
            column("from_segment_id", Kind::Small, "Segment on the parent night; null for none"),
            column("to_segment_id", Kind::Small, "Segment tonight; null for none"),
            column(
                "cause",
                Kind::Text,
                "data (the parent night's model puts the customer elsewhere too), released (so it does, and did on the parent night, when the \
                 customer was kept), refit (it does not: the model is another), new, left, or identity (accounts were put together or parted)",
            ),
        ],
    ))
}

pub(super) fn drift() -> Table {
    pseudonymous(table(
        "drift",
        "One row per feature: how far its distribution over the customers has gone from where it was when a model was last looked for before tonight",
        vec![
            column(
                "feature",
                Kind::Text,
                "Feature, or (distance): how far customers are from the centroid of their segment",
            ),
            column("clustered_on", Kind::Boolean, "Whether the segments are made of it"),
            column(
                "psi",
                Kind::Float,
                "Population stability index of the sample, on bins frozen on reference_as_of; null where they are frozen tonight for the first time",
            ),
            column(
                "critical_value",
                Kind::Float,
                "What it does not exceed in 95 of 100 comparisons without a change (Yurdakul & Naranjo 2020)",
            ),
            column("bins", Kind::Small, "Bins that anybody is in"),
            column("n", Kind::Integer, "Customers of tonight's sample"),
            column("reference_n", Kind::Integer, "Customers of the sample that it is held against"),
            column("reference_as_of", Kind::Date, "The night that froze the bins"),
            column(
                "state",
                Kind::Text,
                "frozen (tonight), stable, changed (beyond the critical value) or shifted (beyond segmentation.refit_psi too)",
            ),
        ],
    ))
}

pub(super) fn drift_bins() -> Table {
    pseudonymous(table(
        "drift_bins",
        "One row per feature and bin that the next night measures drift on. A bin of a few customers tells of them",
        vec![
            column("feature", Kind::Text, "Feature"),
            column("bin", Kind::Small, "Number of the bin, from 0"),
            column("above", Kind::Float, "Of numbers: the bin begins above this; null for no bound"),
            column("up_to", Kind::Float, "And ends with this; null for no bound"),
            column("category", Kind::Text, "Of texts, the value; null for all others"),
            column("unknown", Kind::Boolean, "Whether the bin is of those for whom the feature is not known"),
            column("reference", Kind::Integer, "Customers of the sample on the night that froze the bins"),
            column("customers", Kind::Integer, "Customers of tonight's sample"),
            column("reference_as_of", Kind::Date, "The night that froze the bins"),
        ],
    ))
}

pub(super) fn segment_rules() -> Table {
    pseudonymous(table(
        "segment_rules",
        "One row per leaf of a small tree that says in people's units who is in which segment (a surrogate, Craven & Shavlik 1996), learned from the sample over the features that are clustered on, without sensitive ones",
        vec![
            column("segment_id", Kind::Small, "The segment that whoever fits the rule is placed in"),
            column(
                "rule",
                Kind::Small,
                "Number of the rule; those of a segment are alternatives, and every customer fits one",
            ),
            column("condition", Kind::Text, "The rule, over the columns of `features`, as SQL that people can read"),
            column("customers", Kind::Integer, "Customers who fit it"),
            column("members", Kind::Integer, "Those of them who are in the segment"),
            column("precision", Kind::Float, "members / customers"),
            column("recall", Kind::Float, "members as a share of everybody in the segment"),
            column(
                "elsewhere",
                Kind::Float,
                "The price of being simple: the share of all customers whom the tree places in another segment than theirs; the same in every row",
            ),
            column(
                "sql",
                Kind::Text,
                "The whole tree as an expression over the columns of `features` that gives the segment, whatever is null; the same in every row",
            ),
        ],
    ))
}

pub(super) fn segment_profiles() -> Table {
    table(
        "segment_profiles",
        "One row per segment and feature; what stands for fewer than privacy.k people, or would tell of these with other figures, is null",
        vec![
            column("segment_id", Kind::Small, "Segment"),
            column("feature", Kind::Text, "Feature"),
            column("customers", Kind::Integer, "Members for whom the feature is known"),
            column(
                "mean",
                Kind::Float,
                "Mean over all members for whom it is known; to three digits where customers is null",
            ),
            column(
                "median",
                Kind::Float,
                "Median over the members in the sample; null unless privacy.k of them lie on either side",
            ),
            column(
                "p10",
                Kind::Float,
                "10 % quantile over the members in the sample; null unless privacy.k of them lie below",
            ),
            column(
                "p90",
                Kind::Float,
                "90 % quantile over the members in the sample; null unless privacy.k of them lie above",
            ),
            column("population_mean", Kind::Float, "Mean over all customers"),
            column(
                "effect_size",
                Kind::Float,
                "(mean − population mean) / population standard deviation, on the feature's scale for clustering",
            ),
        ],
    )
}

pub(super) fn validation() -> Table {
    table(
        "validation",
        "One row per check and scope",
        vec![
            column("segment_id", Kind::Small, "Segment; null for the whole model"),
            column("metric", Kind::Text, "What was measured"),
            column("scope", Kind::Text, "model or segment"),
            column(
                "value",
                Kind::Float,
                "Its value; null if it cannot be measured, or is the size of too small a segment",
            ),
            column("threshold", Kind::Float, "The gate's threshold; null where there is no gate"),
            column("state", Kind::Text, "pass, fail or info"),
            column("gate", Kind::Text, "required, advisory or none"),
        ],
    )
}
