//! Network Activity and DNS Activity.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::fields::{Fields, Row, Same, Tree, millis, place};
use crate::event::{Event, Kind, names::Dns, net};

/// Connects, sends, sockets, what was said first, and questions to resolvers.
pub(super) fn place_network(event: &Event, from: &mut Fields, to: &mut Tree) {
    // Who listens is the one that will answer.
    let own = if event.kind == Kind::NetListen { "dst_endpoint.hostname" } else { "src_endpoint.hostname" };
    to.put(own, &*event.host);
    let mut peer = None;
    if let Some(network) = &event.network {
        peer = network.address;
        // A vsock port may be larger than the schema lets a port be: it stays where it is then.
        let port = network.port.filter(|port| *port <= u16::MAX.into());
        if port.is_some() {
            place(&[("network.port", "dst_endpoint.port", Same)], from, to);
        }
        place(NETWORK, from, to);
    }
    if event.spoken.is_some() {
        place(SPOKEN, from, to);
    }
    if let Some(unix) = &event.unix {
        to.put("dst_endpoint.hostname", &*event.host);
        if !unix.path.is_empty() {
            place(&[("unix.path", "dst_endpoint.name", Same)], from, to);
        }
    }
    if let Some(dns) = &event.dns {
        peer = dns.resolver;
        if peer.is_some() {
            to.put("dst_endpoint.port", 53);
        }
        place_dns(event, dns, from, to);
    }
    connection(event, peer, to);
}

const NETWORK: &[Row] = &[
    ("network.address", "dst_endpoint.ip", Same),
    ("network.name", "dst_endpoint.hostname", Same),
    ("network.protocol", "connection_info.protocol_name", Same),
    ("network.socket", "connection_info.uid", Same),
];

/// The server name has no place: the object `tls` wants the version that was agreed on, which a ClientHello does not say.
const SPOKEN: &[Row] =
    &[("spoken.source_address", "src_endpoint.ip", Same), ("spoken.source_port", "src_endpoint.port", Same)];

const DNS: &[Row] = &[
    ("dns.resolver", "dst_endpoint.ip", Same),
    ("dns.protocol", "connection_info.protocol_name", Same),
    ("dns.socket", "connection_info.uid", Same),
];

fn connection(event: &Event, peer: Option<IpAddr>, to: &mut Tree) {
    // A connect to the unspecified address reaches this host too.
    let here = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    let local = event.unix.is_some() || peer.is_some_and(here);
    let (direction, caption) = match event.kind {
        // Nothing has come yet, from wherever.
        Kind::NetListen => (0, "Unknown"),
        _ if local => (4, "Local"),
        _ => (2, "Outbound"),
    };
    to.put("connection_info.direction_id", direction);
    to.put("connection_info.direction", caption);
    if direction == 4 {
        to.put("connection_info.boundary_id", 1);
        to.put("connection_info.boundary", "Localhost");
    }
    if let Some(address) = peer {
        let (version, caption) = match address {
            IpAddr::V4(_) => (4, "Internet Protocol version 4 (IPv4)"),
            IpAddr::V6(_) => (6, "Internet Protocol version 6 (IPv6)"),
        };
        to.put("connection_info.protocol_ver_id", version);
        to.put("connection_info.protocol_ver", caption);
    }
    let number =
        to.get("connection_info.protocol_name").and_then(Value::as_str).and_then(net::protocol_number);
    // Beyond that there are numbers of Linux's own, such as MPTCP's.
    to.put_some("connection_info.protocol_num", number.filter(|number| *number <= u8::MAX.into()));
}

fn place_dns(event: &Event, dns: &Dns, from: &mut Fields, to: &mut Tree) {
    place(DNS, from, to);
    // A query has a name or is none; the id of an answer stands with each address.
    if !dns.name.is_empty() {
        place(&[("dns.name", "query.hostname", Same), ("dns.type", "query.type", Same)], from, to);
        place(&[("dns.id", "query.packet_uid", Same)], from, to);
    }
    to.put(if event.kind == Kind::DnsAnswer { "response_time" } else { "query_time" }, millis(event.time));
    if let Some(code) = &dns.code {
        let (id, caption) = CODES
            .iter()
            .find(|(name, ..)| *name == &**code)
            .map_or((OTHER, &**code), |(_, id, caption)| (*id, *caption));
        to.put("rcode_id", id);
        to.put("rcode", caption);
        from.take("dns.code");
    }
    let answers: Vec<Value> = dns
        .answers
        .iter()
        .map(|answer| {
            let kind = if answer.address.is_ipv4() { "A" } else { "AAAA" };
            json!({ "rdata": answer.address, "ttl": answer.ttl_s, "type": kind, "packet_uid": dns.id })
        })
        .collect();
    if !answers.is_empty() {
        to.put("answers", answers);
        from.take("dns.answers");
    }
}

const OTHER: u8 = 99;

/// Response codes: their names in events, in OCSF, and their numbers.
const CODES: &[(&str, u8, &str)] = &[
    ("NOERROR", 0, "NoError"),
    ("FORMERR", 1, "FormError"),
    ("SERVFAIL", 2, "ServError"),
    ("NXDOMAIN", 3, "NXDomain"),
    ("NOTIMP", 4, "NotImp"),
    ("REFUSED", 5, "Refused"),
];
