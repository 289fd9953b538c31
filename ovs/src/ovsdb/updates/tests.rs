use super::*;

fn schema() -> Schema {
    serde_json::from_value(json!({
        "name": "X", "version": "1.0.0",
        "tables": {
            "T": {"columns": {
                "name": {"type": "string"},
                "tag": {"type": {"key": "integer", "min": 0, "max": 1}},
                "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
                "refs": {"type": {"key": {"type": "uuid", "refTable": "T"}, "min": 0, "max": "unlimited"}},
            }},
            "U": {"columns": {"name": {"type": "string"}}},
        }
    }))
    .unwrap()
}

fn layout() -> Layout {
    let monitors =
        [MonitorTable::new("T", &["name", "tag", "ids", "refs"]), MonitorTable::new("U", &["name"])];
    let (layout, unknown) = Layout::new(&monitors, &schema());
    assert!(unknown.is_empty());
    layout
}

fn uuid(number: u128) -> String {
    Uuid(number << 100 | number).to_string()
}

fn applied(before: &Snapshot, updates: &Value) -> Option<Snapshot> {
    let text = updates.to_string();
    apply(before, serde_json::from_str(&text).unwrap()).unwrap()
}

fn replaced(before: &Snapshot, updates: &Value) -> Option<Snapshot> {
    let text = updates.to_string();
    replace(before, &layout(), serde_json::from_str(&text).unwrap()).unwrap()
}

fn three_rows() -> Value {
    json!({"T": {
        uuid(1): {"initial": {"name": "a", "tag": 7, "ids": ["map", [["k", "v"], ["l", "w"]]]}},
        uuid(2): {"initial": {"name": "b"}},
        uuid(3): {"initial": {}},
    }})
}

#[test]
fn what_is_not_sent_has_its_default() {
    let snapshot = replaced(&Snapshot::default(), &three_rows()).unwrap();
    let row = snapshot.row("T", uuid(3).parse().unwrap()).unwrap();
    assert_eq!(row.string("name").unwrap(), "");
    assert_eq!(row.get("tag"), Some(&Datum::empty_set()));
    assert_eq!(row.get("ids"), Some(&Datum::empty_map()));
    assert_eq!(row.get("nothing"), None);
    assert_eq!(snapshot.table("T").unwrap().len(), 3);
    assert!(snapshot.table("U").unwrap().is_empty());
    assert_eq!(snapshot.generation(), 1);
}

#[test]
fn changes_are_differences_for_sets_and_maps_and_values_for_the_rest() {
    let before = replaced(&Snapshot::default(), &three_rows()).unwrap();
    let after = applied(
        &before,
        &json!({"T": {
            uuid(1): {"modify": {
                "name": "c", "tag": ["set", []],
                "ids": ["map", [["k", "v"], ["l", "x"], ["m", "y"]]],
                "refs": ["uuid", uuid(2)],
            }},
            uuid(2): {"delete": null},
            uuid(4): {"insert": {"name": "d"}},
        }}),
    )
    .unwrap();
    let row = after.row("T", uuid(1).parse().unwrap()).unwrap();
    assert_eq!(row.string("name").unwrap(), "c");
    assert!(row.get("tag").unwrap().is_empty());
    assert_eq!(row.get("ids"), Some(&Datum::map([("l", "x"), ("m", "y")])));
    assert_eq!(row.references("refs").collect::<Vec<_>>(), [uuid(2).parse().unwrap()]);
    let names: Vec<&str> = after.rows("T").map(|row| row.string("name").unwrap()).collect();
    assert_eq!(names, ["c", "", "d"]);
    assert_eq!((after.generation(), after.table("T").unwrap().generation()), (2, 2));
    assert_eq!(after.table("U").unwrap().generation(), 1, "an untouched table keeps its generation");
    assert_eq!(before.table("T").unwrap().len(), 3, "the snapshot before is what it was");
}

#[test]
fn the_same_content_again_is_no_change() {
    let before = replaced(&Snapshot::default(), &three_rows()).unwrap();
    assert!(replaced(&before, &three_rows()).is_none());
    let mut other = three_rows();
    other["T"][uuid(2)]["initial"]["name"] = json!("B");
    let after = replaced(&before, &other).unwrap();
    let id = uuid(1).parse().unwrap();
    assert!(
        Arc::ptr_eq(before.row("T", id).unwrap(), after.row("T", id).unwrap()),
        "unchanged rows are shared"
    );
    assert!(replaced(&after, &json!({})).unwrap().table("T").unwrap().is_empty());
}

#[test]
fn columns_the_server_does_not_know_are_left_out() {
    let monitors = [
        MonitorTable::new("T", &["name", "from_the_future"]),
        MonitorTable::new("V", &["name"]),
        MonitorTable::new("T", &["tag"]),
    ];
    let (layout, unknown) = Layout::new(&monitors, &schema());
    assert_eq!(unknown.into_iter().collect::<Vec<_>>(), ["T.from_the_future", "V"]);
    assert_eq!(layout.requests(&monitors), json!({"T": [{"columns": ["name", "tag"]}]}));
}

#[test]
fn what_does_not_fit_is_an_error_and_leaves_the_snapshot() {
    let before = replaced(&Snapshot::default(), &three_rows()).unwrap();
    for updates in [
        json!({"T": {uuid(9): {"modify": {"name": "x"}}}}),
        json!({"T": {uuid(1): {"modify": {"name": 1}}}}),
        json!({"T": {uuid(1): {"insert": {"ids": "x"}}}}),
        json!({"W": {}}),
    ] {
        let text = updates.to_string();
        assert!(apply(&before, serde_json::from_str(&text).unwrap()).is_err(), "{text}");
    }
    for text in [r#"{"T":{"x":{"delete":null}}}"#, r#"{"T":[]}"#, r#"{"T":{"x":{"explode":{}}}}"#] {
        assert!(serde_json::from_str::<TableUpdates<'_>>(text).is_err(), "{text}");
    }
}
