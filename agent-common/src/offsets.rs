//! Where the running kernel keeps the fields that the kernel side reads.
//!
//! Rust's BPF objects carry no CO-RE relocations, so the daemon reads the offsets from the kernel's own BTF and hands
//! them over as frozen `.rodata` before loading. One table names them all: adding a field is one line here.

use bytemuck::{Pod, Zeroable};

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $structure:literal . $member:literal,)*) => {
        /// Byte offsets, one per field read.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
        pub struct Offsets { $($(#[$doc])* pub $field: u32,)* }

        /// Kernel struct and member of each field, in order. Dots lead into embedded structs; `|` separates names that
        /// kernels have had for the same member.
        pub const FIELDS: &[(&str, &str)] = &[$(($structure, $member),)*];

        impl Offsets {
            /// Before the daemon filled it in.
            pub const ZERO: Self = Self { $($field: 0,)* };

            /// From values in the order of [`FIELDS`].
            #[must_use]
            pub fn from_values(values: [u32; FIELDS.len()]) -> Self {
                let [$($field,)*] = values;
                Self { $($field,)* }
            }
        }
    };
}

offsets! {
    task_tgid = "task_struct"."tgid",
    task_pid = "task_struct"."pid",
    task_mm = "task_struct"."mm",
    task_fs = "task_struct"."fs",
    task_signal = "task_struct"."signal",
    task_nsproxy = "task_struct"."nsproxy",
    task_cred = "task_struct"."cred",
    task_loginuid = "task_struct"."loginuid",
    task_sessionid = "task_struct"."sessionid",
    task_start = "task_struct"."start_boottime",
    task_leader = "task_struct"."group_leader",
    task_real_parent = "task_struct"."real_parent",
    task_exit_code = "task_struct"."exit_code",
    task_execs = "task_struct"."self_exec_id",
    task_comm = "task_struct"."comm",
    task_cgroups = "task_struct"."cgroups",
    task_thread_pid = "task_struct"."thread_pid",
    signal_tty = "signal_struct"."tty",
    signal_live = "signal_struct"."live",
    tty_driver = "tty_struct"."driver",
    tty_index = "tty_struct"."index",
    driver_major = "tty_driver"."major",
    driver_minor_start = "tty_driver"."minor_start",
    mm_arg_start = "mm_struct"."arg_start",
    mm_arg_end = "mm_struct"."arg_end",
    fs_pwd = "fs_struct"."pwd",
    bprm_file = "linux_binprm"."file",
    bprm_filename = "linux_binprm"."filename",
    bprm_interp = "linux_binprm"."interp",
    file_inode = "file"."f_inode",
    file_path = "file"."f_path",
    inode_ino = "inode"."i_ino",
    inode_sb = "inode"."i_sb",
    inode_generation = "inode"."i_generation",
    inode_nlink = "inode"."i_nlink",
    sb_dev = "super_block"."s_dev",
    path_mnt = "path"."mnt",
    path_dentry = "path"."dentry",
    dentry_parent = "dentry"."d_parent",
    dentry_name = "dentry"."d_name.name",
    dentry_len = "dentry"."d_name.len",
    vfsmount_root = "vfsmount"."mnt_root",
    mount_mnt = "mount"."mnt",
    mount_parent = "mount"."mnt_parent",
    mount_mountpoint = "mount"."mnt_mountpoint",
    nsproxy_mnt = "nsproxy"."mnt_ns",
    nsproxy_net = "nsproxy"."net_ns",
    nsproxy_uts = "nsproxy"."uts_ns",
    nsproxy_ipc = "nsproxy"."ipc_ns",
    nsproxy_cgroup = "nsproxy"."cgroup_ns",
    nsproxy_time = "nsproxy"."time_ns",
    mnt_ns_inum = "mnt_namespace"."ns.inum",
    net_ns_inum = "net"."ns.inum",
    uts_ns_inum = "uts_namespace"."ns.inum",
    ipc_ns_inum = "ipc_namespace"."ns.inum",
    cgroup_ns_inum = "cgroup_namespace"."ns.inum",
    time_ns_inum = "time_namespace"."ns.inum",
    pid_ns_inum = "pid_namespace"."ns.inum",
    user_ns_inum = "user_namespace"."ns.inum",
    pid_level = "pid"."level",
    pid_numbers = "pid"."numbers",
    cred_uid = "cred"."uid",
    cred_gid = "cred"."gid",
    cred_euid = "cred"."euid",
    cred_egid = "cred"."egid",
    cred_user_ns = "cred"."user_ns",
    css_set_dfl_cgrp = "css_set"."dfl_cgrp",
    cgroup_kn = "cgroup"."kn",
    cgroup_root = "cgroup"."root",
    cgroup_root_hierarchy = "cgroup_root"."hierarchy_id",
    kernfs_name = "kernfs_node"."name",
    upid_ns = "upid"."ns",
    kernfs_parent = "kernfs_node"."parent|__parent",
    kernfs_id = "kernfs_node"."id",
    socket_sk = "socket"."sk",
    socket_type = "socket"."type",
    sock_family = "sock"."__sk_common.skc_family",
    sock_protocol = "sock"."sk_protocol",
    sock_type = "sock"."sk_type",
    sock_net = "sock"."__sk_common.skc_net.net",
    sock_num = "sock"."__sk_common.skc_num",
    sock_rcv_saddr = "sock"."__sk_common.skc_rcv_saddr",
    sock_v6_rcv_saddr = "sock"."__sk_common.skc_v6_rcv_saddr",
    sock_dport = "sock"."__sk_common.skc_dport",
    tcp_rcv_nxt = "tcp_sock"."rcv_nxt",
    net_cookie = "net"."net_cookie",
    sock_cookie = "sock"."__sk_common.skc_cookie",
    sock_peer_pid = "sock"."sk_peer_pid",
    msg_name = "msghdr"."msg_name",
    msg_namelen = "msghdr"."msg_namelen",
    msg_control = "msghdr"."msg_control",
    msg_controllen = "msghdr"."msg_controllen",
    unix_addr = "unix_sock"."addr",
    unix_path = "unix_sock"."path",
    unix_address_len = "unix_address"."len",
    unix_address_name = "unix_address"."name",
}

/// Bytes of `struct upid`: the stride of `pid.numbers`, read from BTF like the offsets.
pub const UPID_STRUCT: &str = "upid";
