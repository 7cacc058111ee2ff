//! All families beside IP and unix: vsock, netlink, and what modules bring.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    ptr,
};

use crate::act::{
    ctx::{Ctx, Dest, NETLINK_GROUP},
    sys::{self, Addr, Message, Outcome, Refused, Sent, cmsg},
    ways::{
        Family::{Netlink, Other, Vsock},
        Seen, Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("vsock-stream", Vsock, Dest::Vsock, |ctx| connected(ctx, libc::AF_VSOCK, libc::SOCK_STREAM))
        .module("vsock_loopback"),
    way("vsock-seqpacket", Vsock, Dest::VsockSeqpacket, |ctx| {
        connected(ctx, libc::AF_VSOCK, libc::SOCK_SEQPACKET)
    })
    .module("vsock_loopback"),
    way("vsock-dgram", Vsock, Dest::Vsock, |ctx| unconnected(ctx, libc::AF_VSOCK, libc::SOCK_DGRAM))
        .module("vsock_vmci_transport"),
    way("netlink-kernel", Netlink, Dest::Kernel, netlink_kernel).seen(Seen::Nothing),
    way("netlink-unicast", Netlink, Dest::Netlink, netlink_unicast),
    way("netlink-connected", Netlink, Dest::Netlink, netlink_connected),
    way("netlink-multicast", Netlink, Dest::Netlink, netlink_multicast),
    way("smc4", Other, Dest::V4, |ctx| connected(ctx, AF_SMC, libc::SOCK_STREAM)).module("smc"),
    way("smc4-inet", Other, Dest::V4, smc_inet).module("smc").kernel(6, 11),
    way("rds4", Other, Dest::V4, rds).module("rds_tcp"),
    way("rxrpc4", Other, Dest::V4, rxrpc).module("rxrpc"),
    way("tipc", Other, Dest::Nothing, tipc).module("tipc"),
    way("alg", Other, Dest::Nothing, alg).module("af_alg").seen(Seen::Nothing),
    way("can", Other, Dest::Nothing, can).module("vcan").seen(Seen::Packet),
    way("qrtr", Other, Dest::Nothing, qrtr).module("qrtr").seen(Seen::Nothing),
];

/// Families of which only the door is tried: a socket is made, or not.
pub const OPENS: &[Way] = &[
    opens("open-ax25", |_| open(3, libc::SOCK_SEQPACKET, 0)),
    opens("open-ipx", |_| open(4, libc::SOCK_DGRAM, 0)),
    opens("open-appletalk", |_| open(5, libc::SOCK_DGRAM, 0)).module("appletalk"),
    opens("open-x25", |_| open(9, libc::SOCK_SEQPACKET, 0)).module("x25"),
    opens("open-key", |_| open(15, libc::SOCK_RAW, 2)).module("af_key").root(),
    opens("open-pppox", |_| open(libc::AF_PPPOX, libc::SOCK_STREAM, 0)).module("pppoe"),
    opens("open-llc", |_| open(26, libc::SOCK_DGRAM, 0)).module("llc2"),
    opens("open-ib", |_| open(27, libc::SOCK_SEQPACKET, 0)),
    opens("open-bluetooth-l2cap", |_| open(31, libc::SOCK_SEQPACKET, 0)).module("bluetooth"),
    opens("open-bluetooth-hci", |_| open(31, libc::SOCK_RAW, 1)).module("bluetooth"),
    opens("open-bluetooth-rfcomm", |_| open(31, libc::SOCK_STREAM, 3)).module("rfcomm"),
    opens("open-isdn", |_| open(34, libc::SOCK_DGRAM, 0)).module("mISDN_core"),
    opens("open-phonet", |_| open(35, libc::SOCK_DGRAM, 0)).module("phonet"),
    opens("open-ieee802154", |_| open(36, libc::SOCK_DGRAM, 0)).module("ieee802154_socket"),
    opens("open-caif", |_| open(37, libc::SOCK_SEQPACKET, 0)).module("caif_socket"),
    opens("open-nfc", |_| open(39, libc::SOCK_SEQPACKET, 0)).module("nfc"),
    opens("open-kcm", |_| open(41, libc::SOCK_DGRAM, 0)).module("kcm"),
    opens("open-mctp", |_| open(45, libc::SOCK_DGRAM, 0)),
    opens("open-netlink-generic", |_| open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC)),
    opens("open-netlink-audit", |_| open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)),
];

const fn opens(name: &'static str, run: fn(&Ctx) -> Outcome) -> Way {
    way(name, Other, Dest::Nothing, run).seen(Seen::Nothing)
}

fn open(family: i32, kind: i32, protocol: i32) -> Outcome {
    sys::socket(family, kind, protocol).map(|_| Sent { bytes: 0 })
}

fn connected(ctx: &Ctx, family: i32, kind: i32) -> Outcome {
    let fd = sys::socket(family, kind, 0)?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::write(&fd, &ctx.payload())
}

fn unconnected(ctx: &Ctx, family: i32, kind: i32) -> Outcome {
    sys::sendto(&sys::socket(family, kind, 0)?, &ctx.payload(), 0, Some(&ctx.addr()?))
}

/// SMC as a protocol of AF_INET.
fn smc_inet(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SMC)?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::write(&fd, &ctx.payload())
}

/// A dump of the host's links, asked of the kernel.
fn netlink_kernel(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let request = netlink_message(libc::RTM_GETLINK, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, &[0; 16]);
    sys::sendto(&fd, &request, 0, Some(&ctx.addr()?))
}

pub fn netlink_message(kind: u16, flags: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(0);
    let flags = u16::try_from(flags).unwrap_or(0);
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[1, 0, 0, 0], &[0; 4], body]
        .concat()
}

