//! A lab of real gateway nodes in network namespaces, and the tests that run in it.
//!
//! # What it is
//!
//! ```text
//! internet 203.0.113.10 --.
//!                          +-- router 172.18.0.1 -- fabric --+-- node1 172.18.0.11 (eth0 in breth0) -- br-int -- pod11, pod12
//! administrator 192.0.2.10-'                                 +-- node2 172.18.0.12                  -- br-int -- pod21, pod22
//!                                                            '-- OVN central 172.18.0.2
//! ```
//!
//! Every machine is a network namespace; every node has its own ovsdb-server, ovs-vswitchd (userspace datapath, no
//! kernel module) and ovn-controller; all are dual stack ([`lab::address`] has every number). Two nodes with four pods
//! are up in about a second. A lab is private: names carry the process id and a count, files lie under one folder of the
//! temporary directory, no link ever stands in the machine's own namespace, so tests run side by side. It goes when it
//! is dropped, after a panic too; what a killed process left is swept by the next one that makes a lab.
//!
//! The logical network (routers, SNAT, load balancers) is kept by [`lab::topology`], a small controller for tests from
//! the same [`lab::service::ServiceSpec`] values that become Kubernetes manifests. It does not ship.
//!
//! # What it is not
//!
//! It depends on no other crate of the workspace and reads none of their types: the product is the built binary, started
//! inside a node and looked at from outside, by packets, by `ovs-ofctl`, by its own sockets. It never touches the
//! machine's own network or its own Open vSwitch. It measures nothing: loss by a busy machine is not told from loss by a
//! wrong flow, so tests hold sessions and retry nothing that must work at once.
//!
//! # How to use it
//!
//! Root, and the packages `openvswitch-switch ovn-central ovn-host nftables ethtool iproute2 iputils-ping` are needed.
//!
//! ```no_run
//! use netns_tests::{
//!     lab::{LabOptions, address::Family, cluster::Cluster, helper::HelperOptions, service::{EndpointSpec, ServiceSpec}},
//!     probe::{Request, Listen, Responder},
//! };
//!
//! # fn main() -> anyhow::Result<()> {
//! // Two nodes with two pods each, and the product's helper on every node.
//! let cluster = Cluster::up(LabOptions::default(), &HelperOptions::default())?;
//! let lab = cluster.lab();
//!
//! // A server in a pod that answers with its own name, and a Service for it.
//! let pod = lab.pod(2, 1)?;
//! let _server = Responder::start(pod.namespace(), pod.name(), &Listen::everywhere(8080))?;
//! cluster.apply(&[ServiceSpec::new("web", 1, 30080, 8080, vec![EndpointSpec::pod(2, 1)])])?;
//!
//! // A client in the internet connects to the first node's NodePort.
//! let to = lab.node(1)?.address().port(Family::V4, 30080);
//! let answer = Request::tcp(to).send(lab.world().internet().namespace())?;
//! assert_eq!(answer.name, "pod21");
//! # Ok(())
//! # }
//! ```
//!
//! From another crate: put `netns-tests.workspace = true` under `[dev-dependencies]`, and start with
//! [`lab::Lab::up`] (nodes, no helper) or [`lab::cluster::Cluster::up`] (a helper on each). The helper's binary is
//! `ovn-k8s` of the same target directory, or the one named by `OVN_K8S_BIN`.
//!
//! | environment | effect |
//! |---|---|
//! | `OVN_K8S_BIN` | the binary under test |
//! | `LAB_REFERENCE_HELPER=1` | [`lab::reference_helper`] in the helper's place: a failure with it is the lab's |
//! | `LAB_DATAPATH=kernel` | the kernel's own datapath (module `openvswitch`), see [`lab::machine`] |
//! | `LAB_SLOWNESS=5` | every time limit five times as long |
//! | `LAB_KEEP=1` | folders (logs, databases) stay when a lab goes |
//! | `LAB_HOLD=1` | a lab that does not come up stays, with all its processes, for inspection |
//! | `LAB_CHECK=WORDS` | of `tests/checks`, only those whose name contains these words |
//! | `LAB_BRINGUPS=N` | of `tests/bringups`, so many in a row |
//!
//! # The parts
//!
//! [`lab`] builds and takes down; [`probe`] asks, answers, holds sessions, puts frames in and looks at them; [`matrix`]
//! is the path matrix.

pub mod apiserver;
pub mod demo;
pub mod lab;
pub mod matrix;
pub mod probe;
pub mod takeover;
