use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_tls::ExpectedPeer;

use super::{super::h1::Listened, *};

fn key(port: u16, security: Security) -> PoolKey {
    PoolKey {
        address: EndpointAddress::new("127.0.0.1", port),
        security,
        limits: None,
        transport: Transport::default(),
    }
}

fn mesh(generation: u64) -> Security {
    let id = "spiffe://cluster.local/ns/default/sa/a".parse().unwrap();
    Security::Mesh { expected: ExpectedPeer::exactly(id), sni: "a".into(), generation }
}

/// A connection to nobody, kept open by its other end, which is returned.
async fn connection() -> (H1, tokio::io::DuplexStream) {
    let (near, far) = tokio::io::duplex(64);
    let (io, heard) = Listened::new(Box::new(near), None);
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap();
    (H1::new(sender, History::default(), heard), far)
}

fn has_idle(pool: &Arc<HostPool>) -> bool {
    match pool.checkout(Alpn::H1) {
        Some(Checkout::H1(sender)) => {
            pool.keep(sender);
            true
        }
        _ => false,
    }
}

#[tokio::test]
async fn an_idle_connection_ends_after_an_hour() {
    // Envoy's default idle_timeout of upstream connections.
    let pools = Pools::default();
    let pool = pools.get(key(1, Security::Plaintext), false);
    let (sender, _far) = connection().await;
    pool.keep(sender);
    for _ in 0..IDLE_SWEEPS - 1 {
        pools.sweep(None);
    }
    assert!(has_idle(&pool), "used just now");
    for _ in 0..=IDLE_SWEEPS {
        pools.sweep(None);
    }
    assert!(!has_idle(&pool));
}

#[tokio::test]
async fn connections_of_an_earlier_identity_end_at_the_next_sweep() {
    let pools = Pools::default();
    let (old, new) = (pools.get(key(1, mesh(1)), false), pools.get(key(1, mesh(2)), false));
    let ((first, _far), (second, _other)) = (connection().await, connection().await);
    old.keep(first);
    new.keep(second);
    pools.sweep(Some(2));
    assert!(!has_idle(&old));
    assert!(has_idle(&new));
}

#[tokio::test]
async fn pools_belong_to_those_who_use_them() {
    let pools = Pools::default();
    let pool = pools.get(key(1, Security::Plaintext), false);
    assert!(Arc::ptr_eq(&pool, &pools.get(key(1, Security::Plaintext), false)));
    let weak = Arc::downgrade(&pool);
    drop(pool);
    assert!(weak.upgrade().is_none(), "nobody's pool is gone");
    // What no endpoint holds is kept, up to a number.
    for port in 1..=5000 {
        pools.get(key(port, Security::Plaintext), true);
    }
    let state = pools.state();
    assert!(
        state.kept.len() <= MAX_KEPT && state.pools.len() <= 2 * MAX_KEPT,
        "{} {}",
        state.kept.len(),
        state.pools.len()
    );
}

#[tokio::test]
async fn who_leaves_keeps_nothing_idle() {
    let pools = Pools::default();
    let before = pools.get(key(1, Security::Plaintext), false);
    let ((first, _far), (second, _other)) = (connection().await, connection().await);
    before.keep(first);
    pools.close_idle();
    assert!(!has_idle(&before));
    let after = pools.get(key(2, Security::Plaintext), false);
    after.keep(second);
    assert!(!has_idle(&after));
}

fn limited(change: impl FnOnce(&mut ConnectionLimits)) -> Arc<HostPool> {
    let mut limits = ConnectionLimits::default();
    change(&mut limits);
    let limits = Limits { cluster: Arc::new(ClusterName::passthrough()), limits };
    Pools::default().get(PoolKey { limits: Some(Arc::new(limits)), ..key(1, Security::Plaintext) }, false)
}

/// istio connectionPool.http.idleTimeout, tcp.maxConnectionDuration.
/// istio.md 1.4: "http.idleTimeout | 1 h; wins over tcp.idleTimeout"
#[tokio::test(start_paused = true)]
async fn limits_say_how_long_a_connection_is_used() {
    let seconds = Duration::from_secs;
    for age in [false, true] {
        let pool = limited(|limits| match age {
            true => limits.max_duration = Some(seconds(5)),
            false => limits.idle_timeout = Some(seconds(5)),
        });
        let (mut connection, _far) = connection().await;
        connection.history = pool.born();
        Arc::clone(&pool).give_back(connection);
        tokio::time::advance(seconds(4)).await;
        let Some(Checkout::H1(connection)) = pool.checkout(Alpn::H1) else { panic!("4 s are not 5") };
        Arc::clone(&pool).give_back(connection);
        tokio::time::advance(seconds(4)).await;
        assert_eq!(pool.checkout(Alpn::H1).is_some(), !age, "in use in between: age goes on, idleness begins anew");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_closes_what_limits_do_not_keep() {
    let pool = limited(|limits| limits.idle_timeout = Some(Duration::from_secs(5)));
    let (connection, mut far) = connection().await;
    Arc::clone(&pool).give_back(connection);
    pool.close_unused_since(0);
    tokio::time::advance(Duration::from_secs(5)).await;
    pool.close_unused_since(0);
    let read = tokio::io::AsyncReadExt::read(&mut far, &mut [0; 1]).await;
    assert_eq!(read.unwrap(), 0, "closed, and no request needed for it");
    let forever = limited(|limits| limits.idle_timeout = None);
    let (connection, _far) = self::connection().await;
    Arc::clone(&forever).give_back(connection);
    tokio::time::advance(Duration::from_secs(1 << 20)).await;
    forever.close_unused_since(u64::MAX - 1);
    assert!(forever.checkout(Alpn::H1).is_some());
}
