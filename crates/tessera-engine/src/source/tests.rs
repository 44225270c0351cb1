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
use object_store::{ObjectStore, ObjectStoreExt, chunked::ChunkedStore, memory::InMemory, path::Path};
use url::Url;

use super::*;

const BASE: &str = "memory:///";

fn csv() -> SourceFormat {
    SourceFormat::new(Format::Csv)
}

/// The warnings and rows of the files below `in/`, or the error with its hint.
async fn scan(
    files: &[(&str, &[u8])],
    format: SourceFormat,
    partitions: usize,
) -> Result<(Vec<String>, Vec<RecordBatch>), String> {
    scan_in(Arc::new(InMemory::new()), files, format, partitions).await
}

async fn scan_in(
    store: Arc<dyn ObjectStore>,
    files: &[(&str, &[u8])],
    format: SourceFormat,
    partitions: usize,
) -> Result<(Vec<String>, Vec<RecordBatch>), String> {
    for (name, bytes) in files {
        store.put(&Path::from(format!("in/{name}")), bytes.to_vec().into()).await.expect("memory");
    }
    let base = Url::parse(BASE).expect("a URL");
    let told = |e: &SourceError| format!("{e}\nhint: {}", e.hint().unwrap_or_default());
    let found = list(&store, &base, "in", None).await.map_err(|e| told(&e))?.files;
    let table = open(Arc::clone(&store), &base, format, found).await.map_err(|e| told(&e))?;
    let warnings = table.warnings().to_vec();
    let ctx =
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions).with_batch_size(3));
    ctx.register_object_store(&base, store);
    let frame = ctx.read_table(Arc::new(table)).and_then(|frame| frame.sort(vec![col(LOCATOR).sort(true, true)]));
    let frame = frame.and_then(|frame| frame.drop_columns(&[RECORD])).expect("a table without records");
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

/// Side by side, without the delimiter, the bytes are a character.
#[tokio::test]
async fn a_character_cut_by_a_delimiter_is_in_neither_field() {
    assert_eq!(
        rows(b"id,name,n\n1,Zo\xc3,\xab\n", csv()).await,
        ["1: 1 · Zo\u{fffd} · \u{fffd} · invalid UTF-8 at byte 3 of field \"name\""]
    );
}

#[tokio::test]
async fn delimiters_marks_encodings_and_line_ends() {
    let expect = ["1: 1 · Zoë · "];
    assert_eq!(rows("id;name\r\n1;Zoë\r\n".as_bytes(), csv()).await, expect);
    assert_eq!(rows("id\tname\n1\tZoë".as_bytes(), csv()).await, expect);
    assert_eq!(rows("id|name\n1|Zoë".as_bytes(), csv()).await, expect);
    assert_eq!(rows("\u{feff}id,name\n1,Zoë\n".as_bytes(), csv()).await, expect);
    assert_eq!(rows(b"id,name\n1,Zo\xeb\n", SourceFormat { encoding: TextEncoding::Latin1, ..csv() }).await, expect);
    assert_eq!(rows("id,name\n1,Zoë\n".as_bytes(), SourceFormat { delimiter: Some(','), ..csv() }).await, expect);
    assert_eq!(rows(&gzip("id,name\n1,Zoë\n".as_bytes()), csv()).await, expect);
    assert_eq!(rows(&zstd::encode_all("id,name\n1,Zoë\n".as_bytes(), 1).expect("memory"), csv()).await, expect);
    let nulls = SourceFormat { null_values: vec![String::new(), "N/A".into()], ..csv() };
    assert_eq!(rows(b"id,name\n1,N/A\n", nulls).await, ["1: 1 ·  · "]);
}

#[tokio::test]
async fn a_quote_that_is_not_closed_takes_no_other_line_with_it() {
    let found = rows(b"id,name\n1,ok\n2,\"open\n3,kept\n", csv()).await;
    let open = "2: 2 · open · a quote is not closed before the end of the file";
    assert_eq!(found, ["1: 1 · ok · ", open, "3: 3 · kept · "]);
    let found = rows(b"id,name\n1,\"ok\ntwo lines\"\n2,\"open", csv()).await;
    assert_eq!(found, ["1: 1 · ok\ntwo lines · ", open]);
}

