//! What the daemon reads: the two databases, the Kubernetes objects, the host's devices. It follows them, and gives
//! what they hold and whether they were ever read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use host::rtnl::address::Address;
use host::rtnl::asynchronous::{self, AsyncSocket};
use host::rtnl::link::Link;
use ipnet::IpNet;
use kubernetes::{Batch, Source};
use tokio::sync::watch;

use crate::bridge::BridgeView;
use crate::database::{FollowedDatabase, northbound_remotes, origin};
use crate::northbound::{self, GatewayRouter};
use crate::object_source;
use crate::pass::{NorthboundState, SourcesKnown};
use crate::servers::servers;
use crate::settings::Settings;
use crate::status::SourceStatus;

/// All sources.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The local database.
    pub(crate) local: FollowedDatabase,
    /// The northbound database with the logical port whose router is needed, or why it is not followed.
    northbound: Option<Result<(String, FollowedDatabase), String>>,
    /// Kubernetes objects.
    pub(crate) objects: Source,
    /// The `external_ids` that the objects' client was made from.
    client_settings: BTreeMap<String, String>,
    netlink: AsyncSocket,
    devices: watch::Receiver<u64>,
}

/// What changed.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// Kubernetes objects.
    Objects(Batch),
    /// A database, or the connection to it.
    Database,
    /// Devices, addresses or routes of the host.
    Devices,
}

impl Sources {
    /// Starts to follow the databases and the host's devices. The error is a line for a person.
    pub(crate) fn open(settings: &Settings, objects: Source) -> Result<Self, String> {
        Ok(Self {
            local: FollowedDatabase::local(settings.connections.local.clone()),
            northbound: None,
            objects,
            client_settings: BTreeMap::new(),
            netlink: AsyncSocket::open().map_err(|error| error.to_string())?,
            devices: asynchronous::watch().map_err(|error| error.to_string())?,
        })
    }

