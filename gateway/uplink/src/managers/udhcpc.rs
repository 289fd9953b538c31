//! busybox's udhcpc: ended without release, started again on the bridge, asking for the address it had.
//!
//! Its script is called with `deconfig` on every start, which takes the address off. A script of ours stands in front
//! of it: as long as the lease is the one that is there already, the original has nothing to do.

use std::path::Path;

use super::ifupdown::quoted;
use super::{Act, Asked, Client, Handover, MARK, Manager, Not};

/// Flags that are followed by a value.
const WITH_VALUE: [&str; 14] =
    ["-i", "-p", "-s", "-T", "-t", "-A", "-x", "-r", "-O", "-V", "-F", "-P", "-H", "-c"];

/// Flags that are set anew, or say how to start.
const DROPPED: [&str; 9] = ["-i", "-p", "-s", "-r", "-f", "-b", "-n", "-q", "-S"];

/// The script where none is named.
const DEFAULT_SCRIPTS: [&str; 3] =
    ["/etc/udhcpc/default.script", "/usr/share/udhcpc/default.script", "/etc/udhcpc.script"];

/// A command line of udhcpc, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Flags with their values, without those that are set anew.
    flags: Vec<String>,
    pub(super) device: Option<String>,
    script: Option<String>,
    pid: Option<String>,
}

impl Line {
    pub(super) fn read(arguments: &[String]) -> Self {
        let mut line = Self::default();
        let first = arguments.iter().position(|word| word.ends_with("udhcpc")).map_or(1, |at| at + 1);
        let mut words = arguments.iter().skip(first);
        while let Some(word) = words.next() {
            // `-i eth0` and `-ieth0` are the same.
            let (flag, joined) = word.split_at_checked(2).unwrap_or((word, ""));
            let long = word.starts_with("--");
            let value = if long || !WITH_VALUE.contains(&flag) {
                None
            } else if joined.is_empty() {
                words.next().cloned()
            } else {
                Some(joined.to_owned())
            };
            let (flag, value) = match word.split_once('=') {
                Some((name, value)) if long => (short(name), Some(value.to_owned())),
                _ if long => (short(word), None),
                _ => (flag, value),
            };
            match flag {
                "-i" => line.device = value,
                "-s" => line.script = value,
                "-p" => line.pid = value,
                dropped if DROPPED.contains(&dropped) => {}
                _ if value.is_some() && !long => {
                    line.flags.extend([flag.to_owned()].into_iter().chain(value))
                }
                _ => line.flags.push(word.clone()),
            }
        }
        line
    }
}

/// The short form of a long flag that matters here.
fn short(long: &str) -> &str {
    match long {
        "--interface" => "-i",
        "--pidfile" => "-p",
        "--script" => "-s",
        "--request" => "-r",
        "--foreground" => "-f",
        "--background" => "-b",
        "--now" => "-n",
        "--quit" => "-q",
        "--syslog" => "-S",
        other => other,
    }
}

/// Whether a command line is one of udhcpc that stays in the foreground. Short flags may stand together.
pub(super) fn stays(arguments: &[String]) -> bool {
    let Some(first) = arguments.iter().take(2).position(|word| word.ends_with("udhcpc")) else {
        return false;
    };
    let mut words = arguments.iter().skip(first + 1);
    while let Some(word) = words.next() {
        if word == "--foreground" {
            return true;
        }
        let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.starts_with('-')) else { continue };
        for (at, flag) in flags.char_indices() {
            if flag == 'f' {
                return true;
            }
            if WITH_VALUE.iter().any(|with| with.ends_with(flag)) {
                // Its value is the rest of the word, or the next one.
                if at + flag.len_utf8() == flags.len() {
                    words.next();
                }
                break;
            }
        }
    }
    false
}

