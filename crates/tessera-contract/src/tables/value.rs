//! What customers are going to be worth.

use super::{column, pseudonymous, table};
use crate::{
    Project,
    table::{Kind, Table},
};

pub(super) fn customer_value(project: &Project) -> Table {
    let mut columns = vec![
        column("customer_key", Kind::Text, "Customer"),
        column(
            "p_alive",
            Kind::Float,
            "Probability that the customer has not been lost (BG/NBD or MBG/NBD, see clv_model)",
        ),
    ];
    columns.extend(project.value.horizons().map(|(name, days)| {
        column(&name, Kind::Float, &format!("Days with an order that are to be expected in the next {days} days"))
    }));
    columns.extend([
        column(
            "expected_order_value",
            Kind::Money,
            "Value to be expected of a day with an order (Gamma-Gamma): between the customer's own and that of everybody",
        ),
        column(
            "clv",
            Kind::Money,
            "Customer lifetime value: the orders of the next `value.months` months, times their value and `value.margin`, discounted by month",
        ),
        column("churn_risk", Kind::Float, "1 − p_alive"),
        column(
            "next_order_days",
            Kind::Float,
            "Days within which, if not lost, the customer orders again with a probability of one half; null beyond a century",
        ),
        column(
            "basis",
            Kind::Text,
            "predicted; historical_spend where Gamma-Gamma is refused, and the mean value of the customer's orders stands in; historical where the model of purchases is refused, and clv is the net revenue to date",
        ),
    ]);
    pseudonymous(table("customer_value", "One row per customer with an order: what they are going to buy", columns))
}

pub(super) fn clv_model() -> Table {
    // Parameters to the last digit follow from everybody: who has yesterday's too could ask what one more customer was like.
    pseudonymous(table(
        "clv_model",
        "One row per parameter of the models of customer value, fitted on the night's customers by maximum likelihood",
        vec![
            column("model", Kind::Text, "bg_nbd, mbg_nbd or gamma_gamma"),
            column("parameter", Kind::Text, "Name in the paper; null for a model that was refused"),
            column("value", Kind::Float, "Maximum likelihood estimate"),
            column("std_error", Kind::Float, "Standard error, by the observed information"),
            column("log_likelihood", Kind::Float, "Logarithm of the likelihood at the maximum"),
            column("n", Kind::Integer, "Customers that it was fitted on"),
            column(
                "time_unit",
                Kind::Text,
                "What time is measured in: days, weeks or months; null where there is none",
            ),
            column("chosen", Kind::Boolean, "Whether customer_value is of this model"),
            column("state", Kind::Text, "ok or not_identifiable"),
            column("told", Kind::Text, "Why a model was refused, or what is odd of it; otherwise null"),
        ],
    ))
}

pub(super) fn clv_backtest() -> Table {
    pseudonymous(table(
        "clv_backtest",
        "One row per horizon and tenth of the customers: what the night so many days before predicted, beside what came; empty where that night is not published",
        vec![
            column("horizon_days", Kind::Integer, "Days that were predicted"),
            column("reference_as_of", Kind::Date, "The night that predicted them"),
            column("tenth", Kind::Small, "Tenth of its customers by what was predicted, 1 the least; null for all"),
            column("customers", Kind::Integer, "Customers who are still there"),
            column("predicted", Kind::Float, "Mean of the days with an order that were predicted"),
            column("observed", Kind::Float, "Mean of those that came"),
            column("std_error", Kind::Float, "Standard error of that mean"),
        ],
    ))
}
