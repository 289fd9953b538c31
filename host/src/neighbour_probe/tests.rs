//! A device that probes, its other end that answers, and an ingress filter in between.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::devices;
use crate::ingress_filter::{Accepting, IngressFilter};
use crate::netns::Namespace;

const EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(30);
const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {done:?}");
}

fn question(target: &str, source: &str) -> Question {
    Question { target: target.parse().unwrap(), source: source.parse().unwrap() }
}

/// A node with eth0 and a neighbour at its other end. The closure gets the node's prober and the neighbour.
fn inside(work: impl FnOnce(&Prober, &Namespace) + Send) {
    let other = Namespace::create().unwrap();
    let node = || {
        let path = other.path();
        ip(&format!(
            "link add eth0 address 02:00:00:00:00:01 type veth peer name peer0 netns {}",
            path.display()
        ));
        ip("link set eth0 up");
        other
            .run(|| {
                for line in [
                    "link set peer0 address 02:00:00:00:00:09 up",
                    "addr add 10.1.0.1/24 dev peer0",
                    "addr add fd01::1/64 dev peer0 nodad",
                ] {
                    ip(line);
                }
            })
            .unwrap();
        work(&Prober::open(devices::index_of("eth0").unwrap(), OURS).unwrap(), &other);
    };
    Namespace::create().unwrap().run(node).unwrap();
}

#[test]
fn neighbours_answer_in_both_families() {
    inside(|prober, _| {
        let questions = [question("10.1.0.1", "10.1.0.2"), question("fd01::1", "fd01::2")];
        let answers = prober.probe_all(&questions, EVERY, PATIENCE).unwrap();
        let mut found: Vec<_> = answers.iter().map(|answer| (answer.target, answer.mac)).collect();
        found.sort();
        assert_eq!(found, questions.map(|question| (question.target, THEIRS)));
        // A missing neighbour does not answer, and does not delay the others.
        let questions = [question("10.1.0.1", "10.1.0.2"), question("10.1.0.77", "10.1.0.2")];
        let answers = prober.probe_all(&questions, EVERY, Duration::from_millis(200)).unwrap();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(prober.probe_all(&[], EVERY, PATIENCE).unwrap(), []);
    });
}

#[test]
fn a_probe_without_an_address_is_answered() {
    inside(|prober, _| {
        for target in ["10.1.0.1", "fd01::1"] {
            let source = if target.contains(':') { "::" } else { "0.0.0.0" };
            let answer = prober.probe(question(target, source), EVERY, PATIENCE).unwrap().unwrap();
            assert_eq!(answer.mac, THEIRS, "{target}");
        }
    });
}

#[test]
fn the_guard_does_not_stand_between() {
    inside(|prober, _| {
        ip("link add breth0 type veth peer name peer1");
        let filter = IngressFilter::new("eth0", "breth0");
        filter.set(Accepting::Bridge).unwrap();
        for question in [question("10.1.0.1", "10.1.0.2"), question("fd01::1", "fd01::2")] {
            assert!(prober.probe(question, EVERY, PATIENCE).unwrap().is_some());
        }
        assert!(filter.observe().unwrap().unwrap().nic.unwrap().dropped > 0);
    });
}

#[test]
fn one_who_comes_later_is_heard() {
    inside(|prober, other| {
        other.run(|| ip("link set peer0 down")).unwrap();
        let up = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                up.store(true, Ordering::SeqCst);
                other.run(|| ip("link set peer0 up")).unwrap();
            });
            let answer = prober.probe(question("10.1.0.1", "10.1.0.2"), EVERY, PATIENCE).unwrap();
            assert!(up.load(Ordering::SeqCst) && answer.is_some());
        });
        // The device itself down and up: the report of that is no failure.
        ip("link set eth0 down");
        let nothing = prober.probe(question("10.1.0.1", "10.1.0.2"), EVERY, Duration::from_millis(50));
        assert_eq!(nothing.unwrap(), None);
        ip("link set eth0 up");
        assert!(prober.probe(question("10.1.0.1", "10.1.0.2"), EVERY, PATIENCE).unwrap().is_some());
        ip("link del eth0");
        let error = prober.probe(question("10.1.0.1", "10.1.0.2"), EVERY, PATIENCE).unwrap_err();
        assert!(error.to_string().contains("the device does not exist"), "{error}");
    });
}

#[test]
fn no_device_is_not_all_devices() {
    assert!(Prober::open(0, OURS).is_err());
    assert!(Prober::open(u32::MAX, OURS).is_err());
}

#[test]
fn answers_for_others_do_not_count() {
    let question = question("10.1.0.1", "10.1.0.2");
    let reply = |target: &str, requester: &str| Reply {
        target: target.parse().unwrap(),
        mac: THEIRS,
        requester: requester.parse().unwrap(),
    };
    assert!(question.is_answered_by(&reply("10.1.0.1", "10.1.0.2")));
    assert!(!question.is_answered_by(&reply("10.1.0.1", "10.1.0.1")), "announced to all, without a request");
    assert!(!question.is_answered_by(&reply("10.1.0.1", "10.1.0.3")));
    assert!(!question.is_answered_by(&reply("10.1.0.3", "10.1.0.2")));
}
