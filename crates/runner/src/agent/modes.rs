//! Which mode an agent is put in. An agent's own default may be one that never asks, so it is always
//! set, by name; one that never asks is only taken where the runner's owner allows it.

use serde_json::Value;
use sojourn_term::escape::escape;

/// What an agent offers to choose from, whichever way it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// How it is set.
    pub(super) way: Way,
    pub(super) current: String,
    pub(super) offered: Vec<String>,
}

/// How a choice is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `session/set_mode`.
    Mode,
    /// `session/set_model`.
    Model,
    /// `session/set_config_option`, under this id.
    Option(String),
}

/// Why no mode, or no model, can be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoChoice {
    /// It would never ask.
    #[error(
        "the mode {0:?} never asks; choose another one, or set `allow_bypass` in the runner's \
         configuration"
    )]
    Bypass(String),
    /// It is not there.
    #[error("the agent has no mode {wanted:?}; it offers {}", offered.join(", "))]
    Mode { wanted: String, offered: Vec<String> },
    /// None of its modes is known to ask.
    #[error("none of the agent's modes ({}) is known to ask; set `mode` in its configuration", .0.join(", "))]
    Unknown(Vec<String>),
    /// It is not there.
    #[error("the agent has no model {wanted:?}; it offers {}", offered.join(", "))]
    Model { wanted: String, offered: Vec<String> },
    /// There is none.
    #[error("this agent offers no choice of models; leave the model out")]
    NoModels,
}

/// The modes in which presets ask before they do something, the best first.
fn of_preset(harness: &str) -> &'static [&'static str] {
    match harness {
        "claude" => &["default"],
        // Its default, "agent", lets a model decide instead of a person.
        "codex" => &["read-only"],
        "gemini" => &["default"],
        "opencode" => &["build"],
        _ => &["default", "ask", "manual", "normal", "read-only"],
    }
}

/// Whether an agent in this mode does everything unasked, judged by its name.
pub(super) fn is_bypass(mode: &str) -> bool {
    let name: String =
        mode.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ["bypass", "yolo", "fullaccess", "dangerous", "autoapprove", "autopilot", "skippermissions"]
        .iter()
        .any(|sign| name.contains(sign))
}

/// The modes an agent offers, from the answer that began the conversation.
pub(super) fn modes(answer: &Value) -> Option<Choice> {
    let modes = answer.get("modes").filter(|modes| !modes.is_null());
    if let Some(modes) = modes {
        return Some(Choice {
            way: Way::Mode,
            current: text(modes.get("currentModeId")),
            offered: ids(modes.get("availableModes"), "id"),
        });
    }
    option(answer, "mode")
}

/// The models an agent offers.
fn models(answer: &Value) -> Option<Choice> {
    if let Some(option) = option(answer, "model") {
        return Some(option);
    }
    let models = answer.get("models").filter(|models| !models.is_null())?;
    Some(Choice {
        way: Way::Model,
        current: text(models.get("currentModelId")),
        offered: ids(models.get("availableModels"), "modelId"),
    })
}

/// The option of this category that is one of several values.
pub(super) fn option(answer: &Value, category: &str) -> Option<Choice> {
    let options = answer.get("configOptions")?.as_array()?;
    let found = options.iter().find(|option| {
        option.get("category").or_else(|| option.get("id")) == Some(&category.into())
            && option.get("type") == Some(&"select".into())
    })?;
    let values = found.get("options");
    let mut offered = ids(values, "value");
    for group in values.and_then(Value::as_array).into_iter().flatten() {
        offered.extend(ids(group.get("options"), "value"));
    }
    let way = Way::Option(text(found.get("id")));
    Some(Choice { way, current: text(found.get("currentValue")), offered })
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn ids(list: Option<&Value>, name: &str) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get(name)?.as_str()).map(str::to_owned).collect()
}

