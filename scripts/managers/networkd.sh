#!/bin/bash
# systemd-networkd: a lease, router advertisements and a static IPv6 address.
set -eu
. "$(dirname "$0")/machine.sh"
. "$(dirname "$0")/scenario.sh"
TITLE=networkd

configure() {
    cat >"$WORK/root/etc/systemd/network/10-eth0.network" <<'X'
[Match]
Name=eth0

[Network]
DHCP=ipv4
IPv6AcceptRA=yes
Address=fd00:18::11/64
X
    enable systemd-networkd.service
}
folders() { echo etc/systemd/network etc/netplan etc/network etc/NetworkManager; }
manages() {
    inside networkctl --json=short status "$1" | grep -q '"AdministrativeState":"\(configured\|configuring\)"'
}
restart() { inside systemctl restart systemd-networkd; }
further() {
    check "networkctl reload" inside networkctl reload
    check "nothing comes back to eth0 by that" throughout 5 steady_on_bridge
    # Drops the configuration, and applies its files again.
    check "networkctl reconfigure of all" inside networkctl reconfigure eth0 breth0
    check "nothing comes back to eth0 by that" eventually steady_on_bridge
    check "management is on breth0" eventually on_bridge
}
scenario
