//! A reference helper for the gateway helper: it writes the proven flow table and the host's settings by hand.
//!
//! It exists so that the lab and its tests can be checked without the product (`LAB_REFERENCE_HELPER=1`): a cell of the path
//! matrix that fails with the reference helper is the lab's fault, one that fails with the helper alone is the helper's.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use anyhow::{Context, Result};

use super::{
    PortRange,
    address::{self, Family},
    helper::{Helper, HelperOptions, ReplyRule},
    node::{BRIDGE, Node, PATCH, Stop, UPLINK},
    process::wait_until,
    service::{EndpointSpec, Protocol, ServiceSpec},
};

/// The reference helper on one node.
#[derive(Debug)]
pub struct ReferenceHelper {
    node: Arc<Node>,
    rule: ReplyRule,
    snat_ports: Option<PortRange>,
}

impl ReferenceHelper {
    /// Programs bridge and host, as yet without Services.
    pub fn start(node: &Arc<Node>, options: &HelperOptions) -> Result<Self> {
        let rule = match (options.reply_rule, options.snat_ports) {
            (ReplyRule::Auto, Some(_)) => ReplyRule::Partitioned,
            (ReplyRule::Auto, None) => ReplyRule::Tracked,
            (rule, _) => rule,
        };
        let reference = Self { node: Arc::clone(node), rule, snat_ports: options.snat_ports };
        reference.routes()?;
        reference.follow(&[])?;
        Ok(reference)
    }

    fn program(&self, services: &[ServiceSpec]) -> Result<()> {
        let flows = Rows::render(self, services)?;
        // A switch that was just started answers before its bridges do.
        wait_until("the flow table of breth0 to be written", || {
            let words = ["-O", "OpenFlow14", "--bundle", "replace-flows", BRIDGE, "-"];
            self.node.program("ovs-ofctl").args(words).input(flows.clone()).run().map(|_| true)
        })?;
        self.node.namespace().nft(self.nft(services)).context("writing the host's nft table")
    }

    fn routes(&self) -> Result<()> {
        let (port, router, own) =
            (self.node.management_port(), address::subnet(self.node.number(), 1), self.node.management());
        let mut lines = String::new();
        for (index, family) in Family::ALL.into_iter().enumerate() {
            for range in [address::SERVICES[index], address::JOIN[index]] {
                let (via, source) = (router.of(family), own.of(family));
                writeln!(lines, "route replace {range} via {via} dev {port} src {source}")?;
            }
        }
        // Without it the host asks for the router of the node's subnet in the name of the node's physical address when
        // that is what it answers from, and OVN's router hears only its own subnet.
        let announce = format!("net/ipv4/conf/{port}/arp_announce");
        self.node.namespace().sysctl(&announce, "2")?;
        self.node.namespace().ip(lines)
    }

