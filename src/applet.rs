//! Which part of the product a command line runs, and with which arguments.
//!
//! One binary has several names: by symlink (`ovn-k8s-gateway-helper`) or as its first argument (`ovn-k8s gateway-helper`,
//! `ovn-k8s ovn-k8s-gateway-helper`). Under any other name the first argument decides, too.

use std::ffi::OsString;
use std::path::Path;

/// The name of the binary itself.
pub const BINARY: &str = "ovn-k8s";

/// A part of the product with a command line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applet {
    /// The daemon on a gateway node that shares its NIC.
    GatewayHelper,
    /// Prints the status of the running helper.
    Status,
    /// Shows which owner receives a frame, and why.
    Explain,
    /// Moves the node's management from a NIC onto a bridge and back.
    Util,
    /// Lists what is wrong on this node.
    Doctor,
    /// Rolls back a takeover whose process has ended or hangs.
    UplinkWatchdog,
}

/// What to do for a command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Run an applet with these arguments, its full name first.
    Run(Applet, Vec<OsString>),
    /// Print this text and exit 0.
    Print(String),
    /// Print this line as an error and exit 1.
    Refuse(String),
}

/// The applets: full name (`make install` links it to the binary), name after `ovn-k8s`, and what it does.
const APPLETS: [(Applet, &str, &str, &str); 5] = [
    (
        Applet::GatewayHelper,
        "ovn-k8s-gateway-helper",
        "gateway-helper",
        "the daemon: splits the uplink between node and pods",
    ),
    (
        Applet::Status,
        "ovn-k8s-status",
        "status",
        "shows owners, rules, counters and drift of the running helper",
    ),
    (
        Applet::Explain,
        "ovn-k8s-explain",
        "explain",
        "shows which owner receives a frame, and which rule decides",
    ),
    (Applet::Util, "ovn-k8s-util", "util", "moves a NIC onto a bridge and back, without losing a packet"),
    (
        Applet::Doctor,
        "ovn-k8s-doctor",
        "doctor",
        "lists what is wrong on this node, why it matters and what to do",
    ),
];

/// The part that only a takeover starts, with its full name.
const HIDDEN: (Applet, &str) = (Applet::UplinkWatchdog, uplink::watchdog::PROGRAM);

/// Names of the original programs that this version does not have.
const NOT_YET: [&str; 4] = ["ovn-k8s-overlay", "ovn-k8s-watcher", "ovn-cni", "ovn-k8s-cni-overlay"];

/// Parses a command line, the program name first.
pub fn resolve(args: impl IntoIterator<Item = OsString>) -> Call {
    let mut args = args.into_iter();
    let called = args.next().map(|name| called_name(&name)).unwrap_or_default();
    if let Some(call) = by_name(&called, &mut args) {
        return call;
    }
    let Some(word) = args.next() else {
        return Call::Refuse(format!(
            "no part given; there are {} ({BINARY} --help describes them)",
            known()
        ));
    };
    let word = word.to_string_lossy().into_owned();
    match word.as_str() {
        "help" | "--help" | "-h" => return Call::Print(help()),
        "version" | "--version" | "-V" => {
            return Call::Print(format!("{BINARY} {}\n", env!("CARGO_PKG_VERSION")));
        }
        _ => {}
    }
    match by_short_name(&word) {
        Some((applet, name)) => Call::Run(applet, arguments(name, &mut args)),
        None => by_name(&called_name(word.as_ref()), &mut args).unwrap_or_else(|| {
            Call::Refuse(format!(
                "no part is called \"{}\"; there are {} ({BINARY} --help describes them)",
                word.escape_debug(),
                known()
            ))
        }),
    }
}

/// The call for a full name; for another name `None`, and the arguments are not read.
fn by_name(name: &str, args: &mut impl Iterator<Item = OsString>) -> Option<Call> {
    if NOT_YET.contains(&name) {
        return Some(Call::Refuse(format!("{name} is not built into this version; there are {}", known())));
    }
    if name == HIDDEN.1 {
        return Some(Call::Run(HIDDEN.0, arguments(name, args)));
    }
    let (applet, name, ..) = APPLETS.into_iter().find(|(_, full, ..)| *full == name)?;
    Some(Call::Run(applet, arguments(name, args)))
}

