use std::{io::Write, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray},
        util::{
            display::{ArrayFormatter, FormatOptions},
            pretty::pretty_format_batches,
        },
    },
    common::DataFusionError,
    prelude::{SessionConfig, SessionContext, col},
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use url::Url;

use super::*;

const BASE: &str = "memory:///";

fn csv() -> SourceFormat {
    SourceFormat {
        kind: Kind::Csv,
        delimiter: None,
        quote: None,
        encoding: Encoding::Utf8,
        null_values: vec![String::new()],
    }
}

/// The warnings and rows of the files below `in/`, or the error with its hint.
async fn scan(
    files: &[(&str, &[u8])],
    format: SourceFormat,
    partitions: usize,
) -> Result<(Vec<String>, Vec<RecordBatch>), String> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for (name, bytes) in files {
        store.put(&Path::from(format!("in/{name}")), bytes.to_vec().into()).await.expect("memory");
    }
    let base = Url::parse(BASE).expect("a URL");
    let told = |e: &SourceError| format!("{e}\nhint: {}", e.hint().unwrap_or_default());
    let found = list(&store, &base, "in").await.map_err(|e| told(&e))?;
    let table = open(Arc::clone(&store), &base, format, found).await.map_err(|e| told(&e))?;
    let warnings = table.warnings().to_vec();
    let ctx =
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions).with_batch_size(3));
    ctx.register_object_store(&base, store);
    let frame =
        ctx.read_table(Arc::new(table)).expect("a table").sort(vec![col(LOCATOR).sort(true, true)]).expect("sorts");
    let rows = frame.collect().await.map_err(|e| match e.find_root() {
        DataFusionError::External(inner) => told(inner.downcast_ref().expect("a source error")),
        other => other.to_string(),
    })?;
    Ok((warnings, rows))
}

/// The same as text.
async fn read(files: &[(&str, &[u8])], format: SourceFormat, partitions: usize) -> String {
    match scan(files, format, partitions).await {
        Ok((warnings, rows)) => {
            let warnings: String = warnings.iter().map(|w| format!("warning: {w}\n")).collect();
            format!("{warnings}{}", pretty_format_batches(&rows).expect("prints"))
        }
        Err(told) => told,
    }
}

/// The rows of one CSV file: number, cells, defect.
async fn rows(bytes: &[u8], format: SourceFormat) -> Vec<String> {
    let (_, batches) = scan(&[("a.csv", bytes)], format, 2).await.expect("reads");
    let options = FormatOptions::default();
    let mut lines = Vec::new();
    for batch in batches {
        let cells: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("prints")).collect();
        let (locator, data) = (cells.len() - 2, cells.len() - 2);
        for row in 0..batch.num_rows() {
            let mut texts: Vec<_> = cells[..data].iter().map(|c| c.value(row).to_string()).collect();
            texts.push(cells[data + 1].value(row).to_string());
            lines.push(format!("{}: {}", cells[locator].value(row), texts.join(" · ")));
        }
    }
    lines
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn every_line_is_a_row_and_says_what_is_wrong_with_it() {
    let bytes = b"id,name,n\n1,\"Smith, J\",10\n2,short\n3,a,b,c\n4,bad \xff byte,7\n5,\"two\nlines\",8\n\n6,,\n";
    let found = rows(bytes, csv()).await;
    assert_eq!(
        found,
        [
            "1: 1 · Smith, J · 10 · ",
            "2: 2 · short ·  · ragged: 2 fields where the header has 3",
            "3: 3 · a · b · ragged: 4 fields where the header has 3",
            "4: 4 · bad \u{fffd} byte · 7 · invalid UTF-8 at byte 5 of field \"name\"",
            "5: 5 · two\nlines · 8 · ",
            "6: 6 ·  ·  · ",
        ]
    );
}