/// Of two stray quotes each is the defect of its own line: all lines between them are rows.
#[tokio::test]
async fn stray_quotes_take_no_lines_with_them() {
    for (first, second, problem) in [
        ("\"A", "B\"x", "a quote that is opened here ends in the middle of a field 500 lines on"),
        ("\"A", "B", "a quote is not closed before the end of the file"),
        ("\"A", "\"B", "a quote that is opened here ends in the middle of a field 500 lines on"),
        ("\"A", "B\"", "a quote that is opened here holds 499 lines that are rows"),
    ] {
        let mut text = format!("id,name,n\n0,{first},1\n");
        for id in 1..500 {
            text.push_str(&format!("{id},plain,{id}\n"));
        }
        text.push_str(&format!("500,{second},7\n"));
        let found = rows(text.as_bytes(), csv()).await;
        assert_eq!(found.len(), 501, "{first} {second}");
        assert!(found[0].ends_with(problem), "{}", found[0]);
        assert_eq!(found[250], "251: 250 · plain · 250 · ");
        let good = found.iter().filter(|row| row.ends_with(" · ")).count();
        assert!(good >= 499, "{good} {first} {second}");
    }
    // Text of several lines is text, whatever stands in it.
    let letters = b"id,name,n\n1,\"Dear all,\nthank you, Ann, for it,\nsee \"\"terms\"\"\nBob\",2\n3,x,4\n";
    let found = rows(letters, csv()).await;
    assert_eq!(found, ["1: 1 · Dear all,\nthank you, Ann, for it,\nsee \"terms\"\nBob · 2 · ", "2: 3 · x · 4 · "]);
}

#[tokio::test]
async fn a_record_without_end_is_a_row_of_its_own() {
    let mut bytes = b"id,name\n1,".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', 20 << 20));
    bytes.extend(b"\n2,ok\n3,\"");
    bytes.extend(std::iter::repeat_n(b'y', 20 << 20));
    bytes.extend(b"\n4,ok\n");
    let long = "a record of more than 16777216 bytes";
    let found = rows(&bytes, csv()).await;
    assert_eq!(found, [&format!("1:  ·  · {long}"), "2: 2 · ok · ", &format!("3:  ·  · {long}"), "4: 4 · ok · "]);
    let json = format!("{{\"id\":1}}\n{{\"id\":\"{}\"}}\n{{\"id\":3}}", "z".repeat(17 << 20));
    let format = SourceFormat { kind: Format::Ndjson, ..csv() };
    let text = read(&[("a.ndjson", json.as_bytes())], format, 1).await;
    assert!(text.contains("| 1  | 1        ") && text.contains("| 3  |") && text.contains(long), "{text}");
}

/// However the bytes of a file come, and whatever stands before its first frame.
#[tokio::test]
async fn compression_is_known_from_its_first_bytes() {
    let text = "id,name\n1,ok\n";
    let frame = zstd::encode_all(text.as_bytes(), 1).expect("memory");
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'], &frame[..]].concat();
    for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes()), frame, skipped] {
        for piece in [1, 3, 1_000] {
            let store = Arc::new(ChunkedStore::new(Arc::new(InMemory::new()), piece));
            let (_, batches) = scan_in(store, &[("a.csv", &bytes)], csv(), 1).await.expect("reads");
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "{piece}: {bytes:?}");
        }
    }
}

#[tokio::test]
async fn what_was_cut_short_is_no_file() {
    let text: String = (0..20_000).map(|i| format!("{i},{}\n", i * 7919 % 100_003)).collect();
    let text = format!("id,name\n{text}");
    for (name, whole) in
        [("a.csv.gz", gzip(text.as_bytes())), ("a.csv.zst", zstd::encode_all(text.as_bytes(), 1).expect("memory"))]
    {
        let read = async |bytes: &[u8]| scan(&[(name, bytes)], csv(), 1).await;
        let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(rows(&read(&whole).await.expect("reads").1), 20_000);
        // A second frame goes on where the first ended.
        let twice = [whole.clone(), whole.clone()].concat();
        assert_eq!(rows(&read(&twice).await.expect("reads").1), 40_001, "the second header is a row");
        for length in [whole.len() - 1, whole.len() - 9, whole.len() / 2, 1_000, whole.len() + whole.len() / 2] {
            let told = read(&twice[..length]).await.expect_err("cut short");
            assert!(told.contains("the compressed data is damaged or cut short"), "{name} {length}: {told}");
        }
    }
    // What a few bytes become when they are decompressed is bounded too.
    let bomb = gzip(&vec![b'x'; 200 << 20]);
    let told = scan(&[("a.csv.gz", &bomb)], csv(), 1).await.expect_err("no header");
    assert!(told.starts_with("memory:///in/a.csv.gz, after row 0: a record of more than 1048576 bytes"), "{told}");
}

