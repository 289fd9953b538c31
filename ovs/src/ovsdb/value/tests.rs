use std::collections::{BTreeMap, BTreeSet};

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Datum {
    serde_json::from_str(text).unwrap()
}

#[test]
fn notation_of_rfc_7047_is_read_and_written() {
    for text in [
        "1",
        "-9223372036854775808",
        "true",
        "\"a\"",
        "1.5",
        r#"["set",[]]"#,
        r#"["set",["a","b"]]"#,
        r#"["map",[]]"#,
        r#"["map",[["a","1"],["b","2"]]]"#,
        r#"["uuid","6ba7b810-9dad-11d1-80b4-00c04fd430c8"]"#,
        r#"["named-uuid","row0"]"#,
        r#"["map",[[1,["uuid","00000000-0000-0000-0000-000000000000"]]]]"#,
    ] {
        assert_eq!(serde_json::to_string(&parse(text)).unwrap(), text);
    }
}

#[test]
fn a_set_of_one_is_its_atom_and_order_does_not_matter() {
    assert_eq!(parse(r#"["set",["a"]]"#), Datum::from("a"));
    assert_eq!(parse(r#"["set",[2,1]]"#), Datum::set([1, 2]));
    assert_eq!(parse(r#"["map",[["b","2"],["a","1"]]]"#).get("a"), Some("1"));
    assert_eq!(Datum::map([("a", "1"), ("a", "2")]).get("a"), Some("2"));
    assert_ne!(Datum::empty_map(), Datum::empty_set());
}

#[test]
fn what_is_no_ovsdb_value_is_refused() {
    for text in [
        "null",
        "{}",
        "[]",
        r#"["uuid"]"#,
        r#"["uuid","x"]"#,
        r#"["uuid","6ba7b8109dad-11d1-80b4-00c04fd430c8-"]"#,
        r#"["set",[["set",["a","b"]]]]"#,
        r#"["map",[["a"]]]"#,
        r#"["bag",[]]"#,
        r#"["set",[],1]"#,
        "9223372036854775808",
    ] {
        assert!(serde_json::from_str::<Datum>(text).is_err(), "{text}");
    }
}

#[test]
fn uuids_are_printed_as_they_are_read() {
    let text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
    assert!("6ba7b810-9dad-11d1-80b4-00c04fd430c".parse::<Uuid>().is_err());
    assert!("+ba7b810-9dad-11d1-80b4-00c04fd430c8".parse::<Uuid>().is_err());
}

proptest! {
    /// The difference as the server makes it, applied by us, gives the new content.
    #[test]
    fn set_differences(old: BTreeSet<i8>, new: BTreeSet<i8>) {
        let datum = |set: &BTreeSet<i8>| Datum::set(set.iter().map(|n| i64::from(*n)));
        let difference: BTreeSet<i8> = old.symmetric_difference(&new).copied().collect();
        prop_assert_eq!(datum(&old).apply_difference(&datum(&difference)), datum(&new));
    }

    #[test]
    fn map_differences(old: BTreeMap<i8, bool>, new: BTreeMap<i8, bool>) {
        let datum = |map: &BTreeMap<i8, bool>| Datum::map(map.iter().map(|(k, v)| (i64::from(*k), *v)));
        let mut difference = new.clone();
        difference.retain(|key, value| old.get(key) != Some(value));
        difference.extend(old.iter().filter(|(key, _)| !new.contains_key(key)).map(|(k, v)| (*k, *v)));
        prop_assert_eq!(datum(&old).apply_difference(&datum(&difference)), datum(&new));
    }
}
