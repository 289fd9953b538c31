//! The flags of `ovn-k8s-gateway-helper`, and what the settings file adds to them.
//!
//! Precedence: command line, then `ovn_k8s.conf`, then `external_ids` of the `Open_vSwitch` table, then the default. The
//! first two are merged here ([`HelperArgs::load`]); what is still `None` afterwards comes from the database. Every value
//! is checked where it is read, so that a wrong one ends in one clear line before anything is changed.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use cli::{EarlyExit, OutputArgs};
use demux::policy::PortRange;
use ipnet::IpNet;
use ovs::daemon::DaemonArgs;
use ovs::ovsdb::{Remote, TlsFiles};
use ovs::paths::Paths;
use ovs::vlog::VlogArgs;

use crate::bridge::INTEGRATION_BRIDGE;
use crate::config::{ConfigError, ConfigFile};
use crate::settings::{Connections, ObjectSettings, PolicySettings, ReplySetting, Settings};

/// The program's name, also of its log, pidfile and control socket.
pub const PROGRAM: &str = "ovn-k8s-gateway-helper";

const EXAMPLES: &str = "\
Examples:
  One NIC for management and pods, as gateway-init left it:
    ovn-k8s-gateway-helper --physical-bridge=breth0 --physical-interface=eth0 --pidfile --detach

  The same, with Services from a folder instead of an API server, and metrics:
    ovn-k8s-gateway-helper --physical-bridge=breth0 --physical-interface=eth0 \\
        --manifests /etc/ovn-k8s/services --metrics-address 127.0.0.1:9100

  Print what would be changed, without changing it:
    ovn-k8s-gateway-helper --physical-bridge=breth0 --physical-interface=eth0 --dry-run

  Remove everything that the helper made:
    ovn-k8s-gateway-helper --physical-bridge=breth0 --physical-interface=eth0 --cleanup

A running helper answers: ovs-appctl -t ovn-k8s-gateway-helper list-commands; ovn-k8s status; ovn-k8s explain";

/// Programs the bridge that holds a node's NIC, so that each frame reaches its owner: the node itself or OVN.
///
/// What no flag gives is read from ovn_k8s.conf (the same names, with underscores), from external_ids of the
/// Open_vSwitch table, from the northbound database and from the API server.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, after_help = EXAMPLES)]
pub(crate) struct HelperArgs {
    /// The OVS bridge that holds the NIC
    #[arg(long, value_name = "BRIDGE", value_parser = cli::interface_name)]
    pub(crate) physical_bridge: Option<String>,
    /// The NIC, a port of the bridge
    #[arg(long, value_name = "INTERFACE", value_parser = cli::interface_name)]
    pub(crate) physical_interface: Option<String>,

    /// Where Kubernetes objects come from.
    #[command(flatten)]
    pub(crate) kubernetes: KubernetesArgs,
    /// What decides whose a frame is.
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// Serve Prometheus metrics, /healthz and /readyz on ADDRESS:PORT or :PORT
    #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Address on which healthCheckNodePorts are served (default: all)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) health_check_address: Option<IpAddr>,

    /// The databases.
    #[command(flatten)]
    pub(crate) databases: DatabaseArgs,

    /// Settings file (default: /etc/openvswitch/ovn_k8s.conf, if it is there)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder for state that outlives the process [default: /var/lib/ovn-k8s]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Remove the flows that a gateway helper of 2016 to 2018 left (they have no cookie)
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Do not set flow-restore-wait on the kernel datapath (then a restart of ovs-vswitchd loses packets)
    #[arg(long)]
    pub(crate) no_restore_wait: bool,
    /// Leave management on the bridge while ovs-vswitchd is dead or hung (the node is then unreachable)
    #[arg(long)]
    pub(crate) no_failover: bool,
    /// Remove the helper's flows, host settings and patch ports, and exit
    #[arg(long, conflicts_with_all = ["detach", "monitor"])]
    pub(crate) cleanup: bool,
    /// Print what would be changed, change nothing, and exit
    #[arg(long, conflicts_with_all = ["detach", "monitor"])]
    pub(crate) dry_run: bool,
    /// Format of what --dry-run prints.
    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Pidfile, background, supervision.
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// Levels and log file.
    #[command(flatten)]
    pub(crate) vlog: VlogArgs,
}

