#!/bin/bash
# NetworkManager: static addresses in a keyfile. (The plan refuses a lease of NetworkManager's own.)
set -eu
. "$(dirname "$0")/machine.sh"
. "$(dirname "$0")/scenario.sh"
TITLE=NetworkManager STATIC=1

configure() {
    local folder=$WORK/root/etc/NetworkManager/system-connections
    mkdir -p "$folder"
    cat >"$folder/eth0.nmconnection" <<'X'
[connection]
id=eth0
uuid=5f1c2b1e-54cf-4ab5-8f0e-7d0a3f6f3c11
type=ethernet
interface-name=eth0

[ipv4]
method=manual
address1=172.18.0.11/24,172.18.0.1

[ipv6]
method=auto
addr-gen-mode=eui64
address1=fd00:18::11/64
X
    chmod 600 "$folder"/*
    enable NetworkManager.service
}
folders() { echo etc/systemd/network etc/netplan etc/network etc/NetworkManager; }
# "connected (externally)" is not managed.
manages() { inside nmcli -t -f DEVICE,STATE device | grep -qx "$1:connected"; }
restart() { inside systemctl restart NetworkManager; }
scenario
