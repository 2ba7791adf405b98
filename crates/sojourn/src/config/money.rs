//! An amount of money, as a configuration has it.

use serde_json::Value as Json;
use serde_json::json;

use super::node::Node;
use super::report::Report;
use super::value::Value;

/// The most that fits, far beyond any bill and exact as a double.
const MOST: f64 = 1e9;

/// In millionths of whatever an agent counts in; zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Money(pub(crate) u64);

impl Money {
    /// The amount, or none when it is zero.
    pub(crate) fn limit(self) -> Option<u64> {
        (self.0 != 0).then_some(self.0)
    }
}

impl Value for Money {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let amount = f64::read(node, report)?;
        if !(0.0..=MOST).contains(&amount) {
            report.problem(node, format_args!("{amount} is not from 0 to {MOST}"));
            return None;
        }
        // Within what was looked at, and so exact.
        Some(Self((amount * 1e6).round() as u64))
    }

    fn write(&self) -> Option<toml::Value> {
        (self.0 as f64 / 1e6).write()
    }

    fn schema() -> Json {
        json!({"type": "number", "minimum": 0, "maximum": MOST})
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    #[test]
    fn an_amount_is_exact_to_a_millionth() {
        let text = "[limits]\nmax_cost = 12.5\n[profiles.dear]\nmax_cost = 0.000001\n";
        let (config, _) = read("s.toml", text, &[]).unwrap_or_else(|e| panic!("{}", e.join("\n")));
        assert_eq!(config.limits.max_cost.limit(), Some(12_500_000));
        let (_, dear) = config.profiles.usable().find(|(name, _)| *name == "dear").unwrap();
        assert_eq!(config.limits_for(dear).max_cost, Some(1));
        for text in ["[limits]\nmax_cost = -1", "[limits]\nmax_cost = \"much\""] {
            let told = read("s.toml", text, &[]).unwrap_err();
            assert!(told.len() == 1 && told[0].contains("limits.max_cost"), "{told:?}");
        }
    }
}