/// Where Kubernetes objects come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct KubernetesArgs {
    /// This node's name in Kubernetes (default: the gateway router's, then external_ids:hostname)
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub(crate) node_name: Option<String>,
    /// Take Services from a folder of YAML manifests instead of an API server
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    /// API server, HOST:PORT or URL (default: external_ids:k8s-api-server)
    #[arg(long, value_name = "URL", value_parser = not_empty)]
    pub(crate) k8s_api_server: Option<String>,
    /// File with the bearer token (default: the text in external_ids:k8s-api-token)
    #[arg(long, value_name = "FILE")]
    pub(crate) k8s_token_file: Option<PathBuf>,
    /// File with the API server's CA certificate (default: the text in external_ids:k8s-ca-certificate)
    #[arg(long, value_name = "FILE")]
    pub(crate) k8s_ca_file: Option<PathBuf>,
    /// Send the token over plain http to any host
    #[arg(long)]
    pub(crate) allow_insecure_token: bool,
}

/// What decides whose a frame is.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Cluster addresses of Services, one range per family (default: the ServiceCIDR objects)
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub(crate) service_cluster_ip_range: Vec<IpNet>,
    /// The range NodePorts are taken from [default: 30000-32767]
    #[arg(long, value_name = "LOW-HIGH", value_parser = port_range)]
    pub(crate) service_node_port_range: Option<PortRange>,
    /// Subnet between the gateway routers and the cluster router (default: from the northbound database)
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub(crate) join_subnet: Vec<IpNet>,

    /// How replies to pods' connections are distinguished from the host's [default: auto]
    #[arg(long, value_name = "RULE")]
    pub(crate) reply_rule: Option<ReplyRuleFlag>,
    /// Source ports of OVN's SNAT, which the host does not use (default: external_port_range of the router's NAT rows)
    #[arg(long, value_name = "LOW-HIGH", value_parser = port_range)]
    pub(crate) snat_ports: Option<PortRange>,
    /// Connection tracking zone that holds the owner mark [default: 64000]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub(crate) conntrack_zone: Option<u16>,
}

/// The databases.
#[derive(Clone, Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The local Open_vSwitch database (default: unix:RUNDIR/db.sock)
    #[arg(long, value_name = "DATABASE", value_parser = not_empty)]
    pub(crate) db: Option<String>,
    /// The northbound database (default: external_ids:ovn-nb, then the local socket)
    #[arg(long, alias = "nb", value_name = "DATABASE", value_parser = not_empty)]
    pub(crate) nb_db: Option<String>,
    /// Private key for a northbound database over SSL
    #[arg(long, value_name = "FILE")]
    pub(crate) nb_privkey: Option<PathBuf>,
    /// Certificate for a northbound database over SSL
    #[arg(long, value_name = "FILE")]
    pub(crate) nb_cert: Option<PathBuf>,
    /// CA certificate of a northbound database over SSL
    #[arg(long, value_name = "FILE")]
    pub(crate) nb_cacert: Option<PathBuf>,
}

/// `--reply-rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplyRuleFlag {
    /// Partitioned where the router's NAT row has a port range, else tracked
    Auto,
    /// By a connection table with an owner mark
    Tracked,
    /// By the destination port alone
    Partitioned,
}

impl HelperArgs {
    /// Reads the command line (with the program's name first), then the settings file for what the command line
    /// left out, and checks that the two needed names are there.
    pub(crate) fn load(args: impl IntoIterator<Item = OsString>, paths: &Paths) -> Result<Self, EarlyExit> {
        let mut flags = Self::try_parse_from(args).map_err(|error| EarlyExit::from(&error))?;
        let (path, required) = match &flags.config {
            Some(path) => (path.clone(), true),
            None => (paths.ovn_k8s_conf(), false),
        };
        let file = ConfigFile::read(&path, required)?;
        flags.fill_from(&file)?;
        flags.check(&file)?;
        Ok(flags)
    }

