//! The layout of a log line: vlog's patterns (ovs-appctl(8), "vlog/set PATTERN"), and the calendar they need.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::levels::Level;

/// What a line is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) program: &'a str,
    pub(super) module: &'a str,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) sequence: u64,
    pub(super) time: SystemTime,
    pub(super) uptime: Duration,
    pub(super) facility: u8,
}

/// A layout, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

/// Why a pattern cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PatternError {
    #[error("there is no conversion %{0}")]
    Unknown(char),
    #[error("it ends inside a conversion")]
    Truncated,
    #[error("a field cannot be wider than {MAX_WIDTH} characters")]
    Width,
}

/// Wider fields would only serve to fill a disk.
const MAX_WIDTH: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field { what: Conversion, width: usize, left: bool, zeros: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Conversion {
    Program,
    Priority,
    Module,
    /// UTC and local time alike: a daemon of ours runs in UTC, and the libc's idea of zones is not safe to ask
    /// for beside other threads.
    Time(String),
    Host,
    Message,
    Sequence,
    Newline,
    Level,
    Pid,
    Uptime,
    Thread,
    ThreadInParentheses,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(next) = chars.next() {
            if next != '%' {
                literal.push(next);
                continue;
            }
            let left = chars.next_if_eq(&'-').is_some();
            let zeros = chars.next_if_eq(&'0').is_some();
            let mut width = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                width = width * 10 + digit as usize;
                if width > MAX_WIDTH {
                    return Err(PatternError::Width);
                }
                chars.next();
            }
            let letter = chars.next().ok_or(PatternError::Truncated)?;
            if letter == '%' {
                literal.push('%');
                continue;
            }
            let argument = match chars.next_if_eq(&'{') {
                Some(_) => {
                    let argument: String = chars.by_ref().take_while(|&c| c != '}').collect();
                    Some(argument)
                }
                None => None,
            };
            let what = match letter {
                'A' => Conversion::Program,
                'B' => Conversion::Priority,
                'c' => Conversion::Module,
                'd' | 'D' => Conversion::Time(argument.unwrap_or_else(|| "%Y-%m-%d %H:%M:%S.###".to_owned())),
                'E' => Conversion::Host,
                'm' => Conversion::Message,
                'N' => Conversion::Sequence,
                'n' => Conversion::Newline,
                'p' => Conversion::Level,
                'P' => Conversion::Pid,
                'r' => Conversion::Uptime,
                't' => Conversion::Thread,
                'T' => Conversion::ThreadInParentheses,
                other => return Err(PatternError::Unknown(other)),
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Field { what, width, left, zeros });
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// One line, without the newline at its end.
    pub(super) fn line(&self, record: &Record<'_>) -> String {
        let mut line = String::with_capacity(record.message.len() + 64);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => line.push_str(text),
                Piece::Field { what: Conversion::Message, width: 0, .. } => line.push_str(record.message),
                Piece::Field { what, width, left, zeros } => {
                    let text = what.text(record);
                    let blanks = width.saturating_sub(text.chars().count());
                    let pad = if *zeros && !left { '0' } else { ' ' };
                    if !left {
                        line.extend(std::iter::repeat_n(pad, blanks));
                    }
                    line.push_str(&text);
                    if *left {
                        line.extend(std::iter::repeat_n(pad, blanks));
                    }
                }
            }
        }
        line
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Conversion {
    fn text(&self, record: &Record<'_>) -> String {
        match self {
            Conversion::Program => record.program.to_owned(),
            Conversion::Priority => (record.facility * 8 + record.level.severity()).to_string(),
            Conversion::Module => record.module.to_owned(),
            Conversion::Time(format) => time_text(format, record.time),
            Conversion::Host => host(),
            Conversion::Message => record.message.to_owned(),
            Conversion::Sequence => record.sequence.to_string(),
            Conversion::Newline => "\n".to_owned(),
            Conversion::Level => record.level.name().to_owned(),
            Conversion::Pid => std::process::id().to_string(),
            Conversion::Uptime => record.uptime.as_millis().to_string(),
            Conversion::Thread => thread().unwrap_or_default(),
            Conversion::ThreadInParentheses => thread().map(|name| format!("({name})")).unwrap_or_default(),
        }
    }
}

/// The running thread's name; none for the main one and the runtime's interchangeable workers.
fn thread() -> Option<String> {
    let current = std::thread::current();
    let name = current.name()?;
    (name != "main" && !name.starts_with("tokio-")).then(|| name.to_owned())
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "-".to_owned(), |name| name.trim().to_owned())
}

/// The conversions of strftime(3) that log layouts use, and `###` for milliseconds, in UTC.
fn time_text(format: &str, time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let format = format.replace("###", &format!("{:03}", since.subsec_millis()));
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(next) = chars.next() {
        if next != '%' {
            text.push(next);
            continue;
        }
        // Writing to a String cannot fail.
        let _ = match chars.next() {
            Some('Y') => write!(text, "{year:04}"),
            Some('m') => write!(text, "{month:02}"),
            Some('d') => write!(text, "{day:02}"),
            Some('H') => write!(text, "{hour:02}"),
            Some('M') => write!(text, "{minute:02}"),
            Some('S') => write!(text, "{second:02}"),
            Some('F') => write!(text, "{year:04}-{month:02}-{day:02}"),
            Some('T') => write!(text, "{hour:02}:{minute:02}:{second:02}"),
            Some('s') => write!(text, "{seconds}"),
            Some('b') => write!(text, "{}", MONTHS[(month as usize - 1) % 12]),
            Some('e') => write!(text, "{day:2}"),
            Some('%') => write!(text, "%"),
            Some(other) => write!(text, "%{other}"),
            None => write!(text, "%"),
        };
    }
    text
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Counts in eras of 400 years that
/// begin in March, so that the leap day is the last of its year.
fn date(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis)
    }

    fn record(message: &str) -> Record<'_> {
        Record {
            program: "prog",
            module: "ovsdb",
            level: Level::Warn,
            message,
            sequence: 7,
            time: at(1_795_406_400, 123),
            uptime: Duration::from_millis(1500),
            facility: 3,
        }
    }

    #[test]
    fn the_layout_of_the_log_file() {
        let pattern = Pattern::parse("%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m").unwrap();
        let line = std::thread::spawn(move || pattern.line(&record("text: 100%"))).join().unwrap();
        assert_eq!(line, "2026-11-23T04:00:00.123Z|00007|ovsdb|WARN|text: 100%");
    }

    #[test]
    fn fields_are_padded_left_and_right() {
        let line = |text: &str| Pattern::parse(text).unwrap().line(&record("m"));
        assert_eq!(line("[%6c][%-6c][%3p][%02N]%%"), "[ ovsdb][ovsdb ][WARN][07]%");
        assert_eq!(line("<%B>%A %r"), "<28>prog 1500");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(Pattern::parse("%q"), Err(PatternError::Unknown('q')));
        assert_eq!(Pattern::parse("abc%"), Err(PatternError::Truncated));
        assert_eq!(Pattern::parse("%99999999999999999999m"), Err(PatternError::Width));
    }

    #[test]
    fn the_calendar_knows_leap_years() {
        let day = |seconds| time_text("%F %T", at(seconds, 0));
        assert_eq!(day(0), "1970-01-01 00:00:00");
        assert_eq!(day(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(day(1_709_251_199), "2024-02-29 23:59:59");
        assert_eq!(day(4_107_542_400), "2100-03-01 00:00:00");
    }
}
