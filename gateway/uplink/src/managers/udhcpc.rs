//! busybox's udhcpc: killed without release, started on the bridge with a request for its previous address.
//!
//! It calls its script with `deconfig` on every start, which removes the address. A wrapper script prevents that: while
//! the lease is the one that the device has already, the original script is not called.

use std::path::Path;

use super::ifupdown::quoted;
use super::{Act, Client, Handover, HandoverRequest, Impossible, MARK, Manager};

/// Flags that are followed by a value.
const WITH_VALUE: [&str; 14] =
    ["-i", "-p", "-s", "-T", "-t", "-A", "-x", "-r", "-O", "-V", "-F", "-P", "-H", "-c"];

/// Flags that are replaced, or are about the start.
const DROPPED: [&str; 9] = ["-i", "-p", "-s", "-r", "-f", "-b", "-n", "-q", "-S"];

/// The default scripts, first match.
const DEFAULT_SCRIPTS: [&str; 3] =
    ["/etc/udhcpc/default.script", "/usr/share/udhcpc/default.script", "/etc/udhcpc.script"];

/// A parsed command line of udhcpc.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// Flags with their values, without those that are replaced.
    flags: Vec<String>,
    pub(super) device: Option<String>,
    script: Option<String>,
    pid: Option<String>,
}

impl CommandLine {
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

/// Whether a command line is one of udhcpc in the foreground. Short flags may be combined.
pub(super) fn is_foreground(arguments: &[String]) -> bool {
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

pub(super) fn handover(request: &HandoverRequest<'_>, client: &Client) -> Result<Handover, Impossible> {
    let line = CommandLine::read(&client.arguments);
    let Some(address) =
        request.leased.first().map(|net| net.addr().to_string()).or_else(|| requested_address(client))
    else {
        return Err((
            format!("{} has no address with a lifetime, so its lease is unknown", request.nic),
            format!("kill it without release (`kill -9 {}`) if its address is to stay", client.pid),
        ));
    };
    let Some(script) = line.script.clone().or_else(default_script) else {
        return Err((
            "its script is unknown".to_owned(),
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
        let script = request.state_file(&format!("udhcpc-{device}"));
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
        path: request.state_file(&format!("udhcpc-{device}")),
        content: wrapper(&script, &request.state_file(&format!("udhcpc-{device}.lease")), &address),
        executable: true,
    };
    let bridge_pid = Path::new("/run").join(format!("udhcpc.{}.pid", request.bridge));
    let nic_pid = line
        .pid
        .clone()
        .map_or_else(|| Path::new("/run").join(format!("udhcpc.{}.pid", request.nic)), Into::into);
    let mut complete = request.keep(request.bridge);
    complete.extend([
        wrapper(request.bridge),
        Act::Kill { client: client.clone() },
        Act::Start { command: start(request.bridge, &bridge_pid), unless: None },
    ]);
    let mut take_back = vec![
        Act::KillByPidFile { path: bridge_pid, program: "udhcpc".to_owned() },
        Act::Remove { path: request.state_file(&format!("udhcpc-{}", request.bridge)) },
    ];
    take_back.extend(request.keep(request.nic));
    // A supervisor has restarted it already.
    if client.supervisor.is_none() {
        // The wrapper for the NIC stays as long as this client.
        take_back.extend([
            wrapper(request.nic),
            Act::Start { command: start(request.nic, &nic_pid), unless: Some(client.clone()) },
        ]);
    }
    Ok(Handover { complete, take_back, ..request.with(Manager::Udhcpc) })
}

fn is_busybox(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("busybox"))
}

fn default_script() -> Option<String> {
    DEFAULT_SCRIPTS.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned())
}

fn requested_address(client: &Client) -> Option<String> {
    let at = client.arguments.iter().position(|word| word == "-r")?;
    client.arguments.get(at + 1).cloned()
}

fn wrapper(script: &str, lease: &Path, address: &str) -> String {
    let [script, lease, address] = [script, &lease.to_string_lossy(), address].map(quoted);
    format!(
        "#!/bin/sh\n# {MARK}\n\
         # The device has the address of this lease already: the original script is called only for a change.\n\
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
