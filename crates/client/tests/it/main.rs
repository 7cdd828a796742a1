//! The client against the embedded server.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod watch;
