//! What can go wrong with a takeover: what was attempted, on what, and what a person can do now.

/// The result of everything in this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a takeover, a way back, or a part of them did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It must not be done as asked; nothing was changed.
    #[error("{what} ({remedy})")]
    Refused {
        /// What stands against it.
        what: String,
        /// What to do instead.
        remedy: String,
    },
    /// The kernel refused, or is not as it should be.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The switch's database.
    #[error("cannot {attempted}: {source}")]
    Database {
        /// What was attempted, with its object.
        attempted: String,
        /// What came back.
        source: ovs::ovsdb::Error,
    },
    /// A step that did not reach what it is for.
    #[error("cannot {attempted}: {what} ({remedy})")]
    Failed {
        /// What was attempted, with its object.
        attempted: String,
        /// What was found instead.
        what: String,
        /// What to do now.
        remedy: String,
    },
    /// A file, a socket or a process of ours.
    #[error("cannot {attempted}: {source} ({remedy})")]
    Io {
        /// What was attempted, with its object.
        attempted: String,
        /// What the system answered.
        source: std::io::Error,
        /// What to do now.
        remedy: &'static str,
    },
    /// A journal that is no journal.
    #[error(
        "cannot understand the journal {}: {what} (`ovn-k8s-util recover` puts it aside and goes by what the node holds)",
        .path.display()
    )]
    JournalBroken {
        /// The file.
        path: std::path::PathBuf,
        /// Where the reading ended.
        what: String,
    },
    /// A journal of another version of the product.
    #[error(
        "the journal {} has format {version}, not {known} (finish with the ovn-k8s that wrote it: `ovn-k8s-util recover`; \
         or move the file away)",
        .path.display()
    )]
    JournalVersion {
        /// The file.
        path: std::path::PathBuf,
        /// The version it names.
        version: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// Somebody else is at work.
    #[error("another takeover is at work{} (wait for its end; it bounds itself)", by(*.pid))]
    Busy {
        /// Its process, where that is known.
        pid: Option<u32>,
    },
    /// It failed on the way, and was turned back.
    #[error("{why}; {what}")]
    Undone {
        /// Why.
        why: Box<Error>,
        /// What became of it.
        what: &'static str,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Error {
    /// It must not be done as asked.
    pub fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Refused { what: what.into(), remedy: remedy.into() }
    }

    /// It was tried and did not come out.
    pub fn failed(attempted: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Failed { attempted: attempted.into(), what: what.into(), remedy: remedy.into() }
    }

    /// The database did not do it.
    pub fn database(attempted: impl Into<String>) -> impl FnOnce(ovs::ovsdb::Error) -> Self {
        move |source| Error::Database { attempted: attempted.into(), source }
    }

    /// The system did not do it.
    pub fn io(attempted: impl Into<String>, remedy: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::Io { attempted: attempted.into(), source, remedy }
    }
}

impl From<cli::Refusal> for Error {
    fn from(refusal: cli::Refusal) -> Self {
        Error::refused(refusal.what, refusal.remedy)
    }
}