    /// Resolves at the next change of any of them. Safe to cancel: nothing is lost.
    pub(crate) async fn next(&mut self) -> SourceEvent {
        let northbound = async {
            match &mut self.northbound {
                Some(Ok((_, database))) => drop(database.changes.changed().await),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            batch = self.objects.next() => SourceEvent::Objects(batch),
            _ = self.local.changes.changed() => SourceEvent::Database,
            () = northbound => SourceEvent::Database,
            Ok(()) = self.devices.changed() => SourceEvent::Devices,
        }
    }

    /// Resolves when the objects were read as a whole.
    pub(crate) async fn objects_synced(&mut self) {
        while !self.objects.synced() {
            self.objects.next().await;
        }
    }

    /// Resolves when the northbound database was read as a whole; at once where none is followed.
    pub(crate) async fn northbound_synced(&self) {
        if let Some(Ok((_, database))) = &self.northbound {
            database.db.wait_synced().await;
        }
    }

    /// Follows what the bridge's rows name: the northbound database of its logical port, and the API server whose
    /// address or token changed.
    pub(crate) fn follow(&mut self, bridge: &BridgeView, settings: &Settings) {
        self.follow_northbound(bridge, settings);
        self.follow_api_server(&bridge.external_ids, settings);
    }

    fn follow_northbound(&mut self, bridge: &BridgeView, settings: &Settings) {
        let Some(iface_id) = bridge.iface_id.clone() else { return };
        let ovn_nb = bridge.external_ids.get("ovn-nb").map(String::as_str);
        let given = &settings.connections.northbound;
        match northbound_remotes(given, ovn_nb, &settings.paths) {
            Ok(remotes) => {
                let origin = origin(&remotes);
                let followed = matches!(&self.northbound, Some(Ok((id, now))) if *id == iface_id && now.origin == origin);
                if !followed {
                    let tls = Some(settings.connections.northbound_tls.clone());
                    let database = FollowedDatabase::northbound(remotes, tls, &iface_id);
                    self.northbound = Some(Ok((iface_id, database)));
                }
            }
            // One that is followed already is kept: its content stays known.
            Err(_) if matches!(self.northbound, Some(Ok(_))) => {}
            Err(error) => self.northbound = Some(Err(error)),
        }
    }

    fn follow_api_server(&mut self, external_ids: &BTreeMap<String, String>, settings: &Settings) {
        let objects = &settings.connections.objects;
        if objects.manifests.is_some() || *external_ids == self.client_settings {
            return;
        }
        let first = self.client_settings.is_empty();
        self.client_settings.clone_from(external_ids);
        match object_source::client(objects, external_ids) {
            Ok(Some(client)) if !first => self.objects.reconfigure(client),
            Ok(_) => {}
            Err(error) => tracing::warn!("the API server's new settings are not used: {error}"),
        }
    }

    /// The gateway router of the followed logical port, or why it cannot be found.
    pub(crate) fn router(&self) -> Result<GatewayRouter, String> {
        let (iface_id, database) = match &self.northbound {
            Some(Ok((iface_id, database))) => (iface_id, database),
            Some(Err(error)) => return Err(error.clone()),
            None => {
                return Err("the patch port's end on br-int has no iface-id; gateway-init sets it".to_owned());
            }
        };
        if !database.known() {
            let error = database.error().unwrap_or_else(|| "no answer yet".to_owned());
            return Err(format!("northbound database {}: {error}", database.origin));
        }
        northbound::gateway_router(&database.db.snapshot(), iface_id)
            .ok_or_else(|| format!("no gateway router is behind the logical port {iface_id}"))
    }

    /// Servers that no Service may take from the node: those that flags and the switch's `external_ids` name.
    pub(crate) fn servers(&self, bridge: &BridgeView, settings: &Settings) -> BTreeSet<SocketAddr> {
        let northbound = origin(&settings.connections.northbound);
        let given = [settings.connections.objects.api_server.as_deref(), Some(northbound.as_str())];
        let ids = ["k8s-api-server", "ovn-nb", "ovn-remote"];
        let ids = ids.iter().filter_map(|key| bridge.external_ids.get(*key)).map(String::as_str);
        servers(given.into_iter().flatten().chain(ids))
    }

    /// Addresses of every device of the host; `None` (and a warning) when they cannot be read.
    pub(crate) async fn addresses(&self) -> Option<Vec<(String, IpNet)>> {
        match addresses(&self.netlink).await {
            Ok(addresses) => Some(addresses),
            Err(error) => {
                tracing::warn!("the host's addresses cannot be read: {error}");
                None
            }
        }
    }

    /// Which of them were read as a whole at least once.
    pub(crate) fn known(&self, bridge: &BridgeView) -> SourcesKnown {
        SourcesKnown {
            objects: self.objects.synced(),
            local: self.local.known(),
            northbound: match &self.northbound {
                Some(Ok((_, database))) if database.known() => NorthboundState::Known,
                Some(Ok(_)) => NorthboundState::Silent,
                Some(Err(_)) => NorthboundState::Absent,
                None if bridge.iface_id.is_none() => NorthboundState::Absent,
                None => NorthboundState::Silent,
            },
        }
    }

    /// How they are doing, for the status.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        let database = |name: &str, database: &FollowedDatabase| {
            let error = database.error();
            SourceStatus {
                name: name.to_owned(),
                origin: database.origin.clone(),
                connected: error.is_none(),
                synced: database.known(),
                error,
            }
        };
        let mut sources = vec![database("local database", &self.local)];
        if let Some(Ok((_, northbound))) = &self.northbound {
            sources.push(database("northbound", northbound));
        }
        let health = self.objects.health();
        sources.push(SourceStatus {
            name: "kubernetes".to_owned(),
            origin: health.origin.clone(),
            connected: health.connected,
            synced: self.objects.synced(),
            error: health.last_error.clone(),
        });
        sources
    }
}

/// Addresses of every device, by the device's name.
async fn addresses(netlink: &AsyncSocket) -> host::Result<Vec<(String, IpNet)>> {
    let devices: Vec<_> = netlink.links().await?.iter().map(Link::device).collect();
    let net = |address: &Address| IpNet::new(address.local()?, address.prefix()).ok();
    let named = |address: &Address| {
        let device = devices.iter().find(|device| device.index == address.device())?;
        Some((device.name.clone(), net(address)?))
    };
    let mut named: Vec<(String, IpNet)> = netlink.addresses().await?.iter().filter_map(named).collect();
    named.sort();
    Ok(named)
}
