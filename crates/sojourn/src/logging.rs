//! What the gateway says of itself: on standard error, as the configuration wants it.

use std::io;
use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::Level;
use crate::config::Log;
use crate::config::LogFormat;

/// Puts another filter in the place of the one in effect.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// There once logging is set up.
static CHANGE: OnceLock<Change> = OnceLock::new();

/// Sets logging up, once. `RUST_LOG` goes before the configured level.
pub(crate) fn init(log: &Log) {
    let builder =
        fmt().log_internal_errors(false).with_writer(io::stderr).with_env_filter(filter(log.level));
    // A second call has nothing to set up: the first one's choice stands.
    let _already = match log.format {
        LogFormat::Json => {
            let builder = builder
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let _first = CHANGE.set(Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let builder = builder.with_target(false).with_ansi(colour).with_filter_reloading();
            let handle = builder.reload_handle();
            let _first = CHANGE.set(Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
    };
}

/// Another level from now on, unless `RUST_LOG` says otherwise.
pub(crate) fn set_level(level: Level) {
    if let Some(change) = CHANGE.get() {
        change(filter(level));
    }
}

fn filter(level: Level) -> EnvFilter {
    // Libraries speak up only when something is wrong.
    let configured = || {
        EnvFilter::new(match level {
            Level::Error => "error".to_owned(),
            level => format!("warn,sojourn={}", level.name()),
        })
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| configured())
}
