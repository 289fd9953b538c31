//! Logging as the OVS family does it: three destinations, a level per module and destination, changed at run time.
//!
//! ```text
//! tracing event -> VlogLayer: module of its target, level table -> one line -> console (stderr)
//!                                                                           -> syslog  (datagram to /dev/log)
//!                                                                           -> file    (--log-file, vlog/reopen)
//! ```
//!
//! Code logs with `tracing`; the event's target names the module ([`Module`]). The field `emer = true` makes an error an
//! emergency. `trace!` is never logged. Writing can neither fail nor panic: a full disk or a missing /dev/log costs
//! lines, which are counted. Before a fork lines are written in place; afterwards [`Vlog::start_writer`] moves the
//! writing to a thread of its own behind a bounded queue, so that a stuck terminal or disk cannot hold the daemon up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod format;
mod layer;
mod levels;
pub mod repeat;
mod sinks;
mod spec;

pub use format::Pattern;
pub use levels::{Destination, Level};
pub use spec::{Spec, SpecError};

use crate::paths::Paths;
use levels::Levels;
use sinks::Sinks;

/// The logging flags, spelt as the OVS family spells them (ovs-vswitchd(8), "Logging Options").
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Logging options")]
pub struct VlogArgs {
    /// Set levels: words (module, destination, level, "any") joined by ":"; repeatable. Bare -v: any:any:dbg
    #[arg(short = 'v', long, value_name = "SPEC", num_args = 0.., default_missing_value = "any:any:dbg")]
    pub verbose: Vec<String>,
    /// Log to FILE (default: LOGDIR/PROGRAM.log)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub log_file: Option<String>,
    /// Also send syslog messages to HOST:PORT over UDP
    #[arg(long, value_name = "HOST:PORT")]
    pub syslog_target: Option<std::net::SocketAddr>,
}

/// A module's name in the log and in `-v`, and the `tracing` target it stands for, with all below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Prefix of targets, in whole path segments: `helper`.
    pub target: &'static str,
    /// The name operators see: `ovn-gateway-helper`.
    pub name: &'static str,
}

/// What cannot be set up. Everything that can go wrong later only costs log lines.
#[derive(Debug, thiserror::Error)]
pub enum VlogError {
    /// A `-v` or `vlog/set` that makes no sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The log file cannot be opened.
    #[error(
        "cannot open the log file {path}: {error} (is the directory there and writable? OVS_LOGDIR names another)"
    )]
    LogFile {
        /// The file.
        path: PathBuf,
        /// What came back.
        error: std::io::Error,
    },
    /// Another logger is installed in this process already.
    #[error("logging was set up twice (this is a fault of the program)")]
    Twice,
}

/// The handle of a process's logging; cheap to clone.
#[derive(Clone, Debug)]
pub struct Vlog {
    shared: Arc<Shared>,
    /// Callsites cache whether they are enabled: the cache has to be rebuilt.
    live: bool,
}

/// What the layer and all handles share.
#[derive(Debug)]
struct Shared {
    levels: Levels,
    sinks: Sinks,
    /// Numbers lines, those of all destinations together.
    sequence: std::sync::atomic::AtomicU64,
}

impl Vlog {
    /// Sets logging up for the whole process. Lines are written in place until [`Vlog::start_writer`].
    ///
    /// `modules` names the modules of the program; those of this crate are known already.
    pub fn init(
        program: &str,
        args: &VlogArgs,
        modules: &[Module],
        paths: &Paths,
    ) -> Result<Self, VlogError> {
        let (vlog, layer) = Self::build(program, args, modules, paths)?;
        tracing_subscriber::registry().with(layer).try_init().map_err(|_| VlogError::Twice)?;
        vlog.log_panics();
        Ok(vlog)
    }

    /// The panic of a detached daemon goes to the log, not only to a closed terminal.
    fn log_panics(&self) {
        let vlog = self.clone();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tracing::error!(target: "daemon", emer = true, "{panic}");
            vlog.flush();
            before(panic);
        }));
    }

    /// A handle that no events come to, and that leaves the callsites of tests beside it alone.
    #[cfg(test)]
    pub(crate) fn for_tests(args: &VlogArgs) -> Self {
        let (vlog, _) = Self::build("prog", args, &[], &Paths::from_env()).unwrap();
        Self { live: false, ..vlog }
    }

    /// The same without installing the layer.
    fn build(
        program: &str,
        args: &VlogArgs,
        modules: &[Module],
        paths: &Paths,
    ) -> Result<(Self, layer::VlogLayer), VlogError> {
        let shared = Arc::new(Shared {
            levels: Levels::new(modules),
            sinks: Sinks::new(program, args.syslog_target),
            sequence: std::sync::atomic::AtomicU64::new(0),
        });
        let vlog = Self { shared: shared.clone(), live: true };
        for spec in &args.verbose {
            vlog.set(spec)?;
        }
        if let Some(name) = &args.log_file {
            vlog.open_file(&paths.log_file(program, name))?;
        }
        Ok((vlog, layer::VlogLayer::new(shared)))
    }

    /// Changes levels, a pattern or the facility as `-vSPEC` and `vlog/set` do. An error changes nothing.
    pub fn set(&self, spec: &str) -> Result<(), SpecError> {
        match Spec::parse(spec, &|word| self.shared.levels.knows(word))? {
            Spec::Levels { module, destination, level } => {
                self.shared.levels.set(module.as_deref(), destination, level);
                if self.live {
                    tracing::callsite::rebuild_interest_cache();
                }
            }
            Spec::Pattern { destination, pattern } => self.shared.sinks.set_pattern(destination, &pattern),
            Spec::Facility(facility) => self.shared.sinks.set_facility(facility),
        }
        Ok(())
    }

    /// The level of every module at every destination, as `vlog/list` prints it.
    pub fn list(&self) -> String {
        self.shared.levels.to_string()
    }

    /// The pattern of every destination, as `vlog/list-pattern` prints it.
    pub fn list_patterns(&self) -> String {
        self.shared.sinks.list_patterns()
    }

    /// Logs to `path` from now on.
    pub fn open_file(&self, path: &Path) -> Result<(), VlogError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.shared.sinks.open_file(&absolute).map_err(|error| VlogError::LogFile { path: absolute, error })
    }

    /// Closes and opens the log file again, after logrotate has moved it away.
    pub fn reopen(&self) -> Result<(), VlogError> {
        let Some(path) = self.shared.sinks.file_path() else { return Ok(()) };
        tracing::info!(target: "vlog", "closing log file");
        self.open_file(&path)?;
        tracing::info!(target: "vlog", "opened log file {}", path.display());
        Ok(())
    }

    /// Closes the log file until `vlog/reopen`.
    pub fn close(&self) {
        self.shared.sinks.close_file();
    }

    /// The log file, if there is one; it keeps its name while it is closed.
    pub fn file_path(&self) -> Option<PathBuf> {
        self.shared.sinks.file_path()
    }

    /// Moves writing to a thread of its own. Only after the last fork.
    pub fn start_writer(&self) {
        self.shared.sinks.start_writer();
    }

    /// Waits until what was logged so far is written, but not longer than a second.
    pub fn flush(&self) {
        self.shared.sinks.flush();
    }

    /// How many lines could not be written, at any destination.
    pub fn lost(&self) -> u64 {
        self.shared.sinks.lost()
    }
}

#[cfg(test)]
mod tests;
