//! Two ends over memory: proof of keys, floods, damage, bounds.

use super::*;
use alloy_primitives::hex;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, ServerConnection, SignatureScheme};
use std::sync::Arc;

const FIRST: usize = 48;
const MOST: usize = 100_000;

const KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b02010104202414f046b9baf961c99b69028a7760b2\
44bef33a3aa62ab5183116fd887f849ca14403420004f5d87e3b63734f12e2da5a30cd4e4688c4676151a0b4af853f0af5a9e9a94b06f2e6f5e8532a5e\
fc1459f31c37cb50d575c75490f4289b691742c42d823f7273";
const CERTIFICATE: &str = "3082011f3081c6a0030201020214763a1934c38cab88074ae93304439d9b2276ac0a300a06082a8648ce3d040302300f310d\
300b06035504030c04746573743020170d3230303130313030303030305a180f39393939313233313233353935395a300f310d300b06035504030c0474\
6573743059301306072a8648ce3d020106082a8648ce3d03010703420004f5d87e3b63734f12e2da5a30cd4e4688c4676151a0b4af853f0af5a9e9a94b\
06f2e6f5e8532a5efc1459f31c37cb50d575c75490f4289b691742c42d823f7273300a06082a8648ce3d0403020348003045022100ba08f70cf3a6be9a\
1214ac71278dd95a71c168e5e9344fcf373f390787779ab502206aa8be19ee1cc826c63317eb063888966ec431f04098518245668afd9686a5ef";
const OTHER_KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b020101042047e514d80b8bae8d7c4fe4c55e6d5e\
b1807a237eb8ade79e5aecc52667528135a14403420004c3c1863da785205759c0f93f3e25eb663d23386006791566fe7d7aed417e801d84018de1ecd8\
f05bbf09937eaa52f3b5e0929813c568e47ecec272f57b6cadc6";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hex")
}

fn make_link(dials: bool) -> TlsLink {
    let keys = keys::make_keys(&bytes(KEY), &bytes(CERTIFICATE)).expect("they belong together");
    TlsLink::open(&keys, dials, FIRST, MOST).expect("the settings are sound")
}

/// What `receive` does, without Python.
fn receive(link: &mut TlsLink, data: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, Option<String>) {
    let trouble = link.take(data);
    let frames = link.frames.whole().map(<[u8]>::to_vec).collect();
    link.frames.forget_whole();
    (frames, link.take_records(0), trouble)
}

/// Carry bytes until both are silent; what each found wrong.
fn settle(client: &mut TlsLink, server: &mut TlsLink) -> (Option<String>, Option<String>) {
    let (mut at_client, mut at_server) = (None, None);
    let mut to_server = client.take_records(0);
    loop {
        let (_, to_client, trouble) = receive(server, &to_server);
        at_server = at_server.or(trouble);
        let (_, answer, trouble) = receive(client, &to_client);
        at_client = at_client.or(trouble);
        if answer.is_empty() {
            return (at_client, at_server);
        }
        to_server = answer;
    }
}

fn make_pair() -> (TlsLink, TlsLink) {
    let (mut client, mut server) = (make_link(true), make_link(false));
    assert_eq!(settle(&mut client, &mut server), (None, None));
    for link in [&client, &server] {
        let shown = link.connection.peer_certificates().expect("each has shown one");
        assert_eq!(shown[0].as_ref(), bytes(CERTIFICATE));
    }
    (client, server)
}

/// A certificate that was copied from its owner, with another key.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl Thief {
    fn new() -> Arc<Self> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bytes(OTHER_KEY)));
        let chain = vec![CertificateDer::from(bytes(CERTIFICATE))];
        Arc::new(Self(Arc::new(CertifiedKey::new(chain, any_ecdsa_type(&key).expect("a key")))))
    }
}

impl ResolvesClientCert for Thief {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Thief {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_certificate_without_its_key_is_refused_by_either_side() {
    let words = "TLS handshake failed: the peer does not hold the key of its certificate";
    let keys = keys::make_keys(&bytes(KEY), &bytes(CERTIFICATE)).expect("they belong together");
    let (mut client_settings, mut server_settings) = keys.settings();
    client_settings.client_auth_cert_resolver = Thief::new();
    server_settings.cert_resolver = Thief::new();

    let (mut thief, mut server) = (make_link(true), make_link(false));
    let name = "127.0.0.1".try_into().expect("an address");
    thief.connection = ClientConnection::new(Arc::new(client_settings), name).expect("sound").into();
    let (at_thief, at_server) = settle(&mut thief, &mut server);
    assert_eq!(at_server.as_deref(), Some(words));
    assert!(at_thief.expect("an alert").starts_with("TLS failed: the peer refuses"));
    assert!(server.connection.is_handshaking());

