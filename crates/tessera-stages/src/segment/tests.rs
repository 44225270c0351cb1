use tessera_contract::{Project, Scaling};

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
    0          | frequency    | 0.980636  | 1.563389 | 0.749603 | log1p
    0          | monetary     | 0.999529  | 4.605707 | 2.210788 | log1p
    0          | recency_days | -0.997178 | 3.334816 | 1.972836 | log1p
    1          | frequency    | -0.980636 | 1.563389 | 0.749603 | log1p
    1          | monetary     | -0.999529 | 4.605707 | 2.210788 | log1p
    1          | recency_days | 0.997178  | 3.334816 | 1.972836 | log1p
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

/// One feature, gates that a few pass, and nothing looked for that would take long.
const ONE: &str = "[sources.transactions]\nurl = \"transactions.csv\"\n[segmentation]\nmin_k = 2\nmax_k = 3\nfeatures = [\"monetary\"]\n\
                   approaches = [\"kmeans\"]\n[validation.gates.customers]\nat_least = 1\n";

/// The table of a model of two segments, `3` around −1 and `7` around 1, as `ONE` defines it.
fn in_use(tried_on: &str) -> String {
    let definition = definition(&Project::load("t", ONE, &[]).expect("a project"));
    let row = |id: i32, centroid: i32| {
        format!(
            "{id} | {} | monetary | {centroid} | 0 | 1 | none | kmeans | all | 2025-01-01 | {tried_on} | {definition}\n",
            if id == 3 { "frugal" } else { "lavish" }
        )
    };
    let head = "segment_id | segment_name | feature | centroid | mean | scale | transform | algorithm | feature_set | fitted_on | tried_on | definition\n";
    format!("{head}{}{}", row(3, -1), row(7, 1))
}

const BEFORE: &str = "
    segment_id | customer_key | kept
    7          | A            | false
    7          | B            | false
    3          | C            | false
    3          | D            | false
    3          | E            | false
    3          | G            | false
    3          | H            | true
    3          | I            | false";
const OF_TWO: &str = "
    segment_id | event | born
    3          | born  | 2025-01-01
    7          | born  | 2025-01-01";
const SPENT: &str = "
    customer_key | monetary
    A            | 1.00
    B            | 1.20
    C            | -1.00
    D            | -1.10
    E            | 0.02
    F            | 0.02
    G            | 0.60
    H            | 0.90
    I            | -0.90";

