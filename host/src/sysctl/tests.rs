//! In private namespaces, since the port sysctls are per namespace.

use super::*;
use crate::netns::Namespace;

fn inside(work: impl FnOnce(&Path) + Send) {
    let state = tempfile::tempdir().unwrap();
    Namespace::create().unwrap().run(|| work(state.path())).unwrap();
}

fn set(text: &str) -> PortSet {
    text.parse().unwrap()
}

fn span(low: u16, high: u16) -> PortSpan {
    PortSpan::new(low, high).unwrap()
}

#[test]
fn names_with_dots_and_escapes() {
    let key = Key::below_net(&["ipv4", "conf", "eth0.100", "rp_filter"]).unwrap();
    assert_eq!(key.to_string(), "net/ipv4/conf/eth0.100/rp_filter");
    assert_eq!(Key::below_net(&["ipv4", "..", "kernel"]), None);
    assert_eq!(Key::below_net(&["ipv4", "a/b"]), None);
    assert_eq!(Key::below_net(&["ipv4", ""]), None);
    let error = read(&Key::below_net(&["ipv4", "no_such"]).unwrap()).unwrap_err().to_string();
    assert!(error.contains("cannot read sysctl net/ipv4/no_such"), "{error}");
}

#[test]
fn ports_of_others_stay_and_only_ours_are_taken_back() {
    inside(|state| {
        write(&RESERVED_PORTS, "8080,45000").unwrap();
        let sysctls = Sysctls::new(state);
        assert!(sysctls.reserve(&set("40000-59999,30000")).unwrap());
        assert_eq!(reserved_now().unwrap(), set("8080,30000,40000-59999"));
        let now = sysctls.ports().unwrap();
        assert_eq!(now.reserved_by_us, set("30000,40000-44999,45001-59999"));
        assert!(!sysctls.reserve(&set("40000-59999,30000")).unwrap(), "the second time is no change");
        // Another process, the same record: less is wanted.
        let sysctls = Sysctls::new(state);
        assert_eq!(now.reserved_for(&set("30000")), set("8080,30000,45000"));
        assert!(sysctls.reserve(&set("30000")).unwrap());
        assert_eq!(reserved_now().unwrap(), set("8080,30000,45000"));
        sysctls.take_back().unwrap();
        assert_eq!(reserved_now().unwrap(), set("8080,45000"));
        assert_eq!(fs::read_dir(state).unwrap().count(), 0, "the record is gone");
        sysctls.take_back().unwrap();
    });
}

#[test]
fn a_list_longer_than_the_kernel_reads_is_coarsened_and_stays_the_same() {
    inside(|state| {
        let sysctls = Sysctls::new(state);
        let long = PortSet::from_ports((20000..20600).step_by(2));
        assert!(sysctls.reserve(&long).unwrap());
        assert_eq!(reserved_now().unwrap(), long);
        let longer = PortSet::from_ports((20000..24000).step_by(2));
        assert!(sysctls.reserve(&longer).unwrap());
        let now = reserved_now().unwrap();
        assert!(longer.minus(&now).is_empty());
        assert_eq!(sysctls.ports().unwrap().reserved_for(&longer), now);
        assert!(!sysctls.reserve(&longer).unwrap());
        sysctls.take_back().unwrap();
        assert!(reserved_now().unwrap().is_empty());
    });
}

#[test]
fn the_local_range_goes_back_to_what_it_was_unless_another_program_changed_it() {
    inside(|state| {
        let sysctls = Sysctls::new(state);
        let first = sysctls.ports().unwrap().local;
        assert!(sysctls.set_local_range(span(15000, 65534)).unwrap());
        assert!(!sysctls.set_local_range(span(15000, 65534)).unwrap());
        assert!(sysctls.set_local_range(span(14000, 65535)).unwrap());
        assert_eq!(sysctls.ports().unwrap().local_without_us(), first);
        sysctls.take_back().unwrap();
        assert_eq!(sysctls.ports().unwrap().local, first);

        sysctls.set_local_range(span(15000, 65534)).unwrap();
        write(&LOCAL_PORT_RANGE, "20000 30001").unwrap();
        sysctls.take_back().unwrap();
        assert_eq!(sysctls.ports().unwrap().local, span(20000, 30001));
    });
}

#[test]
fn a_record_of_an_earlier_boot_is_void_and_a_broken_one_stops_us() {
    inside(|state| {
        let file = state.join("sysctls.json");
        fs::write(&file, r#"{"boot":"earlier","reserved_ports":"5000"}"#).unwrap();
        write(&RESERVED_PORTS, "5000").unwrap();
        let sysctls = Sysctls::new(state);
        assert!(sysctls.ports().unwrap().reserved_by_us.is_empty());
        sysctls.take_back().unwrap();
        assert_eq!(reserved_now().unwrap(), set("5000"));
        fs::write(&file, "{").unwrap();
        let error = sysctls.reserve(&set("1")).unwrap_err().to_string();
        assert!(error.contains("sysctls.json") && error.contains("--state-dir"), "{error}");
        assert_eq!(reserved_now().unwrap(), set("5000"));
    });
}

#[test]
fn a_single_value_goes_back_to_what_it_was_unless_another_program_changed_it() {
    inside(|state| {
        let sysctls = Sysctls::new(state);
        let key = Key::arp_announce("lo").unwrap();
        assert!(sysctls.set(&key, "2").unwrap());
        assert!(!sysctls.set(&key, "2").unwrap());
        sysctls.take_back().unwrap();
        assert_eq!(read(&key).unwrap(), "0");
        sysctls.set(&key, "2").unwrap();
        write(&key, "1").unwrap();
        sysctls.take_back().unwrap();
        assert_eq!(read(&key).unwrap(), "1");
    });
}
