# shellcheck shell=bash
# The steps and checks for every network manager: sourced by the scripts beside, after machine.sh. These define
#
#   configure        writes the node's configuration before its first boot
#   folders          where the manager keeps it (below the root)
#   manages DEVICE   whether the manager manages it
#   restart          starts the manager again
#   TITLE            its name in what the plan prints
#   RELEASE          the log line of a release that the takeover would have caused
#   STATIC           set: there is no lease, and the manager ignores the bridge

tree() {
    local folder
    for folder in $(folders); do
        (cd "$WORK/root" && find "./$folder" -type f ! -name '*.lease*' ! -name '*.leases' -exec sha256sum {} + 2>/dev/null) || true
    done | sort -k 2
}
tree_is() { diff <(tree) "$1"; }

ping_start() {
    ping -n -i 0.02 -W 1 172.18.0.11 >"$WORK/ping4" 2>/dev/null &
    PING4=$!
    ping -n -i 0.02 -W 1 fd00:18::11 >"$WORK/ping6" 2>/dev/null &
    PING6=$!
    sleep 0.5
}
# ping_stop WHAT: prints the losses, and does not judge them: a busy machine loses some.
ping_stop() {
    sleep 1
    kill -INT "$PING4" "$PING6"
    wait "$PING4" "$PING6" 2>/dev/null || true
    say "printed $1: $(for family in 4 6; do
        printf 'IPv%s ' $family
        grep -o '[0-9]* packets transmitted, [0-9]* received\(, +[0-9]* duplicates\)\?' "$WORK/ping$family" | tr '\n' ' '
    done)"
}

# In the server's log: renewals by one client, no release, no second address.
acks() { grep -c 'DHCPACK.* 172.18.0.11 ' "$WORK/dnsmasq.log" || true; }
renewed_since() { [ -n "${STATIC:-}" ] || [ "$(acks)" -gt "$1" ]; }
one_lease() { not grep -e "${RELEASE:-DHCPRELEASE}" -e 'DHCPACK.* 172.18.0.1[2-9] ' -e DHCPNAK "$WORK/dnsmasq.log"; }

on_nic() {
    has eth0 172.18.0.11 && has eth0 fd00:18::11 && not inside ip link show dev breth0 && reached && reached6
}
on_bridge() {
    has breth0 172.18.0.11 && has breth0 fd00:18::11 && bare eth0 && reached && reached6
}
steady_on_bridge() { bare eth0 && has breth0 172.18.0.11 && reached; }

no_open_journal() { not grep -q '"state": *"open"' "$WORK/root/var/lib/ovn-k8s/uplink/journal.json"; }

scenario() {
    make_root
    configure
    make_world
    if [ -e "$SYSTEMD/ovn-k8s-uplink-recover.service" ]; then enable ovn-k8s-uplink-recover.service; fi
    boot
    check "the node boots with its addresses on eth0" eventually on_nic
    inside ovs-vsctl --timeout=30 set Open_vSwitch . external_ids:ovn-bridge-datapath-type=netdev
    check "$TITLE manages eth0" eventually manages eth0
    tree >"$WORK/before"

    util nics-to-bridge --dry-run eth0 >"$WORK/plan" 2>&1 || true
    check "the plan names $TITLE" grep -i "$TITLE" "$WORK/plan"
    check "nothing has changed by it" on_nic
    check "no file has changed by it" tree_is "$WORK/before"
    sed 's/^/              /' "$WORK/plan"

    FAULT=verify:kill util nics-to-bridge eth0 >"$WORK/there" 2>&1 || true
    check "killed after verify: undone" eventually on_nic
    check "killed after verify: files as before" eventually tree_is "$WORK/before"
    check "killed after verify: $TITLE manages eth0" eventually manages eth0
    check "killed after verify: the journal is closed" eventually no_open_journal

    ping_start
    check "nics-to-bridge eth0" util nics-to-bridge eth0
    sleep 3
    ping_stop "nics-to-bridge and its hand-over"
    check "management is on breth0" eventually on_bridge
    check "$TITLE ignores eth0" eventually not manages eth0
    if [ -z "${STATIC:-}" ]; then check "$TITLE manages breth0" eventually manages breth0; fi
    check "nothing comes back to eth0 by itself" throughout 3 steady_on_bridge
    local before
    before=$(acks)
    check "the lease is renewed" within 45 renewed_since "$before"

    ping_start
    check "$TITLE is restarted" restart
    check "nothing comes back to eth0 by that" throughout 8 steady_on_bridge
    ping_stop "restart of $TITLE"
    before=$(acks)
    check "the lease is renewed after that" within 45 renewed_since "$before"
    if [ "$(type -t further)" = function ]; then further; fi

    if [ -z "${STATIC:-}" ]; then
        say "waiting until the lease would have ended"
        check "management stays past the lease's time" throughout 130 steady_on_bridge
        check "one lease, the same address, no release" one_lease
    fi

    before=$(acks)
    reboot
    check "after a loss of power: management on breth0" within 60 on_bridge
    check "after a loss of power: nothing comes back to eth0" throughout 5 steady_on_bridge
    check "after a loss of power: the lease is renewed" within 45 renewed_since "$before"

    ping_start
    check "bridge-to-nics breth0" util bridge-to-nics breth0
    sleep 3
    ping_stop "bridge-to-nics and its hand-over"
    check "management is on eth0" eventually on_nic
    check "the files are as before" eventually tree_is "$WORK/before"
    check "$TITLE manages eth0 again" eventually manages eth0
    before=$(acks)
    check "the lease is renewed" within 45 renewed_since "$before"
    check "$TITLE is restarted" restart
    check "management stays on eth0" throughout 5 reached
    check "one lease, the same address, no release" one_lease
    finish
}

# within SECONDS COMMAND...: `eventually` with another limit.
within() {
    local seconds=$1
    shift
    PATIENCE=$seconds eventually "$@"
}
