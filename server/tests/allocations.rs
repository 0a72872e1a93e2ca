//! Allocations of a publish, by the name of a topic and through its handle.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    rc::Rc,
};

use tidewheel::{
    Config, Conn, Handler, Message, Request, Time, Topic, Verdict,
    ring::sim::{Faults, SimRing, Simulation},
    shard::{Capacity, Next, Parts, Shard},
};
use tidewheel_codec::{Endpoint, Role, handshake::ClientRequest};

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The allocator of the system, which counts allocations.
struct Counting;

// SAFETY: every call is passed on to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // It fails only while the thread ends.
        let _ = ALLOCATIONS.try_with(|it| it.set(it.get() + 1));
        // SAFETY: the caller keeps to the rules of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the rules of this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOPIC: &str = "orders/eu";

/// The allocations of the last publish.
#[derive(Default)]
struct Counts {
    by_name: Cell<usize>,
    through_handle: Cell<usize>,
}

struct Application {
    counts: Rc<Counts>,
    topic: Option<Topic>,
}

impl Application {
    fn publish(&mut self, conn: &mut Conn<'_, Self>) {
        let topic = self
            .topic
            .get_or_insert_with(|| conn.topic(TOPIC).expect("the topic is valid"));
        let before = ALLOCATIONS.get();
        assert_eq!(conn.publish(TOPIC, "hello"), Ok(()));
        let between = ALLOCATIONS.get();
        assert_eq!(conn.publish(topic, "hello"), Ok(()));
        let after = ALLOCATIONS.get();
        self.counts.by_name.set(between - before);
        self.counts.through_handle.set(after - between);
    }
}

impl Handler for Application {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        assert_eq!(conn.subscribe(TOPIC), Ok(true));
        // Vectors and tables have grown after some messages.
        for _ in 0..100 {
            self.publish(conn);
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, _: Message<'_>) {
        self.publish(conn);
    }
}

#[test]
fn a_publish_through_a_handle_allocates_the_message_only() {
    let config = Config::default();
    let ring = SimRing::new(Simulation {
        latency_ms_max: 0,
        faults: Faults::NONE,
        ..Simulation::default()
    });
    let ring = ring.expect("receive buffers can be allocated");
    let network = ring.network();
    let capacity = Capacity {
        places: 16,
        connections: 16,
    };
    let counts = Rc::<Counts>::default();
    let application = Application {
        counts: Rc::clone(&counts),
        topic: None,
    };
    let endpoint = Endpoint::new(config.protocol()).expect("the defaults are valid");
    let parts = Parts::alone(capacity, &config);
    let shard = Shard::new(ring, application, &config, endpoint, parts, network.now());
    let mut shard = shard.expect("the configuration is valid");
    let mut client =
        Endpoint::new(tidewheel_codec::Config::new(Role::Client)).expect("the defaults are valid");
    let mut request = Vec::new();
    ClientRequest::new("test", "/", client.handshake_nonce()).write(&mut request);
    // A text message of 8 bytes whose masking key is zero.
    request.extend_from_slice(b"\x81\x88\0\0\0\0publish!");
    let id = network.connect();
    network.send(id, &request);
    for _ in 0..20 {
        let now = network.now();
        network.wake_at(Time::from_millis(now.as_millis() + 1));
        let Next::Enter(wait) = shard.turn(now) else {
            unreachable!("the shard was not stopped")
        };
        shard.enter(wait).expect("a simulated ring never fails");
    }
    // Its frame, and the record that all shards share.
    assert_eq!(counts.through_handle.get(), 2);
    assert_eq!(counts.by_name.get(), 3);
}
