//! What only ovs-vswitchd's control socket can do: count the conntrack table, and pin MACs.

use std::time::Duration;

use demux::mac::Mac;
use demux::policy::PortRange;
use ovs::paths::Paths;
use ovs::unixctl::{Client, UnixctlError};

/// The main thread of ovs-vswitchd answers; while it is busy with a bundle it may take a second.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// The conntrack zone, and the table it shares with all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conntrack {
    /// Entries of our zone that a pod opened over TCP from a port outside of the pods' range: only their mark tells
    /// them from the host's.
    pub(crate) pods_outside: u64,
    /// Entries of our zone.
    pub(crate) entries: u64,
    /// Entries of all zones.
    pub(crate) total: u64,
    /// How many entries our zone may hold, where a limit is set.
    pub(crate) zone_limit: Option<u64>,
    /// How many entries the whole table may hold.
    pub(crate) table_limit: Option<u64>,
}

impl Conntrack {
    /// The lower of the two limits.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.zone_limit.into_iter().chain(self.table_limit).min()
    }

    /// Whether more than nine tenths of a limit are used: above the limit new connections of pods are lost.
    pub(crate) fn is_nearly_full(&self) -> bool {
        let near = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used >= limit - limit / 10);
        near(self.entries, self.zone_limit) || near(self.total, self.table_limit)
    }

    /// If so, what a person should know and can do; `zone` is our zone.
    pub(crate) fn nearly_full(&self, zone: u16) -> Option<String> {
        self.is_nearly_full().then(|| {
            format!(
                "{} connections are tracked in zone {zone}, {} in all, and the table holds {}: above that new connections \
                 of pods are lost; raise the limit (ovs-appctl dpctl/ct-set-maxconns, net.netfilter.nf_conntrack_max) or \
                 use the partitioned rule",
                self.entries,
                self.total,
                self.limit().unwrap_or_default()
            )
        })
    }
}

/// Counts the zone. Costs a dump of the zone: not to be called often.
pub(crate) async fn conntrack(
    paths: &Paths,
    zone: u16,
    range: Option<PortRange>,
) -> Result<Conntrack, UnixctlError> {
    let mut client = connect(paths).await?;
    let name = format!("zone={zone}");
    let counted = count(&client.call("dpctl/dump-conntrack", &["-m", &name]).await?, range);
    let mut number = async |command: &str| -> Option<u64> {
        client.call(command, &[]).await.ok().and_then(|text| text.trim().parse().ok())
    };
    let total = number("dpctl/ct-get-nconns").await;
    let table_limit = number("dpctl/ct-get-maxconns").await;
    let limits = client.call("dpctl/ct-get-limits", &[&name]).await.unwrap_or_default();
    Ok(Conntrack {
        // The kernel datapath has no such commands: its table is the kernel's own.
        total: total.or_else(|| kernel("nf_conntrack_count")).unwrap_or(counted.entries),
        table_limit: table_limit.or_else(|| kernel("nf_conntrack_max")),
        zone_limit: zone_limit(&limits, zone),
        ..counted
    })
}

fn kernel(name: &str) -> Option<u64> {
    let key = host::sysctl::Key::below_net(&["netfilter", name])?;
    host::sysctl::read(&key).ok()?.trim().parse().ok()
}

/// `zone=64000,limit=10,count=3`; a limit of 0 is none.
fn zone_limit(text: &str, zone: u16) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("zone={zone},limit=")))?;
    line.split(',').next()?.parse().ok().filter(|limit| *limit > 0)
}

/// Pins the shared MAC to the bridge's own device, so that learning never moves it to the overlay's port. Not
/// persistent: to be done after every start of vswitchd.
pub(crate) async fn pin_mac(paths: &Paths, bridge: &str, mac: Mac) -> Result<(), UnixctlError> {
    let mut client = connect(paths).await?;
    client.call("fdb/add", &[bridge, bridge, "0", &mac.to_string()]).await.map(drop)
}

async fn connect(paths: &Paths) -> Result<Client, UnixctlError> {
    let socket = Client::find("ovs-vswitchd", paths)?;
    Ok(Client::connect(&socket).await?.with_timeout(CONTROL_TIMEOUT))
}

fn count(dump: &str, range: Option<PortRange>) -> Conntrack {
    let mut zone = Conntrack::default();
    for line in dump.lines().filter(|line| line.contains("orig=")) {
        zone.entries += 1;
        // The first sport is the opener's.
        let port = line.split(['(', ',', ')']).find_map(|part| part.strip_prefix("sport=")?.parse().ok());
        let outside = port.is_none_or(|port| !range.is_some_and(|range| range.contains(port)));
        if line.starts_with("tcp") && outside && line.split(',').any(|part| part == "mark=1") {
            zone.pods_outside += 1;
        }
    }
    zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_their_mark() {
        let dump = "\
tcp,orig=(src=172.18.0.11,dst=203.0.113.10,sport=40001,dport=80),reply=(src=203.0.113.10,dst=172.18.0.11,sport=80,dport=40001),zone=64000,mark=1,protoinfo=(state=ESTABLISHED)
tcp,orig=(src=172.18.0.11,dst=203.0.113.10,sport=1,dport=80),reply=(src=203.0.113.10,dst=172.18.0.11,sport=80,dport=1),zone=64000,mark=2,protoinfo=(state=SYN_SENT)
udp,orig=(src=172.18.0.11,dst=203.0.113.10,sport=1,dport=53),reply=(src=203.0.113.10,dst=172.18.0.11,sport=53,dport=1),zone=64000,mark=1
";
        let zone = |pods_outside| Conntrack { pods_outside, entries: 3, ..Conntrack::default() };
        assert_eq!(count(dump, None), zone(1));
        let range = PortRange::new(40000, 59999).ok();
        assert_eq!(count(dump, range), zone(0));
        assert_eq!(count("", range), Conntrack::default());
    }

    #[test]
    fn a_limit_of_the_zone_or_of_the_table_may_be_near() {
        assert_eq!(zone_limit("default limit=0\nzone=64000,limit=10,count=3\n", 64000), Some(10));
        assert_eq!(zone_limit("default limit=0\nzone=64000,limit=0,count=3\n", 64000), None);
        let conntrack = |entries, total| Conntrack {
            entries,
            total,
            zone_limit: Some(10),
            table_limit: Some(1000),
            ..Conntrack::default()
        };
        assert!(!conntrack(8, 800).is_nearly_full());
        assert!(conntrack(9, 800).is_nearly_full());
        assert!(conntrack(8, 900).is_nearly_full());
        assert!(!Conntrack { entries: u64::MAX, ..Conntrack::default() }.is_nearly_full());
    }
}
