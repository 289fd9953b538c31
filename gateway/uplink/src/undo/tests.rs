//! Undo of arbitrarily edited journals, in a network namespace: it never panics, and changes no device of another owner.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use host::netns::Namespace;
use host::rtnl::Row;
use ovs::ovsdb::Remote;
use serde_json::{Value, json};

use super::*;
use crate::journal::{Folder, NicIdentity};
use crate::options::Options;
use crate::recover::recover;

const DEVICES: &str = "\
    link set lo up\nlink add nic type veth peer name nic.1\nlink add other type veth peer name other.1\n\
    tuntap add brnic mode tap\nlink set nic.1 up\nlink set other.1 up\nlink set nic up\nlink set other up\n\
    addr add 192.0.2.1/24 dev other\naddr add fd0f::1/64 dev other nodad\n\
    route add 198.51.100.0/24 via 192.0.2.9 dev other\nroute add default via 192.0.2.9 dev other metric 50\n\
    addr add 10.0.0.2/24 dev nic\naddr add fd00::2/64 dev nic nodad\nroute add default via 10.0.0.1 dev nic\n\
    rule add iif nic lookup 100 priority 900\nneigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev nic nud permanent\n";

/// As a takeover leaves it that died before its commit.
const TURNED: &str = "\
    link set brnic up\naddr flush dev nic\naddr flush dev brnic\naddr add 10.0.0.2/24 dev brnic\n\
    addr add fd00::2/64 dev brnic nodad\nroute replace default via 10.0.0.1 dev brnic onlink\n";

/// Far longer than a program that another test starts has copies of our descriptors.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn nonsense(&mut self, other: u32) -> Value {
        let all = [
            json!(null),
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(other),
            json!(u32::MAX),
            json!(1e300),
            json!(""),
            json!("lo"),
            json!("other"),
            json!("nic"),
            json!("brnic"),
            json!("../.."),
            json!("x".repeat(300)),
            json!("00"),
            json!("ff".repeat(40)),
            json!([]),
            json!({}),
            json!([[[]]]),
            json!("back"),
            json!("there"),
            json!("open"),
        ];
        all[self.below(all.len())].clone()
    }

    /// Walks down to some place and leaves something else there.
    fn spoil(&mut self, value: &mut Value, other: u32) {
        match value {
            Value::Object(map) if !map.is_empty() && self.below(30) > 0 => {
                let at = self.below(map.len());
                // Most of what matters lies deep.
                let deep = ["uplinks", "rows"].into_iter().find(|key| map.contains_key(*key));
                let key = deep.filter(|_| self.below(4) > 0).map(str::to_owned);
                let key = key.unwrap_or_else(|| map.keys().nth(at).unwrap().clone());
                match self.below(16) {
                    0 => drop(map.remove(&key)),
                    _ => self.spoil(map.get_mut(&key).unwrap(), other),
                }
            }
            Value::Array(list) if !list.is_empty() && self.below(30) > 0 => {
                let at = self.below(list.len());
                match self.below(16) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    _ => self.spoil(&mut list[at], other),
                }
            }
            Value::String(text) if !text.is_empty() && self.below(2) == 0 => {
                // Another byte of a row: another address, prefix, flag or device.
                let at = self.below(text.chars().count());
                let byte = char::from(b"0123456789abcdef/. "[self.below(19)]);
                *text = text
                    .chars()
                    .enumerate()
                    .map(|(place, old)| if place == at { byte } else { old })
                    .collect();
            }
            Value::Number(number) if self.below(2) == 0 => {
                *value = json!(number.as_i64().unwrap_or_default().wrapping_add(1));
            }
            _ => {
                // Mostly of the same kind, or it is not read at all.
                let any = self.below(6) == 0;
                let fits = |new: &Value| any || std::mem::discriminant(new) == std::mem::discriminant(value);
                if let Some(new) = (0..40).map(|_| self.nonsense(other)).find(fits) {
                    *value = new;
                }
            }
        }
    }
}

fn ip(lines: &str) {
    let mut ip = Command::new("ip");
    let mut child =
        ip.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait().unwrap();
}

/// All that is known of the devices that are none of ours.
fn of_others(socket: &Socket) -> Vec<(bool, Vec<Row>)> {
    let network = Network::observe(socket).unwrap();
    let of = |name: &str| {
        let link = network.link(name).unwrap();
        let rows = network.of(&link.device());
        let all = rows.addresses.iter().chain(&rows.routes).chain(&rows.rules);
        let mut all: Vec<Row> = all.map(migration::identity).collect();
        all.sort();
        (link.is_up(), all)
    };
    ["lo", "other", "nic.1", "other.1"].map(of).into()
}

