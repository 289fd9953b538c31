//! Traffic of every kind, both ways, in both families at once; and what of it was lost, doubled or late.
//!
//! Four threads: on either side one that sends by the clock, and one that receives answers and echoes what the other
//! side asks. Answers carry the kernel's own time of arrival (`SO_TIMESTAMPNS`, socket(7)), so a receiver that is
//! scheduled late measures nothing wrong. What remains is the machine's own noise: run it with nothing happening, too.

mod clock;
mod ends;
mod flow;
pub(crate) mod ping;
mod report;
mod side;
mod sockets;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

pub use clock::Moment;
pub use flow::{Direction, Flow, Kind};
pub use report::{FlowReport, Report};

use super::Site;
use crate::lab::{
    address::{Dual, Family},
    machine::scaled,
    netns::Namespace,
    process::wait_until,
};
use ends::{Client, Server};
use side::{Orders, Sent};

/// How long after the last request an answer may still arrive.
const GRACE: Duration = Duration::from_millis(300);

/// Which traffic to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// The families.
    pub families: Vec<Family>,
    /// So many times fewer requests a second than usual.
    pub slower: u32,
}

impl Load {
    /// Everything: twelve flows.
    pub fn full() -> Self {
        Self { kinds: Kind::ALL.to_vec(), families: Family::ALL.to_vec(), slower: 1 }
    }

    /// One kind, both ways, both families.
    pub fn of(kind: Kind) -> Self {
        Self { kinds: vec![kind], families: Family::ALL.to_vec(), slower: 1 }
    }

    /// The same with so many times fewer requests a second.
    pub fn slowed(self, times: u32) -> Self {
        Self { slower: times.max(1), ..self }
    }

    fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for kind in &self.kinds {
            for direction in Direction::BOTH {
                flows.extend(self.families.iter().map(|family| Flow {
                    kind: *kind,
                    direction,
                    family: *family,
                }));
            }
        }
        flows
    }
}

/// Traffic that runs until it is stopped.
#[derive(Debug)]
pub struct Meter {
    flows: Vec<Flow>,
    orders: Arc<Orders>,
    senders: Vec<JoinHandle<Vec<Sent>>>,
    receivers: Vec<JoinHandle<side::End>>,
}

impl Meter {
    /// Starts the traffic of a site; returns when every flow has had an answer.
    pub fn start(site: &Site, load: &Load) -> Result<Self> {
        Self::between(site.outside(), site.administrator(), site.node(), site.address(), load)
    }

    /// The same between any two namespaces: `In` flows begin outside and ask the node.
    pub fn between(
        outside: &Namespace,
        administrator: Dual,
        node: &Namespace,
        address: Dual,
        load: &Load,
    ) -> Result<Self> {
        let flows = load.flows();
        let mut sides: Vec<(Vec<Client>, Vec<Server>)> = vec![Default::default(), Default::default()];
        for (number, flow) in flows.iter().enumerate() {
            let (here, there, to) = match flow.direction {
                Direction::In => (outside, node, address),
                Direction::Out => (node, outside, administrator),
            };
            let (client, server) =
                sockets::pair(number, *flow, flow.kind.pace() * load.slower, here, there, to)
                    .with_context(|| format!("starting the flow {flow}"))?;
            let near = usize::from(flow.direction == Direction::Out);
            if let Some((clients, _)) = sides.get_mut(near) {
                clients.push(client);
            }
            if let (Some(server), Some((_, servers))) = (server, sides.get_mut(1 - near)) {
                servers.push(server);
            }
        }
        let orders = Arc::new(Orders {
            quiet: AtomicBool::new(false),
            end: AtomicBool::new(false),
            answers: flows.iter().map(|_| AtomicU64::new(0)).collect(),
            requests: flows.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (clients, servers) in sides {
            let twins = clients.iter().map(Client::twin).collect::<Result<Vec<_>>>()?;
            let told = Arc::clone(&orders);
            receivers.push(thread::spawn(move || side::receive(twins, servers, &told)));
            let told = Arc::clone(&orders);
            senders.push(thread::spawn(move || side::send(clients, &told)));
        }
        let meter = Self { flows, orders, senders, receivers };
        wait_until("every flow's first answer", || Ok(meter.answers().iter().all(|count| *count > 0)))?;
        Ok(meter)
    }

    /// How much each flow had answered so far.
    fn answers(&self) -> Vec<u64> {
        self.orders.answers.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every flow gets answers again, from now on.
    pub fn wait_until_all_move(&self) -> Result<()> {
        let before = self.answers();
        wait_until("every flow to move", || {
            let now = self.answers();
            let still = before.iter().zip(&now).zip(&self.flows).find(|((before, now), _)| before == now);
            if let Some((_, flow)) = still {
                bail!("{flow} stands still");
            }
            Ok(true)
        })
    }

    /// Lets the traffic run for a while.
    pub fn run_for(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Ends the traffic, waits for what is under way, and counts. TCP has half a minute to bring what it owes.
    pub fn stop(self) -> Result<Report> {
        self.orders.quiet.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for sender in self.senders {
            sent.extend(sender.join().map_err(|_| anyhow!("a sender of the meter broke"))?);
        }
        thread::sleep(scaled(GRACE));
        let owed = || {
            self.flows.iter().zip(self.orders.requests.iter().zip(&self.orders.answers)).any(
                |(flow, (requests, answers))| {
                    flow.kind == Kind::Tcp
                        && answers.load(Ordering::Relaxed) < requests.load(Ordering::Relaxed)
                },
            )
        };
        // A connection that brings no more is told as dead below.
        drop(wait_until("TCP to bring what it owes", || Ok(!owed())));
        self.orders.end.store(true, Ordering::Relaxed);
        let (mut received, mut sockets) = (Vec::new(), Vec::new());
        for receiver in self.receivers {
            let (saw, clients, servers) =
                receiver.join().map_err(|_| anyhow!("a receiver of the meter broke"))?;
            received.extend(saw);
            sockets.push((clients, servers));
        }
        drop(sockets);
        sent.sort_by_key(|one| one.number);
        let reports = self.flows.iter().zip(sent).enumerate().map(|(number, (flow, sent))| {
            let answers = received.iter().filter(|one| one.number == number).cloned();
            FlowReport::new(*flow, sent, answers.collect())
        });
        Ok(Report { flows: reports.collect() })
    }
}
