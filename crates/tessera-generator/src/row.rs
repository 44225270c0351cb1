//! A row of the transaction file, and how it is written.

use crate::GeneratorError;
use crate::archetype::{CATEGORY, CHANNEL};
use crate::csv::Break;
use crate::dirt::Kind;
use crate::effects::Effect;
use crate::write::Table;

/// 2099-12-31 00:00.
pub(crate) const FAR_FUTURE: i64 = 4_102_358_400;

/// A row of the transaction file.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub order: &'a str,
    pub line: i32,
    pub at: i64,
    pub sku: &'a str,
    pub category: usize,
    pub quantity: i32,
    pub price: i64,
    pub discount: i32,
    pub cost: i64,
    pub channel: usize,
    pub is_return: bool,
}

impl Row<'_> {
    /// Signed, in ten-thousandths of a currency unit.
    pub(crate) fn amount(&self) -> i64 {
        i64::from(self.quantity) * self.price * i64::from(100 - self.discount)
    }

    pub(crate) fn day(&self) -> i32 {
        self.at.div_euclid(86_400) as i32
    }

    pub(crate) fn effect(&self) -> Effect {
        Effect { lines: 1, revenue: self.amount(), ..Effect::default() }
    }

    /// Writes the row, damaged as its fate says; `detail` chooses among the ways to do so.
    pub(crate) fn put(
        &self,
        table: &mut Table,
        customer: &str,
        fate: Option<Kind>,
        detail: u64,
    ) -> Result<(), GeneratorError> {
        table.text(Some(self.order));
        table.whole(Some(self.line));
        match fate {
            Some(Kind::MissingCustomer) => table.text(None),
            Some(Kind::OrphanCustomer) => table.text(Some(&format!("L{:06}", detail % 400_000))),
            _ => table.text(Some(customer)),
        }
        match fate {
            Some(Kind::UnreadableDate) => table.unreadable(detail),
            Some(Kind::FarFuture) => table.time(Some(FAR_FUTURE)),
            _ => table.time(Some(self.at)),
        }
        table.text(Some(self.sku));
        table.text(Some(CATEGORY[self.category].0));
        let absurd = (fate == Some(Kind::AbsurdNumber)).then_some(detail & 1);
        table.whole(Some(match (fate, absurd) {
            (Some(Kind::ZeroQuantity), _) => 0,
            (_, Some(0)) => 1_000_000,
            _ => self.quantity,
        }));
        table.money(Some(match (fate, absurd) {
            (Some(Kind::NonPositivePrice), _) if detail & 1 == 0 => 0,
            (Some(Kind::NonPositivePrice), _) => -self.price,
            (_, Some(1)) => 9_999_999_999,
            _ => self.price,
        }));
        table.whole(Some(self.discount));
        table.money(Some(self.cost));
        table.text(Some(CHANNEL[self.channel]));
        table.text(Some(if self.is_return { "Y" } else { "N" }));
        table.end_row(match fate {
            Some(Kind::RaggedLine) if detail & 1 == 0 => Break::TooMany,
            Some(Kind::RaggedLine) => Break::TooFew,
            Some(Kind::InvalidUtf8) => Break::InvalidUtf8,
            _ => Break::None,
        })
    }
}
