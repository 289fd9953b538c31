//! A real bridge without a network: ovsdb-server and ovs-vswitchd with dummy ports, in a private directory.
//!
//! Frames are put into a port with `netdev-dummy/receive`; what a port sends is read from its `tx_pcap` file. In its
//! main loop the switch takes frames, then OpenFlow, then commands: an OpenFlow barrier that is sent when the command
//! was answered is answered when the frame is through.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use demux::decide::Ingress;
use demux::mac::Mac;
use demux::rule::RuleId;
use flows::{DEFAULT_ZONE, FlowContext, SctpRule, cookie, rule_of};
use ovs::openflow::flow::{FlowKey, FlowValue, OfPort};
use ovs::openflow::{Connection, Cookies, FlowMod, diff};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Ports of the bridge, by what stands behind them.
pub const UPLINK: OfPort = OfPort(1);
pub const OVERLAY: OfPort = OfPort(2);
pub const OTHER: OfPort = OfPort(3);

const BRIDGE: &str = "breth0";

/// One running switch. Everything ends with it.
pub struct Bridge {
    dir: TempDir,
    switch: Daemon,
    _database: Daemon,
    control: Control,
    runtime: Runtime,
    connection: Connection,
    taps: Vec<(Ingress, Tap)>,
}

/// What a port has sent since it was last asked.
struct Tap {
    file: File,
    read: u64,
}

struct Daemon(Child);

/// A held connection to the switch's control socket: JSON-RPC, one request after the other.
struct Control {
    stream: UnixStream,
    pending: Vec<u8>,
    next: u64,
}

/// The datapath the bridge stands for.
pub fn datapath(sctp: SctpRule) -> FlowContext {
    FlowContext { uplink: Some(UPLINK), overlay: Some(OVERLAY), zone: DEFAULT_ZONE, sctp }
}

