//! QUIC downloads, by quinn, whose link dies under them: in the transparent way, and through the proxy (SOCKS5's UDP ASSOCIATE).
//!
//! The certificate beside this file is for the lab alone; whoever has its key can be the lab's web host.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

mod socks;

use bondwire_netns::Node;
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::{MEGABYTE, in_lab, seconds, until};
use crate::world::{PROXY, World};

use socks::Association;

const PORT: u16 = 4443;
const CERTIFICATE: &[u8] = include_bytes!("quic/certificate.der");
const KEY: &[u8] = include_bytes!("quic/key.der");

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn socket(node: &Node, port: u16) -> UdpSocket {
    node.run(move || UdpSocket::bind(("0.0.0.0", port))).expect("a socket")
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(seconds(20).try_into().expect("a short time")));
    // Who only receives says nothing on a dead link, and nobody can answer: it is the client's next datagram that moves the flow.
    transport.keep_alive_interval(Some(Duration::from_millis(300)));
    Arc::new(transport)
}

/// Sends without end to whoever opens a stream. Its thread ends with the test's process.
fn serve(node: &Node) {
    let socket = socket(node, PORT);
    thread::spawn(move || {
        runtime().block_on(async move {
            let certificates = vec![CertificateDer::from(CERTIFICATE)];
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(KEY));
            let mut config = ServerConfig::with_single_cert(certificates, key).expect("a certificate");
            config.transport_config(transport());
            let runtime = Arc::new(TokioRuntime);
            let endpoint =
                Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime).expect("an endpoint");
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                tokio::spawn(async move {
                    let Ok((mut send, _)) = connection.accept_bi().await else { return };
                    let block = vec![7; 64 * 1024];
                    while send.write_all(&block).await.is_ok() {}
                });
            }
        });
    });
}

/// A download, until so many bytes are there; through a proxy if there is one.
fn download(
    node: &Node,
    to: SocketAddr,
    proxy: Option<SocketAddr>,
    bytes: u64,
) -> (Arc<AtomicU64>, JoinHandle<Result<(), String>>) {
    let socket = socket(node, 0);
    let association = proxy.map(|proxy| node.run(move || Association::open(proxy)).expect("an association"));
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let client = move || {
        runtime().block_on(async move {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(CERTIFICATE)).map_err(|error| error.to_string())?;
            let mut config =
                ClientConfig::with_root_certificates(Arc::new(roots)).map_err(|error| error.to_string())?;
            config.transport_config(transport());
            let runtime = Arc::new(TokioRuntime);
            let endpoint = match association {
                None => Endpoint::new(EndpointConfig::default(), None, socket, runtime),
                Some(association) => association.wrap(socket).and_then(|socket| {
                    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
                }),
            };
            let endpoint = endpoint.map_err(|error| error.to_string())?;
            let connection = endpoint
                .connect_with(config, to, "lab")
                .map_err(|error| error.to_string())?
                .await
                .map_err(|error| error.to_string())?;
            let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
            send.write_all(b"go").await.map_err(|error| error.to_string())?;
            let mut block = vec![0; 64 * 1024];
            while counter.load(Ordering::Relaxed) < bytes {
                match receive.read(&mut block).await {
                    Ok(Some(length)) => counter.fetch_add(length as u64, Ordering::Relaxed),
                    Ok(None) => return Err("it ended early".to_owned()),
                    Err(error) => return Err(error.to_string()),
                };
            }
            connection.close(0_u8.into(), b"enough");
            Ok(())
        })
    };
    (received, thread::spawn(client))
}

fn survives(args: &[&str], proxy: Option<SocketAddr>) {
    let mut world = World::twin();
    serve(world.lab.web());
    world.balance(args);
    let carried = |world: &World| ["line0", "line1"].map(|link| world.side.carried(link).0);
    let before = carried(&world);
    let to = SocketAddr::from((world.lab.web_addr_v4(), PORT));
    let (received, client) = download(world.lab.client(), to, proxy, 40 * MEGABYTE);
    let got = || received.load(Ordering::Relaxed);
    until("it runs", seconds(15), || got() > 5 * MEGABYTE);
    until("the counters show it", seconds(2), || {
        carried(&world).iter().sum::<u64>() > before.iter().sum::<u64>() + MEGABYTE
    });
    let now = carried(&world);
    let link = if now[0] - before[0] > now[1] - before[1] { "line0" } else { "line1" };
    world.lab.silence(link).expect("a link");
    let died = Instant::now();
    let least = got() + 2 * MEGABYTE;
    until("it goes on over the other link", seconds(15), || got() > least);
    println!("2 MB more {:?} after the silent death of {link}", died.elapsed());
    client.join().expect("it ends").expect("all of it arrives");
}

#[test]
fn a_quic_download_survives_the_silent_death_of_its_link() {
    in_lab("quic::a_quic_download_survives_the_silent_death_of_its_link", || {
        survives(&["--transparent"], None)
    });
}

#[test]
fn a_quic_download_through_the_proxy_survives_the_silent_death_of_its_link() {
    in_lab("quic::a_quic_download_through_the_proxy_survives_the_silent_death_of_its_link", || {
        survives(&["--proxy", PROXY], Some(PROXY.parse().expect("an address")));
    });
}
