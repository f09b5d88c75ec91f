//! A positive number as people write it: 60, or "24000/1001", which no decimal number is.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// The largest number above or below the line.
const MAX: u32 = 999_999;
const PATTERN: &str = "^[1-9][0-9]{0,5}(/[1-9][0-9]{0,5})?$";

/// `numerator / denominator`, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// Above the line.
    pub numerator: u32,
    /// Below the line.
    pub denominator: u32,
}

impl Fraction {
    /// Neither may be 0.
    #[must_use]
    pub fn new(numerator: u32, denominator: u32) -> Option<Fraction> {
        (numerator > 0 && denominator > 0).then_some(Fraction {
            numerator,
            denominator,
        })
    }

    /// Reads `60` and `24000/1001`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Fraction> {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            let number: u32 = text.parse().ok()?;
            (is_plain && number <= MAX).then_some(number)
        };
        Fraction::new(number(numerator)?, number(denominator)?)
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(out, "{}", self.numerator),
            denominator => write!(out, "{}/{denominator}", self.numerator),
        }
    }
}

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.denominator {
            1 => serializer.serialize_u32(self.numerator),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match &value {
            Value::String(text) => Fraction::parse(text),
            Value::Number(number) => Fraction::parse(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        read.ok_or_else(|| {
            de::Error::custom(format!(
                "{value} is no fraction; write a whole number such as 60, or a text such as \"24000/1001\""
            ))
        })
    }
}

impl JsonSchema for Fraction {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Fraction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": MAX,
            "maxLength": 13,
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fraction_is_read_exactly_and_written_as_it_was() {
        for (value, numerator, denominator) in [
            (json!(60), 60, 1),
            (json!("24000/1001"), 24_000, 1001),
            (json!("5/2"), 5, 2),
            (json!("50/25"), 50, 25),
        ] {
            let read: Fraction = serde_json::from_value(value.clone()).expect("a fraction");
            assert_eq!(Some(read), Fraction::new(numerator, denominator));
            assert_eq!(serde_json::to_value(read).expect("JSON"), value);
        }
        let text: Fraction = serde_json::from_value(json!("60")).expect("a fraction");
        assert_eq!(Some(text), Fraction::new(60, 1));
    }

    #[test]
    fn what_is_no_fraction_is_refused_with_one_that_is() {
        let pattern = regex::Regex::new(PATTERN).expect("a pattern");
        for value in [
            json!(0),
            json!(23.976),
            json!("23.976"),
            json!("1/0"),
            json!("-1"),
            json!("+1"),
            json!("1 / 2"),
            json!("1000000"),
            json!(""),
            json!(true),
        ] {
            let refused = serde_json::from_value::<Fraction>(value.clone()).expect_err("refused");
            assert!(refused.to_string().contains("24000/1001"), "{refused}");
            if let Value::String(text) = &value {
                assert!(!pattern.is_match(text), "{text}");
            }
        }
    }
}
