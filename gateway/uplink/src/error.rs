//! The errors of a takeover: what was attempted, on what, and what the operator can do now.

/// The result of everything in this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a takeover, a way back, or a part of them was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is refused as asked; nothing was changed.
    #[error("{what} ({remedy})")]
    Refused {
        /// The reason.
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
        /// The database's error.
        source: Box<ovs::ovsdb::Error>,
    },
    /// A step that failed.
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
        /// The system's error.
        source: std::io::Error,
        /// What to do now.
        remedy: &'static str,
    },
    /// A file that is not a journal.
    #[error(
        "cannot read the journal {}: {what} (`ovn-k8s-util recover` moves it aside and recovers from what the node has)",
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
    /// Another takeover is running.
    #[error("another takeover is running{} (retry when it has ended)", by(*.pid))]
    Busy {
        /// Its process, where that is known.
        pid: Option<u32>,
    },
    /// It failed and was undone.
    #[error("{why}; {what}")]
    Undone {
        /// Why.
        why: Box<Error>,
        /// The state of the node now.
        what: &'static str,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Error {
    /// It must not be done as asked.
    pub(crate) fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Refused { what: what.into(), remedy: remedy.into() }
    }

    /// It was tried and did not come out.
    pub(crate) fn failed(
        attempted: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Error::Failed { attempted: attempted.into(), what: what.into(), remedy: remedy.into() }
    }

    /// The database did not do it.
    pub(crate) fn database(attempted: impl Into<String>) -> impl FnOnce(ovs::ovsdb::Error) -> Self {
        move |source| Error::Database { attempted: attempted.into(), source: Box::new(source) }
    }

    /// The system did not do it.
    pub(crate) fn io(
        attempted: impl Into<String>,
        remedy: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::Io { attempted: attempted.into(), source, remedy }
    }
}

impl From<cli::Refusal> for Error {
    fn from(refusal: cli::Refusal) -> Self {
        Error::refused(refusal.what, refusal.remedy)
    }
}
