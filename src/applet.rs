//! Which of the names the binary is called by, and what is left of the command line for it.
//!
//! One binary answers to several names, by symlink (`ovn-k8s-gateway-helper`) or as the first word
//! (`ovn-k8s gateway-helper`, `ovn-k8s ovn-k8s-gateway-helper`). A file that was renamed is looked at by its first word too.

use std::ffi::OsString;
use std::path::Path;

/// The name of the binary itself.
pub const BINARY: &str = "ovn-k8s";

/// A part of the product that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applet {
    /// The daemon on a gateway node that shares its NIC.
    GatewayHelper,
    /// Asks the running helper how it is.
    Status,
    /// Says whose a frame is, and why.
    Explain,
    /// Moves the node's management from a NIC onto a bridge and back.
    Util,
    /// Looks for what is wrong on this node.
    Doctor,
    /// Undoes a takeover that its own process cannot finish.
    UplinkWatchdog,
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Run an applet with these arguments, its own name first.
    Run(Applet, Vec<OsString>),
    /// Print this and exit 0.
    Print(String),
    /// Print this line as an error and exit 1.
    Refuse(String),
}

/// The applets: full name, word after `ovn-k8s`, and what it does.
const APPLETS: [(Applet, &str, &str, &str); 5] = [
    (
        Applet::GatewayHelper,
        "ovn-k8s-gateway-helper",
        "gateway-helper",
        "splits the uplink between node and pods (a daemon)",
    ),
    (
        Applet::Status,
        "ovn-k8s-status",
        "status",
        "shows owners, rules, counters and drift of the running helper",
    ),
    (Applet::Explain, "ovn-k8s-explain", "explain", "says whose a frame is, and which rule decides"),
    (Applet::Util, "ovn-k8s-util", "util", "moves a NIC onto a bridge and back, without a packet lost"),
    (
        Applet::Doctor,
        "ovn-k8s-doctor",
        "doctor",
        "says what is wrong on this node, why it matters, what to do",
    ),
];

/// A part that only another part starts, by its full name.
const HIDDEN: (Applet, &str) = (Applet::UplinkWatchdog, uplink::watchdog::PROGRAM);

/// Names that clusters know and this version does not answer to.
const NOT_YET: [&str; 4] = ["ovn-k8s-overlay", "ovn-k8s-watcher", "ovn-cni", "ovn-k8s-cni-overlay"];

/// Reads a command line, the called name first.
pub fn resolve(args: impl IntoIterator<Item = OsString>) -> Call {
    let mut args = args.into_iter();
    let called = args.next().map(|name| called_name(&name)).unwrap_or_default();
    if let Some(call) = by_name(&called, &mut args) {
        return call;
    }
    let Some(word) = args.next() else {
        return Call::Refuse(format!("say which part to run: {BINARY} {}", known()));
    };
    let word = word.to_string_lossy().into_owned();
    match word.as_str() {
        "help" | "--help" | "-h" => return Call::Print(help()),
        "version" | "--version" | "-V" => {
            return Call::Print(format!("{BINARY} {}\n", env!("CARGO_PKG_VERSION")));
        }
        _ => {}
    }
    match by_word(&word) {
        Some((applet, name)) => Call::Run(applet, handed(name, &mut args)),
        None => by_name(&called_name(word.as_ref()), &mut args).unwrap_or_else(|| {
            Call::Refuse(format!("no part is called \"{}\"; there are {}", word.escape_debug(), known()))
        }),
    }
}

/// The call for a full name, if it is one; `None` leaves the arguments alone.
fn by_name(name: &str, args: &mut impl Iterator<Item = OsString>) -> Option<Call> {
    if NOT_YET.contains(&name) {
        return Some(Call::Refuse(format!("{name} is not built into this version; there are {}", known())));
    }
    if name == HIDDEN.1 {
        return Some(Call::Run(HIDDEN.0, handed(name, args)));
    }
    let (applet, name, ..) = APPLETS.into_iter().find(|(_, full, ..)| *full == name)?;
    Some(Call::Run(applet, handed(name, args)))
}

fn by_word(word: &str) -> Option<(Applet, &'static str)> {
    APPLETS.into_iter().find(|(_, _, short, _)| *short == word).map(|(applet, name, ..)| (applet, name))
}

fn handed(name: &str, rest: impl Iterator<Item = OsString>) -> Vec<OsString> {
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
    text += &format!("\n{BINARY} PART --help says more.\n");
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
    fn all_ways_to_call_the_helper() {
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
    fn the_dead_man_is_started_by_its_full_name_and_shown_nowhere() {
        assert_eq!(
            call("ovn-k8s-uplink-watchdog x"),
            run(Applet::UplinkWatchdog, "ovn-k8s-uplink-watchdog x")
        );
        assert!(!help().contains("watchdog") && !refusal("ovn-k8s watchdog").contains("watchdog,"));
    }

    #[test]
    fn what_is_not_there_does_not_pretend() {
        for line in
            ["ovn-k8s-watcher --overlay", "/opt/cni/bin/ovn_cni", "ovn-k8s ovn-k8s-overlay master-init"]
        {
            assert!(refusal(line).contains("is not built into this version"), "{line}");
        }
    }

    #[test]
    fn an_unknown_name_gets_the_known_ones() {
        for line in ["ovn-k8s", "", "renamed", "ovn-k8s frobnicate", "ovn-k8s --detach"] {
            let said = refusal(line);
            assert!(
                said.contains("gateway-helper, status, explain, util, doctor") && !said.contains('\n'),
                "{line}: {said}"
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
