//! The gateway helper on a site whose NIC is on the bridge: what keeps management alive when the switch dies.

use std::fs;

use anyhow::{Context, Result};

use super::{
    Site,
    nic::{BRIDGE, NIC},
};
use crate::lab::{
    address::{JOIN, SERVICES},
    machine::Datapath,
    process::{Program, RunningProgram, wait_until},
};

/// A helper that runs until it is dropped.
#[derive(Debug)]
pub struct Helper {
    held: RunningProgram,
}

impl Site {
    /// Starts the helper, with more arguments; returns when its log says it is ready.
    pub fn start_helper(&self, more: &[&str]) -> Result<Helper> {
        if !self.has_bridge("br-int")? {
            let datapath = Datapath::wanted().name();
            self.vsctl(&format!(
                "-- add-br br-int -- set bridge br-int datapath_type={datapath} fail-mode=secure"
            ))?;
        }
        let mut helper = self.launch_helper(more, "")?;
        self.wait_until_ready().with_context(|| format!("{:?}", helper.held.expect_alive()))?;
        Ok(helper)
    }

    /// Waits until a helper says that it is ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_until("the helper to be ready", || {
            Ok(self.helper_page("/readyz").is_ok_and(|page| page.starts_with("HTTP/1.1 200")))
        })
    }

    /// Starts the helper with faults on the way (e.g. `to-nic-mouth:kill`), and does not wait for it.
    pub fn launch_helper(&self, more: &[&str], faults: &str) -> Result<Helper> {
        let program = self.helper(more)?.env("OVN_K8S_FAULT", faults);
        Ok(Helper { held: program.hold(&self.dir().join("helper.out"), &self.register())? })
    }

    /// Takes away what a helper that has ended left: without a way to the pods the NIC may leave the bridge.
    pub fn clean_up_helper(&self) -> Result<()> {
        self.helper(&["--cleanup"])?.run().map(drop)
    }

    fn helper(&self, more: &[&str]) -> Result<Program<'_>> {
        let dir = self.dir().display();
        let manifests = self.dir().join("manifests");
        fs::create_dir_all(&manifests)?;
        let program = self
            .program(self.called("ovn-k8s-gateway-helper")?)
            .args([
                format!("--physical-bridge={BRIDGE}"),
                format!("--physical-interface={NIC}"),
                "--node-name=node1".to_owned(),
                format!("--service-cluster-ip-range={}", SERVICES.join(",")),
                format!("--join-subnet={}", JOIN.join(",")),
                format!("--state-dir={}", self.state_dir().display()),
                format!("--manifests={}", manifests.display()),
                "--metrics-address=127.0.0.1:9409".to_owned(),
                format!("--pidfile={dir}/ovn-k8s-gateway-helper.pid"),
                format!("--log-file={dir}/ovn-k8s-gateway-helper.log"),
            ])
            .args(more);
        Ok(program)
    }

    /// A page of the helper's HTTP server, with its headers.
    pub fn helper_page(&self, path: &str) -> Result<String> {
        use std::io::{Read as _, Write as _};
        let connected = self.node().enter(|| std::net::TcpStream::connect(("127.0.0.1", 9409)))?;
        let mut stream = connected.context("connecting to the helper's pages")?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Helper {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.held.id()
    }

    /// Ends it at once.
    pub fn kill(self) -> Result<()> {
        self.held.kill()
    }

    /// Waits until it has ended by itself.
    pub fn wait_until_ended(mut self) -> Result<()> {
        wait_until("the helper to end", || Ok(!self.held.is_alive()?))
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(self) -> Result<()> {
        self.held.terminate()
    }
}