impl Bridge {
    /// Starts a switch with the four ports.
    pub fn start() -> Bridge {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let schema = ["/usr/share/openvswitch", "/usr/local/share/openvswitch"]
            .map(|root| format!("{root}/vswitch.ovsschema"))
            .into_iter()
            .find(|schema| Path::new(schema).exists())
            .expect("vswitch.ovsschema: install openvswitch-switch");
        run(dir.path(), "ovsdb-tool", &["create", &at("conf.db"), &schema]);
        let database = Daemon::start(
            dir.path(),
            "ovsdb-server",
            &[
                &at("conf.db"),
                &format!("--remote=punix:{}", at("db.sock")),
                &format!("--unixctl={}", at("db.ctl")),
            ],
        );
        wait_for(&dir.path().join("db.sock"));
        let db = format!("--db=unix:{}", at("db.sock"));
        run(dir.path(), "ovs-vsctl", &[&db, "--retry", "--timeout=60", "--no-wait", "init"]);
        let switch = Daemon::start(
            dir.path(),
            "ovs-vswitchd",
            &[
                &format!("unix:{}", at("db.sock")),
                "--enable-dummy=override",
                "--disable-system",
                &format!("--unixctl={}", at("switch.ctl")),
            ],
        );
        let mut arguments = vec![db, "--timeout=60".into(), "add-br".into(), BRIDGE.into()];
        arguments.extend(["--", "set", "bridge", BRIDGE, "datapath_type=dummy"].map(String::from));
        let taps = [(Ingress::Host, BRIDGE, OfPort::LOCAL)].into_iter().chain(PORTS);
        for (_, name, number) in taps.clone() {
            if number != OfPort::LOCAL {
                arguments.extend(["--", "add-port", BRIDGE, name].map(String::from));
                let settings = ["type=dummy".to_owned(), format!("ofport_request={number}")];
                arguments.extend(["--", "set", "interface", name].map(String::from));
                arguments.extend(settings);
            }
            let capture = format!("options:tx_pcap={}", at(&format!("{name}.pcap")));
            arguments.extend(["--", "set", "interface", name].map(String::from));
            arguments.push(capture);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(dir.path(), "ovs-vsctl", &arguments);
        let taps =
            taps.map(|(side, name, _)| (side, Tap::open(&dir.path().join(format!("{name}.pcap"))))).collect();
        let control = Control::connect(&dir.path().join("switch.ctl"));
        // As on a real bridge with further ports: the overlay's port is not flooded to (OpenFlow 1.0 alone has a word
        // for it).
        let management = at(&format!("{BRIDGE}.mgmt"));
        run(dir.path(), "ovs-ofctl", &["mod-port", &management, "p2", "no-flood"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(Connection::connect(&format!("unix:{management}"))).unwrap();
        Bridge { dir, switch, _database: database, control, runtime, connection, taps }
    }

    /// Makes these our flows, beside the bridge's own, and forgets all connections and learned addresses.
    pub fn install(&mut self, flows: &HashMap<FlowKey, FlowValue>, mac: Mac) {
        let plan = || {
            let installed = self.runtime.block_on(self.connection.dump_all()).unwrap();
            diff(flows, &installed, &cookie::ours())
        };
        let changes = plan();
        assert!(changes.conflicts.is_empty(), "{:?}", changes.conflicts);
        self.runtime.block_on(self.connection.bundle(&changes.mods)).unwrap();
        // What the bridge says it holds equals what was sent.
        let left = plan();
        assert!(left.is_empty(), "after the bundle there are still changes: {left:?}");
        self.command("fdb/flush", &[BRIDGE]);
        self.command("fdb/add", &[BRIDGE, BRIDGE, "0", &mac.to_string()]);
        self.forget();
    }

    /// Puts a frame into a port and gives back what every port sent because of it.
    pub fn inject(&mut self, ingress: Ingress, frame: &[u8]) -> Vec<(Ingress, Vec<u8>)> {
        let hex: String = frame.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        self.command("netdev-dummy/receive", &[port_name(ingress), &hex]);
        self.runtime.block_on(self.connection.barrier()).unwrap();
        let sent = |(side, tap): &mut (Ingress, Tap)| {
            let side = *side;
            tap.take().into_iter().map(move |frame| (side, frame))
        };
        self.taps.iter_mut().flat_map(sent).collect()
    }

    /// Forgets every tracked connection.
    pub fn forget(&mut self) {
        self.command("dpctl/flush-conntrack", &[]);
    }

    /// Empties the cache in front of the tables.
    pub fn empty_cache(&mut self) {
        // What another thread is looking at just now stays: ask again.
        loop {
            self.command("revalidator/purge", &[]);
            if self.command("dpctl/dump-flows", &[]).is_empty() {
                return;
            }
        }
    }

    /// Whether the connection table puts datagrams together, or takes their pieces for invalid.
    pub fn set_reassembly(&mut self, enabled: bool) {
        let method = if enabled { "dpctl/ipf-set-enabled" } else { "dpctl/ipf-set-disabled" };
        for family in ["v4", "v6"] {
            self.command(method, &[family]);
        }
    }

    /// Forgets every learned flow.
    pub fn unlearn(&mut self) {
        let learned = FlowMod::DeleteAll { cookies: Cookies::exactly(cookie::learned()), table: None };
        self.runtime.block_on(self.connection.apply(&[learned])).unwrap();
    }

    /// Packets that each rule's rows have met since they were installed, steps included.
    pub fn counters(&mut self) -> BTreeMap<RuleId, u64> {
        // Counters of cached flows reach the rows when the cache is emptied.
        self.empty_cache();
        let mut counters = BTreeMap::new();
        for flow in self.runtime.block_on(self.connection.dump(cookie::cookies())).unwrap() {
            *counters.entry(rule_of(flow.cookie).unwrap()).or_default() += flow.packets;
        }
        counters
    }

    /// What `ofproto/trace` says of a frame.
    pub fn trace(&mut self, ingress: Ingress, frame: &[u8]) -> String {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let flow = format!("in_port={}", port_number(ingress));
        self.command("ofproto/trace", &[BRIDGE, &flow, &hex])
    }

    /// Runs a command of the switch.
    pub fn command(&mut self, method: &str, arguments: &[&str]) -> String {
        match self.control.call(method, arguments) {
            Ok(result) => result,
            Err(why) => panic!(
                "{method} {arguments:?}: {why}; switch {:?}, its log:\n{}",
                self.switch.0.try_wait(),
                std::fs::read_to_string(self.dir.path().join("ovs-vswitchd.log")).unwrap_or_default()
            ),
        }
    }
}

const PORTS: [(Ingress, &str, OfPort); 3] =
    [(Ingress::Uplink, "p1", UPLINK), (Ingress::Overlay, "p2", OVERLAY), (Ingress::Other, "p3", OTHER)];

fn port_name(ingress: Ingress) -> &'static str {
    PORTS.iter().find(|(side, ..)| *side == ingress).map_or(BRIDGE, |(_, name, _)| name)
}

/// The OpenFlow port a frame comes in by.
pub fn port_number(ingress: Ingress) -> OfPort {
    PORTS.iter().find(|(side, ..)| *side == ingress).map_or(OfPort::LOCAL, |(.., number)| *number)
}

impl Tap {
    /// Opens a capture file behind its header of 24 bytes (libpcap).
    fn open(path: &Path) -> Tap {
        wait_for(path);
        Tap { file: File::open(path).unwrap(), read: 24 }
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        let length = self.file.metadata().unwrap().len();
        if length <= self.read {
            return Vec::new();
        }
        let mut bytes = vec![0; (length - self.read) as usize];
        self.file.seek(SeekFrom::Start(self.read)).unwrap();
        self.file.read_exact(&mut bytes).unwrap();
        self.read = length;
        let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
        while rest.len() >= 16 {
            let captured = u32::from_ne_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
            frames.push(rest[16..16 + captured].to_vec());
            rest = &rest[16 + captured..];
        }
        assert!(rest.is_empty(), "half a record in a capture file");
        frames
    }
}

impl Control {
    fn connect(path: &Path) -> Control {
        wait_for(path);
        Control { stream: UnixStream::connect(path).unwrap(), pending: Vec::new(), next: 0 }
    }

    fn call(&mut self, method: &str, arguments: &[&str]) -> Result<String, String> {
        self.next += 1;
        let request = json!({ "method": method, "params": arguments, "id": self.next });
        self.stream.write_all(request.to_string().as_bytes()).map_err(|error| error.to_string())?;
        let mut chunk = [0; 65536];
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Value>();
            if let Some(Ok(reply)) = values.next() {
                let used = values.byte_offset();
                self.pending.drain(..used);
                return match reply["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(reply["result"].as_str().unwrap_or_default().to_owned()),
                };
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the switch hung up".into()),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Daemon {
    fn start(dir: &Path, program: &str, arguments: &[&str]) -> Daemon {
        let log = format!("--log-file={}", dir.join(format!("{program}.log")).display());
        let child = command(dir, program)
            .args(arguments)
            .args(["-vconsole:off", &log])
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; install openvswitch-switch"));
        Daemon(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that sees nothing but the private directory.
fn command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, dir);
    }
    command
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> String {
    let output = command(dir, program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn wait_for(path: &Path) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        assert!(Instant::now() < patience, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}
