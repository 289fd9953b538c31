//! The source of Kubernetes objects, as settings and the local database describe it.

use std::collections::BTreeMap;

use kubernetes::{ClientConfig, NodeSettings, Source, Watch};

use crate::settings::{ObjectSettings, Settings};

/// The client of the API server: flags first, then the switch's `external_ids`. `None` where a folder of manifests
/// takes the API server's place. The error is a line for a person.
pub(crate) fn client(
    objects: &ObjectSettings,
    external_ids: &BTreeMap<String, String>,
) -> Result<Option<ClientConfig>, String> {
    if let Some(folder) = &objects.manifests {
        return std::fs::read_dir(folder).map(|_| None).map_err(|error| {
            format!("--manifests {}: {error}; give a folder of YAML files", folder.display())
        });
    }
    ClientConfig::from_settings(&node_settings(objects, external_ids))
        .map(Some)
        .map_err(|error| error.to_string())
}

fn node_settings(objects: &ObjectSettings, external_ids: &BTreeMap<String, String>) -> NodeSettings {
    let of = |key: &str| external_ids.get(key).cloned();
    NodeSettings {
        api_server: objects.api_server.clone().or_else(|| of("k8s-api-server")),
        ca_certificate: if objects.ca_file.is_some() { None } else { of("k8s-ca-certificate") },
        ca_file: objects.ca_file.clone().or_else(|| Some("/etc/openvswitch/k8s-ca.crt".into())),
        api_token: if objects.token_file.is_some() { None } else { of("k8s-api-token") },
        token_file: objects.token_file.clone(),
        allow_insecure_token: objects.allow_insecure_token,
    }
}

/// Starts to read the objects: from the API server of this client, else from the folder.
pub(crate) fn open(settings: &Settings, client: Option<ClientConfig>) -> Result<Source, String> {
    match (client, &settings.connections.objects.manifests) {
        (Some(client), _) => Ok(Source::api(client, Watch { node: settings.node_name.clone() })),
        (None, Some(folder)) => Source::manifests(folder).map_err(|error| error.to_string()),
        (None, None) => {
            Err("K8S_API_SERVER not set: set external_ids:k8s-api-server, or give --manifests".to_owned())
        }
    }
}
