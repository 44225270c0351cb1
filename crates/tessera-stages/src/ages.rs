//! Days as ages: how many of the project's days one is before the day before the night.

use tessera_contract::Entity;

use crate::Night;

/// SQL of the age of a row of an entity, where `timezone` is known.
pub(crate) fn of_row(night: &Night<'_>, entity: Entity) -> String {
    let event = entity.event_time();
    format!("CAST(days_between(try_date({event}, timezone), DATE '{}') AS BIGINT) - 1", night.as_of.date())
}

/// The date of a day by its age.
pub(crate) fn dated(night: &Night<'_>, age: i64) -> String {
    let days = jiff::Span::new().days(age + 1);
    night.as_of.date().checked_sub(days).map_or_else(|_| format!("{age} days ago"), |date| date.to_string())
}
