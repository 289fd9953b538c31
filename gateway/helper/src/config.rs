//! `ovn_k8s.conf`: the settings file that all programs share, section `[default]`.
//!
//! A comment has a line of its own: a `#` or `;` inside a value belongs to the value (a token may hold one). A value
//! in quotes is what is between them. Keys of other programs are left alone; a file that cannot be read as what it
//! should be is refused with its line, because half a configuration is worse than none.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use configparser::ini::{Ini, IniDefault};

/// The file's section.
const SECTION: &str = "default";

/// The file's settings; empty when there is no file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

/// Why a settings file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read at all.
    #[error("cannot read the settings file {path}: {error} (--config names another)")]
    Read {
        /// The file.
        path: PathBuf,
        /// What came back.
        error: std::io::Error,
    },
    /// A line is none of comment, section or `key = value`.
    #[error("{path}, line {line}: {what} (write \"key = value\" under [default])")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The first line at fault.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A value does not fit its key.
    #[error("{path}: {key} = {value}: {what}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        what: String,
    },
}

impl From<ConfigError> for cli::EarlyExit {
    fn from(error: ConfigError) -> Self {
        cli::EarlyExit::Error(error.to_string())
    }
}

impl ConfigFile {
    /// Reads the file at `path`. A file that does not exist counts as empty, unless it was `required` by name.
    pub fn read(path: &Path, required: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == ErrorKind::NotFound && !required => {
                Ok(Self { path: path.to_owned(), ..Self::default() })
            }
            Err(error) => Err(ConfigError::Read { path: path.to_owned(), error }),
        }
    }

    /// Reads the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let broken =
            |line, what: &str| ConfigError::Broken { path: path.to_owned(), line, what: what.to_owned() };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(line) = line_before_sections(text) {
            return Err(broken(line, "a setting comes before the first [section]"));
        }
        let mut defaults = IniDefault::default();
        defaults.inline_comment_symbols = Some(Vec::new());
        defaults.multiline = true;
        let mut ini = Ini::new_from_defaults(defaults);
        let sections = ini.read(text.to_owned()).map_err(|error| {
            let (line, what) = line_of(&error);
            broken(line, what)
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in
            sections.into_iter().filter(|(name, _)| name == SECTION).flat_map(|(_, keys)| keys)
        {
            let Some(value) = value else {
                let line = text.lines().position(|line| line.trim().eq_ignore_ascii_case(&key));
                return Err(broken(line.map_or(0, |at| at + 1), "it has no value"));
            };
            values.insert(key, unquoted(&value).to_owned());
        }
        Ok(Self { path: path.to_owned(), values })
    }

    /// The value of a key; an empty one counts as not set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a key as `read` understands it.
    pub fn read_as<T, E: ToString>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).map_err(|error| ConfigError::Value {
            path: self.path.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
            what: error.to_string(),
        })
    }

    /// Where it is, or would be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The number of the first line that holds something in front of any section.
fn line_before_sections(text: &str) -> Option<usize> {
    let first = |line: &&str| !line.is_empty() && !line.starts_with(['#', ';']);
    let (at, line) = text.lines().map(str::trim).enumerate().find(|(_, line)| first(line))?;
    (!line.starts_with('[')).then_some(at + 1)
}

/// Takes the number out of the parser's `line 3: what` and `line 3:0: what`.
fn line_of(error: &str) -> (usize, &str) {
    let Some((place, what)) = error.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) else {
        return (0, error);
    };
    let line = place.split(':').next().and_then(|number| number.parse().ok());
    (line.unwrap_or(0), what)
}

/// The original read each value as a Python literal, so a text may be in quotes.
fn unquoted(value: &str) -> &str {
    let inside = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse(Path::new("/etc/x.conf"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn values_stay_whole() {
        let file = parse(
            "# comment\n; another\n[default]\nmtu = 1400\nTOKEN=abc#def;ghi\nquoted = \"a b\"\nurl: http://h:1\nempty =\n[other]\nmtu=9\n",
        )
        .unwrap();
        assert_eq!(file.get("mtu"), Some("1400"));
        assert_eq!(file.get("token"), Some("abc#def;ghi"));
        assert_eq!(file.get("quoted"), Some("a b"));
        assert_eq!(file.get("url"), Some("http://h:1"));
        assert_eq!(file.get("empty"), None);
        assert_eq!(file.get("absent"), None);
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        for (text, line, what) in [
            ("[default]\nmtu = 1400\n[oops\n", 3, "closing bracket"),
            ("[default]\n = 5\n", 2, "Key cannot be empty"),
            ("\n# c\nmtu = 1400\n", 3, "before the first [section]"),
            ("[default]\nmtu = 1\nconntrack_zone\n", 3, "no value"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("/etc/x.conf, line {line}: ")), "{error}");
            assert!(error.contains(what) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_empty_unless_it_was_asked_for() {
        let path = Path::new("/nonexistent/ovn_k8s.conf");
        assert_eq!(ConfigFile::read(path, false).unwrap().get("mtu"), None);
        let error = ConfigFile::read(path, true).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/ovn_k8s.conf") && error.contains("--config"), "{error}");
        assert!(ConfigFile::read(Path::new("/"), false).is_err(), "a directory is not a missing file");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named() {
        let file = parse("[default]\nconntrack_zone = many\n").unwrap();
        let error = file.read_as("conntrack_zone", str::parse::<u16>).unwrap_err().to_string();
        assert!(error.starts_with("/etc/x.conf: conntrack_zone = many: "), "{error}");
    }
}
