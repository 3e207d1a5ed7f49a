//! A TCP proxy on loopback that can be cut: a cut drops every connection and accepts no new one
//! until it is mended.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cut: Arc<AtomicBool>,
    live: Arc<Mutex<Vec<TcpStream>>>,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let cut = Arc::new(AtomicBool::new(false));
        let live: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let target: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (c, l, t) = (cut.clone(), live.clone(), target.clone());
        std::thread::spawn(move || {
            for incoming in listener.incoming().flatten() {
                let Some(to) = *t.lock().expect("no panic holds it") else { continue };
                if c.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(onward) = TcpStream::connect(to) else { continue };
                let _ = (incoming.set_nodelay(true), onward.set_nodelay(true));
                let mut held = l.lock().expect("no panic holds it");
                for (from, into) in [(&incoming, &onward), (&onward, &incoming)] {
                    let (Ok(mut from), Ok(mut into)) = (from.try_clone(), into.try_clone()) else {
                        continue;
                    };
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Write);
                    });
                }
                held.extend([incoming, onward]);
            }
        });
        Self { address, cut, live, target }
    }

    pub(crate) fn send_to(&self, target: SocketAddr) {
        *self.target.lock().expect("no panic holds it") = Some(target);
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in self.live.lock().expect("no panic holds it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}
