//! `GET /api/openapi.json`: the document of this API, made of the route table itself.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::Json;
use axum::extract::State;
use axum::http::Method;
use serde_json::Value;
use serde_json::json;
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::Components;
use utoipa::openapi::ContentBuilder;
use utoipa::openapi::HttpMethod;
use utoipa::openapi::InfoBuilder;
use utoipa::openapi::License;
use utoipa::openapi::OpenApi;
use utoipa::openapi::OpenApiBuilder;
use utoipa::openapi::Paths;
use utoipa::openapi::Ref;
use utoipa::openapi::RefOr;
use utoipa::openapi::Required;
use utoipa::openapi::Response;
use utoipa::openapi::ResponseBuilder;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::path::ParameterBuilder;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::ApiKey;
use utoipa::openapi::security::ApiKeyValue;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::HttpBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::security::SecurityScheme;

use crate::answer::Code;
use crate::cookie;
use crate::gate::Gate;
use crate::guards;
use crate::once;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;
use crate::table;

/// The media type of most answers.
pub(crate) const JSON: &str = "application/json";

/// What the document says of a route. What its path, access and method imply is added by itself:
/// parameters of the path, errors of the guards, how to authenticate.
#[derive(Clone)]
pub(crate) struct Doc {
    /// None of what is no part of the API.
    id: Option<&'static str>,
    summary: &'static str,
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: Vec<(u16, Response)>,
    codes: Vec<Code>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Doc {
    /// What people look at, and no part of the API.
    pub(crate) fn page() -> Self {
        Self { id: None, ..Self::of("", "") }
    }

    /// A route's name for programs, and what it does.
    pub(crate) fn of(id: &'static str, summary: &'static str) -> Self {
        Self {
            id: Some(id),
            summary,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            codes: Vec::new(),
            schemas: Vec::new(),
        }
    }

    /// A field of the query string, which can be left out.
    pub(crate) fn query<T: PartialSchema>(
        mut self,
        name: &'static str,
        about: &'static str,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(about))
            .schema(Some(T::schema()));
        self.parameters.push(parameter.build());
        self
    }

    /// The body, a JSON object; it can be left out when all of its fields can.
    pub(crate) fn takes<T: ToSchema>(mut self, required: Required) -> Self {
        let others = self.schemas.len();
        let schema = self.reference::<T>();
        // A field that nobody knows is refused, inside of others too, and the document says so.
        for (_, shape) in self.schemas.iter_mut().skip(others) {
            if let RefOr::T(Schema::Object(fields)) = shape
                && !fields.properties.is_empty()
            {
                let none = AdditionalProperties::FreeForm(false);
                fields.additional_properties = Some(Box::new(none));
            }
        }
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(required));
        self.body = Some(body.build());
        self.codes.push(Code::UnsupportedMediaType);
        self
    }

    /// An answer in JSON.
    pub(crate) fn gives<T: ToSchema>(mut self, status: u16, about: &'static str) -> Self {
        let schema = self.reference::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(about).content(JSON, content);
        self.answers.push((status, response.build()));
        self
    }

    /// An answer without a body.
    pub(crate) fn gives_nothing(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push((status, ResponseBuilder::new().description(about).build()));
        self
    }

    /// An answer of this media type, which is not JSON of ours.
    pub(crate) fn gives_bytes(
        mut self,
        status: u16,
        media: &'static str,
        about: &'static str,
    ) -> Self {
        let content = ContentBuilder::new().schema(None::<RefOr<Schema>>).build();
        let response = ResponseBuilder::new().description(about).content(media, content);
        self.answers.push((status, response.build()));
        self
    }

    /// What else may go wrong, beyond what the guards answer.
    pub(crate) fn refuses(mut self, codes: &[Code]) -> Self {
        self.codes.extend_from_slice(codes);
        self
    }

    /// A shape of what is said on a socket, which no path of the document has a place for.
    pub(crate) fn tells<T: ToSchema>(mut self) -> Self {
        self.reference::<T>();
        self
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        let name = T::name().into_owned();
        self.schemas.push((name.clone(), T::schema()));
        RefOr::Ref(Ref::from_schema_name(name))
    }
}

