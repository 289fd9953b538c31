#!/bin/sh
# Inside the machine of reboot.sh, at each boot: takes the NIC over at the first one, records the state every few seconds.
boot=$(($(cat /var/boots 2>/dev/null || echo 0) + 1))
echo $boot >/var/boots
if [ $boot = 1 ]; then
    nic=$(ip -br link | awk '/0a:58:ac:00:01:0b/ { print $1; exit }')
    ovs-vsctl --timeout=60 set Open_vSwitch . external_ids:ovn-bridge-datapath-type="$(cat /var/datapath)"
    ovn-k8s-util nics-to-bridge --verify-timeout=120 "$nic" >/var/boot.1 2>&1
    echo "exit code $?" >>/var/boot.1
fi
while :; do
    {
        ip -br addr
        ip route
        echo "unit $(systemctl is-active ovn-k8s-uplink-recover.service)"
        journalctl -b -u ovn-k8s-uplink-recover.service --no-pager -n 5
        nft list tables
        grep -o '"state": *"[a-z-]*"' /var/lib/ovn-k8s/uplink/journal.json
    } >/var/look.new 2>&1
    mv /var/look.new /var/look.$boot
    sleep 3
done
