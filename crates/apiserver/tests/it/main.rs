//! The server through real clients.

#[cfg(test)]
mod access;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod hostile;