#[tokio::test]
async fn delimiters_marks_encodings_and_line_ends() {
    let expect = ["1: 1 · Zoë · "];
    assert_eq!(rows("id;name\r\n1;Zoë\r\n".as_bytes(), csv()).await, expect);
    assert_eq!(rows("id\tname\n1\tZoë".as_bytes(), csv()).await, expect);
    assert_eq!(rows("id|name\n1|Zoë".as_bytes(), csv()).await, expect);
    assert_eq!(rows("\u{feff}id,name\n1,Zoë\n".as_bytes(), csv()).await, expect);
    assert_eq!(rows(b"id,name\n1,Zo\xeb\n", SourceFormat { encoding: Encoding::Latin1, ..csv() }).await, expect);
    assert_eq!(rows("id,name\n1,Zoë\n".as_bytes(), SourceFormat { delimiter: Some(','), ..csv() }).await, expect);
    assert_eq!(rows(&gzip("id,name\n1,Zoë\n".as_bytes()), csv()).await, expect);
    assert_eq!(rows(&zstd::encode_all("id,name\n1,Zoë\n".as_bytes(), 1).expect("memory"), csv()).await, expect);
    let nulls = SourceFormat { null_values: vec![String::new(), "N/A".into()], ..csv() };
    assert_eq!(rows(b"id,name\n1,N/A\n", nulls).await, ["1: 1 ·  · "]);
}

#[tokio::test]
async fn a_quote_that_is_not_closed_is_one_defective_row() {
    let found = rows(b"id,name\n1,ok\n2,\"open\n3,lost\n", csv()).await;
    assert_eq!(found, ["1: 1 · ok · ", "2: 2 · open\n3,lost\n · a quote is not closed before the end of the file"]);
}

