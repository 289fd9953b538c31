# shellcheck shell=bash
# A node with systemd as PID 1, in namespaces of its own: sourced by the scripts beside, which say how its NIC is
# configured. Its root is this machine's with packages laid over it; what it writes is in memory, outlives a `reboot`
# and is removed with the test. Its switch is Debian's openvswitch-switch on OVS's userspace datapath.
#
#   node: PID, mount, network, cgroup, UTS and IPC namespaces; eth0 (veth)
#    |
#   wire: this script's own network namespace: 172.18.0.1, fd00:18::1; DHCP with short leases, RAs
#
# Needs: $LAYER (packages, unpacked), $BINARY (the product), $SYSTEMD (folder of its units), all set by test-managers.

MAC=0a:58:ac:00:01:0b
# Leases last two minutes, the shortest that dnsmasq gives; clients renew them after so many seconds.
RENEW=10
WORK=$(mktemp -d "$(dirname "$BINARY")/node.XXXXXX")
NODE=
failures=0

say() { printf '     %4d s  %s\n' "$SECONDS" "$*"; }
die() {
    printf 'FAILED %s\n' "$*" >&2
    [ -z "$NODE" ] || diagnosis >&2
    exit 1
}

# check WHAT COMMAND...: prints whether it holds, and continues.
check() {
    local what=$1
    shift
    if "$@" >"$WORK/said" 2>&1; then
        say "ok      $what"
    else
        say "FAILED  $what"
        { tail -n 20 "$WORK/said"; inside ip -br addr 2>&1 || true; } | sed 's/^/              /'
        failures=$((failures + 1))
    fi
}

