//! Which operator does the worker obey, and what does it send again after the stream was away?

use framewright_crds::protocol::{Command, OperatorMessage, WorkerMessage};
use framewright_queue::{Effect, Event, TaskEvent};

use crate::story::{ack, check, computed, done, event, id, ready, run, task};

#[test]
fn an_outcome_is_repeated_in_each_hello_until_it_is_acknowledged() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, Event::Disconnected, "");
    check(&mut queue, event("1", TaskEvent::Started), "");
    check(&mut queue, Event::Connected, "hello 1:running");
    check(&mut queue, Event::Disconnected, "");
    check(&mut queue, event("1", computed()), "");
    check(&mut queue, Event::Connected, "hello 1:uploading");
    check(&mut queue, Event::Disconnected, "");
    check(&mut queue, event("1", TaskEvent::Ended(done())), "");
    check(&mut queue, Event::Connected, "hello 1:finished");
    check(&mut queue, Event::Disconnected, "");
    check(&mut queue, Event::Connected, "hello 1:finished");
    check(&mut queue, ack("1"), "");
    check(&mut queue, Event::Disconnected, "");
    check(&mut queue, Event::Connected, "hello");
}

#[test]
fn an_older_operator_is_left_its_commands_do_nothing_and_the_next_hello_tells_why() {
    let mut queue = ready(1);
    let late = |command| Event::Received(OperatorMessage { epoch: 4, command });
    check(&mut queue, run("1", "a"), "start 1");
    check(
        &mut queue,
        late(Command::Cancel { task: id("1") }),
        "hang up",
    );
    check(
        &mut queue,
        late(Command::Configure { models: vec![] }),
        "hang up",
    );
    check(&mut queue, late(Command::Run(task("2", "a"))), "hang up");
    check(
        &mut queue,
        event("1", TaskEvent::Ended(done())),
        "send finished 1 Succeeded",
    );
    let newer = Event::Received(OperatorMessage {
        epoch: 6,
        command: Command::Ack { task: id("1") },
    });
    check(&mut queue, newer, "");
    check(&mut queue, run("3", "a"), "hang up");
    let said = queue.handle(Event::Connected);
    assert!(
        matches!(&said[..], [Effect::Send(WorkerMessage::Hello(hello))] if hello.epoch == Some(6)),
        "{said:?}"
    );
}
