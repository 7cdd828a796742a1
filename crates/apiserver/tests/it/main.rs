//! The server through real clients.

#[cfg(test)]
mod access;
#[cfg(test)]
mod accounts;
#[cfg(test)]
mod ask;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod definitions;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod events;
#[cfg(test)]
mod full;
#[cfg(test)]
mod habits;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod odd_bodies;
#[cfg(test)]
mod protobuf;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod watches;
#[cfg(test)]
mod webhooks;
