//! The functions of the targets that need nothing but what their crates show.

pub mod config;
pub mod files;
pub mod inside;
pub mod records;
pub mod wire;

/// The JSON of something, without what a reader of numbers may round.
fn steady(value: &impl serde::Serialize) -> serde_json::Value {
    fn round(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Number(number) if number.is_f64() => {
                *value = serde_json::Value::Null
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(round),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(round),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(value).expect("what was read is JSON");
    round(&mut value);
    value
}
