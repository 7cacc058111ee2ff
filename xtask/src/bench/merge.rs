//! Makes one JSON object of the objects that several guests gave.

use serde_json::{Number, Value};

/// Lists are joined, counts are added, of two ratios the worse one stays: the whole is no better than its parts.
pub fn merge(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Null, other) | (other, Value::Null) => other,
        (Value::Array(mut left), Value::Array(right)) => {
            left.extend(right);
            Value::Array(left)
        }
        (Value::Object(mut left), Value::Object(right)) => {
            for (key, value) in right {
                let before = left.remove(&key).unwrap_or_default();
                left.insert(key, merge(before, value));
            }
            Value::Object(left)
        }
        (Value::Number(left), Value::Number(right)) => Value::Number(number(left, right)),
        (left, _) => left,
    }
}

fn number(left: Number, right: Number) -> Number {
    match (left.as_u64(), right.as_u64()) {
        (Some(left), Some(right)) => left.saturating_add(right).into(),
        _ if left.as_f64() <= right.as_f64() => left,
        _ => right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn guests_add_up() {
        let one = json!({"cases": 3, "by_origin": {"agent": {"recall": 1.0, "unknown": 0}}, "rows": [1]});
        let two = json!({"cases": 4, "by_origin": {"agent": {"recall": 0.5, "unknown": 2}}, "rows": [2, 3]});
        let whole =
            json!({"cases": 7, "by_origin": {"agent": {"recall": 0.5, "unknown": 2}}, "rows": [1, 2, 3]});
        assert_eq!(merge(merge(Value::Null, one), two), whole);
    }
}
