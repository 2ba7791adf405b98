//! What the gateway says of itself: on standard error, as the configuration wants it.

use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::Level;
use crate::config::Log;
use crate::config::LogFormat;

/// Sets logging up, once. `RUST_LOG` goes before the configured level.
pub(crate) fn init(log: &Log) {
    // Libraries speak up only when something is wrong.
    let configured = || {
        EnvFilter::new(match log.level {
            Level::Error => "error".to_owned(),
            level => format!("warn,sojourn={}", level.name()),
        })
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| configured());
    let builder = fmt().log_internal_errors(false).with_env_filter(filter).with_writer(io::stderr);
    // A second call has nothing to set up: the first one's choice stands.
    let _already = match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_target(false).with_ansi(colour).try_init()
        }
    };
}