/// The route of the document itself.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/openapi.json",
        Access::Public,
        Activity::Passive,
        read,
        Doc::of("readOpenApi", "This document.").gives_bytes(200, JSON, "An OpenAPI document."),
    )]
}

async fn read(State(gate): State<Gate>) -> Json<&'static OpenApi> {
    // The cookie has one of two names, by where browsers see the gateway.
    static SECURE: OnceLock<OpenApi> = OnceLock::new();
    static PLAIN: OnceLock<OpenApi> = OnceLock::new();
    let name = cookie::login_name(gate.origin());
    let place = if name.starts_with("__Host-") { &SECURE } else { &PLAIN };
    Json(place.get_or_init(|| document(table::all(), &name)))
}

/// The document of these routes.
pub(crate) fn document(routes: Vec<Route>, login_cookie: &str) -> OpenApi {
    let mut paths = Paths::new();
    let mut schemas = BTreeMap::new();
    for route in routes {
        let (Some(method), Some(_)) = (http_method(&route.method), route.doc.id) else { continue };
        schemas.extend(route.doc.schemas.iter().cloned());
        paths.add_path_operation(route.path, vec![method], operation(route));
    }
    let mut components = Components::new();
    components.schemas.extend(schemas);
    components.add_security_scheme(
        "login",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            login_cookie,
            "A person's login. What changes \
             anything needs the login's X-CSRF-Token as well.",
        ))),
    );
    components.add_security_scheme(
        "token",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    let info = InfoBuilder::new()
        .title("Sojourn")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Sessions, the people in them, and what is on record."))
        .license(Some(License::new("Apache-2.0")));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

fn http_method(method: &Method) -> Option<HttpMethod> {
    match *method {
        Method::GET => Some(HttpMethod::Get),
        Method::POST => Some(HttpMethod::Post),
        Method::PUT => Some(HttpMethod::Put),
        Method::PATCH => Some(HttpMethod::Patch),
        Method::DELETE => Some(HttpMethod::Delete),
        _ => None,
    }
}

fn operation(route: Route) -> utoipa::openapi::path::Operation {
    let Route { method, path, rule, doc, .. } = route;
    let mut operation = OperationBuilder::new()
        .operation_id(doc.id)
        .summary(Some(doc.summary))
        .request_body(doc.body);
    for name in names_in(path) {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(String::schema()));
        operation = operation.parameter(parameter);
    }
    for parameter in doc.parameters {
        operation = operation.parameter(parameter);
    }
    for (status, response) in doc.answers {
        operation = operation.response(status.to_string(), response);
    }
    let mut codes = doc.codes;
    if rule.creates {
        let parameter = ParameterBuilder::new()
            .name(once::HEADER)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("For a day the same answer, without being done again."))
            .schema(Some(String::schema()));
        operation = operation.parameter(parameter);
        codes.extend([Code::Conflict, Code::Invalid]);
    }
    codes.extend(implied(&method, rule.access));
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, mut codes) in by_status {
        codes.sort_unstable();
        codes.dedup();
        operation = operation.response(status.to_string(), error(&codes));
    }
    for name in schemes(rule.access) {
        operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>(*name, []));
    }
    operation.build()
}

/// The names in braces.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn schemes(access: Access) -> &'static [&'static str] {
    match access {
        Access::Public | Access::SignIn => &[],
        Access::Login | Access::Fresh => &["login"],
        Access::Scope(_) | Access::Role(..) => &["login", "token"],
        Access::Runner => &["token"],
    }
}

/// What the guards may answer in the handler's stead.
fn implied(method: &Method, access: Access) -> Vec<Code> {
    let mut codes = vec![
        Code::Malformed,
        Code::Misdirected,
        Code::HeadersTooLarge,
        Code::Overloaded,
        Code::RateLimited,
    ];
    if !matches!(access, Access::Public | Access::SignIn) {
        codes.extend([
            Code::LoginRequired,
            Code::SessionExpired,
            Code::SessionRevoked,
            Code::InvalidCredentials,
            Code::Forbidden,
            Code::StoreUnavailable,
        ]);
    }
    if access == Access::Fresh {
        codes.push(Code::ReauthRequired);
    }
    if guards::is_unsafe(method) {
        codes.extend([Code::CrossOrigin, Code::TooLarge]);
        if access != Access::SignIn {
            codes.push(Code::CsrfToken);
        }
    }
    codes
}

