#!/bin/sh
# Turns a fresh Debian root ($1) into the guest's: one person, one set of keys, nothing that slows a boot.
set -eu
root=$1

echo guest > "$root/etc/hostname"
printf '127.0.0.1 localhost guest\n::1 localhost ip6-localhost\n' > "$root/etc/hosts"
printf 'LANG=C.UTF-8\n' > "$root/etc/default/locale"
# Fixed, so that two boots of the image are the same machine.
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
: > "$root/etc/fstab"

# A person with a shell and no password; root likewise. sshd refuses empty passwords, keys work.
chroot "$root" useradd --uid 1000 --user-group --create-home --shell /bin/bash alice
chroot "$root" passwd --quiet --delete alice
chroot "$root" passwd --quiet --delete root
printf 'alice ALL=(ALL) NOPASSWD: ALL\n' > "$root/etc/sudoers.d/alice"
chmod 0440 "$root/etc/sudoers.d/alice"

# A shell that opens says only what its user asks.
for home in root home/alice; do
    touch "$root/$home/.hushlogin"
done

# `ssh localhost` and `ssh alice@localhost` work at once, for both.
rm -f "$root"/etc/ssh/ssh_host_*
chroot "$root" ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
chroot "$root" install -d -m 700 /root/.ssh
chroot "$root" install -d -m 700 -o alice -g alice /home/alice/.ssh
chroot "$root" ssh-keygen -q -t ed25519 -N '' -C guest -f /root/.ssh/id_ed25519
cp "$root/root/.ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
sed 's/^/localhost,127.0.0.1,::1 /' "$root/etc/ssh/ssh_host_ed25519_key.pub" > "$root/root/.ssh/known_hosts"
for file in id_ed25519 id_ed25519.pub authorized_keys known_hosts; do
    chroot "$root" install -m 600 -o alice -g alice "/root/.ssh/$file" "/home/alice/.ssh/$file"
done
mkdir -p "$root/etc/ssh/sshd_config.d"
printf 'PermitRootLogin prohibit-password\nUseDNS no\n' > "$root/etc/ssh/sshd_config.d/guest.conf"

# Loopback and what a test makes are all the network there is: nothing to wait for, nothing to update, no terminals to serve.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-tmpfiles-clean.timer motd-news.timer systemd-random-seed.service systemd-pstore.service \
    systemd-timesyncd.service systemd-networkd.service systemd-networkd.socket systemd-resolved.service nscd.service \
    unbound.service unbound-resolvconf.service \
    systemd-network-generator.service systemd-firstboot.service systemd-sysusers.service systemd-boot-update.service \
    systemd-remount-fs.service systemd-machine-id-commit.service modprobe@configfs.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service modprobe@loop.service \
    getty@tty1.service serial-getty@ttyS0.service serial-getty@hvc0.service getty-static.service console-getty.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/system.conf.d" "$root/etc/systemd/journald.conf.d"
printf '[Manager]\nDefaultTimeoutStopSec=5s\n' > "$root/etc/systemd/system.conf.d/guest.conf"
printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/guest.conf"

# Names are resolved by whom a test says: the packages of two resolvers would have put themselves in the way.
rm -f "$root/etc/resolv.conf"
sed -i 's/^hosts:.*/hosts: files dns/' "$root/etc/nsswitch.conf"

# The kernel's modules are mounted here, the driver's own files go there.
mkdir -p "$root/lib/modules" "$root/usr/lib/guest"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log