    fn nft(&self, services: &[ServiceSpec]) -> String {
        let mut script =
            String::from("table inet lab_gateway\ndelete table inet lab_gateway\ntable inet lab_gateway {\n");
        let (mut hosts, mut node_ports) = (Vec::new(), Vec::new());
        for family in Family::ALL {
            let (mut service_rows, mut direct_rows) = (Vec::new(), Vec::new());
            for (service, port) in services.iter().flat_map(|s| s.ports.iter().map(move |port| (s, port))) {
                let (protocol, cluster) = (port.protocol.name(), service.cluster_ip.of(family));
                let own = self.node.address().of(family);
                let target = format!("{cluster} . {}", port.port);
                service_rows.push(format!("{own} . {protocol} . {} : {target}", port.node_port));
                for outside in service.outside_addresses().filter(|a| Family::of(*a) == family) {
                    service_rows.push(format!("{outside} . {protocol} . {} : {target}", port.port));
                }
                if service.usable().any(|e| e.is_host() && e.node == self.node.number()) {
                    hosts.push(format!("{protocol} . {}", port.target_port));
                }
                if matches!(share(service, self.node.number()), Share::Host) {
                    direct_rows
                        .push(format!("{protocol} . {} : {own} . {}", port.node_port, port.target_port));
                }
                node_ports.push(port.node_port.to_string());
            }
            let (digit, kind) = if family == Family::V4 { ("4", "ipv4_addr") } else { ("6", "ipv6_addr") };
            let key = "inet_proto . inet_service";
            let _ = writeln!(
                script,
                " map svc{digit} {{ type {kind} . {key} : {kind} . inet_service;{} }}\n \
                  map direct{digit} {{ type {key} : {kind} . inet_service;{} }}",
                elements(&service_rows),
                elements(&direct_rows)
            );
        }
        hosts.sort();
        hosts.dedup();
        node_ports.sort();
        node_ports.dedup();
        let _ = writeln!(script, " set hostep {{ type inet_proto . inet_service;{} }}", elements(&hosts));
        let _ = writeln!(script, " set nodeports {{ type inet_service;{} }}", elements(&node_ports));
        let (mut out, mut pre, mut post) = (String::new(), String::new(), String::new());
        for family in Family::ALL {
            let (ip, digit) = if family == Family::V4 { ("ip", "4") } else { ("ip6", "6") };
            let (own, management) = (self.node.address().of(family), self.node.management().of(family));
            let port = self.node.management_port();
            let spare = match own {
                IpAddr::V4(own) => format!("{own}:20000-29999"),
                IpAddr::V6(own) => format!("[{own}]:20000-29999"),
            };
            let _ = writeln!(out, "  dnat {ip} to {ip} daddr . meta l4proto . th dport map @svc{digit}");
            let _ = writeln!(
                pre,
                "  iifname \"{port}\" {ip} daddr {management} meta l4proto . th dport @hostep dnat {ip} to {own}\n  \
                   {ip} daddr {own} dnat {ip} to meta l4proto . th dport map @direct{digit}"
            );
            let _ = writeln!(
                post,
                "  oifname \"{port}\" {ip} saddr {own} masquerade\n  \
                   oifname \"{BRIDGE}\" {ip} saddr {own} meta l4proto {{ tcp, udp }} th sport @nodeports \
                   snat {ip} to {spare}"
            );
            if let Some(range) = self.snat_ports {
                let _ = writeln!(
                    post,
                    "  oifname \"{BRIDGE}\" {ip} saddr {own} meta l4proto {{ tcp, udp }} th sport {range} \
                     snat {ip} to {spare}"
                );
            }
        }
        let _ = writeln!(
            script,
            " chain out {{ type nat hook output priority -100;\n{out} }}\n \
              chain pre {{ type nat hook prerouting priority -100;\n{pre} }}\n \
              chain post {{ type nat hook postrouting priority 100;\n{post} }}\n}}"
        );
        script
    }
}

impl Helper for ReferenceHelper {
    fn follow(&self, services: &[ServiceSpec]) -> Result<()> {
        self.program(services)
    }

    // It has no process: it programs, and the rest is the bridge's.
    fn stop(&self, _how: Stop) -> Result<()> {
        Ok(())
    }

    fn start_again(&self) -> Result<()> {
        Ok(())
    }
}

fn elements(rows: &[String]) -> String {
    if rows.is_empty() { String::new() } else { format!(" elements = {{ {} }}", rows.join(", ")) }
}

/// What one gateway does with a Service's traffic from outside.
enum Share {
    /// To OVN.
    Overlay,
    /// To the host, which translates it.
    Host,
    /// Nobody: policy Local without a usable endpoint here.
    Nobody,
}

fn share(service: &ServiceSpec, node: usize) -> Share {
    if !service.local {
        return Share::Overlay;
    }
    let here: Vec<&EndpointSpec> = service.usable().filter(|endpoint| endpoint.node == node).collect();
    match here.as_slice() {
        [] => Share::Nobody,
        endpoints if endpoints.iter().all(|endpoint| endpoint.is_host()) => Share::Host,
        _ => Share::Overlay,
    }
}

/// The rows of the flow table, as `ovs-ofctl` reads them.
struct Rows<'a> {
    text: String,
    reference: &'a ReferenceHelper,
    uplink: u32,
    patch: u32,
    mac: String,
}

