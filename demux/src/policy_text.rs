//! Policies as text a person can read and write: JSON, by serde.
//!
//! ```json
//! {
//!   "split": {
//!     "mac": "0a:58:c0:00:02:01",
//!     "shared": ["192.0.2.1", "2001:db8::1"],
//!     "snat": [],
//!     "service_ranges": ["10.96.0.0/16"],
//!     "tunnels": [6081],
//!     "reply": { "rule": "partitioned", "ports": "40000-59999", "drain": false },
//!     "other_ports": false
//!   },
//!   "services": {
//!     "shop/web": [
//!       { "address": "node/ipv4", "protocol": "tcp", "port": 30080, "owner": "north-south" },
//!       { "address": "203.0.113.5", "protocol": "tcp", "port": 80, "owner": "north-south",
//!         "sources": ["198.51.100.0/24"] }
//!     ]
//!   }
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::mac::Mac;
use crate::policy::{
    Family, Policy, PortRange, ServiceAddress, ServiceKey, ServiceOwner, ServicePort, ServiceRules, Split,
    Transport,
};

/// What a written policy holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyText {
    split: Split,
    #[serde(default)]
    services: BTreeMap<ServiceKey, Vec<ServicePort>>,
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let services = self.services().map(|(key, rules)| (key.clone(), rules.ports.clone())).collect();
        PolicyText { split: self.split.clone(), services }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = PolicyText::deserialize(deserializer)?;
        let mut policy = Policy::new(text.split);
        for (key, ports) in text.services {
            if let Some(port) = ports.iter().find(|port| port.port == 0) {
                return Err(D::Error::custom(format_args!(
                    "service {key}: {} port 0 is none; write 1 to 65535",
                    port.address
                )));
            }
            policy.set_service(key, Arc::new(ServiceRules::new(ports)));
        }
        Ok(policy)
    }
}

impl FromStr for ServiceAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::word(text, "a service address", "node/ipv4, node/ipv6 or an IP address");
        match text.strip_prefix("node/") {
            Some(family) => family.parse::<Family>().map(ServiceAddress::Node).map_err(|_| bad()),
            None => text.parse().map(ServiceAddress::External).map_err(|_| bad()),
        }
    }
}

impl FromStr for ServiceOwner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [ServiceOwner::NorthSouth, ServiceOwner::Management, ServiceOwner::Drop]
            .into_iter()
            .find(|owner| owner.to_string() == text)
            .ok_or_else(|| Error::word(text, "an owner of a service port", "north-south, management or drop"))
    }
}

/// Values that are written as one word.
macro_rules! words {
    ($($word:ty),*) => {
        $(
            impl Serialize for $word {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $word {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer.deserialize_str(Word(PhantomData))
                }
            }
        )*
    };
}

words!(Mac, PortRange, Transport, Family, ServiceAddress, ServiceOwner);

struct Word<T>(PhantomData<T>);

impl<T: FromStr<Err = Error>> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Generator;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let mut generator = Generator::new(5);
        for _ in 0..50 {
            let policy = generator.policy();
            let text = serde_json::to_string_pretty(&policy).unwrap();
            assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy, "{text}");
        }
    }

    #[test]
    fn a_person_writes_only_what_matters() {
        let text = r#"{
            "split": { "mac": "0a:00:00:00:00:01", "shared": ["192.0.2.1"] },
            "services": { "a/b": [{ "address": "node/ipv4", "protocol": "TCP", "port": 30080, "owner": "drop" }] }
        }"#;
        let policy = serde_json::from_str::<Policy>(text).unwrap();
        let claim = policy.claim(ServiceAddress::Node(Family::V4), Transport::Tcp, 30080).unwrap();
        assert_eq!((claim.service.to_string(), claim.port.owner), ("a/b".to_owned(), ServiceOwner::Drop));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |port: &str| {
            let text = format!(
                r#"{{ "split": {{ "mac": "0a:00:00:00:00:01", "shared": [] }}, "services": {{ "a/b": [{port}] }} }}"#
            );
            serde_json::from_str::<Policy>(&text).unwrap_err().to_string()
        };
        let port = r#"{ "address": "node/ipv4", "protocol": "tcp", "port": 0, "owner": "drop" }"#;
        for (from, to, expected) in [
            ("", "", "service a/b: node/ipv4 port 0 is none"),
            ("node/ipv4", "node/ipv5", "'node/ipv5' is not a service address; write node/ipv4"),
            ("tcp", "icmp", "'icmp' is not a transport protocol; write tcp, udp or sctp"),
            ("drop", "nobody", "'nobody' is not an owner of a service port"),
            ("port\": 0", "prot\": 5", "unknown field `prot`"),
        ] {
            let error = with(&port.replace(from, to));
            assert!(error.contains(expected), "{error}");
        }
    }
}
