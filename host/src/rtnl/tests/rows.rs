//! Rows from and to files, and rows of any content.

use proptest::prelude::*;

use super::super::neighbour::Neighbour;
use super::super::nexthop::Nexthop;
use super::super::qdisc::Qdisc;
use super::super::rule::Rule;
use super::*;
use crate::netlink_format;

#[test]
fn rows_survive_a_file() {
    inside(&PLAIN, |socket, _| {
        for kind in Kind::ALL {
            let rows = socket.dump_all(kind).unwrap();
            let text = serde_json::to_string(&rows).unwrap();
            assert_eq!(serde_json::from_str::<Vec<Row>>(&text).unwrap(), rows);
        }
        let text = r#"{"kind":"route","header":"0x","attributes":[]}"#;
        assert!(serde_json::from_str::<Row>(text).is_err());
    });
}

fn any_row() -> impl Strategy<Value = Row> {
    let kind = prop_oneof![
        Just(Kind::Link),
        Just(Kind::Address),
        Just(Kind::Route),
        Just(Kind::Neighbour),
        Just(Kind::Rule),
        Just(Kind::Nexthop),
        Just(Kind::Qdisc)
    ];
    let bytes = || prop::collection::vec(prop_oneof![Just(2_u8), Just(10), any::<u8>()], 0..40);
    let attribute = (0_u16..56, bytes()).prop_map(|(kind, value)| Attribute { kind, value });
    (kind, bytes(), prop::collection::vec(attribute, 0..8), any::<bool>()).prop_map(
        |(kind, mut header, attributes, fit)| {
            if fit {
                header.resize(kind.header(), 0);
            }
            Row { kind, header, attributes }
        },
    )
}

proptest! {
    /// A file may have any content; none of it may stop an undo.
    #[test]
    fn any_row_is_read_displayed_and_mapped_without_panic(row in any_row()) {
        let device = |index, name: &str| Device { index, name: name.into() };
        let mapping = DeviceMapping { from: device(2, "eth0"), to: device(3, "breth0") };
        let _ = row.to_string();
        let moved = [
            Address::of(&row).map(|view| { let _ = (Route::connected(&view), view.identity()); view.for_device(&mapping) }),
            Route::of(&row).map(|view| { let _ = (view.onlink(), view.key(), view.identity()); view.for_device(&mapping) }),
            Neighbour::of(&row).map(|view| view.for_device(&mapping)),
            Rule::of(&row).map(|view| view.for_device(&mapping)),
            Nexthop::of(&row).map(|view| view.for_device(&mapping)),
            Qdisc::of(&row).map(|view| view.for_device(&mapping)),
            Link::of(&row).map(|view| { let _ = (view.xdp(), view.lower(), view.kind()); view.identity() }),
        ];
        for row in moved.into_iter().flatten() {
            let mut bytes = Vec::new();
            Request::replace(row).push(&mut bytes, 1);
            prop_assert_eq!(netlink_format::messages(&bytes).count(), 1);
        }
    }
}
