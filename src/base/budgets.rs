//! How much of something each address of a caller may have, in a table of fixed size.
//!
//! An address that has used nothing lately needs no entry, so that what is displaced is forgotten
//! without a loss as long as there is such a one among eight. Where there is none, the newcomer
//! takes over the smallest debt of the eight: a table that is full counts too much, never too little.
//! IPv6 is counted by /64, which is what one host is given; IPv4 in IPv6 as IPv4.
//!
//! Cost: eight entries of 32 bytes are looked at, no allocation.

use ahash::RandomState;
use core::net::IpAddr;

/// How fast an address may go: so many at once, and then so many in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// In a second.
    pub per_s: u32,
    /// At once, for one that had nothing for a while.
    pub burst: u32,
}

impl Pace {
    fn cost_ns(self) -> u64 {
        1_000_000_000 / u64::from(self.per_s.max(1))
    }

    /// How far ahead of the time a debt may be for one more to be granted.
    fn ahead_ns(self) -> u64 {
        self.cost_ns().saturating_mul(u64::from(self.burst.max(1)) - 1)
    }
}

/// The budgets of all addresses for one thing.
#[derive(Debug)]
pub struct Budgets {
    slots: Box<[[Slot; WAYS]]>,
    hasher: RandomState,
}

/// An address, as it is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Key {
    #[default]
    Nobody,
    V4(u32),
    /// The network of 64 bits.
    V6(u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: Key,
    /// Everything that was granted is paid for at this time (the generic cell rate algorithm:
    /// one number says both what is left and when it is full again).
    paid_ns: u64,
    held: u32,
}

/// One of the things that an address holds at a time; to be given back.
#[must_use]
#[derive(Debug)]
pub struct Hold {
    set: usize,
    way: usize,
}

impl Budgets {
    /// A table for so many addresses at a time (at least eight). `hasher` is seeded at random:
    /// whoever knew it could choose addresses that share their budget with others.
    #[must_use]
    pub fn new(addresses: usize, hasher: RandomState) -> Self {
        let sets = addresses.div_ceil(WAYS).max(1);
        Self { slots: vec![[Slot::default(); WAYS]; sets].into_boxed_slice(), hasher }
    }

    /// Whether an address has none left.
    #[must_use]
    pub fn is_spent(&self, address: IpAddr, pace: Pace, now_ns: u64) -> bool {
        let (set, way) = self.find(key(address));
        let slot = self.slots.get(set).and_then(|set| set.get(way));
        slot.is_some_and(|slot| slot.is_spent(pace, now_ns))
    }

    /// Takes one.
    pub fn spend(&mut self, address: IpAddr, pace: Pace, now_ns: u64) {
        let (set, way) = self.place(key(address));
        if let Some(slot) = self.slot(set, way) {
            slot.spend(pace, now_ns);
        }
    }

    /// Takes one and holds it until it is given back. `None` when the address has none left, or
    /// holds `held_max` already.
    #[must_use]
    pub fn hold(
        &mut self,
        address: IpAddr,
        pace: Pace,
        held_max: u32,
        now_ns: u64,
    ) -> Option<Hold> {
        let (set, way) = self.place(key(address));
        let slot = self.slot(set, way)?;
        if slot.held >= held_max || slot.is_spent(pace, now_ns) {
            return None;
        }
        slot.spend(pace, now_ns);
        slot.held += 1;
        Some(Hold { set, way })
    }

    /// Gives back what was held. An entry that holds something is never displaced, so that the
    /// place is the one that it came from.
    pub fn give_back(&mut self, hold: &Hold) {
        if let Some(slot) = self.slot(hold.set, hold.way) {
            debug_assert!(slot.held > 0, "given back twice");
            slot.held = slot.held.saturating_sub(1);
        }
    }

    fn slot(&mut self, set: usize, way: usize) -> Option<&mut Slot> {
        self.slots.get_mut(set).and_then(|set| set.get_mut(way))
    }

    fn set(&self, key: Key) -> usize {
        let sets = u64::try_from(self.slots.len()).unwrap_or(1).max(1);
        usize::try_from(self.hasher.hash_one(key) % sets).unwrap_or(0)
    }

    /// The entry of an address: its own; else that of the smallest debt, which it takes over; else,
    /// where all of them hold something, one that it shares.
    fn find(&self, key: Key) -> (usize, usize) {
        let set = self.set(key);
        let ways = || self.slots.get(set).into_iter().flatten().enumerate();
        let way = ways()
            .find(|(_, slot)| slot.key == key)
            .or_else(|| ways().min_by_key(|(_, slot)| (slot.held, slot.paid_ns)));
        (set, way.map_or(0, |(way, _)| way))
    }

    /// The same, as the address's own where it can be.
    fn place(&mut self, key: Key) -> (usize, usize) {
        let (set, way) = self.find(key);
        if let Some(slot) = self.slot(set, way).filter(|slot| slot.held == 0) {
            slot.key = key;
        }
        (set, way)
    }
}