/// The model stays, and so does who is borderline; who was kept on the parent night and is beyond it tonight is released.
#[tokio::test]
async fn a_night_goes_by_the_model_in_use() {
    let model = in_use("2025-03-20");
    let given = Given {
        project: ONE,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", SPENT)],
        previous: &[("segments", BEFORE), ("segment_lineage", OF_TWO), ("model", &model), ("accounts", "account_key")],
        looks_at: &[
            ("segments", "customer_key segment_id segment_name distance margin borderline kept"),
            ("segment_moves", "customer_key from_segment_id to_segment_id cause"),
            ("segment_lineage", ""),
            ("model_candidates", "algorithm feature_set origin k chosen reason"),
            ("model", "segment_id segment_name centroid fitted_on tried_on"),
        ],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    segments
    segment_id | customer_key | segment_name | distance | margin    | borderline | kept
    3          | C            | frugal       | 0        | 1         | false      | false
    3          | D            | frugal       | 0.1      | 0.952381  | false      | false
    3          | E            | frugal       | 1.02     | -0.039216 | true       | true
    3          | I            | frugal       | 0.1      | 0.947368  | false      | false
    7          | A            | lavish       | 0        | 1         | false      | false
    7          | B            | lavish       | 0.2      | 0.909091  | false      | false
    7          | F            | lavish       | 0.98     | 0.039216  | true       | false
    7          | G            | lavish       | 0.4      | 0.75      | false      | false
    7          | H            | lavish       | 0.1      | 0.947368  | false      | false

    segment_moves
    customer_key | from_segment_id | to_segment_id | cause
    F            |                 | 7             | new
    G            | 3               | 7             | data
    H            | 3               | 7             | released

    segment_lineage
    segment_id | parent_id | event   | of_parent | of_segment | born
    3          | 3         | carried | 0.666667  | 1          | 2025-01-01
    7          | 7         | carried | 1         | 0.5        | 2025-01-01

    model_candidates
    algorithm | feature_set | origin | k | chosen | reason
    kmeans    | all         | parent | 2 | true   | in use since 2025-01-01

    model
    segment_id | segment_name | centroid | fitted_on  | tried_on
    3          | frugal       | -1       | 2025-01-01 | 2025-03-20
    7          | lavish       | 1        | 2025-01-01 | 2025-03-20
    ");
}

/// Customers are no longer where they were: others are tried beside the model in use.
#[tokio::test]
async fn drift_asks_for_a_better_model() {
    let model = in_use("2025-03-20");
    let bins = "
        feature  | bin | above | up_to | unknown | reference | reference_as_of
        monetary | 0   |       | -5    | false   | 90        | 2025-03-20
        monetary | 1   | -5    |       | false   | 10        | 2025-03-20
        monetary | 2   |       |       | true    | 0         | 2025-03-20";
    let previous = [
        ("segments", BEFORE),
        ("segment_lineage", OF_TWO),
        ("model", model.as_str()),
        ("accounts", "account_key"),
        ("drift_bins", bins),
    ];
    let given = Given {
        project: ONE,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", SPENT)],
        previous: &previous,
        looks_at: &[
            ("model_candidates", "algorithm origin k chosen reason"),
            ("segment_lineage", ""),
            ("model", "segment_id centroid fitted_on tried_on"),
        ],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r"
    model_candidates
    algorithm | origin | k | chosen | reason
    kmeans    | fresh  | 2 | false  | scores less
    kmeans    | fresh  | 3 | true   | best score
    kmeans    | parent | 2 | false  | scores less

    segment_lineage
    segment_id | parent_id | event   | of_parent | of_segment | born
    3          | 3         | carried | 0.666667  | 1          | 2025-01-01
    7          | 7         | carried | 1         | 0.666667   | 2025-01-01
    8          | 3         | split   | 0.166667  | 1          | 2025-04-01

    model
    segment_id | centroid  | fitted_on  | tried_on
    3          | -0.869461 | 2025-04-01 | 2025-04-01
    7          | 1.267763  | 2025-04-01 | 2025-04-01
    8          | 0.544016  | 2025-04-01 | 2025-04-01
    ");
}

/// Rules are an approach like any other, and say who is where.
#[tokio::test]
async fn segments_by_rule() {
    let project = format!(
        "{}approach = \"mine\"\n[segmentation.rules.mine]\ndescription = \"by spend\"\nscores.m = {{ feature = \"monetary\", cuts = [0.0] }}\n\
         [segmentation.rules.mine.segments]\nhave = {{ m = [2, 2] }}\nowe = {{ m = [1, 1] }}\n[validation.gates.customers]\nat_least = 1\n",
        ONE.split("[validation").next().unwrap_or_default().replace("[\"kmeans\"]", "[\"kmeans\", \"mine\"]")
    );
    let given = Given {
        project: &project,
        as_of: "2025-04-01",
        sources: &[],
        tables: &[("features", SPENT)],
        previous: &[],
        looks_at: &[
            ("segments", "customer_key segment_id segment_name distance"),
            ("model", "segment_id segment_name feature centroid rule algorithm"),
            ("model_candidates", "algorithm origin k chosen reason"),
        ],
    };
    insta::assert_snapshot!(testing::check(&STAGE, given).await, @r#"
    segments
    segment_id | customer_key | segment_name | distance
    0          | A            | have         |
    0          | B            | have         |
    0          | E            | have         |
    0          | F            | have         |
    0          | G            | have         |
    0          | H            | have         |
    1          | C            | owe          |
    1          | D            | owe          |
    1          | I            | owe          |

    model
    segment_id | segment_name | feature  | centroid  | algorithm | rule
    0          | have         | monetary | 0.446846  | mine      | CAST("monetary" AS DOUBLE) > CAST('0.0' AS DOUBLE)
    1          | owe          | monetary | -0.893691 | mine      | (CAST("monetary" AS DOUBLE) IS NULL OR CAST("monetary" AS DOUBLE) <= CAST('0.0' AS DOUBLE))

    model_candidates
    algorithm | origin | k | chosen | reason
    kmeans    | fresh  | 2 | false  | the project fixes another
    kmeans    | fresh  | 3 | false  | the project fixes another
    mine      | fresh  | 2 | true   | best score
    "#);
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
    segment_id | feature  | category | mean     | transform | low   | high   | imputed | known_share
    0          | country  |          | 0.2      | other     |       |        |         | 0.833333
    0          | country  | AT       | 0.4      | one_hot   |       |        |         | 0.833333
    0          | country  | DE       | 0.4      | one_hot   |       |        |         | 0.833333
    0          | income   |          | 30       | none      | 10.2  | 49.8   | 30      | 0.833333
    0          | kind     |          | 2.752083 | none      | 1.025 | 4.4875 |         | 1
    0          | monetary |          | 753      | none      | 1.5   | 4502.5 |         | 1

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
