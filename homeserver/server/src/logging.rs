//! Log lines: for eyes by default, JSON by setting, always on the standard error stream.
//!
//! What strangers send ends up in log lines (user ids, server names, errors of peers), so control characters and
//! characters that reorder text are escaped: no line can forge another one, or steer a terminal.

use std::{
    fmt::{self, Write},
    io::IsTerminal,
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Layer,
    field::MakeExt,
    fmt::{FormatFields, MakeWriter, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::configuration::{Filter, LogFormat};

/// Starts logging, and has panics logged too.
pub(crate) fn start(format: LogFormat, filter: &Filter) {
    let colours = std::io::stderr().is_terminal();
    let filter = EnvFilter::new(&filter.0);
    let registry = tracing_subscriber::registry().with(layer(format, colours, std::io::stderr).with_filter(filter));
    if registry.try_init().is_err() {
        tracing::debug!("logging was started before");
    }
    std::panic::set_hook(Box::new(log_panic));
}

/// Only the place: the message may hold what somebody sent, as those of slices and conversions do.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "panic");
}

fn layer<S, W>(format: LogFormat, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Human => layer.with_ansi(colours).fmt_fields(escaped_fields()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

fn escaped_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    tracing_subscriber::fmt::format::debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(Escaping(writer), "{value:?}")
    })
    .delimited(" ")
}

struct Escaping<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly everything is plain, and every request has fields.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|letter| {
            if is_deceptive(letter) { write!(self.0, "{}", letter.escape_default()) } else { self.0.write_char(letter) }
        })
    }
}

/// Control characters, line separators, and what changes the direction of text or is not seen at all.
fn is_deceptive(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, hostile: &str) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::registry().with(layer(format, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("request", user.id = %hostile).entered();
            tracing::info!(shown = %hostile, debugged = ?hostile, text = hostile, "message {hostile}");
        });
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn s_157_hostile_text_stays_on_its_line_and_changes_no_terminal() {
        let hostile = "\u{1b}[31mred\nINFO forged\r\u{202e}desrever\u{7f}\u{9b}0m";
        for format in [LogFormat::Human, LogFormat::Json] {
            let logged = logged(format, hostile);
            assert_eq!(logged.matches('\n').count(), 1, "{logged:?}");
            assert!(logged.ends_with('\n') && !logged.contains('\u{1b}') && !logged.contains('\r'), "{logged:?}");
        }
        let human = logged(LogFormat::Human, hostile);
        assert!(!human.trim_end().chars().any(is_deceptive), "{human:?}");
        assert!(human.contains(r"\nINFO forged"), "{human:?}");
    }
}