/// The conntrack zone of the reply rule.
const ZONE: u16 = 64000;

impl<'a> Rows<'a> {
    fn render(reference: &'a ReferenceHelper, services: &[ServiceSpec]) -> Result<String> {
        let node = &reference.node;
        let mut rows = Rows {
            text: String::new(),
            reference,
            uplink: node.ofport(UPLINK)?,
            patch: node.ofport(PATCH)?,
            mac: node.mac(),
        };
        rows.row(0, 0, "", "NORMAL");
        rows.overlay_side();
        rows.host_side();
        rows.wire_side();
        rows.tables();
        rows.services(services);
        Ok(rows.text)
    }

    fn row(&mut self, table: u8, priority: u16, condition: &str, actions: &str) {
        let comma = if condition.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "table={table},priority={priority}{comma}{condition},actions={actions}");
    }

    fn out(&self) -> String {
        format!("output:{}", self.uplink)
    }

    fn overlay(&self) -> String {
        format!("output:{}", self.patch)
    }

    fn both(&self) -> String {
        format!("LOCAL,output:{}", self.patch)
    }

    fn commit(mark: u8, then: &str) -> String {
        format!("ct(commit,zone={ZONE},exec(set_field:{mark}->ct_mark)),{then}")
    }

    fn partitioned(&self) -> bool {
        self.reference.rule == ReplyRule::Partitioned
    }

    fn overlay_side(&mut self) {
        let (q, mac, out) = (self.patch, self.mac.clone(), self.out());
        let from = format!("in_port={q},dl_src={mac}");
        self.row(0, 1000, &format!("in_port={q},vlan_tci=0x1000/0x1000"), "drop");
        for what in ["arp", "icmp6,icmp_type=135", "icmp6,icmp_type=136"] {
            self.row(0, 900, &format!("{from},{what}"), &out);
        }
        let [services4, services6] = address::SERVICES;
        self.row(0, 900, &format!("{from},ip,nw_dst={services4}"), "drop");
        self.row(0, 900, &format!("{from},ipv6,ipv6_dst={services6}"), "drop");
        for ip in ["ip", "ipv6"] {
            self.row(0, 800, &format!("{from},{ip}"), "goto_table:4");
        }
        self.row(0, 700, &format!("in_port={q}"), "drop");
    }

    fn host_side(&mut self) {
        let out = self.out();
        self.row(0, 1000, "in_port=LOCAL,vlan_tci=0x1000/0x1000", &out);
        for udp in ["udp", "udp6"] {
            for port in [6081, 4789] {
                self.row(0, 900, &format!("in_port=LOCAL,{udp},udp_dst={port}"), &out);
            }
        }
        self.row(0, 700, "in_port=LOCAL", &out);
        if self.partitioned() {
            return;
        }
        let marked = Self::commit(2, &out);
        for what in
            ["tcp,tcp_flags=+syn-ack", "tcp6,tcp_flags=+syn-ack", "icmp,icmp_type=8", "icmp6,icmp_type=128"]
        {
            self.row(0, 850, &format!("in_port=LOCAL,{what}"), &marked);
        }
        // In the bridge's default way with fragments, a first piece matches with ports (and ICMP types) of zero, and
        // later pieces of IPv6 with protocol 44: without these rows they part, and the later ones wait in vain.
        for what in ["ip,nw_frag=yes", "ipv6,nw_frag=yes"] {
            self.row(0, 860, &format!("in_port=LOCAL,{what}"), &marked);
        }
        for what in ["tcp", "tcp6", "sctp", "sctp6", "icmp", "icmp6"] {
            self.row(0, 840, &format!("in_port=LOCAL,{what}"), &out);
        }
        for what in ["ip", "ipv6"] {
            self.row(0, 830, &format!("in_port=LOCAL,{what}"), &marked);
        }
    }

    fn wire_side(&mut self) {
        let (p, mac, both) = (self.uplink, self.mac.clone(), self.both());
        let own = self.reference.node.address();
        let to_us = format!("in_port={p},dl_dst={mac}");
        self.row(0, 1000, &format!("in_port={p},vlan_tci=0x1000/0x1000"), "LOCAL");
        for ip in ["ip", "ipv6"] {
            self.row(0, 650, &format!("{to_us},{ip},nw_frag=yes"), &format!("ct(zone={ZONE},table=1)"));
            self.row(0, 500, &format!("{to_us},{ip}"), "goto_table:1");
        }
        for udp in ["udp", "udp6"] {
            for port in [6081, 4789] {
                self.row(0, 640, &format!("{to_us},{udp},udp_dst={port}"), "LOCAL");
            }
        }
        self.row(0, 630, &format!("in_port={p},arp,arp_op=1,arp_tpa={}", own.v4), "LOCAL");
        self.row(0, 620, &format!("in_port={p},arp"), &both);
        self.row(0, 630, &format!("in_port={p},icmp6,icmp_type=135,nd_target={}", own.v6), "LOCAL");
        for kind in [135, 136] {
            self.row(0, 620, &format!("in_port={p},icmp6,icmp_type={kind}"), &both);
        }
        for kind in [133, 134, 137] {
            self.row(0, 620, &format!("in_port={p},icmp6,icmp_type={kind}"), "LOCAL");
        }
        self.row(0, 400, &to_us, "LOCAL");
        self.row(0, 1, "", "LOCAL");
    }

    /// The rows of tables 1 to 6 that no Service brings.
    fn tables(&mut self) {
        let (overlay, both, out) = (self.overlay(), self.both(), self.out());
        let own = self.reference.node.address();
        self.row(1, 10, &format!("ip,nw_dst={}", own.v4), "goto_table:2");
        self.row(1, 10, &format!("ipv6,ipv6_dst={}", own.v6), "goto_table:2");
        self.row(1, 0, "", "LOCAL");
        for error in ICMP_ERRORS {
            self.row(2, 60, error, &both);
        }
        for sctp in ["sctp", "sctp6"] {
            self.row(2, 50, sctp, "resubmit(,6)");
        }
        if self.partitioned() {
            self.row(2, 70, "ct_state=+trk", "goto_table:3");
            let range = self.reference.snat_ports.unwrap_or(PortRange::USUAL);
            for (value, mask) in masks(range) {
                for protocol in ["tcp", "udp", "tcp6", "udp6"] {
                    self.row(2, 40, &format!("{protocol},tp_dst={value:#x}/{mask:#x}"), &overlay);
                }
            }
            for echo in ["icmp,icmp_type=0", "icmp6,icmp_type=129"] {
                self.row(2, 30, echo, &both);
            }
            self.row(2, 0, "", "LOCAL");
            for tcp in ["tcp", "tcp6"] {
                self.row(4, 50, tcp, &out);
            }
        } else {
            self.row(2, 1, "ct_state=+trk", "goto_table:3");
            for ip in ["ip", "ipv6"] {
                self.row(2, 0, ip, &format!("ct(zone={ZONE},table=3)"));
            }
        }
        self.row(3, 100, "ct_mark=1", &overlay);
        self.row(3, 0, "", "LOCAL");
        for (sctp, kind, ip) in [("sctp", "0x800", "NXM_OF_IP"), ("sctp6", "0x86dd", "NXM_NX_IPV6")] {
            let learn = format!(
                "learn(table=6,idle_timeout=300,priority=10,limit=4096,delete_learned,cookie=0x77,eth_type={kind},\
                 nw_proto=132,{ip}_SRC[]={ip}_DST[],{ip}_DST[]={ip}_SRC[],OXM_OF_SCTP_SRC[]=OXM_OF_SCTP_DST[],\
                 OXM_OF_SCTP_DST[]=OXM_OF_SCTP_SRC[],output:OXM_OF_IN_PORT[]),{out}"
            );
            self.row(4, 90, sctp, &learn);
        }
        for ip in ["ip", "ipv6"] {
            self.row(4, 0, ip, &Self::commit(1, &out));
        }
        self.row(5, 0, "", "drop");
        self.row(6, 0, "", "LOCAL");
    }

    fn services(&mut self, services: &[ServiceSpec]) {
        for (service, port) in services.iter().flat_map(|s| s.ports.iter().map(move |port| (s, port))) {
            let ranged = !service.source_ranges.is_empty();
            let action = match share(service, self.reference.node.number()) {
                Share::Overlay if ranged => "goto_table:5".to_owned(),
                Share::Overlay => self.overlay(),
                Share::Nobody => "drop".to_owned(),
                Share::Host => continue,
            };
            let out = self.out();
            for family in Family::ALL {
                let protocol = match (port.protocol, family) {
                    (Protocol::Tcp, Family::V4) => "tcp",
                    (Protocol::Tcp, Family::V6) => "tcp6",
                    (Protocol::Udp, Family::V4) => "udp",
                    (Protocol::Udp, Family::V6) => "udp6",
                };
                let field = |end: &str, address: IpAddr| {
                    if family == Family::V4 {
                        format!("nw_{end}={address}")
                    } else {
                        format!("ipv6_{end}={address}")
                    }
                };
                let own = self.reference.node.address().of(family);
                let node_port = format!("{protocol},tp_dst={}", port.node_port);
                self.row(2, 100, &node_port, &action);
                let from = field("src", own);
                self.row(4, 100, &format!("{protocol},{from},tp_src={}", port.node_port), &out);
                if ranged {
                    self.ranges(service, family, &format!("{node_port},{}", field("dst", own)));
                }
                for outside in service.outside_addresses().filter(|a| Family::of(*a) == family) {
                    let matched = format!("{protocol},{},tp_dst={}", field("dst", outside), port.port);
                    self.row(1, 100, &matched, &action);
                    if ranged {
                        self.ranges(service, family, &matched);
                    }
                    let from = field("src", outside);
                    self.row(4, 100, &format!("{protocol},{from},tp_src={}", port.port), &out);
                    self.outside_errors(family, &field("dst", outside));
                }
            }
        }
    }

    fn ranges(&mut self, service: &ServiceSpec, family: Family, matched: &str) {
        let overlay = self.overlay();
        for range in
            service.source_ranges.iter().filter(|range| range.contains(':') == (family == Family::V6))
        {
            let source = if family == Family::V4 { "nw_src" } else { "ipv6_src" };
            self.row(5, 10, &format!("{matched},{source}={range}"), &overlay);
        }
    }

    /// Path MTU discovery for an address that is OVN's alone.
    fn outside_errors(&mut self, family: Family, destination: &str) {
        let prefix = if family == Family::V4 { "icmp," } else { "icmp6," };
        let both = self.both();
        for error in ICMP_ERRORS.iter().filter(|error| error.starts_with(prefix)) {
            self.row(1, 100, &format!("{error},{destination}"), &both);
        }
    }
}

