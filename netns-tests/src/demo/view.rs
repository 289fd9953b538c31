//! The live table: drawn in place on a terminal, plain lines elsewhere.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::meter::{Meter, Owner};

/// How often the table is drawn.
const REFRESH: Duration = Duration::from_millis(200);
/// How many of the last lines stand below the table.
const LINES: usize = 10;

/// What is shown. Cheap to share: all of it is behind a lock.
#[derive(Debug, Clone)]
pub struct View(Arc<Mutex<Board>>);

#[derive(Debug)]
struct Board {
    began: Instant,
    is_terminal: bool,
    meters: Vec<Arc<Meter>>,
    now: String,
    lines: Vec<String>,
    /// How many lines of the terminal the last drawing took.
    drawn: usize,
}

/// The table is drawn again and again while this lives, and a last time when it goes.
#[derive(Debug)]
pub struct Live {
    view: View,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl View {
    /// Shows things on the standard output.
    pub fn open() -> Self {
        Self(Arc::new(Mutex::new(Board {
            began: Instant::now(),
            is_terminal: std::io::stdout().is_terminal(),
            meters: Vec::new(),
            now: String::new(),
            lines: Vec::new(),
            drawn: 0,
        })))
    }

    /// Says that something happened.
    pub fn say(&self, what: &str) {
        let mut board = self.board();
        let line = format!("{:6.1} s  {what}", board.began.elapsed().as_secs_f64());
        if !board.is_live() {
            println!("{line}");
        }
        board.lines.push(line);
    }

    /// Says what is being done.
    pub fn now(&self, what: &str) {
        what.clone_into(&mut self.board().now);
    }

    /// From here on the table of these meters is drawn, if there is a terminal.
    pub fn follow(&self, meters: &[Arc<Meter>]) -> Result<Live> {
        let mut board = self.board();
        let is_terminal = board.is_terminal;
        board.meters = meters.to_vec();
        // What was said so far stands above the table already.
        board.lines.clear();
        drop(board);
        let (stop, stopped) = mpsc::channel();
        let view = self.clone();
        let draw = move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(REFRESH) {
                view.board().draw();
            }
        };
        let thread = is_terminal.then(|| std::thread::Builder::new().name("view".to_owned()).spawn(draw));
        let thread = thread.transpose().context("starting the thread that draws")?;
        Ok(Live { view: self.clone(), stop: Some(stop), thread })
    }

    /// The table shows these meters instead: more ways were begun.
    pub fn show(&self, meters: &[Arc<Meter>]) {
        let mut board = self.board();
        if !board.meters.is_empty() {
            board.meters = meters.to_vec();
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        let mut board = self.view.board();
        board.now = "the end".to_owned();
        if board.is_live() {
            board.draw();
        }
        // Later lines are printed as they come.
        board.meters.clear();
    }
}

impl Board {
    fn is_live(&self) -> bool {
        self.is_terminal && !self.meters.is_empty()
    }

    /// Draws over what was drawn before (ECMA-48: cursor up, erase to the end), with automatic wrapping off, so that
    /// a narrow terminal cuts lines instead of counting them twice.
    fn draw(&mut self) {
        let mut text = String::new();
        let all = format!("{:6.1} s  now: {}", self.began.elapsed().as_secs_f64(), self.now);
        let shown = self.lines.iter().rev().take(LINES).rev();
        let lines = [all].into_iter().chain(table(&self.meters)).chain(shown.cloned());
        let lines: Vec<String> = lines.collect();
        // Writing to a String cannot fail.
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        let _ = writeln!(text, "\r\x1b[J\x1b[?7l{}\x1b[?7h", lines.join("\n"));
        self.drawn = lines.len();
        let mut out = std::io::stdout().lock();
        // The terminal is gone: nothing to report to.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

/// The table: a line for each way, under a heading for each owner.
pub fn table(meters: &[Arc<Meter>]) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<44}{:>8}{:>10}{:>6}{:>7}{:>13}",
        "path", "sent", "answered", "lost", "wrong", "longest gap"
    )];
    for owner in Owner::ALL {
        lines.push(owner.name().to_owned());
        lines.extend(meters.iter().filter(|meter| meter.owner == owner).map(|meter| row(meter)));
    }
    lines
}

fn row(meter: &Meter) -> String {
    let reading = meter.read();
    let mut line = format!(
        "  {:<42}{:>8}{:>10}{:>6}{:>7}{:>10} ms",
        meter.title,
        reading.sent,
        reading.answered,
        reading.lost,
        reading.wrong,
        reading.longest.as_millis()
    );
    if reading.reopened > 0 {
        let _ = write!(line, "  opened again: {}", reading.reopened);
    }
    line
}