fn rows(socket: &Socket, name: &str) -> DeviceRows {
    let network = Network::observe(socket).unwrap();
    let mut rows = network.of(&network.link(name).unwrap().device());
    settings::observe(socket, &mut rows).unwrap();
    rows
}

fn whole(socket: &Socket) -> Journal {
    let nic = rows(socket, "nic");
    ip(TURNED);
    let mac = Network::observe(socket).unwrap().link("nic").unwrap().mac().unwrap();
    let uplink = Uplink {
        nic: NicIdentity { index: nic.device.index, name: "nic".into(), mac: mac.to_string(), driver: None },
        bridge: "brnic".into(),
        datapath: Datapath::Netdev,
        rows: nic,
        bridge_rows: None,
        held: PriorOvsConfig::default(),
        guard: IngressFilter::table("brnic"),
        managers: vec![],
    };
    Journal::begin(Direction::Attach, &Remote::unix("/nonexistent/db.sock"), vec![uplink]).unwrap()
}

fn options(state_dir: &std::path::Path) -> Options {
    let options = Options::new(state_dir.to_owned(), Remote::unix("/nonexistent/db.sock"));
    Options { force: true, probe: false, verify_timeout: Duration::from_secs(1), ..options }
}

/// The devices, and a journal of them as a takeover leaves it that died before its commit.
fn set_up() -> (Socket, Journal) {
    ip(DEVICES);
    let socket = Socket::open().unwrap();
    // Until the kernel has given all of them their addresses of the link.
    let end = Instant::now() + Duration::from_secs(30);
    let ready = || {
        ["nic", "other", "nic.1", "other.1"].iter().all(|name| {
            let mut own = rows(&socket, name).addresses().into_iter();
            own.any(|one| one.is_link_local() && !one.is_tentative())
        })
    };
    while !ready() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let journal = whole(&socket);
    (socket, journal)
}

/// Settles what was spoiled, many times over; gives how often it was believed.
fn recover_spoiled(
    socket: &Socket,
    file: &str,
    whole: &Value,
    rounds: u64,
    is_read: &dyn Fn(&Folder) -> bool,
) -> u32 {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::below(dir.path());
    drop(folder.lock(PATIENCE).unwrap());
    let before = of_others(socket);
    let other = Network::observe(socket).unwrap().link("other").unwrap().index();
    let mut believed = 0;
    for seed in 1..=rounds {
        ip(TURNED);
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut spoiled = whole.clone();
        for _ in 0..=dice.below(3) {
            dice.spoil(&mut spoiled, other);
        }
        let mut bytes = serde_json::to_vec(&spoiled).unwrap();
        if dice.below(20) == 0 {
            bytes.truncate(dice.below(bytes.len()));
        }
        std::fs::write(folder.path().join(file), &bytes).unwrap();
        believed += u32::from(is_read(&folder));
        let outcome = recover(&options(dir.path()));
        let shape = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(of_others(socket), before, "{seed}: {outcome:?}\n{shape}");
    }
    believed
}

#[test]
fn undo_of_an_edited_journal_changes_no_other_device() {
    let all = || {
        let (socket, journal) = set_up();
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::below(dir.path());
        // As it is it is undone, all but the database's part.
        folder.lock(PATIENCE).unwrap().begin(&journal).unwrap();
        recover(&options(dir.path())).unwrap();
        assert_eq!(folder.journal().unwrap().unwrap().state, JournalState::UndoneOvsdbPending);
        assert!(rows(&socket, "nic").addresses().len() >= 2 && rows(&socket, "brnic").addresses().is_empty());
        let whole = serde_json::to_value(&journal).unwrap();
        let is_read = |folder: &Folder| folder.journal().is_ok();
        let believed = recover_spoiled(&socket, "journal.json", &whole, 200, &is_read);
        assert!(believed > 25, "only {believed} were read at all");
    };
    Namespace::create().unwrap().run(all).unwrap();
}

#[test]
fn detach_with_an_edited_record_changes_no_other_device() {
    let all = || {
        let (socket, mut journal) = set_up();
        let taken = journal.taken().next().unwrap();
        let is_read = |folder: &Folder| folder.taken("brnic").is_ok_and(|taken| taken.is_some());
        let mut whole = serde_json::to_value(&taken).unwrap();
        let believed = recover_spoiled(&socket, "taken-brnic.json", &whole, 60, &is_read);
        assert!(believed > 5, "only {believed} were read at all");
        // One of a device that no switch made.
        journal.uplinks[0].bridge = "other".into();
        whole = serde_json::to_value(journal.taken().next().unwrap()).unwrap();
        recover_spoiled(&socket, "taken-other.json", &whole, 20, &|_| true);
    };
    Namespace::create().unwrap().run(all).unwrap();
}
