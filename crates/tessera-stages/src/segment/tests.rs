use super::*;
use crate::testing::{self, Given};

fn axis(feature: &str) -> Axis {
    Axis { feature: feature.to_owned(), scaling: Scaling::None, mean: 0.0, scale: 1.0 }
}

#[test]
fn names_say_what_sets_a_segment_apart() {
    let axes = [axis("recency_days"), axis("monetary"), axis("return_rate")];
    let centroids = Centroids::new(3, 3, vec![-0.2, 2.0, 1.0, 0.3, -2.0, 0.0, -0.1, 2.0, 0.5]).expect("finite");
    assert_eq!(
        names(&axes, &centroids),
        ["high monetary, high return rate (1)", "low monetary, high recency", "high monetary, high return rate (2)"]
    );
}

#[test]
fn segments_are_numbered_by_the_ordering_feature() {
    let centroids = Centroids::new(3, 2, vec![0.0, -1.0, 0.0, 3.0, 5.0, 3.0]).expect("finite");
    let ordered = in_order(&centroids, Some(1));
    assert_eq!(ordered.row(0), [5.0, 3.0]);
    assert_eq!(ordered.row(2), [0.0, -1.0]);
}

/// Two groups that anybody sees, given without order; the rich come first.
const FEATURES: &str = "
    customer_key | recency_days | frequency | monetary
    D            | 210          | 1         | 11.00
    A            | 3            | 9         | 900.00
    E            | 190          | 1         | 9.00
    B            | 4            | 8         | 850.00
    C            | 2            | 10        | 990.00
    F            | 200          | 2         | 10.00";
const TWO: &str = "[sources.transactions]\nurl = \"transactions.csv\"\n[segmentation]\nk = 2\nfeatures = [\"recency_days\", \
                   \"frequency\", \"monetary\"]\n";

#[tokio::test]
async fn two_groups_are_found() {
    let given = Given {
        project: TWO,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", FEATURES)],
        previous: &[],
        looks_at: &[
            ("segments", "customer_key segment_id segment_name borderline"),
            ("model", "segment_id feature centroid mean scale transform"),
        ],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    segments
    segment_id | customer_key | segment_name               | borderline
    0          | A            | high monetary, low recency | false
    0          | B            | high monetary, low recency | false
    0          | C            | high monetary, low recency | false
    1          | D            | low monetary, high recency | false
    1          | E            | low monetary, high recency | false
    1          | F            | low monetary, high recency | false

    model
    segment_id | feature      | centroid  | mean     | scale    | transform
    0          | frequency    | 0.98059   | 1.563769 | 0.750024 | log1p
    0          | monetary     | 0.999515  | 4.60567  | 2.211614 | log1p
    0          | recency_days | -0.997086 | 3.33363  | 1.974602 | log1p
    1          | frequency    | -0.98059  | 1.563769 | 0.750024 | log1p
    1          | monetary     | -0.999515 | 4.60567  | 2.211614 | log1p
    1          | recency_days | 0.997086  | 3.33363  | 1.974602 | log1p
    ");
}
