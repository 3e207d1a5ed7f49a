//! CPU seconds a GiB, and operations a CPU second, of the store alone, without HTTP. The folder
//! given as the argument decides the disk.
#![allow(clippy::print_stdout)] // Its answer.

use bytes::Bytes;
use keystead_envelope::{lease::LeaseGate, memory::DataKey, message::Wrapped};
use keystead_objects::*;
use keystead_types::{Boot, Cause, Clock};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOC: keystead_envelope::alloc::WipingAllocator = keystead_envelope::alloc::WipingAllocator;

struct Fixed(Instant);
impl Clock for Fixed {
    fn boot(&self) -> Boot {
        Boot::since_boot(self.0.elapsed())
    }
    fn wall_ms(&self) -> i64 {
        1_764_000_000_000
    }
}

fn cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let clock: Arc<dyn Clock> = Arc::new(Fixed(Instant::now()));
    let gate = Arc::new(LeaseGate::new());
    gate.publish(Some(Boot::since_boot(Duration::from_secs(100_000))));
    let vault = Arc::new(Vault::new(gate, clock.clone(), Cause::KmsUnreachable));
    let wrapped = Wrapped { key_arn: "arn:aws:kms:x".repeat(6), ciphertext: vec![1; 180] };
    let key = BucketKey::new(vec![wrapped], DataKey::random(32).expect("key"));
    vault.open("one", Ring::new(Default::default(), vec![key], 0).expect("ring"));
    let store = Store::open(std::path::Path::new(&folder), vault, clock).expect("store");
    let _ = store.add_bucket("one", BucketSettings::default()).await;
    for (size, count) in [(64 << 20, 8), (1 << 20, 200), (4096, 2000)] {
        let piece = Bytes::from(vec![7u8; size.min(65_536)]);
        let (c, w) = (cpu(), Instant::now());
        let mut tasks = tokio::task::JoinSet::new();
        for t in 0..8usize {
            let (store, piece) = (store.clone(), piece.clone());
            tasks.spawn(async move {
                for i in (t..count).step_by(8) {
                    let key = format!("{size}/{i}");
                    let mut put = store.put("one", &key, PutOptions::default()).await.expect("put");
                    for _ in 0..size.div_ceil(65_536) {
                        put.write(piece.clone()).await.expect("write");
                    }
                    put.commit(None).await.expect("commit");
                }
            });
        }
        tasks.join_all().await;
        report("put", size, count, cpu() - c, w.elapsed());
        let (c, w) = (cpu(), Instant::now());
        for i in 0..count {
            let got = store.get("one", &format!("{size}/{i}"), GetOptions::default()).await;
            let mut body = got.expect("get").body;
            while let Some(piece) = body.next().await {
                std::hint::black_box(piece.expect("piece"));
            }
        }
        report("get", size, count, cpu() - c, w.elapsed());
    }
    println!("{:?}", store.stats());
}

fn report(what: &str, size: usize, count: usize, cpu: f64, wall: Duration) {
    let gib = (size * count) as f64 / (1u64 << 30) as f64;
    println!(
        "{what} {size:>9}: {:.2} CPU s/GiB, {:.0} us/op CPU, {:.0} op/s wall",
        cpu / gib,
        cpu * 1e6 / count as f64,
        count as f64 / wall.as_secs_f64()
    );
}
