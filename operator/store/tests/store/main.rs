//! The store over real sockets, on a real file system: what is kept, what is refused, what survives.

mod downloads;
mod fixture;
mod links;
mod process;
mod records;
mod roles;
mod uploads;
mod volume_full;
mod watch;
