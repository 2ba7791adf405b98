//! Reading what was asked: bodies and query strings, each field known by name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;

use crate::answer::Refused;

/// The most fields of a query string.
const MOST_FIELDS: usize = 32;

/// The most texts of a list.
const MOST_TEXTS: usize = 32;

/// A JSON object, or nothing at all.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Refuses fields that are none of these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Refused> {
        let unknown = self.0.keys().find(|name| !known.contains(&name.as_str()));
        unknown
            .map_or(Ok(()), |name| Err(Refused::Malformed(format!("there is no field {name:?}"))))
    }

    /// A text.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, Refused> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refused::invalid(name, "not a text")),
        }
    }

    /// A text that has to be there.
    pub(crate) fn needed(&self, name: &'static str) -> Result<&str, Refused> {
        self.text(name)?.ok_or_else(|| Refused::invalid(name, "has to be there"))
    }

    /// Whatever it is.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Some texts; none when they are not there.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<&str>, Refused> {
        let not = || Refused::invalid(name, format_args!("not a list of up to {MOST_TEXTS} texts"));
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(texts)) if texts.len() <= MOST_TEXTS => {
                texts.iter().map(|text| text.as_str().ok_or_else(not)).collect()
            }
            Some(_) => Err(not()),
        }
    }

    /// A whole number from this range.
    pub(crate) fn whole(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refused> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|number| range.contains(number)) {
                Some(number) => Ok(Some(number)),
                None => {
                    let (from, to) = (range.start(), range.end());
                    Err(Refused::invalid(
                        name,
                        format_args!("not a whole number from {from} to {to}"),
                    ))
                }
            },
        }
    }

    /// Fields within this one.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<Self>, Refused> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields.clone()))),
            Some(_) => Err(Refused::invalid(name, "not an object")),
        }
    }

    /// Texts by name: at most so many, each name and text at most so long in bytes.
    pub(crate) fn words(
        &self,
        name: &'static str,
        most: usize,
        longest: usize,
    ) -> Result<BTreeMap<String, String>, Refused> {
        let Some(Self(fields)) = self.object(name)? else { return Ok(BTreeMap::new()) };
        if fields.len() > most {
            return Err(Refused::invalid(name, format_args!("more than {most}")));
        }
        let word = |(key, value): (String, Value)| match value {
            Value::String(text) if key.len() <= longest && text.len() <= longest => Ok((key, text)),
            _ => {
                Err(Refused::invalid(name, format_args!("texts, {longest} bytes at most, by name")))
            }
        };
        fields.into_iter().map(word).collect()
    }

    /// True or false, where it is there.
    pub(crate) fn choice(&self, name: &'static str) -> Result<Option<bool>, Refused> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.flag(name).map(Some),
        }
    }

    /// True or false; false when it is not there.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Refused> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Refused::invalid(name, "not true or false")),
        }
    }
}

impl Fields {
    /// A number of seconds, whole or not.
    pub(crate) fn seconds(&self, name: &'static str) -> Result<Option<Duration>, Refused> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number,
            Some(_) => return Err(Refused::invalid(name, "not a number of seconds")),
        };
        let time = match number.as_u64() {
            Some(whole) => Some(Duration::from_secs(whole)),
            None => number.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok()),
        };
        time.map(Some).ok_or_else(|| Refused::invalid(name, "not a number of seconds"))
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let is_json = request.headers().get(CONTENT_TYPE).map(|kind| {
            let kind = kind.to_str().unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
        });
        let body =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
                BytesRejection::FailedToBufferBody(error)
                    if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE =>
                {
                    Refused::TooLarge
                }
                _ => Refused::Malformed("the body cannot be read".to_owned()),
            })?;
        match is_json {
            _ if body.is_empty() => Ok(Self::default()),
            Some(true) => serde_json::from_slice(&body).map(Self).map_err(|error| {
                Refused::Malformed(format!("the body is not a JSON object: {error}"))
            }),
            _ => Err(Refused::MediaType),
        }
    }
}