/// What Excel writes as Unicode text; half of a pair and half of a character are no text, and take no other row with them.
#[tokio::test]
async fn two_bytes_a_character_are_read_as_text() {
    let bytes = |text: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(order).collect()
    };
    let text = "id,name\n1,Zoë\n2,🜍 Łódź\n";
    let expect = scan(&[("a.csv", text.as_bytes())], csv(), 1).await.expect("reads").1;
    for order in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
        let whole = bytes(text, order);
        assert_eq!(scan(&[("a.csv", &whole)], csv(), 1).await.expect("reads").1, expect);
        assert_eq!(scan(&[("a.csv.gz", &gzip(&whole))], csv(), 1).await.expect("reads").1, expect);
    }
    let mut broken = bytes(text, u16::to_le_bytes);
    broken.extend([0x00, 0xD8, b'\n', 0, b'3', 0, b',', 0, b'x', 0, b'\n', 0, b'4']);
    let rows = scan(&[("a.csv", &broken)], csv(), 1).await.expect("reads").1;
    let whole = arrow::compute::concat_batches(&rows[0].schema(), &rows).expect("one batch");
    let defects = whole.column_by_name(DEFECT).expect("a column");
    assert_eq!((whole.num_rows(), defects.null_count()), (5, 3), "{whole:?}");
    let told =
        scan(&[("a.csv", &bytes(text, u16::to_le_bytes))], SourceFormat { encoding: TextEncoding::Latin1, ..csv() }, 1)
            .await;
    assert!(told.expect_err("two encodings").contains("is UTF-16"));
}

/// However the bytes come in pieces, they are the same rows.
#[test]
fn pieces_of_a_file_give_what_the_whole_gives() {
    let cut = |text: &[u8], piece: usize| {
        let file = SourceFile { location: "a".into(), url: "a".into(), bytes: 0, etag: None, constants: Vec::new() };
        let wanted = ["id", "name", "n"].map(str::to_owned).to_vec();
        let mut records = text::Records::new(&csv(), &file, 0, wanted, b',');
        let mut rows = text::Rows::new(vec![None; 3], &[0, 1, 2], false);
        text.chunks(piece).for_each(|bytes| records.feed(bytes, &mut rows).expect("feeds"));
        records.finish(&mut rows).expect("finishes");
        let (columns, locators, defects, len) = rows.finish();
        let all = [columns, vec![locators, defects]].concat();
        let names = ["id", "name", "n", "locator", "defect"];
        let batch = RecordBatch::try_from_iter(names.into_iter().zip(all)).expect("a batch");
        (len, pretty_format_batches(&[batch]).expect("prints").to_string())
    };
    proptest::proptest!(|(words in proptest::collection::vec("[ab,\"\n]{0,6}", 0..30), piece in 1..9_usize)| {
        let text = format!("id,name,n\n{}", words.join(",").replace(",a", "\n"));
        let whole = cut(text.as_bytes(), usize::MAX);
        proptest::prop_assert_eq!(&cut(text.as_bytes(), piece), &whole);
        // No row is made, and no line without a quote is lost.
        let lines = text.lines().skip(1).filter(|l| !l.is_empty()).count();
        proptest::prop_assert!(whole.0 <= lines, "{} rows of {} lines", whole.0, lines);
        if !text.contains('"') {
            proptest::prop_assert_eq!(whole.0, lines);
        }
    });
}

#[tokio::test]
async fn a_key_that_comes_late_is_a_column() {
    let mut json = String::new();
    for id in 0..600 {
        json.push_str(&format!("{{\"id\":{id},\"name\":\"{}\"}}\n", "somebody".repeat(250)));
    }
    json.push_str("{\"id\":1,\"name\":\"x\",\"late\":\"y\"}");
    assert!(json.len() > 1 << 20);
    let (_, batches) =
        scan(&[("a.ndjson", json.as_bytes())], SourceFormat { kind: Format::Ndjson, ..csv() }, 1).await.expect("reads");
    let last = batches.last().expect("rows");
    let late = last.column_by_name("late").expect("a column");
    assert_eq!(late.len() - late.null_count(), 1);
}

