//! Between `tracing` and the destinations: which module, which level, which text.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::levels::Level;
use super::{Shared, sinks};

/// The one layer of a process: an event becomes one line, sent to each destination that wants it.
#[derive(Debug)]
pub(super) struct VlogLayer {
    shared: Arc<Shared>,
}

impl VlogLayer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn wanted(&self, metadata: &Metadata<'_>) -> bool {
        let Some(level) = level_of(metadata) else { return false };
        let module = self.shared.levels.module(metadata.target());
        let levels = self.shared.levels.of(module);
        // An error may turn out to be an emergency, which more tables let through.
        levels.iter().any(|most| level <= *most || (level == Level::Err && *most == Level::Emer))
    }
}

impl<S: Subscriber> Layer<S> for VlogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() {
            self.shared.levels.meet(self.shared.levels.module(metadata.target()));
        }
        if self.wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.shared.levels.most() {
            Level::Off => LevelFilter::OFF,
            Level::Emer | Level::Err => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Dbg => LevelFilter::DEBUG,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let Some(mut level) = level_of(metadata) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        if text.emer && level == Level::Err {
            level = Level::Emer;
        }
        let target = text.target.take();
        let module = self.shared.levels.module(target.as_deref().unwrap_or(metadata.target()));
        let levels = self.shared.levels.of(module);
        if levels.iter().all(|most| level > *most) {
            return;
        }
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let message = text.finish();
        self.shared.sinks.emit(&sinks::Event { module, level, message: &message, sequence }, levels);
    }
}

/// The level of vlog; traces have none and are never logged.
fn level_of(metadata: &Metadata<'_>) -> Option<Level> {
    match *metadata.level() {
        tracing::Level::ERROR => Some(Level::Err),
        tracing::Level::WARN => Some(Level::Warn),
        tracing::Level::INFO => Some(Level::Info),
        tracing::Level::DEBUG => Some(Level::Dbg),
        tracing::Level::TRACE => None,
    }
}

/// Gathers an event's message and fields: `message (name=value, name=value)`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    emer: bool,
    /// Events that come from the `log` crate all have the target `log`, and their own in a field.
    target: Option<String>,
}

impl Text {
    fn finish(mut self) -> String {
        if self.message.is_empty() {
            return self.fields;
        }
        if !self.fields.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(self.message, " ({})", self.fields);
        }
        self.message
    }
}

impl Visit for Text {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "emer" {
            self.emer = value;
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
            return;
        }
        if let Some(name) = field.name().strip_prefix("log.") {
            if name == "target" {
                self.target = Some(format!("{value:?}"));
            }
            return;
        }
        let comma = if self.fields.is_empty() { "" } else { ", " };
        let _ = write!(self.fields, "{comma}{}={value:?}", field.name());
    }
}
