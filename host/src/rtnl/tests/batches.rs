//! Batches of requests, and lists that change while they are read.

use super::*;

#[test]
fn ten_thousand_routes_go_in_one_system_call() {
    inside(&PLAIN, |socket, mapping| {
        let mut model = Route::of(&made_route(socket, &mapping)).unwrap().into_row();
        let mut requests = Vec::new();
        for number in 0..10_000_u32 {
            model.set(1, [20, (number >> 8) as u8, number as u8, 0].to_vec());
            model.header[1] = 24;
            requests.push(Request::replace(model.clone()));
        }
        // One that cannot be, in the middle: the others go on, and it alone is told of.
        let mut bad = model.clone();
        bad.set(5, vec![192, 0, 2, 1]);
        requests.insert(5_000, Request::replace(bad));
        let start = std::time::Instant::now();
        let outcomes = socket.batch(&requests).unwrap();
        eprintln!("10,000 routes made in {:?}", start.elapsed());
        let refused: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_some()).collect();
        assert_eq!(refused.len(), 1, "{:?}", &refused[..refused.len().min(5)]);
        assert_eq!(refused[0].0, 5_000);
        let why = refused[0].1.clone().unwrap();
        assert!(why.message.contains("invalid gateway"), "{why}");
        let error = requests[5_000].refused(why).to_string();
        assert!(
            error.contains("replace route") && error.contains("not on a network of that device"),
            "{error}"
        );
        assert_eq!(routes(socket, &mapping.from).len(), 10_000 + 3);
        let moved: Vec<_> = routes(socket, &mapping.from)
            .iter()
            .filter(|route| !route.is_connected())
            .map(|route| Request::replace(route.for_device(&mapping)))
            .collect();
        send(
            socket,
            &addresses(socket, &mapping.from)
                .iter()
                .map(|a| Request::replace(a.for_device(&mapping)))
                .collect::<Vec<_>>(),
        );
        send(socket, &moved);
        assert_eq!(routes(socket, &mapping.from).iter().filter(|route| !route.is_connected()).count(), 0);
    });
}

fn made_route(socket: &Socket, mapping: &DeviceMapping) -> Row {
    ip("route add 20.0.0.0/24 via 10.1.0.1");
    let found = routes(socket, &mapping.from).into_iter().find(|route| !route.is_connected());
    found.unwrap().for_device(&mapping.reversed())
}

#[test]
fn lists_are_whole_while_others_change_them() {
    inside(&PLAIN, |socket, mapping| {
        let model = made_route(socket, &mapping);
        let fill = |table: u8, to: u32| {
            let mut row = model.clone();
            row.set_byte(4, table);
            row.set(15, u32::from(table).to_ne_bytes().to_vec());
            row.set(1, [20, (to >> 8) as u8, to as u8, 0].to_vec());
            row
        };
        send(socket, &(0..3_000).map(|to| Request::replace(fill(200, to))).collect::<Vec<_>>());
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::setns(&here, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let other = Socket::open().unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for verb in [Request::replace, Request::delete] {
                        let some = (0..20).map(|to| verb(fill(100, to))).collect::<Vec<_>>();
                        other.batch(&some).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            for _ in 0..30 {
                let all = socket.dump(Kind::Route, Family::V4).unwrap();
                let ours = all.iter().filter_map(Route::of).filter(|route| route.table() == 200).count();
                assert_eq!(ours, 3_000);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

#[test]
fn an_empty_batch_does_nothing() {
    inside(&[], |socket, _| assert_eq!(socket.batch(&[]).unwrap(), []));
}
