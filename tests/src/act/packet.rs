//! Below IP: packet sockets and their rings, AF_XDP, tun and tap devices.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering, fence},
};

use crate::act::{
    ctx::{Ctx, Dest},
    frame::{self, ETHERTYPE_IPV4},
    raw::SOURCE_PORT,
    sys::{self, Addr, Outcome, Refused, Sent},
    ways::{Family::Packet, Way, way},
};

pub const WAYS: &[Way] = &[
    way("packet-raw", Packet, Dest::V4, |ctx| frame_on(ctx, &packet_socket(libc::SOCK_RAW)?)).root(),
    way("packet-dgram", Packet, Dest::V4, dgram).root(),
    way("packet-bound", Packet, Dest::V4, bound).root(),
    way("packet-old", Packet, Dest::V4, old).root(),
    way("packet-ring", Packet, Dest::V4, ring).root(),
    way("xdp", Packet, Dest::V4, xdp).root().kernel(4, 18),
    way("tun", Packet, Dest::V4, |ctx| device(ctx, TUN)).root().module("tun"),
    way("tap", Packet, Dest::V4, |ctx| device(ctx, TAP)).root().module("tun"),
];

fn packet_socket(kind: i32) -> Result<OwnedFd, Refused> {
    // Protocol 0: the socket sends and receives nothing, so it needs no filter.
    sys::socket(libc::AF_PACKET, kind, 0)
}

fn interface(ctx: &Ctx) -> Result<Addr, Refused> {
    Ok(Addr::link(sys::ifindex(&ctx.site.iface)?, ETHERTYPE_IPV4))
}

fn ip_packet(ctx: &Ctx) -> Result<Vec<u8>, Refused> {
    Ok(frame::udp4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, SOURCE_PORT), ctx.v4()?, &ctx.payload()))
}

fn ethernet_frame(ctx: &Ctx) -> Result<Vec<u8>, Refused> {
    Ok(frame::ethernet(ETHERTYPE_IPV4, &ip_packet(ctx)?))
}

/// A whole frame over a packet socket, which may be a lent one.
pub fn frame_on(ctx: &Ctx, fd: &OwnedFd) -> Outcome {
    sys::sendto(fd, &ethernet_frame(ctx)?, 0, Some(&interface(ctx)?))
}

fn dgram(ctx: &Ctx) -> Outcome {
    sys::sendto(&packet_socket(libc::SOCK_DGRAM)?, &ip_packet(ctx)?, 0, Some(&interface(ctx)?))
}

/// Bound to the interface: no later call names a destination.
fn bound(ctx: &Ctx) -> Outcome {
    let fd = packet_socket(libc::SOCK_RAW)?;
    sys::bind(&fd, &interface(ctx)?)?;
    sys::write(&fd, &ethernet_frame(ctx)?)
}

/// SOCK_PACKET of AF_INET, the interface of Linux 2.0: the address is the device's name.
fn old(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET, SOCK_PACKET, 0)?;
    let mut name = [0; 14];
    let device = ctx.site.iface.as_bytes();
    name.get_mut(..device.len())
        .ok_or_else(|| Refused::new("interface", libc::EINVAL))?
        .copy_from_slice(device);
    let to = Addr::raw(libc::AF_PACKET, &[&name[..], &ETHERTYPE_IPV4.to_be_bytes()].concat());
    sys::sendto(&fd, &ethernet_frame(ctx)?, 0, Some(&to))
}

/// PACKET_TX_RING: the frame lies in shared memory and an empty send lets it go.
fn ring(ctx: &Ctx) -> Outcome {
    let fd = packet_socket(libc::SOCK_RAW)?;
    sys::set_int(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, TPACKET_V2)?;
    // struct tpacket_req: block size, blocks, frame size, frames.
    let request: Vec<u8> = [4096_u32, 1, 2048, 2].iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_TX_RING, &request)?;
    sys::bind(&fd, &interface(ctx)?)?;
    let memory = Ring(sys::map(4096, libc::MAP_SHARED, fd.as_raw_fd(), 0)?);
    let bytes = ethernet_frame(ctx)?;
    memory.put(TPACKET2_DATA, &bytes);
    memory.put(4, &u32::try_from(bytes.len()).unwrap_or(0).to_ne_bytes());
    memory.word(0).store(TP_STATUS_SEND_REQUEST, Ordering::Release);
    sys::sendto(&fd, &[], 0, None)?;
    match memory.word(0).load(Ordering::Acquire) {
        TP_STATUS_WRONG_FORMAT => Err(Refused::new("packet ring", libc::EINVAL)),
        _ => Ok(Sent { bytes: bytes.len() }),
    }
}

