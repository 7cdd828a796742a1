//! What connection tracking had to do that it would rather not.

use super::{AF_INET, GENERIC, flags};
use crate::Result;
use crate::netlink::{Batch, Socket};

const GET_STATISTICS: u16 = 1 << 8 | 4;
// linux/netfilter/nfnetlink_conntrack.h
const CTA_STATS_DROP: u16 = 10;
const CTA_STATS_EARLY_DROP: u16 = 11;

/// Of this network namespace, since it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that were lost because their connection could not be tracked: mostly since the table was full.
    pub dropped: u64,
    /// Connections that were forgotten before their time to make room for others.
    pub forgotten: u64,
}

/// The sums over all processors.
pub fn statistics(socket: &mut Socket) -> Result<Statistics> {
    let mut batch = Batch::default();
    batch.request(GET_STATISTICS, flags(libc::NLM_F_DUMP), |body| body.fixed(&[AF_INET, 0, 0, 0]));
    let operation = "read statistics of connection tracking";
    socket.dump(operation, "", &mut batch, |sum: &mut Statistics, message| {
        let Some((_, attributes)) = message.split::<GENERIC>() else { return Ok(()) };
        let number =
            |kind| attributes.find(kind).and_then(|attribute| attribute.be32()).unwrap_or(0);
        sum.dropped += u64::from(number(CTA_STATS_DROP));
        sum.forgotten += u64::from(number(CTA_STATS_EARLY_DROP));
        Ok(())
    })
}
