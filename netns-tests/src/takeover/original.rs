//! The sequence of the original `nics-to-bridge`, for comparison, and its reversal by hand.

use anyhow::Result;

use super::{
    Site,
    nic::{BRIDGE, MAC},
};

/// One transaction for bridge and port; then addresses are flushed, added to the bridge, and IPv4 routes added again in
/// the order they are listed. IPv6 routes are forgotten.
const THERE: &str = r#"
addresses=$(ip -o addr show dev eth0 | awk '$3 ~ /^inet/ && !/ dynamic/ && !/scope link/ { print $4 }')
routes=$(ip -4 route show dev eth0 | grep -v "proto kernel")
ovs-vsctl --timeout=30 -- add-br $BRIDGE -- set bridge $BRIDGE datapath_type=$DATAPATH \
    -- br-set-external-id $BRIDGE bridge-id $BRIDGE -- set bridge $BRIDGE fail-mode=standalone other_config:hwaddr="$MAC" \
    -- add-port $BRIDGE eth0
ip addr flush dev eth0
for address in $addresses; do
    ip addr add $address dev $BRIDGE
    ip link set $BRIDGE up
done
ip route flush dev eth0 proto boot
echo "$routes" | while read -r route; do
    ip route add $route dev $BRIDGE
done
"#;

/// The bridge deleted, addresses and routes made again.
const BACK: &str = r#"
addresses=$(ip -o addr show dev $BRIDGE | awk '$3 ~ /^inet/ && !/scope link/ { print $4 }')
ovs-vsctl --timeout=30 del-br $BRIDGE
for address in $addresses; do ip addr add $address dev eth0; done
ip route replace default via 172.18.0.1 dev eth0
ip -6 route replace default via fd00:18::1 dev eth0
"#;

impl Site {
    /// Runs the original sequence. Like it, this succeeds whatever happened.
    pub fn original_there(&self) -> Result<()> {
        self.script(THERE)
    }

    /// Undoes it as a person would.
    pub fn original_back(&self) -> Result<()> {
        self.script(BACK)
    }

    fn script(&self, text: &str) -> Result<()> {
        let datapath = crate::lab::machine::Datapath::wanted().name();
        self.program("sh")
            .env("BRIDGE", BRIDGE)
            .env("MAC", MAC)
            .env("DATAPATH", datapath)
            .args(["-c", text])
            .outcome()?;
        Ok(())
    }
}
