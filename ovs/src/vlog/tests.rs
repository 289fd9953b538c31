use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;

const MODULES: [Module; 2] =
    [Module { target: "gateway", name: "gateway" }, Module { target: "helper", name: "ovn-gateway-helper" }];

/// Logging to a file alone, for the calling thread alone, one test at a time: what callsites remember of their
/// subscribers is the process's.
fn logging(
    args: &[&str],
    dir: &Path,
) -> (Vlog, (tracing::subscriber::DefaultGuard, MutexGuard<'static, ()>)) {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let verbose = ["console:off", "syslog:off"].iter().chain(args).map(|spec| spec.to_string()).collect();
    let args =
        VlogArgs { verbose, log_file: Some(dir.join("log").to_string_lossy().into()), syslog_target: None };
    let (vlog, layer) = Vlog::build("prog", &args, &MODULES, &Paths::from_env()).unwrap();
    (vlog, (tracing_subscriber::registry().with(layer).set_default(), one))
}

fn read(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap()
}

/// What a line says, without its time.
fn tails(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once('|').unwrap().1).collect()
}

#[test]
fn lines_carry_number_module_level_and_message() {
    let dir = tempfile::tempdir().unwrap();
    let (_vlog, _guard) = logging(&["pattern:any:%D|%05N|%c|%p|%m"], dir.path());
    tracing::info!(target: "helper::apply", bridge = "breth0", flows = 3, "applied");
    tracing::error!(target: "gateway", emer = true, "cannot go on");
    tracing::warn!(target: "kube_client::client", "slow");
    tracing::debug!(target: "gateway", "unseen");
    assert_eq!(
        tails(&read(dir.path())),
        [
            "00001|ovn-gateway-helper|INFO|applied (bridge=breth0, flows=3)",
            "00002|gateway|EMER|cannot go on",
            "00003|kube|WARN|slow"
        ]
    );
}

#[test]
fn levels_change_at_run_time_and_specs_accumulate() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&["any:file:off", "ovsdb:file:dbg", "pattern:file:%D|%c|%m"], dir.path());
    let speak = |text: &str| {
        tracing::debug!(target: "ovs::ovsdb::client", "{text}");
        tracing::debug!(target: "ovs::openflow", "{text}");
        tracing::trace!(target: "ovs::ovsdb", "{text}");
    };
    speak("one");
    vlog.set("openflow:dbg").unwrap();
    speak("two");
    vlog.set("any:any:off").unwrap();
    speak("three");
    vlog.set("file:emer").unwrap();
    tracing::error!(target: "ovs::ovsdb", "an error");
    tracing::error!(target: "ovs::ovsdb", emer = true, "an emergency");
    let text = read(dir.path());
    assert_eq!(tails(&text), ["ovsdb|one", "ovsdb|two", "openflow|two", "ovsdb|an emergency"]);
}

#[test]
fn events_of_the_log_crate_keep_their_module() {
    let dir = tempfile::tempdir().unwrap();
    let (_vlog, _guard) = logging(&["pattern:file:%D|%c|%m"], dir.path());
    tracing::info!(target: "log", { log.target = "rustls::conn", log.line = 3 }, "handshake");
    assert_eq!(tails(&read(dir.path())), ["rustls|handshake"]);
}

#[test]
fn a_wrong_spec_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&[], dir.path());
    let before = vlog.list();
    assert!(vlog.set("file:consol:dbg").is_err());
    assert_eq!(vlog.list(), before);
}

#[test]
fn the_list_looks_as_in_ovs() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&["ovsdb:file:dbg"], dir.path());
    let list = vlog.list();
    assert!(list.starts_with("                 console    syslog    file\n"), "{list}");
    assert!(list.contains("\novsdb              OFF        OFF        DBG\n"), "{list}");
    assert!(list.contains("\novn-gateway-helper   OFF        OFF       INFO\n"), "{list}");
}

#[test]
fn modules_met_at_run_time_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&[], dir.path());
    assert!(vlog.set("newcomer:dbg").is_err());
    tracing::info!(target: "newcomer::part", "hello");
    vlog.set("newcomer:off").unwrap();
    tracing::info!(target: "newcomer::other", "unseen");
    assert_eq!(read(dir.path()).matches("newcomer").count(), 1);
}

#[test]
fn logrotate_moves_the_file_and_asks_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&[], dir.path());
    tracing::info!(target: "gateway", "first");
    std::fs::rename(dir.path().join("log"), dir.path().join("log.1")).unwrap();
    vlog.reopen().unwrap();
    tracing::info!(target: "gateway", "second");
    assert!(std::fs::read_to_string(dir.path().join("log.1")).unwrap().contains("first"));
    assert!(read(dir.path()).contains("second"));

    vlog.close();
    tracing::info!(target: "gateway", "while closed");
    vlog.reopen().unwrap();
    assert!(!read(dir.path()).contains("while closed"));
    assert_eq!(vlog.lost(), 0);
}

#[test]
fn the_writer_thread_writes_all() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&[], dir.path());
    vlog.start_writer();
    for n in 0..1000 {
        tracing::info!(target: "gateway", "line {n}");
    }
    // A flush waits for a second at most; a busy machine may need more of them.
    let written = || read(dir.path()).lines().count() as u64;
    for _ in 0..30 {
        vlog.flush();
        if written() + vlog.lost() == 1000 {
            break;
        }
    }
    assert_eq!(written() + vlog.lost(), 1000);
    assert!(read(dir.path()).contains("line 0\n"));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (vlog, _guard) = logging(&[], dir.path());
    vlog.open_file(Path::new("/dev/full")).unwrap();
    for _ in 0..3 {
        tracing::info!(target: "gateway", "lost");
    }
    assert_eq!(vlog.lost(), 3);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named_with_a_remedy() {
    let args = VlogArgs { log_file: Some("/nonexistent/x.log".into()), ..VlogArgs::default() };
    let error = Vlog::build("p", &args, &[], &Paths::from_env()).map(drop).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/x.log") && error.contains("OVS_LOGDIR"), "{error}");
}

#[test]
fn the_flags_parse_as_operators_write_them() {
    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        vlog: VlogArgs,
        #[arg(long)]
        overlay: bool,
        #[command(flatten)]
        daemon: crate::daemon::DaemonArgs,
    }
    let parse = |line: &str| <Program as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
    let program = parse("p --overlay --pidfile --log-file -vfile:info -vconsole:emer --detach");
    assert!(program.overlay && program.daemon.detach);
    assert_eq!(program.vlog.verbose, ["file:info", "console:emer"]);
    assert_eq!((program.vlog.log_file.as_deref(), program.daemon.pidfile.as_deref()), (Some(""), Some("")));
    let program = parse("p -v --log-file=/x --pidfile=y --verbose=a:dbg --verbose -v b:c d:e");
    assert_eq!(program.vlog.verbose, ["any:any:dbg", "a:dbg", "any:any:dbg", "b:c", "d:e"]);
    assert_eq!(
        (program.vlog.log_file.as_deref(), program.daemon.pidfile.as_deref()),
        (Some("/x"), Some("y"))
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_spec_or_an_error(spec in ".{0,40}", pattern in "[%a-zA-Z0-9{}-]{0,20}") {
        let _ = Spec::parse(&spec, &|word| word == "ovsdb");
        let vlog = Vlog::for_tests(&VlogArgs::default());
        if vlog.set(&format!("pattern:any:{pattern}")).is_ok() {
            vlog.list_patterns();
        }
    }
}
