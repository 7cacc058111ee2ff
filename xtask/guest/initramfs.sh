#!/bin/busybox sh
# First program of every guest: finds the disks, lays the run's files over the image, hands over to the real init.
# Disks: vda the image (changes are thrown away), vdb the kernel's modules, vdc the run's files as tar, vdd what goes back;
# the last one the agents, where the run asks for them.
fail() {
    echo "guest: $1" > /dev/console
    busybox poweroff -f
}
export PATH=/bin
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
if busybox grep -q guest.probe /proc/cmdline; then
    echo "guest: here" > /dev/console
    busybox poweroff -f
fi
for module in /modules/*.ko; do
    busybox insmod "$module" || fail "cannot load $module"
done
busybox mount -t ext4 -o noatime,noinit_itable /dev/vda /root || fail "cannot mount the image"
busybox mount -t ext4 -o ro /dev/vdb /root/lib/modules || fail "cannot mount the modules"
busybox tar -x -f /dev/vdc -C /root || fail "cannot unpack the run's files"
busybox cp /guest/* /root/usr/lib/guest/
busybox ln -sf /usr/lib/guest/guest-script.service /usr/lib/guest/guest.target /root/etc/systemd/system/
. /root/usr/lib/guest/settings
if [ -n "$GUEST_AGENTS" ]; then
    busybox mkdir -p /root/opt/agents
    busybox mount -t ext4 -o ro,noatime "$GUEST_AGENTS" /root/opt/agents || fail "cannot mount the agents"
fi
busybox umount /proc
busybox mount --move /dev /root/dev
# shellcheck disable=SC2086 # the init comes with its arguments
exec busybox switch_root -c /dev/console /root $GUEST_INIT