# eventually COMMAND...: until it holds, for at most half a minute.
eventually() {
    local end=$((SECONDS + ${PATIENCE:-30}))
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

not() { ! "$@"; }

# throughout SECONDS COMMAND...: must hold all the time.
throughout() {
    local end=$((SECONDS + $1))
    shift
    while [ $SECONDS -lt $end ]; do
        "$@" || return 1
        sleep 0.2
    done
}

# The root of the node as it is before its first boot.
make_root() {
    trap '[ -z "$NODE" ] || halt' EXIT
    mount -t tmpfs -o mode=755 tmpfs "$WORK"
    mkdir -p "$WORK"/{up,overlay,root}
    mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/up,workdir=$WORK/overlay" "$WORK/root"
    local root=$WORK/root
    # Copied, because overlayfs refuses overlapping layers.
    cp -a "$LAYER/." "$root/"
    rm -rf "$root"/var/lib/{openvswitch,ovn,ovn-k8s,dhcp,NetworkManager,systemd/network} "$root"/etc/openvswitch/* \
        "$root"/etc/systemd/system/* "$root"/var/log/journal "$root"/etc/netplan
    mkdir -p "$root"/etc/systemd/{system/multi-user.target.wants,network} "$root"/var/lib/{openvswitch,dhcp,NetworkManager} \
        "$root"/usr/share/netplan "$root/etc/network/interfaces.d"
    : >"$root/etc/fstab"
    echo node >"$root/etc/hostname"
    # ovs-ctl loads a module that this kernel may not have; the userspace datapath needs none.
    rm -f "$root/usr/sbin/modprobe"
    printf '#!/bin/sh\nexit 0\n' >"$root/usr/sbin/modprobe"
    chmod 755 "$root/usr/sbin/modprobe"
    install -m 755 "$BINARY" "$root/usr/bin/ovn-k8s"
    ln -sf ovn-k8s "$root/usr/bin/ovn-k8s-util"
    cp "$SYSTEMD"/*.service "$root/etc/systemd/system/"
    local unit
    for unit in getty.target systemd-modules-load.service systemd-timesyncd.service systemd-logind.service \
        systemd-resolved.service e2scrub_reap.service postgresql.service ovn-central.service ovn-host.service \
        apt-daily.timer apt-daily-upgrade.timer man-db.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
        NetworkManager.service NetworkManager-wait-online.service systemd-networkd.service networking.service \
        systemd-networkd-wait-online.service systemd-pstore.service systemd-binfmt.service dnsmasq.service \
        ssh.service nftables.service; do
        ln -s /dev/null "$root/etc/systemd/system/$unit"
    done
    enable openvswitch-switch.service
}

# enable UNIT: as `systemctl enable` does, before the boot.
enable() {
    local root=$WORK/root
    if [ -L "$root/etc/systemd/system/$1" ]; then rm -f "$root/etc/systemd/system/$1"; fi
    SYSTEMD_OFFLINE=1 systemctl --root="$root" enable --quiet "$1" 2>"$WORK/enabled" || { cat "$WORK/enabled"; die "enabling $1"; }
}

# The network at the other end of the wire. Kept when the node reboots: only the veth is recreated.
make_world() {
    ip link set lo up
    sysctl -qw net.ipv6.conf.all.forwarding=1
    ip link add fabric type bridge
    ip link set fabric up
    ip addr add 172.18.0.1/24 dev fabric
    ip addr add fd00:18::1/64 dev fabric nodad
    dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=fabric --bind-dynamic --user=root --pid-file= \
        --dhcp-leasefile="$WORK/leases" --log-dhcp --log-facility="$WORK/dnsmasq.log" --dhcp-authoritative --no-ping \
        --dhcp-range=172.18.0.11,172.18.0.19,120 --dhcp-sequential-ip \
        --dhcp-option=option:T1,"$RENEW" --dhcp-option=option:T2,60 \
        --enable-ra --dhcp-range=::,constructor:fabric,ra-only,64,300 --ra-param=fabric,5,60 >"$WORK/dnsmasq.out" 2>&1 &
}

# Where a cgroup can be made: version 2, alone or beside version 1.
cgroups() { awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts; }

boot() {
    local unit=${1:-multi-user.target} init
    init=$(dirname "${BASH_SOURCE[0]}")/init.sh
    uuidgen >"$WORK/boot-id" 2>/dev/null || cat /proc/sys/kernel/random/uuid >"$WORK/boot-id"
    CGROUP=$(cgroups)/ovn-k8s-managers-$$-$RANDOM
    mkdir -p "$CGROUP"
    # The first child is the node; nothing else may fork here.
    (
        echo $BASHPID >"$CGROUP/cgroup.procs"
        exec env WORK="$WORK" UNIT="$unit" unshare --pid --fork --kill-child --mount --propagation private --net --uts --ipc \
            --cgroup bash "$init"
    ) </dev/null >"$WORK/init.log" 2>&1 &
    HOLDER=$!
    eventually pgrep -P $HOLDER >/dev/null || die "no namespace: $(cat "$WORK/init.log")"
    NODE=$(pgrep -P $HOLDER)
    ip link add wire type veth peer name eth0 netns "$NODE" address $MAC
    ip link set wire master fabric up
    # What goes through a packet socket has its checksum finished.
    ethtool -K wire tx off >/dev/null 2>&1 || true
    inside_net ethtool -K eth0 tx off >/dev/null 2>&1 || true
    touch "$WORK/wired"
    eventually booted || die "the node does not come up: $(cat "$WORK/init.log")"
}

booted() {
    case $(inside systemctl is-system-running 2>/dev/null) in running | degraded) ;; *) false ;; esac
}

# halt: as a loss of power. Processes and namespaces end; files stay.
halt() {
    kill -KILL "$NODE"
    wait "$HOLDER" 2>/dev/null || true
    NODE=
    ip link del wire 2>/dev/null || true
    rm -f "$WORK/wired"
    # A control group with a dying process cannot be removed; it stays, empty.
    find "$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
}

reboot() {
    halt
    boot "$@"
}

inside() { nsenter --target "$NODE" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root OVN_K8S_FAULT="${FAULT:-}" "$@"; }
inside_net() { nsenter --target "$NODE" --net "$@"; }
util() { inside ovn-k8s-util "$@"; }

# Whether the address is on the device.
has() { inside ip -o addr show dev "$1" | grep -qwF "$2"; }
# Whether the device has no address but its link-local one.
bare() { not grep -q . <<<"$(inside ip -o addr show dev "$1" scope global)"; }
answers() { ping -q -n -c 1 -W 1 "$1" >/dev/null; }
reached() { answers 172.18.0.11; }
reached6() { answers "${ADDRESS6:-fd00:18::11}"; }

diagnosis() {
    echo "--- addresses and routes of the node"
    inside ip addr 2>&1
    inside ip route 2>&1
    inside ip -6 route 2>&1
    echo "--- its journal"
    inside journalctl --no-pager -n 80 2>&1
}

finish() {
    [ $failures = 0 ] || { diagnosis >&2; exit 1; }
}
