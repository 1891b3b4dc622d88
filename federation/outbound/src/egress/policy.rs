//! Which addresses we connect to: those of the public internet, and what the operator allows.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a range of addresses such as 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError(String);

impl Network {
    /// Whether the range holds an address. The two families never hold each other's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (base, address, width) = match (self.address, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => (base.to_bits().into(), address.to_bits().into(), 32),
            (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
            _ => return false,
        };
        let host_bits = u32::from(width - self.prefix_bits);
        (base ^ address).checked_shr(host_bits).unwrap_or(0) == 0
    }

    const fn v4(octets: [u8; 4], prefix_bits: u8) -> Self {
        let [a, b, c, d] = octets;
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix_bits }
    }

    const fn v6(first: [u16; 3], prefix_bits: u8) -> Self {
        let [a, b, c] = first;
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix_bits }
    }
}

impl FromStr for Network {
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

/// What is not a place on the public internet, by the registries of special-purpose addresses, with the forms that
/// carry another address inside and so would lead around this list.
const REFUSED: &[(Network, &str)] = &[
    (Network::v4([0, 0, 0, 0], 8), "this network"),
    (Network::v4([10, 0, 0, 0], 8), "private"),
    (Network::v4([100, 64, 0, 0], 10), "shared by carriers"),
    (Network::v4([127, 0, 0, 0], 8), "loopback"),
    (Network::v4([169, 254, 0, 0], 16), "link-local"),
    (Network::v4([172, 16, 0, 0], 12), "private"),
    (Network::v4([192, 0, 0, 0], 24), "protocol assignments"),
    (Network::v4([192, 0, 2, 0], 24), "documentation"),
    (Network::v4([192, 88, 99, 0], 24), "6to4 relay"),
    (Network::v4([192, 168, 0, 0], 16), "private"),
    (Network::v4([198, 18, 0, 0], 15), "benchmarks"),
    (Network::v4([198, 51, 100, 0], 24), "documentation"),
    (Network::v4([203, 0, 113, 0], 24), "documentation"),
    (Network::v4([224, 0, 0, 0], 4), "multicast"),
    (Network::v4([240, 0, 0, 0], 4), "reserved"),
    // ::, ::1, and the IPv4-compatible addresses of old.
    (Network::v6([0, 0, 0], 96), "unspecified, loopback or IPv4-compatible"),
    (Network::v6([0x64, 0xff9b, 0], 96), "IPv4 translated"),
    (Network::v6([0x64, 0xff9b, 1], 48), "IPv4 translated"),
    (Network::v6([0x100, 0, 0], 64), "discard"),
    (Network::v6([0x2001, 0, 0], 23), "protocol assignments"),
    (Network::v6([0x2001, 0xdb8, 0], 32), "documentation"),
    (Network::v6([0x2002, 0, 0], 16), "6to4"),
    (Network::v6([0x3fff, 0, 0], 20), "documentation"),
    (Network::v6([0x5f00, 0, 0], 16), "segment routing"),
    (Network::v6([0xfc00, 0, 0], 7), "private"),
    (Network::v6([0xfe80, 0, 0], 10), "link-local"),
    (Network::v6([0xfec0, 0, 0], 10), "site-local"),
    (Network::v6([0xff00, 0, 0], 8), "multicast"),
];

/// An address that we do not connect to.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{address} is no place to connect to ({kind}); {setting} can allow it")]
pub struct Denied {
    address: IpAddr,
    kind: &'static str,
    setting: &'static str,
}

/// Decides about addresses.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<Network>,
    /// Whether what is not public is refused, or all.
    refuses_all: bool,
    setting: &'static str,
}

impl AddressPolicy {
    /// Refuses what is not on the public internet, except for what lies in one of the given ranges, which are those of
    /// a setting.
    pub fn new(allowed: Vec<Network>, setting: &'static str) -> Self {
        Self { allowed, refuses_all: false, setting }
    }

    /// Refuses everything but what lies in one of the given ranges: for what is sent without TLS.
    pub fn only(allowed: Vec<Network>, setting: &'static str) -> Self {
        Self { allowed, refuses_all: true, setting }
    }

    /// Whether an address may be connected to. `::ffff:a.b.c.d` is judged as `a.b.c.d`, which is where it leads.
    pub fn check(&self, address: IpAddr) -> Result<(), Denied> {
        let address = address.to_canonical();
        let refused = REFUSED.iter().find(|(network, _)| network.contains(address)).map(|(_, kind)| *kind);
        match refused.or(self.refuses_all.then_some("not without TLS")) {
            Some(kind) if !self.allowed.iter().any(|network| network.contains(address)) => {
                Err(Denied { address, kind, setting: self.setting })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn s_087_every_range_is_refused_at_both_ends() {
        let policy = AddressPolicy::default();
        for (range, kind) in REFUSED {
            let (first, last) = match range.address {
                IpAddr::V4(base) => {
                    let last = base.to_bits() | u32::MAX.checked_shr(range.prefix_bits.into()).unwrap_or(0);
                    (IpAddr::V4(base), IpAddr::V4(last.into()))
                }
                IpAddr::V6(base) => {
                    let last = base.to_bits() | u128::MAX.checked_shr(range.prefix_bits.into()).unwrap_or(0);
                    (IpAddr::V6(base), IpAddr::V6(last.into()))
                }
            };
            for address in [first, last] {
                let denied = policy.check(address).unwrap_err();
                assert_eq!((denied.address, denied.kind), (address, *kind), "{address}");
            }
        }
    }

    #[test]
    fn s_087_the_catalogue_is_refused() {
        let catalogue = [
            "127.0.0.1",
            "127.255.255.255",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "0.0.0.0",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            "feff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:0",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "ff02::1",
            "::7f00:1",
        ];
        for address in catalogue {
            assert!(AddressPolicy::default().check(address.parse().unwrap()).is_err(), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_not_refused() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "2003::1",
        ];
        for address in public {
            assert_eq!(AddressPolicy::default().check(address.parse().unwrap()), Ok(()), "{address}");
        }
    }

    #[test]
    fn the_operator_can_allow_a_range() {
        let policy = AddressPolicy::new(vec![network("10.20.0.0/16"), network("::1")], "a.setting");
        for (address, allowed) in [
            ("10.20.3.4", true),
            ("::ffff:10.20.3.4", true),
            ("10.21.0.0", false),
            ("::1", true),
            ("::2", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(policy.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
    }

    #[test]
    fn s_095_without_tls_only_what_the_operator_allows() {
        let policy = AddressPolicy::only(vec![network("10.20.0.0/16")], "a.setting");
        for (address, allowed) in [("10.20.3.4", true), ("10.21.0.0", false), ("1.1.1.1", false), ("::1", false)] {
            assert_eq!(policy.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
    }

    #[test]
    fn ranges_are_parsed_strictly() {
        assert_eq!(network("192.168.1.1"), Network::v4([192, 168, 1, 1], 32));
        assert!(network("0.0.0.0/0").contains(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))));
        assert!(network("::/0").contains(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert!(!network("0.0.0.0/0").contains(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "localhost", "10.0.0.0/8/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
