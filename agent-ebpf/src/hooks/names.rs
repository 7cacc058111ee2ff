//! The names family: DNS questions and answers on their way, so that an address is known by its name before anybody
//! can connect to it.
//!
//! Attached to the root cgroup, in both modes. All that is neither UDP of port 53 nor TCP of a noted socket leaves in the first
//! instructions.
//! No question and no answer is refused: it passes whatever it says, and what is not believed is only counted. What is
//! refused is a connection that says another name than it was allowed by; see `spoken`.
//!
//! An answer from outside is read where it comes in. One that is sent on this host itself is read where it goes out: only
//! there the socket that sends it is known, and nothing that comes in by the loopback device is believed.

mod answer;
mod question;
pub mod server;
pub mod spoken;
pub mod work;

use agent_common::event::Counter;
use aya_ebpf::{bindings::__sk_buff, macros::cgroup_skb, programs::SkBuffContext};

use crate::{
    emit,
    hooks::net::protocol,
    kernel::{self, Ptr},
};
use work::Work;

/// The answer of a cgroup hook that has no objection.
const PASS: i32 = 1;
const DOMAIN: u16 = 53;
/// The loopback device's number, in every network namespace.
const LOOPBACK: u32 = 1;

#[cgroup_skb(egress)]
pub fn names_egress(ctx: SkBuffContext) -> i32 {
    let Some(packet) = Packet::read(&ctx) else { return i32::from(spoken::may_leave(ctx.skb.skb)) };
    if packet.to == DOMAIN {
        within_work(&ctx, packet, question::note);
    } else if packet.from == DOMAIN && device(&ctx) == LOOPBACK {
        within_work(&ctx, packet, answer::sent_here);
    }
    PASS
}

#[cgroup_skb(ingress)]
pub fn names_ingress(ctx: SkBuffContext) -> i32 {
    let Some(packet) = Packet::read(&ctx) else { return PASS };
    if packet.from == DOMAIN && device(&ctx) != LOOPBACK {
        within_work(&ctx, packet, answer::came_in);
    }
    PASS
}

/// The device by which the packet goes or has come.
#[inline(always)]
fn device(ctx: &SkBuffContext) -> u32 {
    // SAFETY: the context of a cgroup skb hook.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Ports of a UDP packet, and where its parts lie.
#[derive(Clone, Copy)]
struct Packet {
    from: u16,
    to: u16,
    /// Bytes before the UDP header.
    ip_bytes: u32,
}

impl Packet {
    /// `None` for what is not UDP, has IP options or extension headers, or is a later fragment: programs that ask a
    /// resolver send none such, and resolvers' answers are put together before they come here.
    #[inline(always)]
    fn read(ctx: &SkBuffContext) -> Option<Self> {
        // SAFETY: the context of a cgroup skb hook; each access below is inside what was compared with `end`.
        unsafe {
            let skb = &*ctx.skb.skb;
            let (data, end) = (skb.data as usize, skb.data_end as usize);
            if data + V4_BYTES + UDP_BYTES > end {
                return None;
            }
            let at = |offset: usize| *((data + offset) as *const u8);
            if at(0) == 0x45 {
                if at(9) != protocol::UDP as u8 || at(6) & 0x3f != 0 || at(7) != 0 {
                    return None;
                }
                let ports = |offset: usize| u16::from_be(*((data + V4_BYTES + offset) as *const u16));
                return Some(Self { from: ports(0), to: ports(2), ip_bytes: V4_BYTES as u32 });
            }
            if at(0) >> 4 != 6 || at(6) != protocol::UDP as u8 || data + V6_BYTES + UDP_BYTES > end {
                return None;
            }
            let ports = |offset: usize| u16::from_be(*((data + V6_BYTES + offset) as *const u16));
            Some(Self { from: ports(0), to: ports(2), ip_bytes: V6_BYTES as u32 })
        }
    }
}

const V4_BYTES: usize = 20;
const V6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;

/// Fills a work area with the packet and hands it over.
#[inline(always)]
fn within_work(ctx: &SkBuffContext, packet: Packet, then: impl FnOnce(*mut __sk_buff, Packet, &mut Work)) {
    let skb = ctx.skb.skb;
    let Some(work) = work::acquire() else {
        emit::count(Counter::NamesBusy);
        return;
    };
    if work.load(skb, packet.ip_bytes) {
        then(skb, packet, work);
    } else {
        emit::count(Counter::NamesMalformed);
    }
    work::release(work);
}

/// The kernel's `struct sock` behind a packet, as a number: by way of a map, since the verifier knows it as a type
/// that has no fields for us.
#[inline(always)]
fn socket_of(skb: *mut __sk_buff, work: &mut Work) -> Ptr {
    // SAFETY: the context of a cgroup skb hook, and a word of a map value.
    unsafe {
        core::ptr::write_volatile(&raw mut work.socket, (*skb).__bindgen_anon_2.sk as u64);
        core::ptr::read_volatile(&raw const work.socket) as Ptr
    }
}

/// The network namespace of the packet's socket.
#[inline(always)]
fn netns_of(skb: *mut __sk_buff, work: &mut Work) -> u64 {
    kernel::netns_of(socket_of(skb, work))
}
