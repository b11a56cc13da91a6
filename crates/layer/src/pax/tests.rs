use proptest::prelude::*;

use super::*;
use crate::testing::pax_record;

#[test]
fn values_are_split_by_length_so_that_they_may_hold_anything() {
    let mut bytes = pax_record(b"SCHILY.xattr.user.x", b"a\n12 path=evil\n\0=");
    bytes.extend(pax_record(b"path", b"real=name"));
    let pax = parse(&bytes).unwrap();
    assert_eq!(
        pax.xattrs,
        [(b"user.x".to_vec(), b"a\n12 path=evil\n\0=".to_vec())]
    );
    assert_eq!(pax.path.as_deref(), Some(&b"real=name"[..]));
}

#[test]
fn the_last_record_of_a_key_wins_and_an_empty_one_takes_it_back() {
    let records = |values: &[&[u8]]| {
        values
            .iter()
            .flat_map(|v| pax_record(b"path", v))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        parse(&records(&[b"a", b"b"])).unwrap().path.as_deref(),
        Some(&b"b"[..])
    );
    assert_eq!(parse(&records(&[b"a", b""])).unwrap().path, None);
}

#[test]
fn damaged_records_are_refused() {
    for bytes in [
        &b"5 a=b"[..],
        b"99 a=b\n",
        b"0 a=b\n",
        b"3 a=b\n",
        b"6 ab\n ",
        b"x a=b\n",
        b" a=b\n",
        b"99999999999999999999999 a=b\n",
        b"6 a=b\n\0\0",
    ] {
        assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
    }
    assert_eq!(parse(&pax_record(b"path", b"a\0b")), Err("pax path"));
    assert_eq!(parse(&pax_record(b"size", b"-1")), Err("pax size"));
}

proptest! {
    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes));
    }

    #[test]
    fn any_attribute_survives(name in "[a-z.=\n]{1,20}", value in proptest::collection::vec(any::<u8>(), 0..300)) {
        let name = name.replace('=', "");
        prop_assume!(!name.is_empty());
        let pax = parse(&pax_record(format!("SCHILY.xattr.{name}").as_bytes(), &value)).unwrap();
        prop_assert_eq!(pax.xattrs, vec![(name.into_bytes(), value)]);
    }
}
