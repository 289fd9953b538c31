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
        a client's frame from the wire, by the running helper's policy
  ovn-k8s explain --live udp 203.0.113.10:53 172.18.0.11:41000
        the same of an answer, and what the bridge does with it; the owner is read from conntrack
  ovn-k8s explain --from host --flags syn,ack tcp [2001:db8::1]:22 [2001:db8::2]:50000
  ovn-k8s explain icmp 203.0.113.10 172.18.0.11 --type 3
  ovn-k8s explain arp 172.18.0.1 172.18.0.11
  ovn-k8s explain --hex 0a58c0000201020000000001080045000028...
        a frame as bytes, from its destination MAC on; --hex - reads them from standard input
  tcpdump -i eth0 -w - -c 100 | ovn-k8s explain --pcap - --live
        every frame of a capture, then how many each rule decided
  ovn-k8s explain --policy policy.json --owner pods udp 203.0.113.10:53 172.18.0.11:41000
        by a policy in a file, without a helper (ovs-appctl -t ovn-k8s-gateway-helper policy > policy.json)

Exit codes:
  0  explained; with --live, bridge and policy are of one mind
  1  no answer: wrong arguments, unreadable file, nobody to ask
  2  with --live: the bridge does something else than the policy says

--live changes nothing: the bridge traces a description of the frame, never the frame itself. It does list the
conntrack zone once, which on a bridge with very many connections keeps ovs-vswitchd busy for a moment.";

/// Says whose a frame is, and which rule decides.
///
/// The answer comes from the policy that the running helper has in force. Where it hangs on who opened the connection
/// and nobody says who did, every branch is shown.
#[derive(Debug, Parser)]
#[command(name = "ovn-k8s explain", bin_name = "ovn-k8s explain", version, after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// The packet: protocol (tcp, udp, sctp, icmp, icmp6, arp or a number), source, destination
    #[arg(value_name = "PACKET", num_args = 0..)]
    pub packet: Vec<String>,
    /// Where the frame comes from
    #[arg(long, value_name = "SIDE", default_value = "uplink", value_parser = PossibleValuesParser::new(["uplink", "host", "overlay", "other"]))]
    pub from: String,
    /// Details of the packet
    #[command(flatten)]
    pub options: PacketOptions,
    /// A frame as hexadecimal digits, as tcpdump -xx prints it too; - reads standard input
    #[arg(long, value_name = "DIGITS")]
    pub hex: Option<String>,
    /// A capture file, pcap or pcapng; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Who opened the connection; else all three are shown, or with --live, the connection table is asked
    #[arg(long, value_name = "OWNER", value_parser = PossibleValuesParser::new(["pods", "host", "nobody"]))]
    pub owner: Option<String>,
    /// Ask the bridge as well, and say where it differs from the policy
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

/// What frames are asked about.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A described packet.
    Packet(Packet),
    /// Hexadecimal digits, or `-`.
    Hex(String),
    /// A capture file, or `-`.
    Capture(PathBuf),
}

impl ExplainArgs {
    /// The one thing that is asked about.
    pub fn input(&self) -> Result<Input, ExplainError> {
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
                "details are given of a frame that has its own",
                "leave out --flags, --type, --vlan and the like with --hex and --pcap",
            )),
            (_, Some(digits), _) => Ok(Input::Hex(digits.clone())),
            (_, None, Some(file)) => Ok(Input::Capture(file.clone())),
        }
    }

    /// Where frames come from.
    pub fn ingress(&self) -> Result<Ingress, ExplainError> {
        Ok(self.from.parse()?)
    }

    /// Who is said to have opened the connection: `None` where nothing is said, `Some(None)` for nobody.
    pub fn owner(&self) -> Result<Option<Option<Owner>>, ExplainError> {
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
    fn one_kind_of_frame_is_asked_about() {
        assert!(matches!(args("udp 1.1.1.1:1 2.2.2.2:2").input(), Ok(Input::Packet(_))));
        assert_eq!(args("--hex -").input().unwrap(), Input::Hex("-".to_owned()));
        assert_eq!(args("--pcap x.pcap").input().unwrap(), Input::Capture("x.pcap".into()));
        for (line, said) in [
            ("", "no frame to explain"),
            ("--hex 00 --pcap x", "more than one kind"),
            ("--hex 00 tcp 1.1.1.1:1 2.2.2.2:2", "more than one kind"),
            ("--hex 00 --flags syn", "has its own"),
        ] {
            let error = args(line).input().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{line}: {error}");
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
