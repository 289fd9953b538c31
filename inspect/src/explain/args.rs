//! The command line of `ovn-k8s explain`.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use cli::OutputArgs;
use demux::decide::{Ingress, Owner};

use super::error::ExplainError;
use super::packet::{Packet, PacketOptions};
use crate::helper_client::HelperArgs;

const EXAMPLES: &str = "\
Examples:
  ovn-k8s explain tcp 203.0.113.10:40000 172.18.0.11:30080
        a frame that a client sends from outside, by the running helper's policy
  ovn-k8s explain --live udp 203.0.113.10:53 172.18.0.11:41000
        a reply, and what the bridge does with it; the connection's owner is read from conntrack
  ovn-k8s explain --from host --flags syn,ack tcp [2001:db8::1]:22 [2001:db8::2]:50000
  ovn-k8s explain icmp 203.0.113.10 172.18.0.11 --type 3
  ovn-k8s explain arp 172.18.0.1 172.18.0.11
  ovn-k8s explain --hex 0a58c0000201020000000001080045000028...
        a frame as bytes, starting with the destination MAC; --hex - reads standard input
  tcpdump -i eth0 -w - -c 100 | ovn-k8s explain --pcap - --live
        every frame of a capture, then the number of frames that each rule decided
  ovn-k8s explain --policy policy.json --owner pods udp 203.0.113.10:53 172.18.0.11:41000
        by a policy from a file, without a helper (ovs-appctl -t ovn-k8s-gateway-helper policy > policy.json)

Exit codes:
  0  explained; with --live, the bridge agrees with the policy
  1  no answer: wrong arguments, unreadable file, helper or switch does not answer
  2  with --live: the bridge disagrees with the policy

--live changes nothing: ovs-vswitchd traces a description of the frame, never the frame itself. It lists the conntrack
zone once, which takes ovs-vswitchd a moment when the zone has very many connections.";

/// Shows which owner receives a frame, host or pods, and which rule decides.
///
/// The answer comes from the policy that the running helper applies. When it depends on who opened the connection, and
/// neither --owner nor --live tells, every branch is shown.
#[derive(Debug, Parser)]
#[command(name = super::NAME, bin_name = super::NAME, version, after_help = EXAMPLES)]
pub(super) struct ExplainArgs {
    /// The packet: protocol (tcp, udp, sctp, icmp, icmp6, arp or a number), source, destination
    #[arg(value_name = "PACKET", num_args = 0..)]
    pub packet: Vec<String>,
    /// Where the frame enters: uplink (the NIC), host, overlay (OVN), or another port of the bridge
    #[arg(long, value_name = "SIDE", default_value = "uplink", value_parser = PossibleValuesParser::new(["uplink", "host", "overlay", "other"]))]
    pub from: String,
    /// Details of the packet
    #[command(flatten)]
    pub options: PacketOptions,
    /// A frame as hexadecimal digits, also as tcpdump -xx prints it; - reads standard input
    #[arg(long, value_name = "DIGITS")]
    pub hex: Option<String>,
    /// A capture file, pcap or pcapng; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Who opened the connection (default: with --live read from conntrack, else every owner is shown)
    #[arg(long, value_name = "OWNER", value_parser = PossibleValuesParser::new(["pods", "host", "nobody"]))]
    pub owner: Option<String>,
    /// Also trace the frame through the bridge, and show where the bridge differs from the policy
    #[arg(long)]
    pub live: bool,
    /// Read the policy from this file instead of the running helper; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The running helper, and the timeout of all requests.
    #[command(flatten)]
    pub helper: HelperArgs,
    /// Format.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The frames to explain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A described packet.
    Packet(Packet),
    /// Hexadecimal digits, or `-`.
    Hex(String),
    /// A capture file, or `-`.
    Capture(PathBuf),
}

impl ExplainArgs {
    /// The frames to explain: exactly one kind of input.
    pub(super) fn input(&self) -> Result<Input, ExplainError> {
        const REMEDY: &str =
            "give one packet like tcp 203.0.113.10:40000 172.18.0.11:30080, or --hex, or --pcap";
        match (self.packet.as_slice(), &self.hex, &self.pcap) {
            ([], None, None) => Err(ExplainError::refused("no frame to explain", REMEDY)),
            (words, None, None) => Packet::read(words, &self.options).map(Input::Packet),
            (words, hex, pcap)
                if usize::from(!words.is_empty()) + hex.iter().len() + pcap.iter().len() > 1 =>
            {
                Err(ExplainError::refused("more than one kind of frame to explain", REMEDY))
            }
            _ if !self.options.is_empty() => Err(ExplainError::refused(
                "packet details together with --hex or --pcap",
                "leave out --flags, --type, --vlan and the like: the frame has its own",
            )),
            (_, Some(digits), _) => Ok(Input::Hex(digits.clone())),
            (_, None, Some(file)) => Ok(Input::Capture(file.clone())),
        }
    }

    /// Where the frames enter the bridge.
    pub(super) fn ingress(&self) -> Result<Ingress, ExplainError> {
        Ok(self.from.parse()?)
    }

    /// The owner given by `--owner`: `None` without the flag, `Some(None)` for `nobody`.
    pub(super) fn owner(&self) -> Result<Option<Option<Owner>>, ExplainError> {
        match self.owner.as_deref() {
            None => Ok(None),
            Some("nobody") => Ok(Some(None)),
            Some(owner) => Ok(Some(Some(owner.parse()?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> ExplainArgs {
        let words = std::iter::once("explain").chain(line.split_whitespace());
        ExplainArgs::try_parse_from(words).unwrap()
    }

    #[test]
    fn one_kind_of_input() {
        assert!(matches!(args("udp 1.1.1.1:1 2.2.2.2:2").input(), Ok(Input::Packet(_))));
        assert_eq!(args("--hex -").input().unwrap(), Input::Hex("-".to_owned()));
        assert_eq!(args("--pcap x.pcap").input().unwrap(), Input::Capture("x.pcap".into()));
        for (line, text) in [
            ("", "no frame to explain"),
            ("--hex 00 --pcap x", "more than one kind"),
            ("--hex 00 tcp 1.1.1.1:1 2.2.2.2:2", "more than one kind"),
            ("--hex 00 --flags syn", "packet details"),
        ] {
            let error = args(line).input().unwrap_err().to_string();
            assert!(error.contains(text) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn an_owner_may_be_nobody() {
        assert_eq!(args("").owner().unwrap(), None);
        assert_eq!(args("--owner nobody").owner().unwrap(), Some(None));
        assert_eq!(args("--owner host").owner().unwrap(), Some(Some(Owner::Host)));
    }

    #[test]
    fn help_has_examples_and_exit_codes() {
        let error = ExplainArgs::try_parse_from(["explain", "--help"]).unwrap_err().to_string();
        assert!(error.contains("Examples:") && error.contains("Exit codes:"), "{error}");
    }
}
