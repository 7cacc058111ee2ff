//! The same as serde_json writes.

use std::collections::BTreeMap;

use super::*;

fn same(value: &impl Serialize) {
    let mut out = Vec::new();
    write(value, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(value).unwrap());
}

#[test]
fn every_string_is_escaped_as_serde_json_does() {
    for code in 0..0x250_u32 {
        for length in 0..18 {
            let Some(c) = char::from_u32(code) else { continue };
            same(&format!("{}{c}{}", "x".repeat(length), "é".repeat(17 - length)));
        }
    }
    same(&"\u{2028}\u{10ffff}\u{7f}");
}

#[test]
fn numbers_lists_and_maps_are_the_same_too() {
    for number in [0, 7, 10, 99, 100, u64::from(u32::MAX), u64::MAX] {
        same(&number);
    }
    same(&vec![Some("a"), None]);
    same(&BTreeMap::from([("a\"b", vec![true, false]), ("", vec![])]));
    same(&"2001:db8::1".parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn what_events_do_not_hold_is_an_error_and_not_wrong_json() {
    let mut out = Vec::new();
    assert!(write(&BTreeMap::from([(1, 2)]), &mut out).is_err());
    assert!(write(&1.5, &mut out).is_err() && write(&-1, &mut out).is_err());
}