/// The session that a path names: an id, or an ending of one.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(typed)| Self(typed))
            .map_err(|_| Refused::NotFound("there is no such session".to_owned()))
    }
}

/// What else a path names, as it was typed. What is no text names nothing.
#[derive(Debug)]
pub(crate) struct Typed<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Typed<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(typed)| Self(typed))
            .map_err(|_| Refused::NotFound("there is no such path".to_owned()))
    }
}

/// The fields of a query string; of one that is there twice, the last.
#[derive(Debug, Default)]
pub(crate) struct Asked(Vec<(String, String)>);

impl Asked {
    /// A field, where it is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let last = self.0.iter().rev().find(|(key, _)| key == name);
        last.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A field read as what it is to be.
    pub(crate) fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Refused>
    where
        T::Err: std::fmt::Display,
    {
        let parsed = self.get(name).map(str::parse).transpose();
        // What a parser of numbers says tells nobody what to write.
        parsed.map_err(|error: T::Err| match name {
            "cursor" => Refused::invalid(name, "not next_cursor of a page"),
            "channel" | "from" | "limit" => {
                Refused::invalid(name, "not a whole number, or one too large")
            }
            _ => Refused::invalid(name, error),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let malformed = || Refused::Malformed("the query string cannot be read".to_owned());
        let Query(fields) =
            Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| malformed())?;
        if fields.len() > MOST_FIELDS { Err(malformed()) } else { Ok(Self(fields)) }
    }
}

/// The fields of a body, in tests.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) async fn fields(kind: Option<&str>, body: &str) -> Result<Fields, Refused> {
    let mut request = Request::builder();
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    Fields::from_request(request.body(body.to_owned().into()).unwrap(), &()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_a_json_object_or_nothing() {
        let json = Some("application/json; charset=utf-8");
        assert!(fields(None, "").await.is_ok());
        assert!(matches!(fields(None, "{}").await, Err(Refused::MediaType)));
        assert!(matches!(fields(Some("text/plain"), "{}").await, Err(Refused::MediaType)));
        assert!(matches!(fields(json, "[1]").await, Err(Refused::Malformed(_))));
        assert!(matches!(fields(json, "{").await, Err(Refused::Malformed(_))));
        let read = fields(json, r#"{"reason": "late", "all": true, "user": 7}"#).await.unwrap();
        assert_eq!(read.text("reason").unwrap(), Some("late"));
        assert_eq!(read.text("none").unwrap(), None);
        assert!(read.flag("all").unwrap());
        assert!(matches!(read.text("user"), Err(Refused::Invalid { field: "user", .. })));
        assert!(matches!(read.only(&["reason", "all"]), Err(Refused::Malformed(_))));
        let times = r#"{"a": 90, "b": 0.5, "c": -1, "d": "1h", "e": 1e300, "f": null}"#;
        let times = fields(json, times).await.unwrap();
        assert_eq!(times.seconds("a").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(times.seconds("b").unwrap(), Some(Duration::from_millis(500)));
        assert_eq!((times.seconds("f").unwrap(), times.seconds("g").unwrap()), (None, None));
        for bad in ["c", "d", "e"] {
            assert!(matches!(times.seconds(bad), Err(Refused::Invalid { .. })), "{bad}");
        }
    }

    async fn asked(query: &str) -> Result<Asked, Refused> {
        let uri = format!("http://localhost/api/sessions?{query}");
        let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
        Asked::from_request_parts(&mut parts, &()).await
    }

    #[tokio::test]
    async fn of_a_field_that_is_there_twice_the_last_counts() {
        let fields = asked("q=a%20b&q=c&user=&limit=7&cursor=x").await.unwrap();
        assert_eq!(fields.get("q"), Some("c"));
        assert_eq!(fields.get("user"), None, "empty is as if it were not there");
        assert_eq!(fields.parsed::<u32>("limit").unwrap(), Some(7));
        let cursor = fields.parsed::<sojourn_core::ids::SessionId>("cursor");
        assert!(matches!(cursor, Err(Refused::Invalid { field: "cursor", .. })));
        assert!(asked(&"a=1&".repeat(33)).await.is_err());
    }
}
