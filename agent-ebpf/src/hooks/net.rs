//! The net family: every way in which an agent's process sends to an address of its choosing.
//!
//! In lsm mode `inet`, `socket` and `unix` decide in the call itself; in cgroup mode `cgroup` decides what its hooks see.

pub mod address;
pub mod cgroup;
pub mod flow;
pub mod inet;
pub mod listen;
pub mod routing;
pub mod unix;

/// AF_* numbers (bits/socket.h), which are the same on every architecture.
pub mod family {
    pub const UNSPEC: u16 = 0;
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
    pub const NETLINK: u16 = 16;
    pub const PACKET: u16 = 17;
    pub const VSOCK: u16 = 40;
    pub const XDP: u16 = 44;
}

/// SOCK_* numbers.
pub mod kind {
    pub const STREAM: u16 = 1;
    pub const DGRAM: u16 = 2;
    pub const RAW: u16 = 3;
}

/// IPPROTO_* numbers.
pub mod protocol {
    pub const ICMP: u16 = 1;
    pub const TCP: u16 = 6;
    pub const UDP: u16 = 17;
    pub const ICMPV6: u16 = 58;
    pub const UDPLITE: u16 = 136;
    pub const MPTCP: u16 = 262;
}