/// An outage is the store's, which may pass, and not a defect of the file.
#[test]
fn what_the_store_answers_while_parquet_is_read_is_its_error() {
    use ::parquet::errors::ParquetError;
    let file = SourceFile { location: "a".into(), url: "a".into(), bytes: 0, etag: None, constants: Vec::new() };
    let outage = object_store::Error::Generic { store: "S3", source: "no route".into() };
    let error = parquet::failed(&file, ParquetError::External(Box::new(outage)));
    assert!(matches!(error, SourceError::Store { .. }), "{error:?}");
    let error = parquet::failed(&file, ParquetError::EOF("too short".into()));
    assert!(matches!(error, SourceError::Parquet { .. }), "{error:?}");
}

/// Types that nobody maps do not stop a night: they are read as text.
#[tokio::test]
async fn whatever_type_a_column_has_it_is_read() {
    use datafusion::arrow::{
        array::{Date64Array, FixedSizeBinaryArray, Time32SecondArray, UInt64Array},
        datatypes::Int32Type,
    };
    let lists = arrow::array::LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("big", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("time", Arc::new(Time32SecondArray::from(vec![3_600, 0]))),
        ("day", Arc::new(Date64Array::from(vec![0, 86_400_000]))),
        ("list", Arc::new(lists)),
        ("bytes", Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].into_iter()).expect("bytes"))),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("a batch");
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("writes");
    let bytes = writer.into_inner().expect("bytes");
    let format = SourceFormat { kind: Format::Parquet, ..csv() };
    let text = read(&[("a.parquet", &bytes)], format.clone(), 1).await;
    assert!(text.contains("18446744073709551615") && text.contains("01:00:00") && text.contains("[1]"), "{text}");
    // However the bytes are damaged, it is an error and no panic.
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xFF;
        let told = scan(&[("a.parquet", &damaged)], format.clone(), 1).await;
        assert!(told.is_ok() || told.is_err_and(|told| told.contains("a.parquet cannot be read")), "at {at}");
    }
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

/// Whatever a plan names of the columns, a record has them all, in whatever order the files do.
#[tokio::test]
async fn records_have_all_columns() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for (name, bytes) in [("a.csv", "id,name,n\n1,\"x, y\",7\n2,short\n"), ("b.csv", "more,n,id\nlate,,3\n")] {
        store.put(&Path::from(format!("in/{name}")), bytes.into()).await.expect("memory");
    }
    let base = Url::parse(BASE).expect("a URL");
    let files = list(&store, &base, "in", None).await.expect("files").files;
    let table = open(Arc::clone(&store), &base, csv(), files).await.expect("a table");
    let ctx = SessionContext::new();
    ctx.register_object_store(&base, store);
    crate::functions::scalars(None).into_iter().for_each(|f| ctx.register_udf(f));
    ctx.register_table("t", Arc::new(table)).expect("registers");
    let query = "SELECT name, row_json(_record) AS j, record_text(_record, 'n') AS n, row_hash(_record) = row_hash(_record) AS h \
                 FROM t ORDER BY _locator";
    let rows = ctx.sql(query).await.expect("plans").collect().await.expect("runs");
    insta::assert_snapshot!(pretty_format_batches(&rows).expect("prints"), @r#"
    +-------+----------------------------------+---+------+
    | name  | j                                | n | h    |
    +-------+----------------------------------+---+------+
    | x, y  | {"id":"1","name":"x, y","n":"7"} | 7 | true |
    | short | {"id":"2","name":"short"}        |   | true |
    |       | {"id":"3","more":"late"}         |   | true |
    +-------+----------------------------------+---+------+
    "#);
    let told = ctx.sql("SELECT record_text(_record, 'z') FROM t").await.expect("plans").collect().await;
    assert!(told.expect_err("no column").to_string().contains("the records have no column `z`"));
}

