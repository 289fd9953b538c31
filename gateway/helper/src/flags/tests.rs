use std::path::Path;

use super::*;

/// Loads a command line with `file` as the settings file.
fn load_with(line: &str, file: &str) -> Result<HelperArgs, EarlyExit> {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("ovn_k8s.conf");
    std::fs::write(&conf, format!("[default]\n{file}")).unwrap();
    let mut args: Vec<OsString> = vec![PROGRAM.into(), "--config".into(), conf.into()];
    args.extend(line.split_whitespace().map(OsString::from));
    HelperArgs::load(args, &Paths::from_env())
}

fn load(line: &str) -> HelperArgs {
    load_with(line, "").unwrap_or_else(|stop| panic!("{line}: {stop:?}"))
}

/// The one line a wrong command line ends in.
fn wrong(line: &str, file: &str) -> String {
    match load_with(line, file) {
        Err(EarlyExit::Error(line)) => line,
        other => panic!("{line}: {other:?}"),
    }
}

const NEEDED: &str = "--physical-bridge=breth0 --physical-interface=eth0";

#[test]
fn the_command_line_of_the_runbooks() {
    let flags = load("--physical-bridge=breth0 --physical-interface=eth0 --pidfile --detach");
    assert_eq!(flags.daemon.pidfile.as_deref(), Some(""));
    assert!(flags.daemon.detach);
    let settings = flags.settings(&Paths::from_env()).unwrap();
    assert_eq!((settings.bridge.as_str(), settings.interface.as_str()), ("breth0", "eth0"));
    assert_eq!(settings.policy.zone, 64000);
    assert_eq!(settings.state_dir, Path::new("/var/lib/ovn-k8s"));
    assert_eq!(settings.policy.node_port_range.to_string(), "30000-32767");
    assert_eq!(settings.policy.reply, ReplySetting::Auto);
}

#[test]
fn both_spellings_of_every_flag() {
    let flags = load(
        "--physical-bridge breth0 --physical-interface eth0 --manifests /m --metrics-address :9100 --reply-rule \
         partitioned --snat-ports 40000-59999 --node-name n1 --service-cluster-ip-range 10.96.0.1/12,fd00:96::/112 \
         --join-subnet 100.64.1.0/24 --join-subnet=fd98::/64 --state-dir /s --db unix:/d --nb tcp:10.0.0.1:6641 \
         --nb-privkey /k --nb-cert /c --nb-cacert /ca --conntrack-zone 7 --k8s-api-server h:8080 --k8s-token-file /t \
         --k8s-ca-file /kca --allow-insecure-token --health-check-address ::1 --adopt --dry-run --output json \
         -vfile:info -v console:emer --log-file=/l --unixctl /u --no-chdir --overwrite-pidfile",
    );
    let text = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&flags.policy.service_cluster_ip_range), ["10.96.0.0/12", "fd00:96::/112"]);
    assert_eq!(text(&flags.policy.join_subnet), ["100.64.1.0/24", "fd98::/64"]);
    assert_eq!(flags.metrics_address, Some(([0, 0, 0, 0], 9100).into()));
    assert_eq!(flags.databases.nb_db.as_deref(), Some("tcp:10.0.0.1:6641"));
    assert_eq!(flags.vlog.verbose, ["file:info", "console:emer"]);
    assert_eq!(flags.output.format, cli::OutputFormat::Json);
    assert!(flags.dry_run && flags.adopt && flags.kubernetes.allow_insecure_token);
    let settings = flags.settings(&Paths::from_env()).unwrap();
    assert_eq!(settings.policy.zone, 7);
    assert_eq!(settings.policy.reply, ReplySetting::Partitioned);
    assert_eq!(settings.policy.snat_ports.map(|ports| ports.to_string()).as_deref(), Some("40000-59999"));
}

