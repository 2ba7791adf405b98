//! The door against real clients: OpenSSH's `ssh`, and raw sockets that mean no good.

mod channels;
mod client;
mod endings;
mod files;
mod flow;
mod foreign;
mod house;
mod lobby;
mod programs;
mod sessions;
mod signing_in;
