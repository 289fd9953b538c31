//! What only ovs-vswitchd's control socket tells: the conntrack table, and pinned MACs.

use std::time::Duration;

use demux::mac::Mac;
use demux::policy::PortRange;
use ovs::paths::Paths;
use ovs::unixctl::{Client, UnixctlError};

/// vswitchd's main thread answers; while it is busy with a bundle it may take a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// The conntrack zone as vswitchd sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries of our zone that a pod opened over TCP from a port outside of the pods' range: connections that only
    /// their mark tells from the host's.
    pub pods_outside: u64,
    /// Entries of our zone.
    pub entries: u64,
    /// How many entries the whole table may hold, where the datapath says so.
    pub limit: Option<u64>,
}

/// Asks for the zone. Costs a dump of the zone: not to be asked often.
pub async fn conntrack(
    paths: &Paths,
    zone: u16,
    range: Option<PortRange>,
) -> Result<Conntrack, UnixctlError> {
    let mut client = connect(paths).await?;
    let dump = client.call("dpctl/dump-conntrack", &["-m", &format!("zone={zone}")]).await?;
    let limit = client.call("dpctl/ct-get-maxconns", &[]).await.ok();
    Ok(Conntrack { limit: limit.and_then(|text| text.trim().parse().ok()), ..count(&dump, range) })
}

/// Pins the shared MAC to the bridge's own device, so that learning never moves it to the overlay's port. Not
/// persistent: to be done after every start of vswitchd.
pub async fn pin_mac(paths: &Paths, bridge: &str, mac: Mac) -> Result<(), UnixctlError> {
    let mut client = connect(paths).await?;
    client.call("fdb/add", &[bridge, bridge, "0", &mac.to_string()]).await.map(drop)
}

async fn connect(paths: &Paths) -> Result<Client, UnixctlError> {
    let socket = Client::find("ovs-vswitchd", paths)?;
    Ok(Client::connect(&socket).await?.with_patience(PATIENCE))
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
        assert_eq!(count(dump, None), Conntrack { pods_outside: 1, entries: 3, limit: None });
        let range = PortRange::new(40000, 59999).ok();
        assert_eq!(count(dump, range), Conntrack { pods_outside: 0, entries: 3, limit: None });
        assert_eq!(count("", range), Conntrack::default());
    }
}
