//! Who is listened to, and what is said again after the stream was away?

use framewright_crds::wire::{Order, ToOperator, ToWorker};
use framewright_queue::{Effect, Event, News};

use crate::story::{check, done, id, news, output, ready, run, settled, task};

#[test]
fn an_outcome_is_repeated_in_each_hello_until_it_is_settled() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, news("1", News::Started), "");
    check(&mut queue, Event::Connected, "hello 1:running");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, news("1", News::Computed(output())), "");
    check(&mut queue, Event::Connected, "hello 1:uploading");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, news("1", News::Ended(done())), "");
    check(&mut queue, Event::Connected, "hello 1:finished");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, Event::Connected, "hello 1:finished");
    check(&mut queue, settled("1"), "");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, Event::Connected, "hello");
}

#[test]
fn an_older_operator_is_left_its_orders_do_nothing_and_the_next_hello_tells_why() {
    let mut queue = ready(1);
    let late = |order| Event::Ordered(ToWorker { epoch: 4, order });
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, late(Order::Cancel { task: id("1") }), "hang up");
    check(
        &mut queue,
        late(Order::Welcome { models: vec![] }),
        "hang up",
    );
    check(&mut queue, late(Order::Run(task("2", "a"))), "hang up");
    check(
        &mut queue,
        news("1", News::Ended(done())),
        "say finished 1 Succeeded",
    );
    let newer = Event::Ordered(ToWorker {
        epoch: 6,
        order: Order::Settled { task: id("1") },
    });
    check(&mut queue, newer, "");
    check(&mut queue, run("3", "a"), "hang up");
    let said = queue.handle(Event::Connected);
    assert!(
        matches!(
            said[..],
            [Effect::Say(ToOperator::Hello { epoch: Some(6), .. })]
        ),
        "{said:?}"
    );
}
