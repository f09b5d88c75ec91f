//! What becomes of weights that lie in a worker's cache?

use framewright_crds::wire::{ModelState, Order};

use crate::conversation::{hello, state_of};
use crate::peer::{Peer, digest, weights};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_that_were_damaged_in_the_cache_are_fetched_again() {
    let mut peer = Peer::start().await;
    let good = weights();
    let cached = peer.folder.path().join("weights").join(digest(&good));
    std::fs::create_dir_all(cached.parent().unwrap()).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&cached, &damaged).unwrap();
    let _worker = peer.worker();
    let mut stream = peer.accept().await;
    stream.hear_until(hello).await;
    let models = vec![peer.model("twice", &good)];
    stream.order(Order::Welcome { models }).await;
    stream
        .hear_until(|said| {
            if let framewright_crds::wire::ToOperator::Model {
                state: ModelState::Failed { message },
                ..
            } = &said
            {
                panic!("{message}");
            }
            state_of(said, "twice", ModelState::Ready)
        })
        .await;
    assert_eq!(std::fs::read(&cached).unwrap(), good);
}
