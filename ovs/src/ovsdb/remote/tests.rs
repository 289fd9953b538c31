use super::*;

#[test]
fn every_method_is_read_and_written() {
    for text in [
        "unix:/var/run/openvswitch/db.sock",
        "tcp:127.0.0.1:6641",
        "ssl:[fe80::1%eth0]:6641",
        "tcp:[::1]:6641",
        "ssl:nb.example.org:6641",
    ] {
        assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
    }
    assert_eq!("tcp:[::1]".parse::<Remote>().unwrap().to_string(), "tcp:[::1]:6640");
    assert_eq!("ssl:host".parse::<Remote>().unwrap().to_string(), "ssl:host:6640");
}

#[test]
fn a_list_names_the_members_of_a_cluster() {
    let members = Remote::parse_list("tcp:10.0.0.1:6641, tcp:10.0.0.2:6641,unix:/x").unwrap();
    assert_eq!(members.len(), 3);
    assert_eq!(members[2], Remote::unix("/x"));
    assert!(Remote::parse_list("tcp:10.0.0.1:6641,").is_err());
}

#[test]
fn what_names_no_server_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "known method"),
        ("unix:", "path is missing"),
        ("/var/run/openvswitch/db.sock", "known method"),
        ("ptcp:6641", "listen"),
        ("tcp:::1:6641", "brackets"),
        ("tcp:[::1:6641", "not closed"),
        ("tcp:[10.0.0.1]:6641", "no IPv6"),
        ("tcp:[::1]6641", "follows"),
        ("tcp:10.0.0.1:0", "1 to 65535"),
        ("tcp:10.0.0.1:+1", "1 to 65535"),
        ("tcp:10.0.0.1:70000", "1 to 65535"),
        ("tcp::6641", "host is missing"),
        ("http://10.0.0.1", "known method"),
    ] {
        let error = text.parse::<Remote>().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("unix:PATH"), "{text}: {error}");
    }
}