    /// Takes from the file what no flag gave.
    fn fill_from(&mut self, file: &ConfigFile) -> Result<(), ConfigError> {
        fn fill<T, E: ToString>(
            slot: &mut Option<T>,
            file: &ConfigFile,
            key: &str,
            read: impl FnOnce(&str) -> Result<T, E>,
        ) -> Result<(), ConfigError> {
            if slot.is_none() {
                *slot = file.read_as(key, read)?;
            }
            Ok(())
        }
        fn raise(slot: &mut bool, file: &ConfigFile, key: &str) -> Result<(), ConfigError> {
            *slot |= file.read_as(key, truth)?.unwrap_or(false);
            Ok(())
        }
        fn extend(slot: &mut Vec<IpNet>, file: &ConfigFile, key: &str) -> Result<(), ConfigError> {
            if slot.is_empty() {
                *slot = file.read_as(key, |text| text.split(',').map(network).collect())?.unwrap_or_default();
            }
            Ok(())
        }
        fill(&mut self.physical_bridge, file, "physical_bridge", cli::interface_name)?;
        fill(&mut self.physical_interface, file, "physical_interface", cli::interface_name)?;
        fill(&mut self.kubernetes.node_name, file, "node_name", not_empty)?;
        fill(&mut self.kubernetes.manifests, file, "manifests", path)?;
        fill(&mut self.kubernetes.k8s_api_server, file, "k8s_api_server", not_empty)?;
        fill(&mut self.kubernetes.k8s_token_file, file, "k8s_token_file", path)?;
        fill(&mut self.kubernetes.k8s_ca_file, file, "k8s_ca_file", path)?;
        // The file may name a CA certificate that does not exist: then the text in the database counts.
        let ca = file.read_as("k8s_ca_certificate", path)?.filter(|ca| ca.exists());
        self.kubernetes.k8s_ca_file = self.kubernetes.k8s_ca_file.take().or(ca);
        raise(&mut self.kubernetes.allow_insecure_token, file, "allow_insecure_token")?;
        extend(&mut self.policy.service_cluster_ip_range, file, "service_cluster_ip_range")?;
        fill(&mut self.policy.service_node_port_range, file, "service_node_port_range", port_range)?;
        extend(&mut self.policy.join_subnet, file, "join_subnet")?;
        fill(&mut self.policy.reply_rule, file, "reply_rule", |text| ReplyRuleFlag::from_str(text, true))?;
        fill(&mut self.policy.snat_ports, file, "snat_ports", port_range)?;
        fill(&mut self.policy.conntrack_zone, file, "conntrack_zone", zone)?;
        fill(&mut self.metrics_address, file, "metrics_address", listen_address)?;
        fill(&mut self.health_check_address, file, "health_check_address", str::parse::<IpAddr>)?;
        fill(&mut self.databases.db, file, "db", not_empty)?;
        fill(&mut self.databases.nb_db, file, "nb_db", not_empty)?;
        fill(&mut self.databases.nb_privkey, file, "private_key", path)?;
        fill(&mut self.databases.nb_cert, file, "certificate", path)?;
        fill(&mut self.databases.nb_cacert, file, "ca_cert", path)?;
        fill(&mut self.state_dir, file, "state_dir", path)?;
        raise(&mut self.no_restore_wait, file, "no_restore_wait")?;
        raise(&mut self.no_failover, file, "no_failover")?;
        raise(&mut self.adopt, file, "adopt")
    }

    /// What can be known to be wrong without reading anything from the node.
    fn check(&self, file: &ConfigFile) -> Result<(), EarlyExit> {
        for (flag, key, example, slot) in [
            ("--physical-bridge", "physical_bridge", "breth0", &self.physical_bridge),
            ("--physical-interface", "physical_interface", "eth0", &self.physical_interface),
        ] {
            if slot.is_none() {
                let file = file.path().display();
                return Err(EarlyExit::Error(format!(
                    "{flag} is missing: give {flag}={example}, or set {key} in {file}"
                )));
            }
        }
        if self.physical_bridge == self.physical_interface {
            return Err(EarlyExit::Error(
                "--physical-bridge and --physical-interface name the same device: the first is the OVS bridge (breth0), \
                 the second the NIC in it (eth0)"
                    .to_owned(),
            ));
        }
        if self.physical_bridge.as_deref() == Some(INTEGRATION_BRIDGE) {
            return Err(EarlyExit::Error(format!(
                "--physical-bridge={INTEGRATION_BRIDGE} is OVN's own bridge: name the bridge that holds the NIC (breth0); a NIC that \
                 is a port of {INTEGRATION_BRIDGE} belongs to OVN alone and needs no helper"
            )));
        }
        if let (Some(snat), node_ports) = (self.policy.snat_ports, self.policy.node_port_range())
            && snat.overlaps(node_ports)
        {
            return Err(EarlyExit::Error(format!(
                "--snat-ports {snat} and the NodePort range {node_ports} overlap: a reply could belong to either; choose \
                 ports outside {node_ports}"
            )));
        }
        Ok(())
    }