fn by_short_name(word: &str) -> Option<(Applet, &'static str)> {
    APPLETS.into_iter().find(|(_, _, short, _)| *short == word).map(|(applet, name, ..)| (applet, name))
}

fn arguments(name: &str, rest: impl Iterator<Item = OsString>) -> Vec<OsString> {
    std::iter::once(name.into()).chain(rest).collect()
}

/// The file's name without folder and extension, its words joined by hyphens: `/opt/cni/bin/ovn_cni` is `ovn-cni`.
fn called_name(called: &std::ffi::OsStr) -> String {
    let file = Path::new(called).file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split('.').next().unwrap_or_default();
    stem.replace('_', "-").to_ascii_lowercase()
}

fn known() -> String {
    APPLETS.map(|(_, _, short, _)| short).join(", ")
}

fn help() -> String {
    let mut text = format!(
        "{BINARY}: the gateway dataplane of OVN with Kubernetes\n\nUsage: {BINARY} PART [ARGUMENT]...\n\nParts:\n"
    );
    for (_, name, short, what) in APPLETS {
        text += &format!("  {short:<16} {what}\n");
        text += &format!("  {:<16} also as {name}\n", "");
    }
    text += &format!("\n{BINARY} PART --help describes a part.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Call {
        resolve(line.split_whitespace().map(OsString::from))
    }

    fn run(applet: Applet, line: &str) -> Call {
        Call::Run(applet, line.split_whitespace().map(OsString::from).collect())
    }

    fn refusal(line: &str) -> String {
        match call(line) {
            Call::Refuse(line) => line,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_part_is_called_by_link_full_name_or_short_name() {
        let expected = run(Applet::GatewayHelper, "ovn-k8s-gateway-helper --detach status");
        for line in [
            "ovn-k8s-gateway-helper --detach status",
            "/usr/bin/ovn-k8s-gateway-helper --detach status",
            "ovn_k8s_gateway_helper.bin --detach status",
            "ovn-k8s gateway-helper --detach status",
            "/opt/ovn-k8s ovn-k8s-gateway-helper --detach status",
            "some-other-name ovn-k8s-gateway-helper --detach status",
        ] {
            assert_eq!(call(line), expected, "{line}");
        }
        assert_eq!(call("ovn-k8s status json"), run(Applet::Status, "ovn-k8s-status json"));
        assert_eq!(call("ovn-k8s explain --hex 00"), run(Applet::Explain, "ovn-k8s-explain --hex 00"));
        for line in ["ovn_k8s_util recover", "ovn-k8s util recover", "/opt/ovn-k8s ovn-k8s-util recover"] {
            assert_eq!(call(line), run(Applet::Util, "ovn-k8s-util recover"), "{line}");
        }
        assert_eq!(call("ovn-k8s doctor -o json"), run(Applet::Doctor, "ovn-k8s-doctor -o json"));
    }

    #[test]
    fn the_watchdog_has_a_full_name_only_and_is_not_listed() {
        assert_eq!(
            call("ovn-k8s-uplink-watchdog x"),
            run(Applet::UplinkWatchdog, "ovn-k8s-uplink-watchdog x")
        );
        assert!(!help().contains("watchdog") && !refusal("ovn-k8s watchdog").contains("watchdog,"));
    }

    #[test]
    fn names_that_this_version_does_not_have_are_refused() {
        for line in
            ["ovn-k8s-watcher --overlay", "/opt/cni/bin/ovn_cni", "ovn-k8s ovn-k8s-overlay master-init"]
        {
            assert!(refusal(line).contains("is not built into this version"), "{line}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        for line in ["ovn-k8s", "", "renamed", "ovn-k8s frobnicate", "ovn-k8s --detach"] {
            let error = refusal(line);
            assert!(
                error.contains("gateway-helper, status, explain, util, doctor") && !error.contains('\n'),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn help_names_every_part() {
        let Call::Print(text) = call("ovn-k8s --help") else { panic!() };
        assert!(APPLETS.iter().all(|(_, full, short, _)| text.contains(full) && text.contains(short)));
        assert!(matches!(call("ovn-k8s --version"), Call::Print(text) if text.starts_with("ovn-k8s ")));
    }
}
