//! Columns and tables: names, kinds and meanings, and their Arrow schema.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Digits of a money or quantity sum, and how many of them stand after the point.
pub const MONEY: (u8, i8) = (38, 6);
/// The same for one price or cost as it stands in a source row.
pub const PRICE: (u8, i8) = (18, 4);
/// The same for a quantity.
pub const QUANTITY: (u8, i8) = (15, 3);
/// The same for a fraction such as a discount.
pub const FRACTION: (u8, i8) = (9, 6);

/// The kind of value that a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A list of texts.
    TextList,
    /// A signed whole number of 64 bits.
    Integer,
    /// A signed whole number of 32 bits: ids and ordinals.
    Small,
    /// A double.
    Float,
    /// True or false.
    Boolean,
    /// An instant in microseconds, UTC.
    Instant,
    /// A calendar date.
    Date,
    /// An exact sum of money: see [`MONEY`].
    Money,
    /// An exact price: see [`PRICE`].
    Price,
    /// An exact quantity: see [`QUANTITY`].
    Quantity,
    /// An exact fraction: see [`FRACTION`].
    Fraction,
}

impl Kind {
    /// The Arrow type that holds it.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::TextList => DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))),
            Self::Integer => DataType::Int64,
            Self::Small => DataType::Int32,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
            Self::Money => DataType::Decimal128(MONEY.0, MONEY.1),
            Self::Price => DataType::Decimal128(PRICE.0, PRICE.1),
            Self::Quantity => DataType::Decimal128(QUANTITY.0, QUANTITY.1),
            Self::Fraction => DataType::Decimal128(FRACTION.0, FRACTION.1),
        }
    }

    /// What a person would call it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::TextList => "list of text",
            Self::Integer => "integer",
            Self::Small => "small integer",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Instant => "instant (UTC)",
            Self::Date => "date",
            Self::Money => "decimal(38,6)",
            Self::Price => "decimal(18,4)",
            Self::Quantity => "decimal(15,3)",
            Self::Fraction => "decimal(9,6)",
        }
    }
}

/// One column of an entity or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// What it means, with its unit.
    pub description: String,
    /// Whether it says *where* something was found rather than *what* it is (a file, a row number): such columns are
    /// left out of the content fingerprint, because shuffled input must give the same answer.
    pub circumstantial: bool,
}

impl Column {
    /// A column that counts for the fingerprint.
    #[must_use]
    pub fn new(name: &str, kind: Kind, description: &str) -> Self {
        Self { name: name.to_owned(), kind, description: description.to_owned(), circumstantial: false }
    }

    /// The same column, left out of the fingerprint.
    #[must_use]
    pub fn circumstantial(mut self) -> Self {
        self.circumstantial = true;
        self
    }
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, which is also its folder in the lake.
    pub name: String,
    /// One row per what, and what for.
    pub description: String,
    /// Who may read it.
    pub class: Class,
    /// Whether it is what is known, which grows by what is new and which a night names a version of. Otherwise it is what a
    /// night says, partitioned by `as_of`.
    pub grows: bool,
    /// Its columns; what a night says has `as_of` before them.
    pub columns: Vec<Column>,
}

/// What a table tells of people, and so who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Figures of the project's fewest people at least, and counts of rows and files: for everybody in the house.
    Aggregate,
    /// A row per person or event under a key that only the owner of the secret can make, or figures that may be those of a few: for analysts.
    Pseudonymous,
    /// Personal data: for those who may see customers.
    Personal,
}

impl Class {
    /// What to tell of it in documentation.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate: figures of privacy.k people at least, counts of rows and files",
            Self::Pseudonymous => "pseudonymous: rows of single customers under their keys, or what tells of them",
            Self::Personal => "personal data: `tessera sql` shows it with --restricted only",
        }
    }
}

impl Table {
    /// Whether it holds personal data.
    #[must_use]
    pub fn restricted(&self) -> bool {
        self.class == Class::Personal
    }

    /// The schema of its data files: every column but the partition column `as_of`.
    #[must_use]
    pub fn file_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The schema that readers see: what a night says has `as_of` first.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        if self.grows {
            return self.file_schema();
        }
        let as_of = Column::new("as_of", Kind::Date, "The night's date; only events before its first instant count");
        Arc::new(Schema::new(std::iter::once(&as_of).chain(&self.columns).map(field).collect::<Vec<_>>()))
    }

    /// The names of the columns that count for the content fingerprint, in order.
    #[must_use]
    pub fn fingerprinted(&self) -> Vec<String> {
        self.columns.iter().filter(|c| !c.circumstantial).map(|c| c.name.clone()).collect()
    }
}

fn field(column: &Column) -> Field {
    Field::new(&column.name, column.kind.arrow(), true)
        .with_metadata([("comment".to_owned(), column.description.clone())].into())
}