#[tokio::test]
async fn json_lines_give_their_values_as_text() {
    let format = SourceFormat { kind: Format::Ndjson, ..csv() };
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
    let format = SourceFormat { kind: Format::Parquet, ..csv() };
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
    let check = async |files: &[(&str, &[u8])], kind: Format, expect: &str| {
        let text = read(files, SourceFormat { kind, ..csv() }, 2).await;
        assert_eq!(text, expect);
    };
    check(
        &[],
        Format::Csv,
        "no file matches memory:///in\nhint: check the url; relative paths start at the project file's folder",
    )
    .await;
    check(
        &[("a.csv", b"")],
        Format::Csv,
        "memory:///in/a.csv is empty: there is not even a header\nhint: ask the system that writes it to send the file again, \
         or take the source out of the project file",
    )
    .await;
    check(
        &[("a.csv", b"id,name,id\n1,x,2\n")],
        Format::Csv,
        "memory:///in/a.csv, line 1: the header names `id` twice, as columns 1 and 3\nhint: name each column once in the file's header",
    )
    .await;
    check(
        &[("a.csv", b"id,n\xe9e\n1,x\n")],
        Format::Csv,
        "memory:///in/a.csv, line 1: the header is not UTF-8\nhint: set encoding = \"latin-1\" for the source, if that is what the file is",
    )
    .await;
    check(
        &[("a.csv", b"id,,n\n1,x,2\n")],
        Format::Csv,
        "memory:///in/a.csv, line 1: column 2 of the header has no name\nhint: set skip_lines if the header stands further down; otherwise name each column once in the file's header",
    )
    .await;
    let cut = &gzip(b"id\n1\n2\n3\n")[..20];
    let text = read(&[("a.csv.gz", cut)], csv(), 1).await;
    assert!(text.contains("the compressed data is damaged or cut short"), "{text}");
    let text = read(&[("a.parquet", b"PAR1 but not really")], SourceFormat { kind: Format::Parquet, ..csv() }, 1).await;
    assert!(text.starts_with("memory:///in/a.parquet cannot be read as Parquet: "), "{text}");
}

#[tokio::test]
async fn patterns_find_their_files() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for name in ["d/a.csv", "d/b.csv.gz", "d/x/c.csv", "d/notes.md", "d/_tmp/t.csv", "e[1]/a.csv"] {
        store.put(&Path::parse(name).expect("a path"), "id\n1\n".into()).await.expect("memory");
    }
    let base = Url::parse(BASE).expect("a URL");
    for (path, pattern, expect) in [
        ("d", None, "d/a.csv d/b.csv.gz d/x/c.csv"),
        ("d/a.csv", None, "d/a.csv"),
        ("d", Some("*.csv"), "d/a.csv"),
        ("d", Some("**/*.csv"), "d/a.csv d/x/c.csv"),
        ("d", Some("[ab].csv*"), "d/a.csv d/b.csv.gz"),
        ("d", Some("*.md"), "d/notes.md"),
        ("e[1]", None, "e[1]/a.csv"),
        ("e[1]", Some("?.csv"), "e[1]/a.csv"),
    ] {
        let found = list(&store, &base, path, pattern).await.expect(path);
        let files: Vec<_> = found.files.iter().map(|f| f.location.as_str()).collect();
        assert_eq!(files.join(" "), expect, "{path} {pattern:?}");
        let expect: &[&str] = if path == "d" && pattern.is_none() { &["notes.md"] } else { &[] };
        assert_eq!(found.passed_over, expect, "{path} {pattern:?}");
    }
    let error = list(&store, &base, "d", Some("z*.csv")).await.err().expect("nothing matches");
    assert_eq!(error.hint().as_deref(), Some("the folder holds a.csv, b.csv.gz, notes.md, _tmp, x"));
    let error = list(&store, &base, "d/y", None).await.err().expect("nothing is there");
    assert_eq!(error.hint().as_deref(), Some("the folder holds a.csv, b.csv.gz, notes.md, _tmp, x"));
}

/// Files as people export them: lines before the header, or no header, and blanks in place of a delimiter.
#[tokio::test]
async fn a_header_stands_where_the_project_says() {
    let after = SourceFormat { skip_lines: 2, ..csv() };
    let report = "\u{feff}Report of \"May\"\nmade by; somebody\nid;name\n1;Zoë\n";
    assert_eq!(rows(report.as_bytes(), after.clone()).await, ["1: 1 · Zoë · "]);
    let told = read(&[("a.csv", b"one line\n")], after, 1).await;
    assert!(told.contains("a.csv is empty: there is not even a header"), "{told}");

    let without =
        |names: &[&str]| SourceFormat { names: Names::Given(names.iter().map(|n| (*n).to_owned()).collect()), ..csv() };
    assert_eq!(
        rows(b"1,x\n2,y\n3\n", without(&["id", "name"])).await,
        ["1: 1 · x · ", "2: 2 · y · ", "3: 3 ·  · ragged: 1 fields where the header has 2"]
    );
    let numbered = read(&[("a.csv", b"1,x\n")], without(&[]), 1).await;
    assert!(numbered.contains("| column_1 | column_2 |") && numbered.contains("| 1        | x        |"), "{numbered}");
    let told = read(&[("a.csv", b"1,x,y\n")], without(&["id", "name"]), 1).await;
    assert_eq!(
        told,
        "memory:///in/a.csv has 3 columns, but `names` names 2\nhint: give every column a name, in the order of the file"
    );

    let blanks = SourceFormat { delimiter: Some(' '), ..without(&["id", "day", "n", "paid"]) };
    let master = b" 00001 19970101  1   11.77\n 00002\t19970112  1 \"12  00\" \n\n";
    assert_eq!(
        rows(master, blanks).await,
        ["1: 00001 · 19970101 · 1 · 11.77 · ", "2: 00002 · 19970112 · 1 · 12  00 · "]
    );
}