    /// The settings, as the rest of the crate needs them. The error is a line for a person.
    pub(crate) fn settings(&self, paths: &Paths) -> Result<Settings, String> {
        Ok(Settings {
            bridge: self.physical_bridge.clone().unwrap_or_default(),
            interface: self.physical_interface.clone().unwrap_or_default(),
            node_name: self.kubernetes.node_name.clone(),
            policy: self.policy.settings(),
            connections: Connections {
                local: match &self.databases.db {
                    Some(text) => Remote::parse_list(text).map_err(|error| format!("--db: {error}"))?,
                    None => vec![Remote::unix(paths.db_sock())],
                },
                northbound: match &self.databases.nb_db {
                    Some(text) => Remote::parse_list(text).map_err(|error| format!("--nb-db: {error}"))?,
                    None => Vec::new(),
                },
                northbound_tls: self.databases.tls(),
                objects: self.kubernetes.settings(),
            },
            paths: paths.clone(),
            state_dir: self.state_dir.clone().unwrap_or_else(|| cli::STATE_DIR.into()),
            metrics_address: self.metrics_address,
            health_check_address: self.health_check_address,
            adopt: self.adopt,
            restore_wait: !self.no_restore_wait,
            failover: !self.no_failover,
        })
    }

    /// The settings of a command line in which bridge and NIC need not be given.
    #[cfg(test)]
    pub(crate) fn for_tests(line: &str) -> Settings {
        let names = [PROGRAM, "--physical-bridge=breth0", "--physical-interface=eth0"];
        let flags = Self::try_parse_from(names.into_iter().chain(line.split_whitespace())).unwrap();
        flags.settings(&Paths::from_env()).unwrap()
    }
}

impl KubernetesArgs {
    fn settings(&self) -> ObjectSettings {
        ObjectSettings {
            manifests: self.manifests.clone(),
            api_server: self.k8s_api_server.clone(),
            ca_file: self.k8s_ca_file.clone(),
            token_file: self.k8s_token_file.clone(),
            allow_insecure_token: self.allow_insecure_token,
        }
    }
}

impl PolicyArgs {
    fn settings(&self) -> PolicySettings {
        PolicySettings {
            reply: match self.reply_rule {
                None | Some(ReplyRuleFlag::Auto) => ReplySetting::Auto,
                Some(ReplyRuleFlag::Tracked) => ReplySetting::Tracked,
                Some(ReplyRuleFlag::Partitioned) => ReplySetting::Partitioned,
            },
            snat_ports: self.snat_ports,
            service_ranges: self.service_cluster_ip_range.clone(),
            join_ranges: self.join_subnet.clone(),
            node_port_range: self.node_port_range(),
            zone: self.conntrack_zone.unwrap_or(64000),
        }
    }

    /// The range NodePorts are taken from.
    fn node_port_range(&self) -> PortRange {
        self.service_node_port_range.unwrap_or_else(default_node_ports)
    }
}

impl DatabaseArgs {
    fn tls(&self) -> TlsFiles {
        let file = |given: &Option<PathBuf>, default: &str| given.clone().unwrap_or_else(|| default.into());
        TlsFiles {
            private_key: file(&self.nb_privkey, "/etc/openvswitch/ovncontroller-privkey.pem"),
            certificate: file(&self.nb_cert, "/etc/openvswitch/ovncontroller-cert.pem"),
            ca: file(&self.nb_cacert, "/etc/openvswitch/ovnnb-ca.cert"),
        }
    }
}

/// Kubernetes' own default.
fn default_node_ports() -> PortRange {
    PortRange::new(30000, 32767).unwrap_or_else(|_| unreachable!("a range from low to high"))
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.trim().to_owned()) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    not_empty(text).map(PathBuf::from)
}

/// A range of addresses; an address inside stands for its range.
fn network(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.trim().parse().map_err(|_| "write ADDRESS/LENGTH, like 10.96.0.0/12".to_owned())?;
    Ok(net.trunc())
}

fn port_range(text: &str) -> Result<PortRange, String> {
    text.parse::<PortRange>().map_err(|error| error.to_string())
}

/// Zone 0 is the one everything else on the node uses.
fn zone(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a zone is a number from 1 to 65535".to_owned()),
        Ok(zone) => Ok(zone),
    }
}

/// `ADDRESS:PORT`, or `:PORT` for all IPv4 addresses.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| "write ADDRESS:PORT, like 127.0.0.1:9100 or [::]:9100".to_owned())
}

/// The words that Python's ConfigParser accepts.
fn truth(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err("write true or false"),
    }
}

#[cfg(test)]
mod tests;
