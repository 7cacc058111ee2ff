#!/bin/bash
# Runs the host's script as root and tells its output over two ports, each closed by a mark: NUL, this run's word, the status.
. /usr/lib/guest/settings

# Named pipes between the script and the ports: a port can be opened once, /dev/stdout by anybody. The marks pass
# through them too, so they come after all that the script wrote, even if something that it started still holds them.
mkfifo -m 666 /run/guest.out /run/guest.err
cat < /run/guest.out > /dev/vport0p1 &
cat < /run/guest.err > /dev/vport0p2 &
exec 3> /run/guest.out 4> /run/guest.err
mark() {
    printf '\0%s %s\n' "$GUEST_WORD" "$1"
}

mark start >&3
cd /root || exit 1
umask 022
status=0
if [ -e /usr/lib/guest/script ]; then
    env -i HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8 TERM=dumb \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /usr/lib/guest/script "${GUEST_ARGS[@]}" < /dev/null >&3 2>&4 3>&- 4>&-
    status=$?
fi
if [ -n "$GUEST_TERM" ]; then
    # login hangs the line up and opens it again, which forgets the size: the shell itself sets it
    echo "[ \"\$(tty)\" != /dev/ttyS1 ] || stty rows $GUEST_ROWS cols $GUEST_COLUMNS" > /etc/profile.d/guest.sh
    stty sane < /dev/ttyS1
    setsid --ctty --wait env -i TERM="$GUEST_TERM" login -p -f root < /dev/ttyS1 > /dev/ttyS1 2>&1 3>&- 4>&-
fi
if [ ${#GUEST_FETCH[@]} -gt 0 ]; then
    tar -C / -c -f /dev/vdd -- "${GUEST_FETCH[@]}" 2>&4
    sync
fi
mark "$status" >&3
mark "$status" >&4
# The host ends the guest as soon as it has both marks.
sleep 60