/// What the path of a file says, and its name, are columns of all its rows.
#[tokio::test]
async fn parts_of_a_path_are_columns() {
    let format = SourceFormat { file_column: true, ..csv() };
    let files: [(&str, &[u8]); 3] =
        [("shop=x/year=2024/a.csv", b"id,year\n1,own\n"), ("shop=y/b.csv", b"id\n2\n"), ("c.csv", b"id\n3\n")];
    let text = read(&files, format, 2).await;
    insta::assert_snapshot!(text, @r"
    warning: memory:///in/shop=x/year=2024/a.csv has `year`, which most files lack
    +----+------+-------------------------------------+------+---------------+---------+
    | id | year | _file                               | shop | _locator      | _defect |
    +----+------+-------------------------------------+------+---------------+---------+
    | 3  |      | memory:///in/c.csv                  |      | 1             |         |
    | 1  | own  | memory:///in/shop=x/year=2024/a.csv | x    | 1099511627777 |         |
    | 2  |      | memory:///in/shop=y/b.csv           | y    | 2199023255553 |         |
    +----+------+-------------------------------------+------+---------------+---------+
    ");
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let parquet = parquet(vec![("id", ids)], 1);
    let text = read(&[("day=1/a.parquet", &parquet)], SourceFormat { kind: Format::Parquet, ..csv() }, 1).await;
    insta::assert_snapshot!(text, @r"
    +----+-----+----------+---------+
    | id | day | _locator | _defect |
    +----+-----+----------+---------+
    | 7  | 1   | 1        |         |
    +----+-----+----------+---------+
    ");
}

/// Two sheets of orders with the same header in another order, an empty row, and a sheet of notes between them.
#[tokio::test]
async fn sheets_are_read_as_what_they_show() {
    let book = include_bytes!("tests/orders.xlsx");
    let format = SourceFormat { kind: Format::Spreadsheet, ..csv() };
    let first = read(&[("a.xlsx", book)], format.clone(), 1).await;
    insta::assert_snapshot!(first, @r"
    warning: memory:///in/a.xlsx: the sheets Notes, 2025 are not read; `sheet` says which are
    +-------+----------+---------------------+-------+------+----------+---------+
    | order | customer | at                  | price | paid | _locator | _defect |
    +-------+----------+---------------------+-------+------+----------+---------+
    | A1    | 17850    | 2024-12-01T08:26:00 | 2.55  | true | 1        |         |
    | A2    | 13047    | 2024-12-02          | 0.1   |      | 2        |         |
    +-------+----------+---------------------+-------+------+----------+---------+
    ");
    let all = read(&[("a.xlsx", book)], SourceFormat { sheet: Some("20*".into()), ..format.clone() }, 1).await;
    insta::assert_snapshot!(all, @r"
    +-------+----------+---------------------+-----------+------+------+----------+---------+
    | order | customer | at                  | price     | paid | note | _locator | _defect |
    +-------+----------+---------------------+-----------+------+------+----------+---------+
    | A1    | 17850    | 2024-12-01T08:26:00 | 2.55      | true |      | 1        |         |
    | A2    | 13047    | 2024-12-02          | 0.1       |      |      | 2        |         |
    | A3    | 17850    |                     | 0.0000001 |      | late | 3        |         |
    +-------+----------+---------------------+-----------+------+------+----------+---------+
    ");
    let told = read(&[("a.xlsx", book)], SourceFormat { sheet: Some("March".into()), ..format.clone() }, 1).await;
    assert_eq!(told, "memory:///in/a.xlsx has no sheet `March`\nhint: it has 2024, Notes, 2025");
    // However the bytes are damaged, it is an error and no panic.
    for at in (0..book.len()).step_by(97) {
        let mut damaged = book.to_vec();
        damaged[at] ^= 0xFF;
        let told = scan(&[("a.xlsx", &damaged)], format.clone(), 1).await;
        assert!(told.is_ok() || told.is_err_and(|told| told.contains("a.xlsx")), "at {at}");
    }
}

mod never_loses_a_row;