/// Shared memory of a ring.
struct Ring(*mut u8);

impl Ring {
    fn put(&self, at: usize, bytes: &[u8]) {
        // SAFETY: the callers stay inside what they mapped.
        let to = unsafe { self.0.add(at) };
        // SAFETY: as above; the source is no part of the ring.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        fence(Ordering::SeqCst);
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the callers stay inside what they mapped, at offsets that are multiples of four; it is never unmapped.
        unsafe { AtomicU32::from_ptr(self.0.add(at).cast()) }
    }
}

/// AF_XDP in copy mode: the frame goes from the process's memory to the device, past IP and its hooks.
fn xdp(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
    let area = Ring(sys::map(XDP_AREA_BYTES, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?);
    // struct xdp_umem_reg: address, length, chunk size, headroom.
    let words = [area.0.addr() as u64, XDP_AREA_BYTES as u64, 2048];
    let register: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::setsockopt(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &register)?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
        sys::set_int(&fd, libc::SOL_XDP, ring, 4)?;
    }
    let tx = xdp_offsets(&fd)?;
    let ring = Ring(sys::map(4096, libc::MAP_SHARED, fd.as_raw_fd(), libc::XDP_PGOFF_TX_RING)?);
    let rest = [&XDP_COPY.to_ne_bytes()[..], &sys::ifindex(&ctx.site.iface)?.to_ne_bytes(), &[0; 8]].concat();
    sys::bind(&fd, &Addr::raw(libc::AF_XDP, &rest))?;
    let bytes = ethernet_frame(ctx)?;
    area.put(0, &bytes);
    // struct xdp_desc: offset in the area, length, options.
    let descriptor = [&[0; 8][..], &u32::try_from(bytes.len()).unwrap_or(0).to_ne_bytes(), &[0; 4]].concat();
    ring.put(tx.descriptors, &descriptor);
    ring.word(tx.producer).store(1, Ordering::Release);
    sys::sendto(&fd, &[], libc::MSG_DONTWAIT, None)?;
    Ok(Sent { bytes: bytes.len() })
}

/// Where the sending ring keeps its parts.
struct XdpOffsets {
    producer: usize,
    descriptors: usize,
}

fn xdp_offsets(fd: &OwnedFd) -> Result<XdpOffsets, Refused> {
    // struct xdp_mmap_offsets: producer, consumer, descriptors, flags of rx, tx, fill and completion.
    let mut offsets = [0_u64; 16];
    let mut len: libc::socklen_t = 128;
    let at = offsets.as_mut_ptr().cast();
    // SAFETY: `offsets` has the room that `len` tells.
    let got =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, at, &raw mut len) };
    sys::call("getsockopt", got)?;
    let offset = |index: usize| usize::try_from(offsets[index]).unwrap_or(0);
    Ok(XdpOffsets { producer: offset(4), descriptors: offset(6) })
}

/// A device of our own: what is written to it arrives as if from a wire.
fn device(ctx: &Ctx, mode: u16) -> Outcome {
    let fd = sys::open(c"/dev/net/tun", libc::O_RDWR)?;
    let mut request = [0_u8; 40];
    request[..7].copy_from_slice(b"chact%d");
    request[16..18].copy_from_slice(&(mode | IFF_NO_PI).to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one ifreq of 40 bytes.
    sys::call("TUNSETIFF", unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF as _, request.as_mut_ptr()) })?;
    bring_up(&mut request)?;
    let bytes = if mode == TUN { ip_packet(ctx)? } else { ethernet_frame(ctx)? };
    sys::write(&fd, &bytes)
}

/// `request` holds the device's name.
fn bring_up(request: &mut [u8; 40]) -> Result<(), Refused> {
    let control = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let up = u16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    request[16..18].copy_from_slice(&up.to_ne_bytes());
    // SAFETY: SIOCSIFFLAGS reads one ifreq of 40 bytes.
    sys::call("SIOCSIFFLAGS", unsafe {
        libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS as _, request.as_mut_ptr())
    })?;
    Ok(())
}

const SOCK_PACKET: i32 = 10;
const TPACKET_V2: i32 = 1;
/// Where a frame's bytes begin: behind struct tpacket2_hdr.
const TPACKET2_DATA: usize = 32;
const TP_STATUS_SEND_REQUEST: u32 = 1;
const TP_STATUS_WRONG_FORMAT: u32 = 4;
const XDP_AREA_BYTES: usize = 16 * 4096;
const XDP_COPY: u16 = 2;
const TUNSETIFF: u64 = 0x4004_54ca;
const TUN: u16 = 1;
const TAP: u16 = 2;
const IFF_NO_PI: u16 = 0x1000;
