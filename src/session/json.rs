//! Forms of a JSON text in which two tries of one request are alike, and two requests are not.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

/// What a text comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Names in the order of their bytes, no white space, values as they are read.
    Canonical(Vec<u8>),
    /// An object has a name twice: two readers may take two values.
    Twice,
    /// No JSON, or with a number that is not read exactly: it stands for its own bytes only.
    Opaque,
}

/// The canonical form.
pub(super) fn canonical(text: &[u8]) -> Form {
    let fault = Cell::new(None);
    match read(text, Walk { values: true, fault: &fault }) {
        Some(form) if fault.get().is_none() => Form::Canonical(form),
        _ if fault.get() == Some(Fault::Twice) => Form::Twice,
        _ => Form::Opaque,
    }
}

/// The names and the nesting, with the kinds of values in place of the values. `None`: no JSON, or
/// an object has a name twice.
pub(super) fn shape(text: &[u8]) -> Option<Vec<u8>> {
    let fault = Cell::new(None);
    let shape = read(text, Walk { values: false, fault: &fault })?;
    (fault.get() != Some(Fault::Twice)).then_some(shape)
}

fn read(text: &[u8], walk: Walk<'_>) -> Option<Vec<u8>> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let form = walk.deserialize(&mut from).ok()?;
    from.end().ok()?;
    Some(form)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Twice,
    Inexact,
}

#[derive(Clone, Copy)]
struct Walk<'f> {
    values: bool,
    fault: &'f Cell<Option<Fault>>,
}

impl Walk<'_> {
    /// One value: its kind, and its bytes where they count.
    fn value(self, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut form = vec![kind];
        if self.values {
            sized(bytes, &mut form);
        }
        form
    }
}

/// A length before the bytes, so that no text can look like nesting.
fn sized(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend((bytes.len() as u64).to_le_bytes());
    to.extend_from_slice(bytes);
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a name twice in one object")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Vec<u8>, E> {
        Ok(self.value(b'b', &[u8::from(value)]))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Vec<u8>, E> {
        Ok(self.value(b'n', value.to_string().as_bytes()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Vec<u8>, E> {
        Ok(self.value(b'n', value.to_string().as_bytes()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Vec<u8>, E> {
        // An integer that is longer than 64 bits comes as the nearest float.
        if self.values && value.abs() >= EXACT_MAX && self.fault.get().is_none() {
            self.fault.set(Some(Fault::Inexact));
        }
        Ok(self.value(b'n', &[b"f", &value.to_bits().to_le_bytes()[..]].concat()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Vec<u8>, E> {
        Ok(self.value(b's', value.as_bytes()))
    }

    fn visit_unit<E>(self) -> Result<Vec<u8>, E> {
        Ok(self.value(b'0', b""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut form = b"[".to_vec();
        while let Some(one) = list.next_element_seed(self)? {
            form.extend(one);
        }
        form.push(b']');
        Ok(form)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<u8>, A::Error> {
        let mut all = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let one = map.next_value_seed(self)?;
            if all.insert(name, one).is_some() {
                self.fault.set(Some(Fault::Twice));
                return Err(Error::custom("a name twice"));
            }
        }
        let mut form = b"{".to_vec();
        for (name, one) in all {
            sized(name.as_bytes(), &mut form);
            form.extend(one);
        }
        form.push(b'}');
        Ok(form)
    }
}

/// Below it a float is no integer that lost digits: 2^63.
const EXACT_MAX: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_names_and_kinds_and_no_values() {
        let shape = |text: &str| shape(text.as_bytes());
        let one = shape(r#"{"a": 1, "b": [true, "x"], "c": {"d": null}}"#);
        assert!(one.is_some());
        assert_eq!(one, shape(r#"{"c":{"d":null},"b":[false,"other"],"a":2.5}"#));
        for other in [
            r#"{"a": "1", "b": [true, "x"], "c": {"d": null}}"#,
            r#"{"a": 1, "b": [true, "x", "y"], "c": {"d": null}}"#,
            r#"{"a": 1, "b": [true, "x"], "c": {"e": null}}"#,
            r#"{"a": 1, "b": [true, "x"], "c": {"d": null}, "f": 1}"#,
        ] {
            let other = shape(other);
            assert!(other.is_some() && other != one);
        }
        for bad in
            ["", "{", r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#, "1 2", "\"\u{1}\""]
        {
            assert_eq!(shape(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_canonical_form_is_that_of_the_same_values_and_of_no_other() {
        let form = |text: &str| canonical(text.as_bytes());
        let one = form(r#"{"a": 1, "b": [true, "x\u00e9", -7, 0.5], "c": {"d": null}}"#);
        assert!(matches!(one, Form::Canonical(_)));
        let other = "{ \"c\":{\"d\":null},\n\"b\":[true,\"x\u{e9}\",-7,5e-1],\"a\":1 }";
        assert_eq!(one, form(other));
        for other in [
            r#"{"a": 2, "b": [true, "x\u00e9", -7, 0.5], "c": {"d": null}}"#,
            r#"{"a": 1, "b": ["x\u00e9", true, -7, 0.5], "c": {"d": null}}"#,
            r#"{"a": 1, "b": [true, "x\u00e9", -7, 0.5], "c": {"d": false}}"#,
            r#"{"a": "1", "b": [true, "x\u00e9", -7, 0.5], "c": {"d": null}}"#,
            r#"{"a": 1, "b": [true, "x\u00e9", -7, 0.5], "c": {}}"#,
        ] {
            let other = form(other);
            assert!(matches!(other, Form::Canonical(_)) && other != one);
        }
        assert_ne!(form("18446744073709551615"), form("18446744073709551614"));
        for twice in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            assert_eq!(form(twice), Form::Twice);
        }
        for opaque in ["", "{", "1 2", "18446744073709551616", "-1e19", "\u{feff}1", "[1,]"] {
            assert_eq!(form(opaque), Form::Opaque, "{opaque}");
        }
    }
}