#[tokio::test]
async fn files_are_one_table_whatever_the_order_of_their_columns() {
    let files: [(&str, &[u8]); 4] = [
        ("b.csv", b"name,id\ny,2\n"),
        ("a.csv", b"id,name\n1,x\n"),
        ("c.csv", b""),
        ("_hidden.csv", b"id,name\n9,no\n"),
    ];
    for partitions in [1, 2, 7] {
        let text = read(&files, csv(), partitions).await;
        insta::allow_duplicates! {
        insta::assert_snapshot!(text, @r"
        warning: memory:///in/c.csv is empty and gives no row
        +----+------+---------------+---------+
        | id | name | _locator      | _defect |
        +----+------+---------------+---------+
        | 1  | x    | 1             |         |
        | 2  | y    | 1099511627777 |         |
        +----+------+---------------+---------+
        ");
        }
    }
    assert_eq!(locator_parts(1_099_511_627_777), (1, 1));
}

#[tokio::test]
async fn json_lines_give_their_values_as_text() {
    let format = SourceFormat { kind: Kind::Ndjson, ..csv() };
    let bytes = b"{\"id\":1,\"name\":\"x\",\"price\":1.50}\n\n{\"id\":2,\"name\":null}\nnot json\n{\"name\":\"\\u00e9\",\"id\":3}";
    let text = read(&[("a.ndjson", bytes)], format, 2).await;
    insta::assert_snapshot!(text, @r"
    +----+------+-------+----------+------------------------------------------------------+
    | id | name | price | _locator | _defect                                              |
    +----+------+-------+----------+------------------------------------------------------+
    | 1  | x    | 1.50  | 1        |                                                      |
    | 2  |      |       | 2        |                                                      |
    |    |      |       | 3        | not a JSON object: expected ident at line 1 column 2 |
    | 3  | é    |       | 4        |                                                      |
    +----+------+-------+----------+------------------------------------------------------+
    ");
}

fn parquet(columns: Vec<(&str, ArrayRef)>, group: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let properties =
        ::parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("writes");
    writer.write(&batch).expect("writes");
    writer.into_inner().expect("writes")
}

#[tokio::test]
async fn parquet_types_are_widened_and_rows_numbered_across_row_groups() {
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let (a, b) = (parquet(vec![("id", narrow)], 2), parquet(vec![("id", wide), ("t", text)], 2));
    let format = SourceFormat { kind: Kind::Parquet, ..csv() };
    let found = read(&[("a.parquet", &a), ("b.parquet", &b)], format.clone(), 3).await;
    insta::assert_snapshot!(found, @r"
    warning: memory:///in/a.parquet lacks `t`, which other files have; it reads as null there
    +---------------+---+---------------+---------+
    | id            | t | _locator      | _defect |
    +---------------+---+---------------+---------+
    | 1             |   | 1             |         |
    | 2             |   | 2             |         |
    | 3             |   | 3             |         |
    | 1099511627776 | x | 1099511627777 |         |
    +---------------+---+---------------+---------+
    ");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let c = parquet(vec![("id", texts)], 2);
    let found = read(&[("a.parquet", &a), ("c.parquet", &c)], format, 1).await;
    insta::assert_snapshot!(found, @r"
    the column `id` is Int32 in memory:///in/a.parquet and Utf8View in memory:///in/c.parquet
    hint: convert the files to one type, or map them as two projects
    ");
}

#[tokio::test]
async fn what_is_no_source_is_told_with_a_remedy() {
    let check = async |files: &[(&str, &[u8])], kind: Kind, expect: &str| {
        let text = read(files, SourceFormat { kind, ..csv() }, 2).await;
        assert_eq!(text, expect);
    };
    check(
        &[],
        Kind::Csv,
        "no file matches memory:///in\nhint: check the url; relative paths start at the project file's folder",
    )
    .await;
    check(
        &[("a.csv", b"")],
        Kind::Csv,
        "memory:///in/a.csv is empty: there is not even a header\nhint: ask the system that writes it to send the file again, \
         or take the source out of the project file",
    )
    .await;
    check(
        &[("a.csv", b"id,name,id\n1,x,2\n")],
        Kind::Csv,
        "memory:///in/a.csv, line 1: the header names `id` twice, as columns 1 and 3\nhint: name each column once in the file's header",
    )
    .await;
    check(
        &[("a.csv", b"id,n\xe9e\n1,x\n")],
        Kind::Csv,
        "memory:///in/a.csv, line 1: the header is not UTF-8\nhint: set encoding = \"latin-1\" for the source, if that is what the file is",
    )
    .await;
    check(
        &[("a.csv", b"id,,n\n1,x,2\n")],
        Kind::Csv,
        "memory:///in/a.csv, line 1: column 2 of the header has no name\nhint: name each column once in the file's header",
    )
    .await;
    let cut = &gzip(b"id\n1\n2\n3\n")[..20];
    let text = read(&[("a.csv.gz", cut)], csv(), 1).await;
    assert!(text.contains("the compressed data is damaged or cut short"), "{text}");
    let text = read(&[("a.parquet", b"PAR1 but not really")], SourceFormat { kind: Kind::Parquet, ..csv() }, 1).await;
    assert!(text.starts_with("memory:///in/a.parquet cannot be read as Parquet: "), "{text}");
}

#[tokio::test]
async fn patterns_find_their_files() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for name in ["d/a.csv", "d/b.csv.gz", "d/x/c.csv", "d/notes.md", "d/_tmp/t.csv"] {
        store.put(&Path::from(name), "id\n1\n".into()).await.expect("memory");
    }
    let base = Url::parse(BASE).expect("a URL");
    for (pattern, expect) in [
        ("d", "d/a.csv d/b.csv.gz d/x/c.csv"),
        ("d/a.csv", "d/a.csv"),
        ("d/*.csv", "d/a.csv"),
        ("d/**/*.csv", "d/a.csv d/x/c.csv"),
        ("d/[ab].csv*", "d/a.csv d/b.csv.gz"),
    ] {
        let found = list(&store, &base, pattern).await.expect(pattern);
        assert_eq!(found.iter().map(|f| f.location.as_str()).collect::<Vec<_>>().join(" "), expect, "{pattern}");
    }
    let error = list(&store, &base, "d/z*.csv").await.expect_err("nothing matches");
    assert_eq!(error.hint().as_deref(), Some("the folder holds a.csv, b.csv.gz, notes.md, _tmp, x"));
}

mod never_loses_a_row {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever bytes follow the header: nothing panics, and cutting the input elsewhere changes nothing.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), Just(b'\r'), any::<u8>()], 0..300), cut in 1_usize..50) {
            let mut file = b"a,b\n".to_vec();
            file.extend(bytes);
            let source = SourceFile { location: "x".into(), url: "x".into(), bytes: 0, etag: None };
            let read = |step: usize| {
                let mut records = text::Records::new(&csv(), &source, 0, vec!["a".into(), "b".into()], b',');
                let mut rows = text::Rows::new(2);
                file.chunks(step).for_each(|piece| records.feed(piece, &mut rows).expect("short"));
                records.finish(&mut rows).expect("short");
                let (columns, locators, defects, count) = rows.finish();
                (format!("{columns:?} {locators:?} {defects:?}"), count)
            };
            prop_assert_eq!(read(file.len()), read(cut));
        }
    }
}
