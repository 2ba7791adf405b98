//! Tells the desktop of a session that was started from elsewhere: who, from where, in which
//! directory, and how it begins. Over D-Bus, without a shell or a script; a machine without a desktop
//! is no error, and nobody waits for one.

use std::process::Stdio;
use std::time::Duration;

use notify_rust::Notification;
use notify_rust::NotificationResponse;
use sojourn_core::wire::relay::Launch;
use tokio::time::timeout;

use super::options::Notify;

/// How long a desktop may take to take it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long somebody has to choose.
const SHOWN: Duration = Duration::from_secs(30);

/// So much of a first message is shown, in characters.
const PREVIEW: usize = 100;

/// What somebody chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// To look at the session.
    View,
    /// To end it.
    End,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    summary: String,
    body: String,
}

/// Shows it, and waits until somebody chooses or looks away. Gives nothing where there is no desktop.
pub(super) async fn show(launch: &Launch, directory: &str, notify: Notify) -> Option<Choice> {
    let told = told(launch, directory, notify)?;
    if !has_desktop() {
        return None;
    }
    let mut notification = Notification::new();
    notification
        .appname("Sojourn")
        .summary(&told.summary)
        .body(&told.body)
        .action("view", "View")
        .action("end", "End")
        .timeout(notify_rust::Timeout::Milliseconds(30_000));
    let shown = timeout(PATIENCE, notification.show_async()).await;
    let handle = match shown {
        Ok(Ok(handle)) => handle,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no desktop to tell");
            return None;
        }
        Err(_late) => {
            tracing::debug!("the desktop does not answer");
            return None;
        }
    };
    let mut choice = None;
    let waiting = handle.wait_for_action_async(|response: &NotificationResponse| {
        choice = match response {
            NotificationResponse::Default => Some(Choice::View),
            NotificationResponse::Action(action) if action == "view" => Some(Choice::View),
            NotificationResponse::Action(action) if action == "end" => Some(Choice::End),
            _ => None,
        };
    });
    let in_time = timeout(SHOWN, waiting).await.is_ok();
    if !in_time {
        // Some desktops keep it: its buttons are not to look as if they did something.
        let _stays = timeout(PATIENCE, handle.close_async()).await;
    }
    choice.filter(|_| in_time)
}

/// Opens a page where the desktop opens pages, if it has a program for that.
pub(super) fn view(page: &str) {
    let opened = tokio::process::Command::new("xdg-open")
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = opened {
        tracing::info!(%error, page, "no program opens the page here");
    }
}

/// Whether there may be a desktop: without an address of a bus nobody is asked for.
fn has_desktop() -> bool {
    std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty())
}

fn told(launch: &Launch, directory: &str, notify: Notify) -> Option<Told> {
    if notify == Notify::Off {
        return None;
    }
    let from = launch.by.address.as_deref().unwrap_or("this machine");
    let (user, harness) = (plain(&launch.by.user), plain(&launch.harness));
    let summary = format!("{user} started {harness} here");
    let mut body = format!("from {} in {}", markup(&plain(from)), markup(&plain(directory)));
    if notify == Notify::Prompt
        && let Some(prompt) = launch.prompt.as_deref().filter(|prompt| !prompt.trim().is_empty())
    {
        let begin: String = plain(prompt).chars().take(PREVIEW).collect();
        body.push('\n');
        body.push_str(&markup(&begin));
    }
    Some(Told { summary, body })
}

/// In one line, without anything that changes how the rest looks.
fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let hidden = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}') || turns(c);
    let shown: String = text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Desktops read a little markup in the body: nothing from outside is any.
fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use sojourn_core::limits::Limits;
    use sojourn_core::wire::relay::PermissionMode;
    use sojourn_core::wire::relay::Person;
    use sojourn_core::wire::relay::Used;

    use super::*;

    fn launch(prompt: &str) -> Launch {
        Launch {
            harness: "claude".to_owned(),
            profile: None,
            cwd: None,
            model: None,
            permission_mode: PermissionMode::Relay,
            prompt: Some(prompt.to_owned()),
            limits: Limits::default(),
            size: None,
            resume: None,
            epoch: 1,
            head: 0,
            used: Used::default(),
            by: Person { user: "alice".to_owned(), address: Some("192.0.2.7".to_owned()) },
        }
    }

    #[test]
    fn flaw_07_what_is_shown_is_text_and_nothing_else() {
        let hostile = "\\\" & do shell script \"x\" <a href='file:///etc'>\u{202e}\nnext\u{1b}[2J";
        let told = told(&launch(hostile), "/src/<b>", Notify::Prompt).unwrap();
        assert_eq!(told.summary, "alice started claude here");
        let expected = "from 192.0.2.7 in /src/&lt;b&gt;\n\
            \\\" &amp; do shell script \"x\" &lt;a href='file:///etc'&gt; next [2J";
        assert_eq!(told.body, expected);
    }

    #[test]
    fn flaw_07_the_first_message_is_shown_in_part_and_only_where_it_is_wanted() {
        let long = "x".repeat(500);
        let shown = told(&launch(&long), "/src", Notify::Prompt).unwrap().body;
        assert_eq!(shown, format!("from 192.0.2.7 in /src\n{}", "x".repeat(100)));
        let shown = told(&launch(&long), "/src", Notify::Start).unwrap().body;
        assert_eq!(shown, "from 192.0.2.7 in /src");
        assert_eq!(told(&launch(&long), "/src", Notify::Off), None);
    }
}
