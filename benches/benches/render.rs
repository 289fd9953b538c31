//! The policy as flows: rendered as a whole, followed change by change, written as OpenFlow, compared with a dump.

use std::hint::black_box;
use std::time::Duration;

use benches::cluster::{MadeUp, datapath, policy, services_for};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flows::{Rendering, cookie, render};
use ovs::openflow::flow::Flow;
use ovs::openflow::wire::message::put_bundle_add;
use ovs::openflow::{Dumped, FlowMod, diff};

criterion_group!(all, whole, one, encode, compare);
criterion_main!(all);

const SIZES: [usize; 2] = [10_000, 30_000];

fn rendering(flows: usize) -> Rendering {
    Rendering::new(policy(services_for(flows)), datapath())
}

fn flows(rendering: &Rendering) -> Vec<Flow> {
    let pairs = rendering.flows().iter();
    pairs.map(|(key, value)| Flow { key: key.clone(), value: value.clone() }).collect()
}

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("render all flows");
    group.sample_size(20);
    for size in SIZES {
        let policy = policy(services_for(size));
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("as a list", size), |bencher| {
            bencher.iter_with_large_drop(|| render(black_box(&policy), &datapath()));
        });
        group.bench_function(BenchmarkId::new("as a rendering that follows", size), |bencher| {
            bencher.iter_batched(
                || policy.clone(),
                |policy| Rendering::new(policy, datapath()),
                BatchSize::LargeInput,
            );
        });
    }
}

fn one(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("set one Service");
    for size in SIZES {
        let mut rendering = rendering(size);
        let home = MadeUp::new(400);
        let (away, key) = (home.clone().at_node_port(32_700).rules(), home.key());
        let home = home.rules();
        group.bench_function(BenchmarkId::new("its NodePort moves, and back", size), |bencher| {
            bencher.iter(|| {
                let there = rendering.set_service(&key, Some(away.clone()));
                let back = rendering.set_service(&key, Some(home.clone()));
                (there, back)
            });
        });
        let new = MadeUp::new(60_001);
        let (key, rules) = (new.key(), new.rules());
        group.bench_function(BenchmarkId::new("one more, and gone again", size), |bencher| {
            bencher.iter(|| {
                let there = rendering.set_service(&key, Some(rules.clone()));
                let back = rendering.set_service(&key, None);
                (there, back)
            });
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write a bundle");
    for size in SIZES {
        let mods: Vec<FlowMod> = flows(&rendering(size)).into_iter().map(FlowMod::Add).collect();
        group.throughput(Throughput::Elements(mods.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                // What cannot be written is left out and seen below.
                (0..)
                    .zip(&mods)
                    .filter(|(xid, change)| put_bundle_add(&mut out, *xid, 1, change).is_ok())
                    .count()
            });
            assert!(out.len() > 100 * mods.len());
        });
    }
}

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compare with a dump");
    group.sample_size(20);
    for size in SIZES {
        let rendering = rendering(size);
        let dump: Vec<Dumped> = flows(&rendering).into_iter().map(dumped).collect();
        group.throughput(Throughput::Elements(dump.len() as u64));
        group.bench_function(BenchmarkId::new("all as wanted", size), |bencher| {
            bencher.iter(|| diff(rendering.flows(), black_box(&dump), &cookie::ours()));
        });
        group.bench_function(BenchmarkId::new("nothing there", size), |bencher| {
            bencher.iter_with_large_drop(|| diff(rendering.flows(), black_box(&[]), &cookie::ours()));
        });
    }
}

fn dumped(flow: Flow) -> Dumped {
    Dumped { cookie: flow.value.cookie, packets: 0, bytes: 0, duration: Duration::ZERO, flow: Ok(flow) }
}
