//! Results on standard output.

use std::{borrow::Cow, collections::HashMap, io::Write};

use anyhow::Result;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Float64Type},
        util::display::{ArrayFormatter, FormatOptions},
    },
    prelude::DataFrame,
};
use futures::TryStreamExt;

use tessera_contract::Kpi;

use crate::cli::Rows;

/// Prints the rows of a frame. A table is laid out as a whole; the other formats stream.
pub async fn rows(frame: DataFrame, format: Rows) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if format == Rows::Table {
        let names: Vec<String> = frame.schema().fields().iter().map(|f| f.name().clone()).collect();
        let batches = frame.collect().await?;
        writeln!(out, "{}", table(&batches, &names.iter().map(String::as_str).collect::<Vec<_>>())?)?;
        return Ok(out.flush()?);
    }
    let mut batches = frame.execute_stream().await?;
    let schema = batches.schema();
    match format {
        Rows::Table | Rows::Csv | Rows::Spreadsheet => {
            let safe = if format == Rows::Spreadsheet { no_formulas } else { Ok };
            let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut out);
            // The header stands there even when no row does.
            writer.write(&flat(&RecordBatch::new_empty(schema))?)?;
            while let Some(batch) = batches.try_next().await? {
                writer.write(&safe(flat(&batch)?)?)?;
            }
        }
        Rows::Json => {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            while let Some(batch) = batches.try_next().await? {
                writer.write(&batch)?;
            }
            writer.finish()?;
        }
        Rows::Parquet => {
            let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, schema, None)?;
            while let Some(batch) = batches.try_next().await? {
                writer.write(&batch)?;
            }
            writer.close()?;
        }
    }
    Ok(out.flush()?)
}

/// CSV has no lists: they are written as their text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    let options = FormatOptions::default();
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            if !field.data_type().is_nested() {
                return Ok((field.name().clone(), column.clone(), true));
            }
            let formatter = ArrayFormatter::try_new(column, &options)?;
            let text: StringArray =
                (0..column.len()).map(|i| (!column.is_null(i)).then(|| formatter.value(i).to_string())).collect();
            Ok((field.name().clone(), std::sync::Arc::new(text) as ArrayRef, true))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Texts that a spreadsheet would compute stand behind an apostrophe (OWASP, CSV injection).
fn no_formulas(batch: RecordBatch) -> Result<RecordBatch> {
    let computed = |text: &str| text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if !field.data_type().is_string() {
            return Ok((field.name().clone(), column.clone(), true));
        }
        let texts = arrow::compute::cast(column, &DataType::Utf8)?;
        let texts: StringArray = texts
            .as_string::<i32>()
            .iter()
            .map(|text| text.map(|text| if computed(text) { format!("'{text}") } else { text.to_owned() }))
            .collect();
        Ok((field.name().clone(), std::sync::Arc::new(texts) as ArrayRef, true))
    });
    Ok(RecordBatch::try_from_iter_with_nullable(columns.collect::<Result<Vec<_>>>()?)?)
}

/// A text for a terminal: signs that would command it (escape sequences, changes of the writing direction) are written out.
pub fn printable(text: &str) -> Cow<'_, str> {
    let commands = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match text.contains(commands) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(
            text.chars().map(|c| if commands(c) { c.escape_default().to_string() } else { c.to_string() }).collect(),
        ),
    }
}

/// Aligned columns: numbers to the right, doubles at a readable precision.
pub fn table(batches: &[RecordBatch], header: &[&str]) -> Result<Table> {
    let mut table = plain();
    table.set_header(header.iter().map(|name| printable(name)));
    let options = FormatOptions::default().with_null("");
    for batch in batches {
        let columns = batch.columns();
        let formatters = columns.iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().zip(&formatters).map(|(column, formatter)| {
                let text = formatter.value(row).to_string();
                match column.data_type() {
                    DataType::Float64 | DataType::Float32 => number(&text),
                    DataType::Decimal128(_, scale) if *scale > 2 => money(&text),
                    _ => printable(&text).into_owned(),
                }
            });
            table.add_row(cells);
        }
    }
    if let Some(batch) = batches.first() {
        for (i, field) in batch.schema().fields().iter().enumerate() {
            if field.data_type().is_numeric()
                && let Some(column) = table.column_mut(i)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    Ok(table)
}

/// Segments, everybody included, beyond which their columns are narrow.
const NARROW: usize = 6;

/// A row per KPI and a column per segment, of rows of `kpi`, `segment`, `value` and `state`.
pub fn kpis<'a>(batches: &[RecordBatch], catalogue: impl Iterator<Item = (&'a str, &'a Kpi)>) -> Result<Table> {
    let mut segments: Vec<String> = Vec::new();
    let mut cells: HashMap<(String, String), (Option<f64>, String)> = HashMap::new();
    for batch in batches {
        let text = |i: usize| arrow::compute::cast(batch.column(i), &DataType::Utf8);
        let (kpi, segment, state) = (text(0)?, text(1)?, text(3)?);
        let value = batch.column(2).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let of = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
            if !segments.contains(&of(&segment)) {
                segments.push(of(&segment));
            }
            cells.insert((of(&kpi), of(&segment)), (value.is_valid(row).then(|| value.value(row)), of(&state)));
        }
    }
    // Many columns fit a terminal only if they are narrow.
    let narrow = segments.len() > NARROW;
    let labels: &[&str] = if narrow { &["KPI"] } else { &["KPI", "unit"] };
    let shown = if narrow { compact } else { in_unit };
    let mut table = plain();
    table.set_header(labels.iter().copied().chain(segments.iter().map(String::as_str)));
    for (name, kpi) in catalogue {
        let mut row = vec![name.to_owned()];
        row.extend((!narrow).then(|| kpi.unit.clone()));
        row.extend(segments.iter().map(|segment| match cells.get(&(name.to_owned(), segment.clone())) {
            Some((Some(value), state)) if state == "low_n" => format!("({})", shown(*value, &kpi.unit)),
            Some((Some(value), _)) => shown(*value, &kpi.unit),
            Some((None, state)) if state != "ok" => state.replace('_', " "),
            _ => String::new(),
        }));
        table.add_row(row);
    }
    (labels.len()..labels.len() + segments.len()).for_each(|i| {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    });
    Ok(table)
}

