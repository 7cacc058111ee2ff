//! Tunnels: devices whose packets the kernel puts into others, to a destination that only netlink was told.

use std::{net::SocketAddrV4, os::fd::OwnedFd, process, thread, time::Duration};

use crate::act::{
    ctx::{Ctx, Dest},
    family::netlink_message,
    sys::{self, Outcome, Refused, Sent},
    ways::{Family::Netlink, Seen, Way, way},
};

pub const WAYS: &[Way] = &[
    way("tunnel-vxlan", Netlink, Dest::V4, vxlan).root().module("vxlan").seen(Seen::Maybe),
    way("tunnel-geneve", Netlink, Dest::V4, geneve).root().module("geneve").seen(Seen::Packet),
    way("tunnel-gre", Netlink, Dest::V4, gre).root().module("ip_gre").seen(Seen::Packet),
    way("tunnel-l2tp", Netlink, Dest::V4, l2tp).root().module("l2tp_eth").seen(Seen::Packet),
];

/// A device whose every packet leaves as UDP to the destination; coming up, it sends some of its own.
fn tunnel(kind: &str, data: &[Vec<u8>]) -> Outcome {
    let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let name = format!("chtu{}\0", process::id() % 100_000);
    let info =
        [attribute(IFLA_INFO_KIND, kind.as_bytes()), attribute(IFLA_INFO_DATA, &data.concat())].concat();
    let up = libc::IFF_UP.cast_unsigned().to_ne_bytes();
    // struct ifinfomsg: family, type, index, flags, change.
    let link = [&[0; 8][..], &up, &up].concat();
    let body = [link, attribute(IFLA_IFNAME, name.as_bytes()), attribute(IFLA_LINKINFO, &info)].concat();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    ask(&fd, kind, &netlink_message(libc::RTM_NEWLINK, flags, &body))?;
    thread::sleep(OWN_PACKETS);
    let body = [&[0; 16][..], &attribute(IFLA_IFNAME, name.as_bytes())].concat();
    ask(&fd, kind, &netlink_message(libc::RTM_DELLINK, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &body))?;
    Ok(Sent { bytes: 0 })
}

/// The device listens on the port too, and the receiver has the destination's own: so the next.
fn next_port(to: SocketAddrV4) -> [u8; 2] {
    to.port().wrapping_add(1).to_be_bytes()
}

fn vxlan(ctx: &Ctx) -> Outcome {
    let to = ctx.v4()?;
    let data = [
        attribute(IFLA_VXLAN_ID, &(process::id() & 0xff_ffff).to_ne_bytes()),
        attribute(IFLA_VXLAN_GROUP, &to.ip().octets()),
        attribute(IFLA_VXLAN_LINK, &sys::ifindex(&ctx.site.iface)?.to_ne_bytes()),
        attribute(IFLA_VXLAN_PORT, &next_port(to)),
        // Before 6.5 what goes to this host itself takes a way round the wire, and finds no device there.
        attribute(IFLA_VXLAN_LOCALBYPASS, &[0]),
    ];
    tunnel("vxlan", &data)
}

fn geneve(ctx: &Ctx) -> Outcome {
    let to = ctx.v4()?;
    let data = [
        attribute(IFLA_GENEVE_ID, &(process::id() & 0xff_ffff).to_ne_bytes()),
        attribute(IFLA_GENEVE_REMOTE, &to.ip().octets()),
        attribute(IFLA_GENEVE_PORT, &next_port(to)),
    ];
    tunnel("geneve", &data)
}

fn gre(ctx: &Ctx) -> Outcome {
    let to = ctx.v4()?.ip().octets();
    tunnel("gretap", &[attribute(IFLA_GRE_LOCAL, &to), attribute(IFLA_GRE_REMOTE, &to)])
}

fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + data.len()).unwrap_or(0);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends one request to the kernel and reads the errno of its answer.
fn ask(fd: &OwnedFd, step: &str, request: &[u8]) -> Result<(), Refused> {
    sys::write(fd, request)?;
    let mut answer = [0; 4096];
    sys::read(fd, &mut answer)?;
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        errno => Err(Refused::new(step, -errno)),
    }
}

