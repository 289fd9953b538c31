//! What `-vSPEC` and `vlog/set SPEC` ask for, as a value (ovs-appctl(8), "vlog/set").

use super::format::{Pattern, PatternError};
use super::levels::{Destination, Level};
use super::sinks::Facility;

/// One change of the logging.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// A level for a module (or all) at a destination (or all).
    Levels {
        /// `None` stands for all modules.
        module: Option<String>,
        /// `None` stands for all destinations.
        destination: Option<Destination>,
        /// The least severe level that is logged.
        level: Level,
    },
    /// The layout of lines at a destination, or at all.
    Pattern {
        /// `None` stands for all destinations.
        destination: Option<Destination>,
        /// The layout.
        pattern: Pattern,
    },
    /// The facility of syslog messages.
    Facility(Facility),
}

/// Why a spec makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SpecError {
    #[error(
        "no destination, level, or module \"{0}\" (destinations: console, syslog, file; levels: off, emer, err, \
         warn, info, dbg; vlog/list names the modules)"
    )]
    UnknownWord(String),
    #[error("\"{spec}\" names more than one {what}")]
    Twice { spec: String, what: &'static str },
    #[error("a pattern is given as pattern:DESTINATION:PATTERN, not \"{0}\"")]
    PatternShape(String),
    #[error("pattern \"{pattern}\": {error}")]
    Pattern { pattern: String, error: PatternError },
    #[error("no syslog facility \"{0}\" (daemon, user, local0 to local7, ...)")]
    UnknownFacility(String),
}

impl Spec {
    /// Reads a spec: up to three words in any order joined by `:`, a blank or a comma; `pattern:DESTINATION:PATTERN`;
    /// or `FACILITY:NAME`. A spec without a level means `dbg`, as in the C programs.
    pub fn parse(spec: &str, is_module: &dyn Fn(&str) -> bool) -> Result<Self, SpecError> {
        let trimmed = spec.trim();
        if let Some((first, rest)) = trimmed.split_once(':') {
            if first.eq_ignore_ascii_case("pattern") {
                return parse_pattern(trimmed, rest);
            }
            if first.eq_ignore_ascii_case("facility") {
                let facility =
                    Facility::parse(rest).ok_or_else(|| SpecError::UnknownFacility(rest.to_owned()))?;
                return Ok(Spec::Facility(facility));
            }
        }
        let mut module = None;
        let mut destination = None;
        let mut level = None;
        let twice = |what| SpecError::Twice { spec: spec.to_owned(), what };
        for word in trimmed.split([':', ' ', ',', '\t']).filter(|word| !word.is_empty()) {
            if word.eq_ignore_ascii_case("any") {
            } else if let Some(found) = Destination::parse(word) {
                if destination.replace(found).is_some() {
                    return Err(twice("destination"));
                }
            } else if let Some(found) = Level::parse(word) {
                if level.replace(found).is_some() {
                    return Err(twice("level"));
                }
            } else if is_module(word) {
                if module.replace(word.to_owned()).is_some() {
                    return Err(twice("module"));
                }
            } else {
                return Err(SpecError::UnknownWord(word.to_owned()));
            }
        }
        Ok(Spec::Levels { module, destination, level: level.unwrap_or(Level::Dbg) })
    }
}

fn parse_pattern(spec: &str, rest: &str) -> Result<Spec, SpecError> {
    let shape = || SpecError::PatternShape(spec.to_owned());
    let (word, text) = rest.split_once(':').ok_or_else(shape)?;
    let destination = match Destination::parse(word) {
        Some(destination) => Some(destination),
        None if word.eq_ignore_ascii_case("any") => None,
        None => return Err(shape()),
    };
    let pattern =
        Pattern::parse(text).map_err(|error| SpecError::Pattern { pattern: text.to_owned(), error })?;
    Ok(Spec::Pattern { destination, pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(spec: &str) -> Result<Spec, SpecError> {
        Spec::parse(spec, &|word| ["ovsdb", "ovn-gateway-helper"].contains(&word))
    }

    fn levels(module: Option<&str>, destination: Option<Destination>, level: Level) -> Spec {
        Spec::Levels { module: module.map(str::to_owned), destination, level }
    }

    #[test]
    fn words_come_in_any_order_and_any_case() {
        let expected = Ok(levels(Some("ovsdb"), Some(Destination::File), Level::Dbg));
        for spec in
            ["ovsdb:file:dbg", "dbg:FILE:ovsdb", "file ovsdb DBG", "ovsdb,file,dbg", " file:ovsdb:dbg "]
        {
            assert_eq!(parse(spec), expected, "{spec}");
        }
    }

    #[test]
    fn what_is_left_out_means_all_and_debug() {
        assert_eq!(parse("ovn-gateway-helper"), Ok(levels(Some("ovn-gateway-helper"), None, Level::Dbg)));
        assert_eq!(parse("any:any:off"), Ok(levels(None, None, Level::Off)));
        assert_eq!(parse("console:emer"), Ok(levels(None, Some(Destination::Console), Level::Emer)));
        assert_eq!(parse(""), Ok(levels(None, None, Level::Dbg)));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(parse("consol:dbg"), Err(SpecError::UnknownWord("consol".into())));
        assert!(matches!(parse("file:console:dbg"), Err(SpecError::Twice { what: "destination", .. })));
        assert!(matches!(parse("info:dbg"), Err(SpecError::Twice { what: "level", .. })));
        assert!(matches!(parse("pattern:nowhere:%m"), Err(SpecError::PatternShape(_))));
        assert!(matches!(parse("pattern:file:%q"), Err(SpecError::Pattern { .. })));
        assert!(matches!(parse("FACILITY:nobody"), Err(SpecError::UnknownFacility(_))));
    }

    #[test]
    fn patterns_and_facilities() {
        let Ok(Spec::Pattern { destination, pattern }) = parse("PATTERN:file:%m: %p") else { panic!() };
        assert_eq!(destination, Some(Destination::File));
        assert_eq!(pattern.to_string(), "%m: %p");
        assert!(matches!(parse("FACILITY:local3"), Ok(Spec::Facility(_))));
    }
}
