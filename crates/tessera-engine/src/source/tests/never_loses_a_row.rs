use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes follow the header: nothing panics, and cutting the input elsewhere changes nothing.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), Just(b'\r'), Just(0xc3), Just(0xa9), any::<u8>()], 0..300), cut in 1_usize..50) {
        let mut file = b"a,b\n".to_vec();
        file.extend(bytes);
        let source = SourceFile { location: "x".into(), url: "x".into(), bytes: 0, etag: None, constants: Vec::new() };
        let read = |step: usize| {
            let mut records = text::Records::new(&csv(), &source, 0, vec!["a".into(), "b".into()], b',');
            let mut rows = text::Rows::new(vec![None; 2], &[0, 1], false);
            file.chunks(step).for_each(|piece| records.feed(piece, &mut rows).expect("short"));
            records.finish(&mut rows).expect("short");
            let (columns, locators, defects, count) = rows.finish();
            (format!("{columns:?} {locators:?} {defects:?}"), count)
        };
        prop_assert_eq!(read(file.len()), read(cut));
    }
}
