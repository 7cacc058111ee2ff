//! Packets as the names family sees them: whose port is 53, and where the message lies.

use aya_ebpf::programs::SkBuffContext;

use crate::hooks::net::protocol;

pub const DOMAIN: u16 = 53;
pub const V4_BYTES: usize = 20;
const V6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;

/// A packet by its headers.
pub enum Seen {
    /// UDP or TCP.
    Of(Packet),
    /// Another protocol, or too short for a header: no question and no answer.
    Other,
    /// IP options or extension headers, or a fragment: programs that ask a resolver send none such, and resolvers'
    /// answers are put together before they come here.
    Odd,
}

/// A UDP or TCP packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Packet {
    pub from: u16,
    pub to: u16,
    /// Bytes before the UDP or TCP header.
    pub ip_bytes: u32,
    /// Bytes before what is sent.
    pub head_bytes: u32,
    /// Not 0 where it is a TCP segment.
    pub tcp: u32,
    /// Of a TCP segment: its sequence number, as the kernel has it.
    pub sequence: u32,
}

impl Packet {
    /// IPPROTO_UDP or IPPROTO_TCP.
    #[inline(always)]
    pub fn protocol(self) -> u32 {
        u32::from(if self.tcp != 0 { protocol::TCP } else { protocol::UDP })
    }

    /// Reads the headers.
    #[inline(always)]
    pub fn read(ctx: &SkBuffContext) -> Seen {
        // SAFETY: the context of a cgroup skb hook; each access below is inside what was compared with `end`.
        unsafe {
            let skb = &*ctx.skb.skb;
            let (data, end) = (skb.data as usize, skb.data_end as usize);
            if data + V4_BYTES + UDP_BYTES > end {
                return Seen::Other;
            }
            let at = |offset: usize| *((data + offset) as *const u8);
            let (next, ip_bytes) = if at(0) == 0x45 {
                if at(6) & 0x3f != 0 || at(7) != 0 {
                    return Seen::Odd;
                }
                (u16::from(at(9)), V4_BYTES)
            } else if at(0) >> 4 == 6 {
                (u16::from(at(6)), V6_BYTES)
            } else {
                return Seen::Odd;
            };
            let tcp = next == protocol::TCP;
            if !tcp && next != protocol::UDP {
                let whole = next == protocol::ICMP || next == protocol::ICMPV6;
                return if whole { Seen::Other } else { Seen::Odd };
            }
            // Written out for both lengths: the verifier wants to see a constant beside the pointer.
            if ip_bytes == V4_BYTES {
                ports(data, end, V4_BYTES, tcp)
            } else {
                ports(data, end, V6_BYTES, tcp)
            }
        }
    }
}

/// # Safety
/// `data` and `end` are the context's.
#[inline(always)]
unsafe fn ports(data: usize, end: usize, ip_bytes: usize, tcp: bool) -> Seen {
    // SAFETY: each access is inside what was compared with `end`.
    unsafe {
        if data + ip_bytes + UDP_BYTES > end {
            return Seen::Other;
        }
        let word = |offset: usize| u16::from_be(*((data + ip_bytes + offset) as *const u16));
        let (from, to) = (word(0), word(2));
        let mut packet = Packet {
            from,
            to,
            ip_bytes: ip_bytes as u32,
            head_bytes: (ip_bytes + UDP_BYTES) as u32,
            tcp: u32::from(tcp),
            sequence: 0,
        };
        if tcp && (from == DOMAIN || to == DOMAIN) {
            if data + ip_bytes + TCP_BYTES > end {
                return Seen::Other;
            }
            packet.sequence = u32::from(word(4)) << 16 | u32::from(word(6));
            packet.head_bytes = (ip_bytes + usize::from(word(12) >> 12) * 4) as u32;
        }
        Seen::Of(packet)
    }
}
