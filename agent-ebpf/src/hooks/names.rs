//! The names family: DNS questions and answers on their way, so that an address is known by its name before anybody
//! can connect to it.
//!
//! Attached to the root cgroup, in both modes. All that is neither of port 53 nor TCP of a noted socket leaves in the
//! first instructions. A question of an agent whose role does not let it ask is dropped, and so is a connection that
//! says another name than it was allowed by (`spoken`); all else passes whatever it says, and an answer that is not
//! believed is only counted.
//!
//! An answer from outside is read where it comes in. One that is sent on this host itself is read where it goes out: only
//! there the socket that sends it is known, and nothing that comes in by the loopback device is believed.

mod answer;
pub mod asker;
mod packet;
mod question;
pub mod server;
pub mod spoken;
mod told;
pub mod work;

use agent_common::{event::Counter, name::EVERYWHERE};
use aya_ebpf::{bindings::__sk_buff, macros::cgroup_skb, programs::SkBuffContext};

use self::{
    packet::{DOMAIN, Packet, Seen},
    work::{MESSAGES_MAX, Work},
};
use crate::{
    emit,
    kernel::{self, Ptr},
    maps::RESOLVERS,
    path::opaque,
};

/// The answers of a cgroup hook.
const PASS: i32 = 1;
const DROP: i32 = 0;
/// The loopback device's number, in every network namespace.
const LOOPBACK: u32 = 1;

#[cgroup_skb(egress)]
pub fn names_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let seen = Packet::read(&ctx);
    let stream = match &seen {
        Seen::Of(packet) => packet.tcp != 0,
        Seen::Odd => true,
        Seen::Other => false,
    };
    if stream && !spoken::may_leave(skb) {
        return DROP;
    }
    match seen {
        Seen::Of(packet) if packet.to == DOMAIN => {
            // Unread, it cannot be judged.
            each(skb, packet, question::leaves).unwrap_or_else(|| question::hidden(skb))
        }
        Seen::Of(packet) if packet.from == DOMAIN && device(skb) == LOOPBACK => {
            each(skb, packet, answer::sent_here).unwrap_or(PASS)
        }
        Seen::Of(_) | Seen::Other => PASS,
        Seen::Odd => question::hidden(skb),
    }
}

#[cgroup_skb(ingress)]
pub fn names_ingress(ctx: SkBuffContext) -> i32 {
    match Packet::read(&ctx) {
        Seen::Of(packet) if packet.from == DOMAIN => {
            each(ctx.skb.skb, packet, answer::came_in).unwrap_or(PASS)
        }
        _ => PASS,
    }
}

/// The device by which the packet goes or has come.
#[inline(always)]
fn device(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context of a cgroup skb hook.
    unsafe { (*skb).ifindex }
}

/// Hands each message of the packet over, in a work area: the answer of the hook, or `None` without such an area.
#[inline(always)]
fn each(skb: *mut __sk_buff, packet: Packet, take: fn(*mut __sk_buff, &mut Work) -> bool) -> Option<i32> {
    let Some(work) = work::acquire() else {
        emit::count(Counter::NamesBusy);
        return None;
    };
    let mut refused = false;
    if work.begin(skb, packet) {
        for _ in 0..MESSAGES_MAX {
            refused |= take(skb, work);
            if work.next == 0 {
                break;
            }
        }
    }
    work::release(work);
    Some(if refused { DROP } else { PASS })
}

/// Whether the server is one that its network namespace is configured for, or the settings name; 0 or 1, for the
/// compiler would make one condition of two pointers, which the verifier does not take.
#[inline(always)]
fn configured(work: &mut Work, server: [u8; 16]) -> usize {
    work.address.netns = work.asked.netns;
    work.address.address = server;
    // SAFETY: entries of a map stay readable for the program's run.
    let mut found = usize::from(unsafe { RESOLVERS.get(&work.address) }.is_some());
    if opaque(found) == 0 {
        work.address.netns = EVERYWHERE;
        // SAFETY: as above.
        found = usize::from(unsafe { RESOLVERS.get(&work.address) }.is_some());
        work.address.netns = work.asked.netns;
    }
    opaque(found)
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