impl Slot {
    fn is_spent(&self, pace: Pace, now_ns: u64) -> bool {
        self.paid_ns > now_ns.saturating_add(pace.ahead_ns())
    }

    fn spend(&mut self, pace: Pace, now_ns: u64) {
        self.paid_ns = self.paid_ns.max(now_ns).saturating_add(pace.cost_ns());
    }
}

fn key(address: IpAddr) -> Key {
    match address.to_canonical() {
        IpAddr::V4(address) => Key::V4(address.to_bits()),
        IpAddr::V6(address) => Key::V6((address.to_bits() >> 64) as u64),
    }
}

/// Entries that are looked at for one address.
const WAYS: usize = 8;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const PACE: Pace = Pace { per_s: 10, burst: 5 };

    fn budgets(addresses: usize) -> Budgets {
        Budgets::new(addresses, RandomState::with_seeds(1, 2, 3, 4))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_is_granted_and_then_so_many_in_a_second() {
        let (mut budgets, address) = (budgets(64), ip("192.0.2.1"));
        let mut granted = |from_ns: u64, tries: u64, step_ns: u64| {
            let mut count = 0;
            for at in (0..tries).map(|n| from_ns + n * step_ns) {
                if !budgets.is_spent(address, PACE, at) {
                    budgets.spend(address, PACE, at);
                    count += 1;
                }
            }
            count
        };
        assert_eq!(granted(SECOND, 100, 0), 5);
        assert_eq!(granted(SECOND, 1_000, SECOND / 1_000), 9, "one each 100 ms, the first at 100");
        assert_eq!(granted(60 * SECOND, 100, 0), 5, "and the burst again after a rest");
        assert!(!budgets.is_spent(ip("192.0.2.2"), PACE, 60 * SECOND), "the neighbour's is whole");
    }

    #[test]
    fn an_ipv6_network_is_one_and_mapped_addresses_are_ipv4() {
        let mut budgets = budgets(64);
        for host in 0..5u16 {
            budgets.spend(ip(&format!("2001:db8:0:1::{host:x}")), PACE, SECOND);
        }
        assert!(budgets.is_spent(ip("2001:db8:0:1:ffff::1"), PACE, SECOND));
        assert!(!budgets.is_spent(ip("2001:db8:0:2::1"), PACE, SECOND));
        for _ in 0..5 {
            budgets.spend(ip("::ffff:192.0.2.9"), PACE, SECOND);
        }
        assert!(budgets.is_spent(ip("192.0.2.9"), PACE, SECOND));
        assert!(!budgets.is_spent(ip("::1"), PACE, SECOND));
    }

    #[test]
    fn what_is_held_is_bounded_until_it_is_given_back() {
        let (mut budgets, address) = (budgets(8), ip("192.0.2.1"));
        let wide = Pace { per_s: 1_000, burst: 1_000 };
        let one = budgets.hold(address, wide, 2, SECOND).unwrap();
        let two = budgets.hold(address, wide, 2, SECOND).unwrap();
        assert!(budgets.hold(address, wide, 2, SECOND).is_none());
        // A crowd that displaces all that can be displaced.
        for host in 0..100u32 {
            budgets.spend(IpAddr::V4(host.into()), wide, SECOND);
        }
        assert!(budgets.hold(address, wide, 2, SECOND).is_none(), "it is not forgotten");
        budgets.give_back(&one);
        let one = budgets.hold(address, wide, 2, SECOND).unwrap();
        budgets.give_back(&one);
        budgets.give_back(&two);
        let held: u32 = budgets.slots.iter().flatten().map(|slot| slot.held).sum();
        assert_eq!(held, 0);
    }

    #[test]
    fn a_full_table_neither_grows_nor_grants_more_than_it_should() {
        let mut budgets = budgets(16);
        let mut granted = 0;
        // Two hundred addresses, all over and over, at one instant.
        for round in 0..20_000u32 {
            let address = IpAddr::V4((round % 200).into());
            if !budgets.is_spent(address, PACE, SECOND) {
                budgets.spend(address, PACE, SECOND);
                granted += 1;
            }
        }
        assert_eq!(budgets.slots.iter().flatten().count(), 16);
        assert_eq!(granted, 16 * 5, "what the entries have, and no more");
        let wide = Pace { per_s: 1_000_000, burst: 1_000_000 };
        // More that hold something than there are entries: they share.
        let holds: Vec<Hold> = (0..100u32)
            .filter_map(|host| {
                budgets.hold(IpAddr::V4((1 << 24 | host).into()), wide, 64, SECOND * 9)
            })
            .collect();
        assert_eq!(holds.len(), 100);
        holds.iter().for_each(|hold| budgets.give_back(hold));
        assert!(budgets.slots.iter().flatten().all(|slot| slot.held == 0));
    }
}
