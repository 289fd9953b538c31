//! Addresses and the routes that the kernel adds for them.

use super::*;
use crate::netlink_format;

#[test]
fn addresses_keep_lifetimes_peers_labels_and_flags() {
    let made = [
        "addr add 10.1.0.2/24 brd + dev eth0",
        "addr add 10.1.0.3/24 dev eth0 label eth0:second",
        "addr add 10.2.0.1 peer 10.2.0.9/32 dev eth0 label eth0:p2p",
        "addr add 10.3.0.1/24 dev eth0 valid_lft 1000 preferred_lft 500 metric 77",
        "addr add 10.4.0.1/24 dev eth0 noprefixroute scope link",
        "addr add 10.5.0.1/32 dev eth0 label eth0:1234567890",
        "addr add fd01::2/64 dev eth0",
        "addr add fd02::2/64 dev eth0 valid_lft 1000 preferred_lft 500 mngtmpaddr noprefixroute",
        "addr add fd03::2/64 dev eth0 valid_lft 1000 preferred_lft 0 home metric 33",
        "addr add fd04::1 peer fd04::9/128 dev eth0",
    ];
    inside(&made, |socket, mapping| {
        let before = addresses(socket, &mapping.from);
        assert_eq!(before.iter().filter(|address| address.is_secondary()).count(), 1);
        let mut labels: Vec<_> = before.iter().filter_map(Address::label).collect();
        labels.sort();
        assert_eq!(
            labels,
            ["eth0", "eth0", "eth0", "eth0:1234567890", "eth0:p2p", "eth0:second"].map(String::from)
        );
        let rows: Vec<_> = before
            .iter()
            .filter(|address| !address.is_temporary())
            .map(|address| Request::replace(address.for_device(&mapping)))
            .collect();
        send(socket, &rows);
        let after = addresses(socket, &mapping.to);
        for row in rows.iter().map(|request| Address::of(&request.row).unwrap()) {
            let found = after.iter().find(|address| address.key() == row.key()).unwrap();
            let (mut wanted, mut there) = (row.identity(), found.identity());
            if row.label().is_none() {
                // Too long for breth0: the kernel put the plain name there.
                wanted.drop_attributes(&[3]);
                there.drop_attributes(&[3]);
            }
            assert_eq!(there, wanted, "{found} is not {row}");
            assert_eq!(found.valid().is_some(), row.valid().is_some(), "{found} is not {row}");
            let original = before.iter().find(|address| address.key() == row.key()).unwrap();
            assert_eq!(found.is_secondary(), original.is_secondary());
        }
        let text = ip("addr show dev breth0");
        for part in [
            "10.1.0.2/24 brd 10.1.0.255 scope global breth0",
            "10.1.0.3/24 scope global secondary breth0:second",
            "10.2.0.1 peer 10.2.0.9/32 scope global breth0:p2p",
            "10.3.0.1/24 metric 77 scope global dynamic breth0",
            "10.4.0.1/24 scope link noprefixroute breth0",
            "10.5.0.1/32 scope global breth0",
            "fd02::2/64 scope global nodad dynamic mngtmpaddr noprefixroute",
            "fd03::2/64 metric 33 scope global nodad home deprecated dynamic",
            "fd04::1 peer fd04::9/128 scope global",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("tentative"), "{text}");
        // The other way, and away.
        let removals: Vec<_> =
            after.iter().rev().map(|address| Request::delete(address.delete_request())).collect();
        send(socket, &removals);
        assert_eq!(addresses(socket, &mapping.to), []);
    });
}

#[test]
fn the_connected_routes_are_those_the_kernel_makes() {
    let made = [
        "addr add 10.1.0.2/24 dev eth0",
        "addr add 10.2.0.1 peer 10.2.0.9/32 dev eth0",
        "addr add 10.3.0.1/24 dev eth0 metric 77",
        "addr add 10.5.0.1/32 dev eth0",
        "addr add 10.6.0.1/24 dev eth0 noprefixroute",
        "addr add fd01::2/64 dev eth0",
        "addr add fd03::2/64 dev eth0 metric 33",
        "addr add fd05::2/128 dev eth0",
        "addr add fd06::2/64 dev eth0 noprefixroute",
        "addr add fd07::2/64 dev eth0 valid_lft 1000 preferred_lft 1000",
    ];
    inside(&made, |socket, mapping| {
        let kernels = routes(socket, &mapping.from);
        let ours: Vec<_> = addresses(socket, &mapping.from).iter().filter_map(Route::connected).collect();
        let texts = |routes: &[Route]| {
            let seconds = |text: &str| text.split(" expires ").next().unwrap().to_owned();
            let mut texts: Vec<_> =
                routes.iter().map(|route| (seconds(&route.to_string()), route.expires().is_some())).collect();
            texts.sort();
            texts
        };
        assert_eq!(texts(&ours).iter().filter(|(_, expires)| *expires).count(), 1);
        assert_eq!(texts(&ours), texts(&kernels));
        send(
            socket,
            &kernels.iter().map(|route| Request::delete(route.delete_request())).collect::<Vec<_>>(),
        );
        assert_eq!(routes(socket, &mapping.from), []);
        send(socket, &ours.iter().map(|route| Request::append(route.row().clone())).collect::<Vec<_>>());
        let again = routes(socket, &mapping.from);
        assert_eq!(texts(&again), texts(&kernels));
    });
}

#[test]
fn labels_follow_the_device() {
    let device = |name: &str| Device { index: 1, name: name.into() };
    let mapping = DeviceMapping { from: device("eth0"), to: device("breth0") };
    let address = |label: &str| {
        let mut address = Address::new(1, "10.0.0.1".parse().unwrap(), 24);
        address.row_mut().set(3, netlink_format::terminated(label));
        Address::of(&address.for_device(&mapping)).unwrap().label()
    };
    assert_eq!(address("eth0").as_deref(), Some("breth0"));
    assert_eq!(address("eth0:x").as_deref(), Some("breth0:x"));
    assert_eq!(address("eth0:12345678").as_deref(), Some("breth0:12345678"));
    assert_eq!(address("eth0:123456789"), None);
    assert_eq!(address("eth01"), None);
    assert_eq!(address("other"), None);
}
