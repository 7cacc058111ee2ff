//! All that the receiver listens on.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use super::Port;
use crate::act::{
    ctx::{MULTICAST_V4, MULTICAST_V6, NETLINK_GROUP, Site},
    family::{AF_RDS, AF_TIPC, tipc_service},
    sctp::{DCCP_SERVICE, DCCP_SOCKOPT_SERVICE, IPPROTO_DCCP, SOCK_DCCP, SOL_DCCP},
    sys::{self, Addr, Refused},
};

type Opened = Result<(OwnedFd, Port), Refused>;

pub(super) fn sockets(site: &Site) -> Vec<(&'static str, Opened)> {
    let port = site.port;
    let any4 = Addr::v4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    let any6 = Addr::v6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    let vsock = Addr::vsock(u32::MAX, port.into());
    let path = |kind: &str| Addr::unix_path(site.unix(kind).as_os_str().as_bytes());
    let named = |kind: &str| Addr::unix_abstract(site.abstract_name(kind).as_bytes());
    let (stream, packets) = (libc::SOCK_STREAM, libc::SOCK_SEQPACKET);
    let listener =
        |name, family, kind, protocol, at: &Addr| (name, listener(name, family, kind, protocol, at));
    let datagrams =
        |name, family, kind, protocol, at: &Addr| (name, datagrams(name, family, kind, protocol, at));
    let home = Addr::v4(site.v4());
    vec![
        listener("tcp4", libc::AF_INET, stream, 0, &any4),
        listener("tcp6", libc::AF_INET6, stream, 0, &any6),
        listener("sctp4", libc::AF_INET, stream, libc::IPPROTO_SCTP, &any4),
        listener("sctp6", libc::AF_INET6, stream, libc::IPPROTO_SCTP, &any6),
        listener("dccp4", libc::AF_INET, SOCK_DCCP, IPPROTO_DCCP, &any4),
        listener("dccp6", libc::AF_INET6, SOCK_DCCP, IPPROTO_DCCP, &any6),
        listener("vsock-stream", libc::AF_VSOCK, stream, 0, &vsock),
        listener(
            "vsock-seqpacket",
            libc::AF_VSOCK,
            packets,
            0,
            &Addr::vsock(u32::MAX, site.vsock_seqpacket_port()),
        ),
        listener("unix-stream", libc::AF_UNIX, stream, 0, &path("stream")),
        listener("unix-seqpacket", libc::AF_UNIX, packets, 0, &path("seqpacket")),
        listener("unix-abstract-stream", libc::AF_UNIX, stream, 0, &named("stream")),
        listener("unix-abstract-seqpacket", libc::AF_UNIX, packets, 0, &named("seqpacket")),
        datagrams("udp4", libc::AF_INET, libc::SOCK_DGRAM, 0, &any4),
        datagrams("udp6", libc::AF_INET6, libc::SOCK_DGRAM, 0, &any6),
        datagrams("udplite4", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, &any4),
        datagrams("udplite6", libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, &any6),
        datagrams("unix-dgram", libc::AF_UNIX, libc::SOCK_DGRAM, 0, &path("dgram")),
        datagrams("unix-abstract-dgram", libc::AF_UNIX, libc::SOCK_DGRAM, 0, &named("dgram")),
        datagrams(
            "netlink",
            libc::AF_NETLINK,
            libc::SOCK_RAW,
            libc::NETLINK_USERSOCK,
            &Addr::netlink(site.netlink_pid(), 0),
        ),
        datagrams("rds", AF_RDS, packets, 0, &home),
        datagrams("tipc", AF_TIPC, libc::SOCK_RDM, 0, &tipc_service(port)),
        ("lend", listener_at("lend", libc::AF_UNIX, stream, 0, &path("lend")).map(|fd| (fd, Port::Lender))),
    ]
}

fn listener(name: &'static str, family: i32, kind: i32, protocol: i32, at: &Addr) -> Opened {
    listener_at(name, family, kind, protocol, at).map(|fd| (fd, Port::Listener(name)))
}

fn listener_at(name: &str, family: i32, kind: i32, protocol: i32, at: &Addr) -> Result<OwnedFd, Refused> {
    let fd = sys::socket(family, kind | libc::SOCK_NONBLOCK, protocol)?;
    prepare(name, &fd)?;
    sys::bind(&fd, at)?;
    sys::listen(&fd)?;
    Ok(fd)
}

fn datagrams(name: &'static str, family: i32, kind: i32, protocol: i32, at: &Addr) -> Opened {
    let fd = sys::socket(family, kind | libc::SOCK_NONBLOCK, protocol)?;
    prepare(name, &fd)?;
    sys::bind(&fd, at)?;
    if name == "netlink" {
        // After the bind, which forgets groups. Only the privileged may hear one; without it unicast still comes.
        drop(sys::set_int(&fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, NETLINK_GROUP.cast_signed()));
    }
    Ok((fd, Port::Datagrams(name)))
}

/// What a socket needs before it can hear all that the ways say.
fn prepare(name: &str, fd: &OwnedFd) -> Result<(), Refused> {
    let loopback = sys::ifindex("lo")?.to_ne_bytes();
    if name.starts_with("tcp") {
        sys::set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        sys::set_int(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16)?;
    }
    if matches!(name, "tcp6" | "udp6" | "udplite6" | "sctp6" | "dccp6") {
        sys::set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    if name.starts_with("dccp") {
        sys::setsockopt(fd, SOL_DCCP, DCCP_SOCKOPT_SERVICE, &DCCP_SERVICE.to_be_bytes())?;
    }
    match name {
        "udp4" => {
            let group = [&MULTICAST_V4.octets()[..], &[0; 4], &loopback].concat();
            sys::setsockopt(fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group)
        }
        "udp6" => {
            let group = [&MULTICAST_V6.octets()[..], &loopback].concat();
            sys::setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &group)
        }
        _ => Ok(()),
    }
}
