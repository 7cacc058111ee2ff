//! Prints a benchmark's object for people: single values first, then each list of records as a table.

use std::fmt::Write as _;

use serde_json::Value;

pub fn render(whole: &Value) -> String {
    let mut text = String::new();
    let mut singles = Vec::new();
    flatten("", whole, &mut singles);
    let width = singles.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in singles {
        let _ = writeln!(text, "{name:<width$}  {value}");
    }
    for (name, records) in records(whole) {
        let _ = writeln!(text, "\n{name}");
        text += &grid(records);
    }
    text
}

/// Everything that is not a list of records, by its path.
fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {}
        Value::Array(items) => {
            into.push((path.into(), items.iter().map(cell).collect::<Vec<_>>().join(", ")))
        }
        _ => into.push((path.into(), cell(value))),
    }
}

fn records(whole: &Value) -> Vec<(&str, &[Value])> {
    let fields = whole.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.as_str(), value.as_array()?.as_slice())))
        .filter(|(_, items)| items.iter().any(Value::is_object))
        .collect()
}

fn grid(records: &[Value]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for key in records.iter().filter_map(Value::as_object).flat_map(|record| record.keys()) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    let mut lines = vec![columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>()];
    lines.extend(records.iter().map(|record| columns.iter().map(|column| cell(&record[*column])).collect()));
    let width = |index: usize| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_before_tables() {
        let whole = json!({"cases": 2, "rows": [{"way": "tcp", "errno": null}, {"way": "raw6", "errno": 1}]});
        assert_eq!(render(&whole), "cases  2\n\nrows\nerrno  way\n-      tcp\n1      raw6\n");
    }
}
