//! ServiceCIDRs: where cluster IPs are given out from.

use crate::field::{Field, FieldError};
use crate::object::Meta;
use ipnet::IpNet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCidr {
    pub meta: Meta,
    /// One or two, of different families.
    pub cidrs: Vec<IpNet>,
}

impl ServiceCidr {
    pub(super) fn parse(meta: Meta, object: &Field<'_>) -> Result<Self, FieldError> {
        let expected = "a prefix like 10.96.0.0/12";
        let cidrs = object.at("spec").at("cidrs");
        let listed = cidrs.items()?;
        let parsed = listed.iter().map(|entry| entry.optional_parsed::<IpNet>(expected));
        let parsed = parsed.filter_map(Result::transpose).map(|net| net.map(|net| net.trunc()));
        Ok(ServiceCidr { meta, cidrs: parsed.collect::<Result<_, _>>()? })
    }
}
