//! Whatever fails, and in whatever order: nothing runs twice, nothing is lost, and in the end everything is as it should be.
//!
//! A fake world around the product's engine: an API server whose watches lag, two operators that die between any two steps and
//! may both believe that they lead, workers that come and go, streams that break, a store that is away, people who change their
//! minds. The workers' decisions are real, too: each has the product's queue. Each seed is one such world. Its weather turns calm, and
//! then it must settle and stay settled. There is no client, no runtime and no clock in it.
//!
//! `SEEDS=20000 cargo test --release --workspace --test convergence` looks at more worlds, `FIRST=20000` with it at the next ones, and
//! `SEED=17` at one, and tells what happens in it.
//!
//! # Layout
//! - [`world`]: what happens, in the order of its time
//! - [`api`]: the API server
//! - [`operator`]: operators: the product's engine, and what becomes of its effects
//! - [`requests`], [`watches`]: what operators ask of the API server, and what it shows them
//! - [`stream`], [`worker`], [`kubelet`]: streams, workers, pods
//! - [`clock`]: wall clocks that are set
//! - [`people`], [`weather`]: what people want, and what goes wrong
//! - [`ledger`]: what must hold

mod api;
mod chance;
mod clock;
mod kubelet;
mod ledger;
mod operator;
mod people;
mod requests;
mod stream;
mod watches;
mod weather;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

const SEEDS: u64 = 2000;
/// Lines of a story that a failure tells, from its end.
const TOLD: usize = 400;

#[test]
fn every_world_settles_and_no_invariant_breaks_on_the_way() {
    let given = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = given("SEED") {
        let world = World::live(seed, true);
        println!("{}", world.story());
        assert!(
            world.ledger.violation.is_none(),
            "seed {seed}: {:?}",
            world.ledger.violation
        );
        return;
    }
    let first = given("FIRST").unwrap_or(0);
    let seeds = first..first.saturating_add(given("SEEDS").unwrap_or(SEEDS));
    let hands = std::thread::available_parallelism().map_or(1, usize::from);
    // The lowest seed that breaks is told, whoever looked at it.
    let broken = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..hands)
            .map(|hand| {
                let mut seeds = seeds.clone().skip(hand).step_by(hands);
                scope.spawn(move || seeds.find(|&seed| breaks(seed)))
            })
            .collect();
        hands
            .into_iter()
            .filter_map(|hand| hand.join().expect("looking panics nowhere"))
            .min()
    });
    let Some(seed) = broken else { return };
    let world = World::live(seed, true);
    let story = world.story();
    let lines: Vec<&str> = story.lines().collect();
    let told = &lines[lines.len().saturating_sub(TOLD)..];
    panic!(
        "seed {seed}: {}\n{}\nSEED={seed} tells the whole story",
        world.ledger.violation.unwrap_or_default(),
        told.join("\n"),
    );
}

/// Whether an invariant breaks in a world, or a decision panics.
fn breaks(seed: u64) -> bool {
    let lived = catch_unwind(AssertUnwindSafe(|| World::live(seed, false)));
    lived.is_err() || lived.is_ok_and(|world| world.ledger.violation.is_some())
}