/// An L2TP tunnel without a socket of ours: the kernel makes and connects one itself.
fn l2tp(ctx: &Ctx) -> Outcome {
    let to = ctx.v4()?;
    let generic = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC)?;
    let family = generic_family(&generic, b"l2tp\0")?;
    let id = process::id().to_ne_bytes();
    let name = format!("chtu{}\0", process::id() % 100_000);
    let tunnel = [
        attribute(L2TP_CONN_ID, &id),
        attribute(L2TP_PEER_CONN_ID, &id),
        attribute(L2TP_PROTO_VERSION, &[3]),
        attribute(L2TP_ENCAP_TYPE, &0_u16.to_ne_bytes()),
        attribute(L2TP_IP_SADDR, &to.ip().octets()),
        attribute(L2TP_IP_DADDR, &to.ip().octets()),
        attribute(L2TP_UDP_SPORT, &to.port().wrapping_add(2).to_ne_bytes()),
        attribute(L2TP_UDP_DPORT, &to.port().to_ne_bytes()),
    ];
    let session = [
        attribute(L2TP_CONN_ID, &id),
        attribute(L2TP_SESSION_ID, &id),
        attribute(L2TP_PEER_SESSION_ID, &id),
        attribute(L2TP_PW_TYPE, &L2TP_PW_ETHERNET.to_ne_bytes()),
        attribute(L2TP_IFNAME, name.as_bytes()),
    ];
    let command = |command: u8, attributes: &[u8]| {
        let body = [&[command, 1, 0, 0][..], attributes].concat();
        ask(&generic, "l2tp", &netlink_message(family, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &body))
    };
    command(L2TP_TUNNEL_CREATE, &tunnel.concat())?;
    command(L2TP_SESSION_CREATE, &session.concat())?;
    let route = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let up = libc::IFF_UP.cast_unsigned().to_ne_bytes();
    let body = [&[0; 8][..], &up, &up, &attribute(IFLA_IFNAME, name.as_bytes())].concat();
    ask(&route, "l2tp", &netlink_message(libc::RTM_NEWLINK, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &body))?;
    thread::sleep(OWN_PACKETS);
    command(L2TP_TUNNEL_DELETE, &tunnel[0])?;
    Ok(Sent { bytes: 0 })
}

/// The number that a generic netlink family has on this host.
fn generic_family(fd: &OwnedFd, name: &[u8]) -> Result<u16, Refused> {
    let body = [&[CTRL_GETFAMILY, 1, 0, 0][..], &attribute(CTRL_FAMILY_NAME, name)].concat();
    sys::write(fd, &netlink_message(GENL_ID_CTRL, libc::NLM_F_REQUEST, &body))?;
    let mut answer = [0; 4096];
    let got = sys::read(fd, &mut answer)?;
    let mut rest = answer.get(20..got).unwrap_or_default();
    while let [low, high, kind_low, kind_high, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        if let (CTRL_FAMILY_ID, Some([a, b])) = (u16::from_ne_bytes([kind_low, kind_high]), rest.get(4..6)) {
            return Ok(u16::from_ne_bytes([*a, *b]));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    Err(Refused::new("netlink family", libc::EOPNOTSUPP))
}

/// Duplicate address detection begins after up to a second.
const OWN_PACKETS: Duration = Duration::from_millis(1500);
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCALBYPASS: u16 = 31;
const IFLA_GENEVE_ID: u16 = 1;
const IFLA_GENEVE_REMOTE: u16 = 2;
const IFLA_GENEVE_PORT: u16 = 5;
const IFLA_GRE_LOCAL: u16 = 6;
const IFLA_GRE_REMOTE: u16 = 7;
const GENL_ID_CTRL: u16 = 16;
const CTRL_GETFAMILY: u8 = 3;
const CTRL_FAMILY_ID: u16 = 1;
const CTRL_FAMILY_NAME: u16 = 2;
const L2TP_TUNNEL_CREATE: u8 = 1;
const L2TP_TUNNEL_DELETE: u8 = 2;
const L2TP_SESSION_CREATE: u8 = 5;
const L2TP_PW_TYPE: u16 = 1;
const L2TP_ENCAP_TYPE: u16 = 2;
const L2TP_PROTO_VERSION: u16 = 7;
const L2TP_IFNAME: u16 = 8;
const L2TP_CONN_ID: u16 = 9;
const L2TP_PEER_CONN_ID: u16 = 10;
const L2TP_SESSION_ID: u16 = 11;
const L2TP_PEER_SESSION_ID: u16 = 12;
const L2TP_IP_SADDR: u16 = 24;
const L2TP_IP_DADDR: u16 = 25;
const L2TP_UDP_SPORT: u16 = 26;
const L2TP_UDP_DPORT: u16 = 27;
const L2TP_PW_ETHERNET: u16 = 5;
