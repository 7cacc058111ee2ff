//! Moving fields of an event's own JSON to where a form has a place for them.

use serde_json::{Map, Value};

use crate::event::{Event, word::Time};

/// The event's own JSON: what is taken from it has found its place.
#[derive(Debug)]
pub(super) struct Fields(Value);

impl Fields {
    pub(super) fn of(event: &Event) -> Self {
        // The same types go through serde_json in every test of the JSON form.
        Self(serde_json::to_value(event).unwrap_or_default())
    }

    /// The field at a dotted path, if it is there; it is not there any more then, nor is what held nothing else.
    pub(super) fn take(&mut self, path: &str) -> Option<Value> {
        take(self.0.as_object_mut()?, path)
    }

    /// What has not been taken.
    pub(super) fn rest(self) -> Option<Value> {
        self.0.as_object().is_some_and(|fields| !fields.is_empty()).then_some(self.0)
    }
}

fn take(from: &mut Map<String, Value>, path: &str) -> Option<Value> {
    let Some((first, rest)) = path.split_once('.') else { return from.remove(path) };
    let inner = from.get_mut(first)?.as_object_mut()?;
    let value = take(inner, rest);
    if inner.is_empty() {
        from.remove(first);
    }
    value
}

/// What a form is put together in.
#[derive(Debug, Default)]
pub(super) struct Tree(Map<String, Value>);

impl Tree {
    /// Puts a value at a dotted path, over what was there.
    pub(super) fn put(&mut self, path: &str, value: impl Into<Value>) {
        let mut map = &mut self.0;
        let mut path = path;
        while let Some((first, rest)) = path.split_once('.') {
            let inner = map.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            let Value::Object(next) = inner else { return };
            (map, path) = (next, rest);
        }
        map.insert(path.to_owned(), value.into());
    }

    /// The same where there is a value.
    pub(super) fn put_some(&mut self, path: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        rest.split('.').filter(|part| !part.is_empty()).try_fold(self.0.get(first)?, |at, part| at.get(part))
    }

    pub(super) fn value(self) -> Value {
        Value::Object(self.0)
    }
}

/// A field of the event, its place in the form, and what becomes of the value.
pub(super) type Row = (&'static str, &'static str, As);

/// What becomes of a value on its way.
#[derive(Clone, Copy, Debug)]
pub(super) enum As {
    Same,
    /// A number as text: schemas keep ids as text.
    Text,
    /// A time in milliseconds since 1970.
    Millis,
}
pub(super) use As::{Millis, Same, Text};

/// Moves what the rows name, where the event has it.
pub(super) fn place(rows: &[Row], from: &mut Fields, to: &mut Tree) {
    for (field, at, how) in rows {
        if let Some(value) = from.take(field) {
            to.put(at, how.apply(value));
        }
    }
}

impl As {
    fn apply(self, value: Value) -> Value {
        match (self, &value) {
            (Text, Value::Number(number)) => number.to_string().into(),
            (Millis, Value::String(text)) => {
                text.parse::<Time>().map_or(Value::Null, |time| millis(time).into())
            }
            _ => value,
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(time: Time) -> u64 {
    time.0 / 1_000_000
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_so_is_what_held_nothing_else() {
        let mut fields = Fields(json!({ "a": { "b": { "c": 1 } }, "d": 2 }));
        assert_eq!(fields.take("a.b.x"), None);
        assert_eq!(fields.take("d.e"), None);
        let mut tree = Tree::default();
        place(&[("a.b.c", "x.y", Text), ("nothing", "z", Same)], &mut fields, &mut tree);
        assert_eq!(tree.get("x.y"), Some(&json!("1")));
        assert_eq!(tree.value(), json!({ "x": { "y": "1" } }));
        assert_eq!(fields.rest(), Some(json!({ "d": 2 })));
    }
}