/// A value as people write its unit: shares as percentages, counts whole, large amounts without cents.
pub fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "share" => format!("{:.1} %", 100.0 * value),
        "customers" | "orders" => grouped(value, 0),
        _ if value.abs() >= 10_000.0 => grouped(value, 0),
        _ if unit.starts_with("currency") => grouped(value, 2),
        _ => number(&value.to_string()),
    }
}

/// The same in about six characters.
fn compact(value: f64, unit: &str) -> String {
    match (unit, value.abs()) {
        ("share", size) if size >= 10.0 => format!("{:.0} %", 100.0 * value),
        ("share" | "customers" | "orders", _) => in_unit(value, unit),
        (_, size) if size >= 1e6 => format!("{:.2} M", value / 1e6),
        (_, size) if size >= 1e4 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.2}"),
    }
}

/// A blank between thousands.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, f)| (w, format!(".{f}")));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 && (whole != "0" || fraction.contains(|c: char| c.is_ascii_digit() && c != '0')) {
        "-"
    } else {
        ""
    };
    format!("{sign}{out}{fraction}")
}

/// The look of every table of ours.
pub fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if std::env::var("COLUMNS").is_err() && !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table
}

/// Four significant places after the point at most, none that says nothing.
fn number(text: &str) -> String {
    let Ok(value) = text.parse::<f64>() else { return text.to_owned() };
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:.2e}");
    }
    let digits = match value.abs() {
        v if v >= 1000.0 => 1,
        v if v >= 10.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// Exact money to the cent, more digits only where they are not 0.
fn money(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) => format!("{whole}.{:0<2}", fraction.trim_end_matches('0')),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_command_a_terminal_is_written_out() {
        assert_eq!(printable("Zoë\nB"), "Zoë\nB");
        assert_eq!(printable("a\x1b[2J\u{202e}b\u{9b}\r"), "a\\u{1b}[2J\\u{202e}b\\u{9b}\\r");
    }

    #[test]
    fn a_spreadsheet_computes_nothing() {
        let texts: ArrayRef =
            std::sync::Arc::new(StringArray::from(vec![Some("=1+1"), Some("-2.5"), Some("@x"), Some("a"), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", texts, true)]).expect("one column");
        let safe = no_formulas(batch).expect("texts");
        let safe: Vec<_> = safe.column(0).as_string::<i32>().iter().collect();
        assert_eq!(safe, [Some("'=1+1"), Some("-2.5"), Some("'@x"), Some("a"), None]);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(number("0.123456"), "0.1235");
        assert_eq!(number("12345.678"), "12345.7");
        assert_eq!(number("0.00000123"), "1.23e-6");
        assert_eq!(money("17743429.180000"), "17743429.18");
        assert_eq!(money("1.234500"), "1.2345");
        assert_eq!(in_unit(0.1234, "share"), "12.3 %");
        assert_eq!(in_unit(213.0, "customers"), "213");
        assert_eq!(in_unit(-1_234_567.891, "currency"), "-1\u{202f}234\u{202f}568");
        assert_eq!(in_unit(9.5, "currency per order"), "9.50");
        assert_eq!(grouped(-0.001, 2), "0.00");
        assert_eq!(in_unit(2.0048, "orders per customer"), "2.0048");
        assert_eq!(compact(2.0048, "orders per customer"), "2.00");
        assert_eq!(compact(3_426_176.0, "currency"), "3.43 M");
        assert_eq!(compact(-86_135.4, "currency"), "-86.1 k");
        assert_eq!(compact(113.5, "share"), "11350 %");
        assert_eq!(compact(0.9871, "share"), "98.7 %");
        assert_eq!(compact(18_847.0, "customers"), "18\u{202f}847");
    }
}
