#!/bin/bash
# An emulated machine: its NIC is taken over, its power is cut, it boots again. systemd as PID 1, systemd-networkd, Debian's
# kernel and Open vSwitch, a virtio NIC with a predictable name. Not run by default: it takes some minutes.
#
#   DATAPATH=system scripts/test-managers reboot       the kernel's datapath; default: netdev
#
# The root is that of the other nodes (machine.sh), shared with the machine: what it writes there is read out here.
set -eu
. "$(dirname "$0")/machine.sh"
kernel=${OVN_K8S_CACHE:-$HOME/.cache/ovn-k8s}/kernel
version=$(cat "$kernel/version")
root=$WORK/root
PATIENCE=${PATIENCE:-400}

configure() {
    cat >"$root/etc/systemd/network/10-uplink.network" <<X
[Match]
MACAddress=$MAC

[Network]
Address=172.18.0.11/24
Gateway=172.18.0.1
Address=fd00:18::11/64
Gateway=fd00:18::1
X
    # Needed here, but not by nodes that are namespaces.
    ln -sf ../bin/kmod "$root/usr/sbin/modprobe"
    mkdir -p "$root/usr/lib/modules" "$root/etc/systemd/system/local-fs.target.wants"
    cp -a "$kernel/root/lib/modules/$version" "$root/usr/lib/modules/"
    printf 'tun\nvirtio_net\nnf_tables\nopenvswitch\n' >"$root/etc/modules-load.d/node.conf"
    rm -f "$root/etc/systemd/system/systemd-modules-load.service" "$root/usr/lib/tmpfiles.d/tmp.conf"
    # ovsdb-server creates unnamed files in /tmp, which the shared root cannot do.
    cp "$root/usr/share/systemd/tmp.mount" "$root/etc/systemd/system/"
    ln -s ../tmp.mount "$root/etc/systemd/system/local-fs.target.wants/"
    # With it, transient ports are removed at a boot: the NIC works until the unit has run.
    echo 'OVS_CTL_OPTS="--delete-transient-ports"' >"$root/etc/default/openvswitch-switch"
    install -m 755 "$(dirname "$0")/reboot-inside.sh" "$root/usr/local/bin/reboot-scenario"
    echo "${DATAPATH:-netdev}" >"$root/var/datapath"
    cat >"$root/etc/systemd/system/reboot-scenario.service" <<'X'
[Unit]
After=openvswitch-switch.service systemd-networkd.service ovn-k8s-uplink-recover.service
[Service]
ExecStart=/usr/local/bin/reboot-scenario
[Install]
WantedBy=multi-user.target
X
    for unit in systemd-networkd.service ovn-k8s-uplink-recover.service reboot-scenario.service; do enable $unit; done
}

power_on() {
    PATH="$kernel/venv/bin:$PATH" vng --disable-kvm --force-9p --disable-microvm --verbose \
        --run "$kernel/root/boot/vmlinuz-$version" --cpus 2 --memory 3G --root "$root" --rw --systemd \
        --qemu-opts="-netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n0,mac=$MAC" \
        </dev/null >"$WORK/console" 2>&1 &
    MACHINE=$!
}

# As a loss of power: kills qemu, a grandchild or further descendant.
power_off() {
    end_all $MACHINE
    wait $MACHINE 2>/dev/null || true
    eventually not runs
}
end_all() {
    local child
    for child in $(pgrep -P "$1"); do end_all "$child"; done
    kill -KILL "$1" 2>/dev/null || true
}
runs() { ip link show dev tap0 | grep -q LOWER_UP; }

said() { grep -q "$2" "$root/var/$1" 2>/dev/null; }
booted_as() { [ -e "$root/var/look.$1" ]; }
device_has() { grep -qE "^$2 .*$3" "$root/var/look.$1"; }
no_address() { not grep -qE "^enp[^ ]* .*172" "$root/var/look.$1"; }
show() { sed 's/^/              /' "$root/var/$1"; }
# For check: there is no node whose namespaces could be entered.
inside() { tail -n 30 "$WORK/console"; }

make_root
configure
ip link set lo up
ip link add fabric type bridge
ip link set fabric up
ip addr add 172.18.0.1/24 dev fabric
ip addr add fd00:18::1/64 dev fabric nodad
ip tuntap add tap0 mode tap
ip link set tap0 master fabric up
trap '[ -z "${MACHINE:-}" ] || power_off' EXIT

power_on
check "the machine boots and takes its NIC over" eventually said boot.1 '^exit code 0$'
show boot.1
check "on the bridge, reachable" eventually device_has 1 'brenp[^ ]*' 172.18.0.11
check "IPv4 from outside" eventually reached
check "IPv6 from outside" eventually reached6
power_off
say "the power is cut"
power_on
check "it boots again" eventually booted_as 2
check "the unit has run" eventually said look.2 '^unit active$'
show look.2
check "addresses on the bridge" eventually device_has 2 'brenp[^ ]*' 172.18.0.11
check "nothing on the NIC" no_address 2
check "no open journal" not said look.2 '"open"'
check "IPv4 from outside" eventually reached
check "IPv6 from outside" eventually reached6
# shellcheck disable=SC2154 # set by machine.sh
[ "$failures" = 0 ] || exit 1