pub(super) fn handover(asked: &Asked<'_>, client: &Client) -> Result<Handover, Not> {
    let line = Line::read(&client.arguments);
    let Some(address) = asked.leased.first().map(|net| net.addr().to_string()).or_else(|| asked_for(client))
    else {
        return Err((
            format!("{} has no address with an end, so it cannot be told which lease is its", asked.nic),
            format!("end it without release (`kill -9 {}`) if its address is meant to stay", client.pid),
        ));
    };
    let Some(script) = line.script.clone().or_else(default_script) else {
        return Err((
            "its script cannot be told".to_owned(),
            "name the script on its command line (udhcpc -s FILE)".to_owned(),
        ));
    };
    let start = |device: &str, pid: &Path| {
        let mut command = vec![client.program.to_string_lossy().into_owned()];
        if client.arguments.first().is_none_or(|name| !name.ends_with("udhcpc"))
            || is_busybox(&client.program)
        {
            command.push("udhcpc".to_owned());
        }
        command.extend(line.flags.iter().cloned());
        let script = asked.state_file(&format!("udhcpc-{device}"));
        for (flag, value) in [
            ("-i", device.to_owned()),
            ("-p", pid.to_string_lossy().into_owned()),
            ("-s", script.to_string_lossy().into_owned()),
            ("-r", address.clone()),
        ] {
            command.extend([flag.to_owned(), value]);
        }
        command.push("-b".to_owned());
        command
    };
    let wrapper = |device: &str| Act::Write {
        path: asked.state_file(&format!("udhcpc-{device}")),
        content: wrapper(&script, &asked.state_file(&format!("udhcpc-{device}.lease")), &address),
        executable: true,
    };
    let bridge_pid = Path::new("/run").join(format!("udhcpc.{}.pid", asked.bridge));
    let nic_pid = line
        .pid
        .clone()
        .map_or_else(|| Path::new("/run").join(format!("udhcpc.{}.pid", asked.nic)), Into::into);
    let mut complete = asked.keep(asked.bridge);
    complete.extend([
        wrapper(asked.bridge),
        Act::Kill { client: client.clone() },
        Act::Start { command: start(asked.bridge, &bridge_pid), unless: None },
    ]);
    let mut take_back = vec![
        Act::KillByPidFile { path: bridge_pid, program: "udhcpc".to_owned() },
        Act::Remove { path: asked.state_file(&format!("udhcpc-{}", asked.bridge)) },
    ];
    take_back.extend(asked.keep(asked.nic));
    // Whoever starts it again has done so.
    if client.supervisor.is_none() {
        // The script for the NIC stays as long as this client does.
        take_back.extend([
            wrapper(asked.nic),
            Act::Start { command: start(asked.nic, &nic_pid), unless: Some(client.clone()) },
        ]);
    }
    Ok(Handover { complete, take_back, ..asked.with(Manager::Udhcpc) })
}

fn is_busybox(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("busybox"))
}

fn default_script() -> Option<String> {
    DEFAULT_SCRIPTS.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned())
}

fn asked_for(client: &Client) -> Option<String> {
    let at = client.arguments.iter().position(|word| word == "-r")?;
    client.arguments.get(at + 1).cloned()
}

fn wrapper(script: &str, lease: &Path, address: &str) -> String {
    let [script, lease, address] = [script, &lease.to_string_lossy(), address].map(quoted);
    format!(
        "#!/bin/sh\n# {MARK}\n\
         # The device has the address of this lease already: only what differs is the original script's business.\n\
         lease={lease}\n\
         case \"$1\" in\n\
         deconfig)\n    [ -e \"$lease\" ] || exit 0\n    rm -f \"$lease\" ;;\n\
         bound | renew)\n    now=\"$ip/$mask $router\"\n    \
         if [ -e \"$lease\" ]; then was=$(cat \"$lease\"); elif [ \"$ip\" = {address} ]; then was=$now; fi\n    \
         echo \"$now\" >\"$lease\"\n    [ \"$was\" = \"$now\" ] && exit 0 ;;\n\
         esac\n\
         exec {script} \"$@\"\n"
    )
}