#[test]
fn the_command_line_comes_before_the_file() {
    let file = "physical_bridge = brx\nphysical_interface = \"ethx\"\nconntrack_zone = 64001\nmtu = 1400\n\
                reply_rule = Tracked\nservice_cluster_ip_range = 10.1.0.0/16, fd01::/112\nadopt = yes\n\
                k8s_ca_certificate = /etc/hostname\nunix_socket = /not/for/us\n";
    let flags = load_with("--physical-bridge=breth0 --conntrack-zone=5", file).unwrap();
    let settings = flags.settings(&Paths::from_env()).unwrap();
    assert_eq!((settings.bridge.as_str(), settings.interface.as_str()), ("breth0", "ethx"));
    assert_eq!(
        (settings.policy.zone, settings.policy.reply, settings.adopt),
        (5, ReplySetting::Tracked, true)
    );
    assert_eq!(settings.policy.service_ranges.len(), 2);
    assert_eq!(flags.kubernetes.k8s_ca_file.as_deref(), Some(Path::new("/etc/hostname")));
    let absent = load_with(NEEDED, "k8s_ca_certificate = /nonexistent/ca.crt\n").unwrap();
    assert_eq!(absent.kubernetes.k8s_ca_file, None, "then the text in the database counts");
    assert_eq!(flags.databases.nb_db, None);
}

#[test]
fn what_is_wrong_is_one_line_with_a_remedy() {
    let cases = [
        ("", "", "--physical-bridge is missing: give --physical-bridge=breth0"),
        ("--physical-bridge=breth0", "", "--physical-interface is missing"),
        ("--physical-bridge=eth0 --physical-interface=eth0", "", "name the same device"),
        ("--physical-bridge=br-int --physical-interface=eth0", "", "OVN's own bridge"),
        ("--physical-brige=breth0", "", "a similar argument exists: '--physical-bridge'"),
        ("--physical-bridge= --physical-interface=eth0", "", "--physical-bridge"),
        ("--physical-bridge=../x --physical-interface=eth0", "", "not the name of an interface"),
        ("--physical-bridge=a-name-too-long-for-it --physical-interface=eth0", "", "1 to 15 characters"),
        ("--physical-bridge=breth0 --physical-interface", "", "--physical-interface"),
        ("--reply-rule=both", "", "auto, tracked, partitioned"),
        ("--snat-ports=59999-40000", "", "40000-59999"),
        ("--snat-ports=32000-40000", "NEEDED", "overlap"),
        ("--snat-ports=0-5", "", "port range"),
        ("--conntrack-zone=0", "", "1 to 65535"),
        ("--conntrack-zone=65536", "", "1 to 65535"),
        ("--metrics-address=nowhere", "", "127.0.0.1:9100"),
        ("--join-subnet=100.64.1.0", "", "10.96.0.0/12"),
        ("--cleanup --detach", "NEEDED", "--detach"),
        ("stray", "NEEDED", "stray"),
        ("", "conntrack_zone = x\n", "conntrack_zone = x: a zone is a number"),
        ("", "adopt = maybe\n", "adopt = maybe: write true or false"),
        ("", "physical_bridge\n", "ovn_k8s.conf, line 2: it has no value"),
    ];
    for (line, file, expected) in cases {
        let (line, file) = match file {
            "NEEDED" => (format!("{NEEDED} {line}"), ""),
            file => (line.to_owned(), file),
        };
        let refusal = wrong(&line, file);
        assert!(refusal.contains(expected), "{line}: {refusal}");
        assert!(!refusal.contains('\n') && !refusal.contains("Usage"), "{line}: {refusal}");
    }
}

#[test]
fn a_named_settings_file_must_be_there() {
    let args = [PROGRAM, "--config=/nonexistent/x.conf"].map(OsString::from);
    let Err(EarlyExit::Error(line)) = HelperArgs::load(args, &Paths::from_env()) else { panic!() };
    assert!(line.contains("/nonexistent/x.conf"), "{line}");
}

#[test]
fn help_shows_examples_and_exits_well() {
    let Err(EarlyExit::Help(text)) = load_with("--help", "") else { panic!() };
    for part in ["Examples:", "--pidfile --detach", "--physical-bridge", "--log-file", "ovs-appctl -t"] {
        assert!(text.contains(part), "{part}");
    }
    let Err(EarlyExit::Help(text)) = load_with("--version", "") else { panic!() };
    assert!(text.starts_with("ovn-k8s-gateway-helper "));
}