/// The answer of these codes, which share a status.
fn error(codes: &[Code]) -> Response {
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let mut properties = json!({
        "error": {"type": "string", "description": "What went wrong, for people."},
        "code": {"type": "string", "enum": names},
    });
    let mut required = vec!["error", "code"];
    for code in codes {
        for (name, schema) in more(*code) {
            properties[name] = schema;
            if codes.len() == 1 && *code != Code::Conflict {
                required.push(name);
            }
        }
    }
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let schema: Option<RefOr<Schema>> = serde_json::from_value(schema).ok();
    let content = ContentBuilder::new().schema(schema).build();
    ResponseBuilder::new().description(names.join(", ")).content(JSON, content).build()
}

/// What else such an answer tells.
fn more(code: Code) -> Vec<(&'static str, Value)> {
    match code {
        Code::SessionExpired => {
            vec![("reason", json!({"type": "string", "examples": ["inactivity", "lifetime"]}))]
        }
        Code::SessionRevoked => vec![("reason", json!({"type": "string"}))],
        Code::Invalid => vec![("field", json!({"type": "string"}))],
        Code::Conflict => {
            let ids = json!({"type": "string", "format": "uuid"});
            vec![("matches", json!({"type": "array", "items": ids}))]
        }
        Code::RateLimited => vec![("retry_after_ms", json!({"type": "integer", "minimum": 0}))],
        Code::LimitReached => vec![
            ("limit", json!({"type": "string"})),
            ("max_sessions", json!({"type": "integer", "minimum": 0})),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn written() -> Value {
        serde_json::to_value(document(table::all(), "__Host-sojourn")).unwrap()
    }

    #[test]
    fn the_document_has_every_route_and_nothing_else() {
        let document = written();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                documented.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let api = table::all().into_iter().filter(|route| route.doc.id.is_some());
        let routes: BTreeSet<_> =
            api.map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(documented, routes);
        let hidden = table::all().into_iter().filter(|route| route.doc.id.is_none());
        assert!(hidden.into_iter().all(|route| !route.path.starts_with("/api/")));
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_an_answer() {
        let document = written();
        let mut names = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is there twice");
                let answers = operation["responses"].as_object().unwrap();
                let good = answers.keys().any(|status| status.starts_with(['1', '2']));
                assert!(good, "{method} {path}: {answers:?}");
                for status in ["400", "421", "431", "503"] {
                    assert!(answers.contains_key(status), "{method} {path}: {status}");
                }
            }
        }
    }

    #[test]
    fn no_two_schemas_share_a_name() {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for route in table::all() {
            for (name, schema) in route.doc.schemas {
                let schema = serde_json::to_value(schema).unwrap();
                let before = known.entry(name.clone()).or_insert_with(|| schema.clone());
                assert_eq!(*before, schema, "{name} is two things; at {}", route.path);
            }
        }
    }

    /// The page's types are made of this file: of the document's shapes, and not of its paths, which
    /// are ten times as much and of which the page knows the few that it asks for.
    #[test]
    fn the_page_knows_the_shapes_of_this_document() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web-ui/openapi.json");
        let mut shapes = written();
        shapes["paths"] = json!({});
        // In which order fields are written depends on what else is built with this.
        let read =
            || -> Option<Value> { serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok() };
        if std::env::var_os("SOJOURN_WRITE").is_some() && read().as_ref() != Some(&shapes) {
            std::fs::write(file, format!("{shapes:#}\n")).unwrap();
        }
        assert!(read() == Some(shapes), "web-ui/openapi.json is stale: run `make types`");
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = written();
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                        let name = name.strip_prefix('#').unwrap();
                        assert!(document.pointer(name).is_some(), "{name}");
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
    }
}