/// ICMP errors: each stack reads the quoted header.
const ICMP_ERRORS: [&str; 8] = [
    "icmp,icmp_type=3",
    "icmp,icmp_type=4",
    "icmp,icmp_type=11",
    "icmp,icmp_type=12",
    "icmp6,icmp_type=1",
    "icmp6,icmp_type=2",
    "icmp6,icmp_type=3",
    "icmp6,icmp_type=4",
];

/// A range of ports as values and masks.
fn masks(range: PortRange) -> Vec<(u16, u16)> {
    let (mut low, high) = (u32::from(range.low), u32::from(range.high));
    let mut masks = Vec::new();
    while low <= high {
        // The largest block that begins here and does not pass the end.
        let aligned = if low == 0 { 1 << 16 } else { 1 << low.trailing_zeros() };
        let mut size: u32 = aligned;
        while low + size - 1 > high {
            size /= 2;
        }
        let mask = 0x1_0000 - size;
        masks.push((u16::try_from(low).unwrap_or(0), u16::try_from(mask & 0xffff).unwrap_or(0)));
        low += size;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_ten_masks() {
        let masks = masks(PortRange::USUAL);
        assert_eq!(masks.len(), 10);
        for port in 0..=u16::MAX {
            let hit = masks.iter().any(|(value, mask)| port & mask == *value);
            assert_eq!(hit, (40000..=59999).contains(&port), "{port}");
        }
    }
}