/// The mode to set; none where the agent has no modes.
pub(super) fn mode(
    harness: &str,
    configured: Option<&str>,
    allow_bypass: bool,
    answer: &Value,
) -> Result<Option<(Way, String)>, NoChoice> {
    let Some(choice) = modes(answer) else { return Ok(None) };
    let is_offered = |mode: &str| choice.offered.iter().any(|offered| offered == mode);
    if let Some(mode) = configured {
        if is_bypass(mode) && !allow_bypass {
            return Err(NoChoice::Bypass(mode.to_owned()));
        }
        if !is_offered(mode) {
            let offered = shown(&choice.offered, allow_bypass);
            return Err(NoChoice::Mode { wanted: mode.to_owned(), offered });
        }
        return Ok(Some((choice.way, mode.to_owned())));
    }
    match of_preset(harness).iter().find(|mode| is_offered(mode)) {
        Some(mode) => Ok(Some((choice.way, (*mode).to_owned()))),
        None => Err(NoChoice::Unknown(shown(&choice.offered, allow_bypass))),
    }
}

/// The model to set.
pub(super) fn model(wanted: &str, answer: &Value) -> Result<(Way, String), NoChoice> {
    let choice = models(answer).ok_or(NoChoice::NoModels)?;
    match choice.offered.iter().any(|offered| offered == wanted) {
        true => Ok((choice.way, wanted.to_owned())),
        false => {
            let offered = shown(&choice.offered, true);
            Err(NoChoice::Model { wanted: wanted.to_owned(), offered })
        }
    }
}

/// What a person reads of a list: safe to print, and not for ever.
fn shown(offered: &[String], bypass: bool) -> Vec<String> {
    let names = offered.iter().filter(|name| bypass || !is_bypass(name));
    names.take(16).map(|name| escape(name, 64)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offers(modes: &[&str]) -> Value {
        let available: Vec<Value> = modes.iter().map(|id| json!({"id": id, "name": id})).collect();
        json!({"modes": {"currentModeId": modes[0], "availableModes": available}})
    }

    #[test]
    fn flaw_10_the_mode_is_set_by_name_whatever_the_agent_begins_with() {
        let set = |harness: &str, modes: &[&str]| {
            mode(harness, None, false, &offers(modes)).map(|mode| mode.map(|(_, mode)| mode))
        };
        let codex = ["agent", "read-only", "agent-full-access"];
        assert_eq!(set("codex", &codex), Ok(Some("read-only".to_owned())));
        let claude = ["bypassPermissions", "acceptEdits", "default"];
        assert_eq!(set("claude", &claude), Ok(Some("default".to_owned())));
        assert_eq!(mode("mine", None, false, &Value::Null), Ok(None), "no modes, nothing to set");
        let unknown = set("mine", &["turbo", "yolo"]).unwrap_err();
        assert_eq!(unknown, NoChoice::Unknown(vec!["turbo".to_owned()]), "yolo is hidden");
    }

    #[test]
    fn a_mode_that_never_asks_has_to_be_allowed() {
        let answer = offers(&["default", "yolo"]);
        let wanted = |allow| mode("gemini", Some("yolo"), allow, &answer);
        assert_eq!(wanted(false), Err(NoChoice::Bypass("yolo".to_owned())));
        assert_eq!(wanted(true), Ok(Some((Way::Mode, "yolo".to_owned()))));
        for name in ["bypassPermissions", "full-access", "agent-full-access", "YOLO"] {
            assert!(is_bypass(name), "{name}");
        }
        for name in ["default", "plan", "acceptEdits", "read-only", "agent", "build"] {
            assert!(!is_bypass(name), "{name}");
        }
    }

    #[test]
    fn modes_and_models_may_be_options_too() {
        let select = |category: &str, values: Value| {
            json!({"id": format!("{category}-id"), "category": category, "type": "select",
                   "currentValue": "x", "options": values})
        };
        let grouped =
            json!([{"group": "g", "name": "G", "options": [{"value": "m1", "name": "M"}]}]);
        let answer = json!({"configOptions": [
            select("mode", json!([{"value": "default", "name": "D"}])), select("model", grouped),
        ]});
        let way = |category: &str| Way::Option(format!("{category}-id"));
        let found = mode("claude", None, false, &answer);
        assert_eq!(found, Ok(Some((way("mode"), "default".to_owned()))));
        assert_eq!(model("m1", &answer), Ok((way("model"), "m1".to_owned())));
        assert!(matches!(model("m2", &answer), Err(NoChoice::Model { .. })));
        assert_eq!(model("m1", &json!({})), Err(NoChoice::NoModels));
    }
}
