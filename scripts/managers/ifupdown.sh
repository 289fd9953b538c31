#!/bin/bash
# ifupdown with ISC's dhclient: a lease and a static IPv6 address.
set -eu
. "$(dirname "$0")/machine.sh"
. "$(dirname "$0")/scenario.sh"
# ifdown releases the lease itself, by a client of its own: the operator causes that, not the takeover.
# shellcheck disable=SC2034 # used by scenario.sh
TITLE=ifupdown RELEASE='no such message'

configure() {
    cat >"$WORK/root/etc/network/interfaces" <<'X'
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
iface eth0 inet6 static
    address fd00:18::11/64
    gateway fd00:18::1
    dad-attempts 0
X
    rm -f "$WORK/root/etc/systemd/system/networking.service"
    enable networking.service
}
folders() { echo etc/systemd/network etc/netplan etc/network etc/NetworkManager etc/dhcp; }
client_of() { inside pgrep -f "dhclient.* $1\$" >/dev/null; }
manages() { client_of "$1"; }
restart() { inside systemctl restart networking.service; }
further() {
    # An operator who does not know of the takeover.
    check "ifup --force eth0" inside ifup --force eth0
    check "its hook gives the address back to breth0" eventually on_bridge
    check "nothing comes back to eth0 by that" throughout 15 steady_on_bridge
}
scenario
