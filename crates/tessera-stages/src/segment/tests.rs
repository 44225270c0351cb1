use tessera_contract::Scaling;

use super::*;
use crate::testing::{self, Given};

fn axis(feature: &str) -> Axis {
    Axis::new(feature, Part::Number(Scaling::None))
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

/// A segment keeps the id that it had, whatever its rank is tonight; ids of segments that are no more stay theirs.
#[tokio::test]
async fn segments_keep_their_ids() {
    let before = "
        segment_id | customer_key
        1          | A
        1          | B
        1          | G
        4          | D
        4          | E
        4          | H";
    let lineage = "
        segment_id | parent_id | event   | of_parent | of_segment | born       | ended
        1          | 1         | carried | 1         | 1          | 2025-01-01 |
        4          | 3         | split   | 0.4       | 1          | 2025-02-01 |
        3          |           | died    |           |            | 2025-01-01 | 2025-02-01";
    let given = Given {
        project: TWO,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", FEATURES)],
        previous: &[("segments", before), ("segment_lineage", lineage)],
        looks_at: &[
            ("segments", "customer_key segment_id segment_name"),
            ("segment_lineage", ""),
            ("model", "segment_id feature"),
        ],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    segments
    segment_id | customer_key | segment_name
    1          | A            | high monetary, low recency
    1          | B            | high monetary, low recency
    1          | C            | high monetary, low recency
    4          | D            | low monetary, high recency
    4          | E            | low monetary, high recency
    4          | F            | low monetary, high recency

    segment_lineage
    segment_id | parent_id | event   | of_parent | of_segment | born       | ended
    1          | 1         | carried | 1         | 1          | 2025-01-01 |
    3          |           | died    |           |            | 2025-01-01 | 2025-02-01
    4          | 4         | carried | 1         | 1          | 2025-02-01 |

    model
    segment_id | feature
    1          | frequency
    1          | monetary
    1          | recency_days
    4          | frequency
    4          | monetary
    4          | recency_days
    ");
    // One of two in which both were: the larger part goes on, the other is new.
    let one = "
        segment_id | customer_key
        7          | A
        7          | B
        7          | C
        7          | D
        7          | E";
    let lineage = "
        segment_id | parent_id | event | born
        7          |           | born  | 2025-01-01";
    let given = Given {
        previous: &[("segments", one), ("segment_lineage", lineage)],
        looks_at: &[("segment_lineage", "segment_id parent_id event of_parent of_segment born ended")],
        project: TWO,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", FEATURES)],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    segment_lineage
    segment_id | parent_id | event   | of_parent | of_segment | born       | ended
    7          | 7         | carried | 0.6       | 1          | 2025-01-01 |
    8          | 7         | split   | 0.4       | 1          | 2025-04-01 |
    ");
}

/// Everybody who is not where they were, with one cause each.
#[tokio::test]
async fn moves_have_causes() {
    let features = format!(
        "{FEATURES}
    I            | 205          | 1         | 12.00
    J            | 195          | 2         | 9.50"
    );
    let before = "
        segment_id | customer_key
        1          | B
        1          | C
        1          | E
        1          | H
        4          | A
        4          | D
        4          | F
        4          | G";
    let lineage = "
        segment_id | event | born
        1          | born  | 2025-01-01
        4          | born  | 2025-01-01";
    // The parent night's model asks more of the rich: A is none of them by it.
    let model = "
        segment_id | feature  | centroid | mean | scale | transform
        1          | monetary | 2        | 4.6  | 2.2   | log1p
        4          | monetary | 0.9      | 4.6  | 2.2   | log1p";
    let then = "
        account_key | customer_key
        A           | A
        D           | D
        G           | G
        H           | H
        J           | D";
    let now = "
        account_key | customer_key
        A           | A
        D           | D
        H           | A
        I           | I
        J           | J";
    let given = Given {
        project: TWO,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", &features), ("accounts", now)],
        previous: &[("segments", before), ("segment_lineage", lineage), ("model", model), ("accounts", then)],
        looks_at: &[("segment_moves", "customer_key from_segment_id to_segment_id cause")],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    segment_moves
    customer_key | from_segment_id | to_segment_id | cause
    A            | 4               | 1             | refit
    E            | 1               | 4             | data
    G            | 4               |               | left
    H            | 1               |               | identity
    I            |                 | 4             | new
    J            |                 | 4             | identity
    ");
}

/// A shop's customers by what they are: a text, a giant, somebody who said nothing, and a scale whose items do not go together.
#[tokio::test]
async fn texts_giants_and_silence_have_their_place_in_the_model() {
    let features = "
        customer_key | monetary | country | income | calm_a | calm_b | calm | kind_a | kind_b | kind
        A            | 1        | DE      | 10     | 1      | 5      | 3    | 1      | 1      | 1
        B            | 2        | DE      | 20     | 5      | 1      | 3    | 5      | 4      | 4.5
        C            | 3        | AT      |        | 2      | 4      | 3    | 2      | 2      | 2
        D            | 4        | AT      | 30     | 4      | 3      | 3.5  | 4      | 4      | 4
        E            | 5        | CH      | 40     | 3      | 3      | 3    | 3      | 2      | 2.5
        F            | 9000     |         | 50     | 2      | 3      | 2.5  | 2      | 3      | 2.5";
    let scale =
        |name: &str| format!("[scales.{name}]\nitems = [\"a\", \"b\"]\nrange = [1, 5]\ndescription = \"{name}\"\n");
    let project = format!(
        "[sources.transactions]\nurl = \"transactions.csv\"\n[segmentation]\nk = 2\nwithout = [\"sensitive\"]\n\
         features = [\"monetary\", \"country\", \"income\", \"calm\", \"kind\", \"gender\"]\n\
         [features.monetary]\nwinsorise = 0.1\nscaling = \"none\"\n[features.gender]\nenabled = true\n[features.country]\nenabled = true\ncategories = 2\n\
         [features.income]\nenabled = true\nimpute = \"median\"\nscaling = \"none\"\n{}{}",
        scale("calm"),
        scale("kind"),
    );
    let given = Given {
        project: &project,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", features)],
        previous: &[],
        looks_at: &[
            ("segments", "customer_key imputed"),
            ("model", "segment_id feature category transform low high imputed known_share mean"),
            (
                "feature_report",
                "feature clustered_on reason customers coverage distinct_values median nearest correlation alpha",
            ),
        ],
    };
    let found = testing::check(&STAGE, given).await;
    let told: Vec<&str> =
        found.lines().filter(|line| !line.contains("no source gives") && !line.starts_with("1  ")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    segments
    customer_key | imputed
    A            | 0
    B            | 0
    C            | 1
    D            | 0
    E            | 0
    F            | 1

    model
    segment_id | feature  | category | mean | transform | low | high   | imputed | known_share
    0          | country  |          | 0.2  | other     |     |        |         | 0.833333
    0          | country  | AT       | 0.4  | one_hot   |     |        |         | 0.833333
    0          | country  | DE       | 0.4  | one_hot   |     |        |         | 0.833333
    0          | income   |          | 30   | none      |     |        | 30      | 0.833333
    0          | kind     |          | 2.75 | none      |     |        |         | 1
    0          | monetary |          | 753  | none      | 1.5 | 4502.5 |         | 1

    feature_report
    feature                 | clustered_on | reason                                                                        | customers | coverage | distinct_values | median | nearest  | correlation | alpha
    calm                    | false        | its items do not go together: Cronbach's α is -17.67, and 0.6 is asked        | 6         | 1        | 3               | 3      | income   | -0.447214   | -17.666667
    calm_a                  | false        |                                                                               | 6         | 1        | 5               | 2.5    | kind_a   | 1           |
    calm_b                  | false        |                                                                               | 6         | 1        | 4               | 3      | kind     | -0.954864   |
    country                 | true         |                                                                               | 5         | 0.833333 | 3               |        |          |             |
    income                  | true         | it says what monetary says (rank correlation 1.00): together they count twice | 5         | 0.833333 | 5               | 30     | monetary | 1           |
    kind                    | true         |                                                                               | 6         | 1        | 5               | 2.5    | calm_a   | 0.955882    | 0.915423
    kind_a                  | false        |                                                                               | 6         | 1        | 5               | 2.5    | calm_a   | 1           |
    kind_b                  | false        |                                                                               | 6         | 1        | 4               | 2.5    | kind     | 0.940403    |
    monetary                | true         | it says what income says (rank correlation 1.00): together they count twice   | 6         | 1        | 6               | 3.5    | income   | 1           |
    ");
}
