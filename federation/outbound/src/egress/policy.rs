//! x
use std::net::IpAddr;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub(crate) address: IpAddr,
    pub(crate) prefix_bits: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a range of addresses such as 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError(String);

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(most), |bits| bits.parse().map_err(|_| error()))?;
        if prefix_bits > most { Err(error()) } else { Ok(Self { address, prefix_bits }) }
    }
}
