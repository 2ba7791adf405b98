//! Giving an account another role, closing it, and opening it again.

use axum::Json;
use axum::extract::State;
use sojourn_core::authz::Role;
use sojourn_engine::fault::Fault;
use sojourn_engine::identity::AccountError;
use sojourn_engine::login::LoginEnd;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::ADMINS;
use super::Account;
use super::parsed_role;
use super::proved_lately;
use super::shown;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Activity;
use crate::route::Route;

/// What is to be another way.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct Changes {
    /// `admin`, `member` or `auditor`.
    role: Option<String>,
    disabled: Option<bool>,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![Route::patch(
        "/api/users/{name}",
        ADMINS,
        Activity::Counts,
        change,
        Doc::of("changeUser", "Gives an account another role, closes it, or opens it again.")
            .takes::<Changes>(Required::True)
            .gives::<Account>(200, "As it is now.")
            .refuses(&[Code::Invalid, Code::NotFound, Code::Conflict, Code::ReauthRequired])
            .refuses(&[Code::AuditUnavailable]),
    )]
}

/// `PATCH /api/users/{name}`
async fn change(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(name): Typed<String>,
    fields: Fields,
) -> Result<Json<Account>, Refused> {
    proved_lately(&gate, &caller)?;
    fields.only(&["role", "disabled"])?;
    let role = fields.text("role")?.map(parsed_role).transpose()?;
    let disabled = fields.choice("disabled")?;
    let accounts = gate.engine().accounts();
    let before = accounts.get(&name).await?;
    let gives_up = disabled == Some(true) || role.is_some_and(|role| role != before.role);
    if gives_up && caller.name() == Some(name.as_str()) {
        let line = "nobody takes their own rights away; ask another admin".to_owned();
        return Err(Refused::Conflict(line));
    }
    let (logins, actor) = (gate.logins(), caller.actor());
    if let Some(role) = role.filter(|role| *role != before.role) {
        accounts.set_role(&name, role, actor.clone()).await?;
        // Whoever is signed in as less does not become more without a new proof.
        if gains(before.role, role) {
            logins.end_all_of(before.id, None, LoginEnd::RoleChange, &actor).await?;
        }
    }
    match disabled {
        Some(true) if before.disabled_at.is_none() => accounts.disable(&name, actor).await?,
        Some(false) if before.disabled_at.is_some() => accounts.enable(&name, actor).await?,
        _ => {}
    }
    logins.recheck().await.map_err(|_| Refused::Store)?;
    Ok(Json(shown(&accounts.get(&name).await?)))
}

/// Whether the new role may do anything that the old one may not.
fn gains(from: Role, to: Role) -> bool {
    from != to && from != Role::Admin
}

impl From<AccountError> for Refused {
    fn from(error: AccountError) -> Self {
        let line = error.to_string();
        match error {
            AccountError::Name(_) => Self::invalid("name", line),
            AccountError::Password(_) => Self::invalid("password", line),
            AccountError::Key(_) => Self::invalid("key", line),
            AccountError::NoUser(_) | AccountError::NoKey { .. } => Self::NotFound(line),
            AccountError::Ambiguous(_) | AccountError::Closed(_) => Self::Conflict(line),
            AccountError::Hash(_) => Self::Overloaded,
            AccountError::Store(error) => match Fault::of(&error) {
                Fault::Conflict => Self::Conflict(line),
                Fault::Missing => Self::NotFound(line),
                Fault::Unavailable => {
                    tracing::error!(%error, "an account was not read or changed");
                    Self::Store
                }
            },
        }
    }
}
