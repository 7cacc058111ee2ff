#!/bin/bash
# Init of the small guest: the mounts that a booted system has, loopback, the script, the end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
bb=/bin/busybox
$bb mount -t proc -o nosuid,nodev,noexec proc /proc
$bb mount -t sysfs -o nosuid,nodev,noexec sys /sys
$bb mount -t tmpfs -o nosuid,nodev,mode=755 run /run
$bb mount -t tmpfs -o nosuid,nodev,mode=1777 tmp /tmp
# what sshd and dbus-daemon want below /run, should the script start them
$bb mkdir -p /dev/pts /dev/shm /run/lock /run/sshd /run/dbus
$bb mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$bb mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
$bb mount -t bpf -o mode=700 bpf /sys/fs/bpf
$bb mount -t cgroup2 cgroup2 /sys/fs/cgroup
$bb mount -t tracefs tracefs /sys/kernel/tracing
$bb mount -t debugfs debugfs /sys/kernel/debug
$bb mount -t securityfs securityfs /sys/kernel/security
$bb ln -sf pts/ptmx /dev/ptmx
$bb ln -sfn /proc/self/fd /dev/fd
$bb ln -sf fd/0 /dev/stdin
$bb ln -sf fd/1 /dev/stdout
$bb ln -sf fd/2 /dev/stderr
$bb hostname guest
$bb ip link set lo up

# A session of its own; a background job is no group leader, so setsid does not fork and the script's parent is `run`.
setsid /bin/bash /usr/lib/guest/run &
wait $!
$bb poweroff -f