fn usersock() -> Result<OwnedFd, Refused> {
    sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_USERSOCK)
}

/// From process to process: the kernel only carries it.
fn netlink_unicast(ctx: &Ctx) -> Outcome {
    sys::sendto(&usersock()?, &ctx.payload(), 0, Some(&ctx.addr()?))
}

fn netlink_connected(ctx: &Ctx) -> Outcome {
    let fd = usersock()?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::write(&fd, &ctx.payload())
}

fn netlink_multicast(ctx: &Ctx) -> Outcome {
    let payload = ctx.payload();
    match sys::sendto(&usersock()?, &payload, 0, Some(&Addr::netlink(0, NETLINK_GROUP))) {
        // The group has it; the refusal is of the copy for the kernel, which has no socket of this protocol.
        Err(refused) if refused.errno == libc::ECONNREFUSED => Ok(Sent { bytes: payload.len() }),
        outcome => outcome,
    }
}

/// Reliable datagrams: over TCP that the kernel makes, or straight to a socket of this host.
fn rds(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(AF_RDS, libc::SOCK_SEQPACKET, 0)?;
    sys::bind(&fd, &Addr::v4(std::net::SocketAddrV4::new(*ctx.v4()?.ip(), 0)))?;
    let sent = sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))?;
    // The connection below is made by and by, and closing takes along what waits for it.
    drop(sys::wait_for(&fd, libc::POLLPRI, CALL_MS));
    Ok(sent)
}

/// A remote procedure call: the UDP socket below it is the kernel's.
fn rxrpc(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(AF_RXRPC, libc::SOCK_DGRAM, libc::AF_INET)?;
    let inner = ctx.addr()?;
    let service = 1_u16.to_ne_bytes();
    let transport = [2_u16.to_ne_bytes(), 16_u16.to_ne_bytes()].concat();
    let to = Addr::raw(AF_RXRPC, &[&service[..], &transport, inner.bytes(), &[0; 12]].concat());
    let control = cmsg(SOL_RXRPC, RXRPC_USER_CALL_ID, &1_u64.to_ne_bytes());
    let sent = Message { to: Some(&to), bytes: &ctx.payload(), control: &control, flags: 0 }.send(&fd)?;
    // Closing ends the call, and with it packets that still wait.
    drop(sys::wait_for(&fd, libc::POLLIN, CALL_MS));
    Ok(sent)
}

/// A datagram to a service of this node, by its name.
fn tipc(ctx: &Ctx) -> Outcome {
    sys::sendto(
        &sys::socket(AF_TIPC, libc::SOCK_RDM, 0)?,
        &ctx.payload(),
        0,
        Some(&tipc_service(ctx.site.port)),
    )
}

pub fn tipc_service(port: u16) -> Addr {
    let kind = (TIPC_SERVICE_BASE + u32::from(port)).to_ne_bytes();
    Addr::raw(
        AF_TIPC,
        &[&[TIPC_SERVICE_ADDR, TIPC_NODE_SCOPE][..], &kind, &1_u32.to_ne_bytes(), &[0; 4]].concat(),
    )
}

/// Bytes to the kernel's own hash.
fn alg(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)?;
    let mut rest = [0; 86];
    rest[..4].copy_from_slice(b"hash");
    rest[22..28].copy_from_slice(b"sha256");
    sys::bind(&fd, &Addr::raw(libc::AF_ALG, &rest))?;
    // SAFETY: no address is asked for.
    let operation = unsafe { libc::accept(fd.as_raw_fd(), ptr::null_mut(), ptr::null_mut()) };
    sys::write(&sys::own("accept", operation)?, &ctx.payload())
}

/// One frame on a virtual bus, which the guest must have made (`ip link add vcan0 type vcan`).
fn can(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_CAN, libc::SOCK_RAW, 1)?;
    let bus = sys::ifindex("vcan0")?;
    sys::bind(&fd, &Addr::raw(libc::AF_CAN, &[&[0, 0][..], &bus.to_ne_bytes(), &[0; 16]].concat()))?;
    let mut frame = [0; 16];
    frame[..4].copy_from_slice(&0x123_u32.to_ne_bytes());
    frame[4] = 8;
    for (byte, token) in frame[8..].iter_mut().zip(ctx.token.bytes()) {
        *byte = token;
    }
    sys::write(&fd, &frame)
}

/// To the control port of this node.
fn qrtr(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(AF_QIPCRTR, libc::SOCK_DGRAM, 0)?;
    let rest = [&[0, 0][..], &QRTR_NODE_LOCAL.to_ne_bytes(), &QRTR_PORT_CTRL.to_ne_bytes()].concat();
    let packet = [&[0; 20][..], &ctx.payload()].concat();
    sys::sendto(&fd, &packet, 0, Some(&Addr::raw(AF_QIPCRTR, &rest)))
}

pub const AF_RDS: i32 = 21;
pub const AF_TIPC: i32 = 30;
const AF_RXRPC: i32 = 33;
const AF_QIPCRTR: i32 = 42;
const IPPROTO_SMC: i32 = 256;
const AF_SMC: i32 = 43;
const SOL_RXRPC: i32 = 272;
const RXRPC_USER_CALL_ID: i32 = 1;
const CALL_MS: i32 = 300;
const TIPC_SERVICE_ADDR: u8 = 2;
const TIPC_NODE_SCOPE: u8 = 3;
/// Below 64 the numbers are TIPC's own.
const TIPC_SERVICE_BASE: u32 = 0x1_0000;
const QRTR_NODE_LOCAL: u32 = 1;
const QRTR_PORT_CTRL: u32 = 0xffff_fffe;