    let (mut client, mut thief) = (make_link(true), make_link(false));
    thief.connection = ServerConnection::new(Arc::new(server_settings)).expect("sound").into();
    let (at_client, at_thief) = settle(&mut client, &mut thief);
    assert_eq!(at_client.as_deref(), Some(words));
    assert!(at_thief.expect("an alert").starts_with("TLS handshake failed: the peer refuses"));
    assert!(client.connection.is_handshaking());
}

#[test]
fn a_key_of_another_certificate_cannot_be_loaded() {
    assert!(keys::make_keys(&bytes(OTHER_KEY), &bytes(CERTIFICATE)).is_err());
    assert!(keys::make_keys(b"", &bytes(CERTIFICATE)).is_err());
    assert!(keys::make_keys(&bytes(KEY), b"").is_err());
}

#[test]
fn keys_are_renewed_on_the_way_and_a_flood_of_renewals_ends_the_link() {
    let (mut client, mut server) = make_pair();
    for round in 0..100u8 {
        client.connection.refresh_traffic_keys().expect("established");
        let wire = client.put(&[&[round]]).expect("memory takes it");
        assert_eq!(receive(&mut server, &wire), (vec![vec![round]], vec![], None));
        // The answer to the renewal leaves with the next frame.
        let wire = server.put(&[&[round]]).expect("memory takes it");
        assert_eq!(receive(&mut client, &wire), (vec![vec![round]], vec![], None));
    }
    let mut flood = Vec::new();
    for _ in 0..100 {
        client.connection.refresh_traffic_keys().expect("established");
        flood.extend(client.take_records(0));
    }
    let (frames, _, trouble) = receive(&mut server, &flood);
    assert!(frames.is_empty());
    assert_eq!(trouble.as_deref(), Some("TLS failed: the peer breaks the protocol (too many key update requests)"));
}

#[test]
fn a_peer_that_says_it_ends_has_ended() {
    let (mut client, mut server) = make_pair();
    let mut wire = client.put(&[b"last"]).expect("memory takes it");
    client.connection.send_close_notify();
    wire.extend(client.take_records(0));
    assert_eq!(receive(&mut server, &wire), (vec![b"last".to_vec()], vec![], Some(CLOSED.into())));
    assert_eq!(receive(&mut server, b"more").2.as_deref(), Some(CLOSED));
}

#[test]
fn frames_before_a_damaged_record_arrive_and_none_after_it() {
    let (mut client, mut server) = make_pair();
    let mut wire = client.put(&[b"good"]).expect("memory takes it");
    let good = wire.len();
    wire.extend(client.put(&[b"bad"]).expect("memory takes it"));
    wire.extend(client.put(&[b"after"]).expect("memory takes it"));
    wire[good + 7] ^= 1;
    let (frames, alert, trouble) = receive(&mut server, &wire);
    assert_eq!(frames, [b"good".to_vec()]);
    assert_eq!(trouble.as_deref(), Some("TLS failed: a record was damaged or forged on its way"));
    // The alert tells the other end.
    let (_, _, told) = receive(&mut client, &alert);
    assert_eq!(told.as_deref(), Some("TLS failed: the peer refuses (bad record mac)"));
}

#[test]
fn records_that_come_twice_or_out_of_order_are_refused() {
    let (mut client, mut server) = make_pair();
    let one = client.put(&[b"one"]).expect("memory takes it");
    assert_eq!(receive(&mut server, &one).0, [b"one".to_vec()]);
    assert!(receive(&mut server, &one).2.is_some());
    let (mut client, mut server) = make_pair();
    let _lost = client.put(&[b"one"]).expect("memory takes it");
    let two = client.put(&[b"two"]).expect("memory takes it");
    assert!(receive(&mut server, &two).2.is_some());
}

#[test]
fn a_handshake_has_a_bound_however_it_is_cut() {
    // A record of the handshake that begins a message of 60,000 bytes, and goes on with it.
    let mut wire = Vec::new();
    for i in 0..10 {
        let mut body = vec![0u8; 6_000];
        if i == 0 {
            body[..4].copy_from_slice(&[1, 0, 0xea, 0x60]);
        }
        wire.extend_from_slice(&[22, 3, 1]);
        wire.extend_from_slice(&(body.len() as u16).to_be_bytes());
        wire.extend(body);
    }
    for step in [1, 100, 5_000, 100_000] {
        let mut server = make_link(false);
        let mut taken = 0;
        let trouble = wire.chunks(step).find_map(|piece| {
            taken += piece.len();
            receive(&mut server, piece).2
        });
        assert_eq!(trouble.as_deref(), Some("TLS handshake failed: more than 16384 bytes"));
        assert!(taken <= MAX_HANDSHAKE_BYTES + step);
    }
}

#[test]
fn pieces_of_every_size_give_the_same_frames_and_little_is_kept() {
    let sent: Vec<Vec<u8>> = [48, 40_000, 3, MOST, 17, 60_000].map(|size| vec![size as u8; size]).into();
    let parts: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    for step in [1, 3, 21, 22, 23, 4_096, 16_406, 1 << 20] {
        let (mut client, mut server) = make_pair();
        let wire = client.put(&parts).expect("memory takes it");
        let mut found = Vec::new();
        for piece in wire.chunks(step) {
            let (frames, _, trouble) = receive(&mut server, piece);
            assert_eq!(trouble, None);
            found.extend(frames);
            assert!(server.frames.buffered() < 4 + MOST);
        }
        assert_eq!(found, sent);
    }
}
